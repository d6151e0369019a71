"""A sidecar: the chart's own example of a service that sends webhooks through HTTPS_PROXY, and a Job."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from cluster.conftest import HOST, Upstream
from cluster.images import TOOLS
from cluster.kube import CHART, EXAMPLES, Cluster, CommandFailed, Namespace, eventually

NAME = "webhook-sender"
SELECTOR = f"app.kubernetes.io/name={NAME}"
SEND = ["curl", "--silent", "--show-error", "--fail-with-body", "--max-time", "20", "--json", "{}"]
AFTER_TERM = 12

# Sends a request each 0.5 s for 6 s after SIGTERM, and prints each status.
LONG_END = f"""
send() {{ curl --silent --output /dev/null --max-time 20 --write-out '%{{http_code}}\\n' --json '{{}}' \
  "https://{HOST}/hooks/v1/events?ms=$1" || echo "failed: $?"; }}
end() {{ echo TERM; for i in $(seq {AFTER_TERM}); do send 300; sleep .5; done; echo END; exit 0; }}
trap end TERM
touch /tmp/alive /tmp/sent
while true; do send 50; touch /tmp/alive; sleep 1 & wait $!; done
"""


@pytest.fixture(scope="module")
def webhooks(cluster: Cluster, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    """Install the example, unchanged except for the address of its upstream."""
    folder = tmp_path_factory.mktemp("charts")
    shutil.copytree(CHART, folder / "sidekey")
    chart = folder / "examples" / NAME
    shutil.copytree(EXAMPLES / NAME, chart)
    code = "import helm_python, sys; helm_python.dependency_update(sys.argv[1], skip_refresh=True)"
    subprocess.run([sys.executable, "-c", code, chart], check=True, capture_output=True)
    sidekey = upstream.values(cluster)
    del sidekey["config"]["integrations"], sidekey["secrets"]
    repository, _, tag = TOOLS.rpartition(":")
    [egress] = sidekey.pop("networkPolicy")["extraEgress"]
    values = {
        "replicaCount": 1,
        "interval": 1,
        "image": {"repository": repository, "tag": tag},
        "networkPolicy": {"upstreams": egress["to"]},
        "sidekey": sidekey,
    }
    with cluster.namespace("sidekey-webhooks") as namespace:
        upstream.prepare(namespace, "one")
        namespace.helm("install", NAME, chart, values)
        yield namespace


def send(namespace: Namespace, pod: str) -> Any:
    """Send a request from the service, which does not know Sidekey, and return what the upstream received."""
    return json.loads(namespace.execute(pod, *SEND, f"https://{HOST}/hooks/v1/events", container=NAME))


def newest(namespace: Namespace) -> str:
    """Return the newest pod of the service."""
    namespace.wait_for_rollout(NAME)
    return f"pod/{namespace.pods(SELECTOR)[-1]['metadata']['name']}"


def test_service_sends_https_without_holding_a_secret(webhooks: Namespace) -> None:
    pod = newest(webhooks)
    assert send(webhooks, pod)["sender"] == "webhooks:one"
    with pytest.raises(CommandFailed):
        webhooks.execute(pod, "ls", "/run/secrets", container=NAME)
    assert "password" not in webhooks.execute(pod, "env", container=NAME)


def test_sidecar_ends_after_the_service(webhooks: Namespace) -> None:
    operation = {"op": "replace", "path": "/spec/template/spec/containers/0/args", "value": [LONG_END]}
    webhooks.kubectl("patch", f"deployment/{NAME}", "--type=json", f"--patch={json.dumps([operation])}")
    pod = newest(webhooks)
    eventually("the service has sent", lambda: "200" in webhooks.kubectl("logs", pod, f"--container={NAME}"))
    follow = ("kubectl", f"--namespace={webhooks.name}", "logs", "--follow", pod, f"--container={NAME}")
    log = webhooks.cluster.start(*follow)
    webhooks.kubectl("delete", pod)
    sent = webhooks.cluster.finish(log).partition("TERM")[2].partition("END")[0].split()
    assert sent == ["200"] * AFTER_TERM


def test_killed_sidecar_starts_again_beside_the_service(webhooks: Namespace) -> None:
    pod = newest(webhooks)

    def restarts(kind: str) -> list[int]:
        return [status["restartCount"] for status in webhooks.get(pod)["status"][kind]]

    service_restarts = restarts("containerStatuses")
    webhooks.cluster.kill(webhooks.name, pod.removeprefix("pod/"), "sidekey")
    eventually("the sidecar has started again", lambda: restarts("initContainerStatuses") == [1])
    eventually("requests pass again", lambda: send(webhooks, pod)["sender"] == "webhooks:one")
    assert restarts("containerStatuses") == service_restarts


def test_job_with_a_sidecar_completes(webhooks: Namespace) -> None:
    spec = webhooks.get(f"deployment/{NAME}")["spec"]["template"]["spec"]
    spec["restartPolicy"] = "Never"
    [service] = spec["containers"]
    for probe in ("readinessProbe", "livenessProbe"):
        service.pop(probe, None)
    service["command"], service["args"] = [*SEND, f"https://{HOST}/hooks/v1/events"], []
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "send-once"},
        "spec": {"backoffLimit": 0, "template": {"metadata": {"labels": {"app": "send-once"}}, "spec": spec}},
    }
    webhooks.apply(job)
    webhooks.kubectl("wait", "--for=condition=Complete", "job/send-once", "--timeout=90s")
    log = webhooks.kubectl("logs", "job/send-once", f"--container={NAME}")
    assert json.loads(log)["sender"] == "webhooks:one"
