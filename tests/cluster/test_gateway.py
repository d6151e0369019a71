"""A gateway: installed, upgraded, rolled under load, reloaded and evicted."""

from __future__ import annotations

import functools
import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cluster.conftest import HOST, Upstream, tls_secret
from cluster.kube import CHART, Cluster, CommandFailed, Namespace, eventually, pod
from cluster.pki import Authority

TOKEN = "billing-caller-token-0001"
SELECTOR = "app.kubernetes.io/component=gateway"
ROLLOUTS = 10
SECONDS = 70


class Gateway:
    """A release named `sidekey` with a client."""

    def __init__(self, namespace: Namespace, values: dict[str, Any], trusted: str = "") -> None:
        self.namespace = namespace
        self.values = values
        self.url = f"http://sidekey.{namespace.name}.svc:15080/i/crm"
        namespace.start_client(trusted)

    def upgrade(self, **changed: Any) -> None:
        """Upgrade with changed values."""
        self.namespace.helm("upgrade", "sidekey", CHART, {**self.values, **changed})

    def send(self) -> Any:
        """Send a request and return what the upstream received."""
        [body] = self.namespace.send(TOKEN, f"{self.url}/x")
        return json.loads(body)

    def loads(self) -> dict[str, subprocess.Popen[str]]:
        """Start the four kinds of load."""
        proxy = self.url.removesuffix("/i/crm").replace("//", f"//crm:{TOKEN}@")
        tunnel = (f"HTTPS_PROXY={proxy}", "SSL_CERT_FILE=/load/ca.crt")
        load = functools.partial(self.namespace.start_load, TOKEN, seconds=SECONDS)
        return {
            "kept connections": load(f"{self.url}/x", 6, 0.03, "keep"),
            "new connections": load(f"{self.url}/x", 4, 0.03, "new"),
            "requests of 12 s": load(f"{self.url}/x?ms=12000", 4, 0.05, "keep"),
            "tunnels": load(f"https://{HOST}/hooks/v1/x", 4, 0.1, "keep", tunnel),
        }

    def roll(self, seconds: float) -> int:
        """Restart all pods repeatedly, and return how often."""
        end = time.monotonic() + seconds
        rollouts = 0
        while rollouts < ROLLOUTS and time.monotonic() < end:
            self.namespace.kubectl("rollout", "restart", "deployment/sidekey")
            self.namespace.wait_for_rollout("sidekey")
            rollouts += 1
        return rollouts


@pytest.fixture(scope="module")
def gateway(cluster: Cluster, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """An installed gateway with two pods."""
    with cluster.namespace("sidekey-gateway") as namespace:
        authority = Authority("callers-ca")
        stem = tmp_path_factory.mktemp("ca") / "ca"
        authority.save(stem)
        tls_secret(namespace, "callers-ca", stem, authority)
        upstream.prepare(namespace, "one")
        values = {
            **upstream.values(cluster),
            "callers": {"billing": {"secret": {"name": "callers"}, "integrations": ["crm"]}},
            "httpsProxy": {"caSecret": "callers-ca"},
        }
        with pytest.raises(CommandFailed, match="sidekey-config-check"):
            namespace.helm("install", "sidekey", CHART, values)
        assert "callers.billing.token" in namespace.kubectl("logs", "job/sidekey-config-check")
        namespace.helm("uninstall", "sidekey")
        namespace.secret("callers", billing=TOKEN)
        namespace.helm("install", "sidekey", CHART, values)
        yield Gateway(namespace, values, authority.certificate.decode())


def test_namespace_enforces_restricted(gateway: Gateway) -> None:
    """The control for all other tests: only pods that `restricted` allows start here."""
    privileged = pod("privileged", gateway.namespace.cluster.image)
    privileged["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    with pytest.raises(CommandFailed, match="violates PodSecurity"):
        gateway.namespace.apply(privileged)


def test_helm_test_passes(gateway: Gateway) -> None:
    gateway.namespace.helm("test", "sidekey")
    # Helm also reports success for a chart without tests.
    assert "pod/sidekey-test" in gateway.namespace.kubectl("get", "events")


def test_request_carries_the_credential(gateway: Gateway) -> None:
    assert gateway.send()["sender"] == "webhooks:one"


def test_rolling_updates_lose_no_request(gateway: Gateway) -> None:
    loads = gateway.loads()
    time.sleep(3)
    rollouts = gateway.roll(SECONDS - 20)
    counts = gateway.namespace.counts(loads)
    for name, count in counts.items():
        print(f"{rollouts} rolling updates, {name}: {count['total']} requests, {count['lost']} lost")
    assert rollouts >= 3
    assert [count["first"] for count in counts.values()] == [[]] * len(counts)
    assert all(count["total"] >= 20 for count in counts.values())


def test_rolling_updates_without_a_drain_delay_lose_requests(gateway: Gateway) -> None:
    """The control: the load generator notices a gateway that stops listening while its Service still has it."""
    gateway.upgrade(config={**gateway.values["config"], "timeouts": {"drain_delay": "0s"}})
    load = gateway.namespace.start_load(TOKEN, f"{gateway.url}/x", 8, 0.01, "new", seconds=40)
    rollouts = gateway.roll(30)
    [count] = gateway.namespace.counts({"": load}).values()
    print(f"{rollouts} rolling updates without a drain delay: {count['total']} requests, {count['lost']} lost")
    gateway.upgrade()
    assert count["lost"] > 0


def test_upgrade_and_rollback_change_the_config_in_use(gateway: Gateway) -> None:
    config = json.loads(json.dumps(gateway.values["config"]))
    config["integrations"]["crm"]["auth"]["username"] = "upgraded"
    gateway.upgrade(config=config)
    eventually("the upgraded user name is used", lambda: gateway.send()["sender"] == "upgraded:one", 120)
    gateway.namespace.helm("rollback", "sidekey")
    eventually("the previous user name is used again", lambda: gateway.send()["sender"] == "webhooks:one", 120)


def test_changed_secret_is_used_without_a_restart(gateway: Gateway) -> None:
    before = [pod["metadata"]["name"] for pod in gateway.namespace.pods(SELECTOR)]
    gateway.namespace.secret("crm", password="two")
    seconds = eventually("the new password is used", lambda: gateway.send()["sender"] == "webhooks:two", 120)
    print(f"a changed Secret is in use after {seconds:.0f} s")
    gateway.namespace.secret("crm", password="one")
    eventually("the previous password is used again", lambda: gateway.send()["sender"] == "webhooks:one", 120)
    pods = gateway.namespace.pods(SELECTOR)
    assert [pod["metadata"]["name"] for pod in pods] == before
    assert sum(status["restartCount"] for pod in pods for status in pod["status"]["containerStatuses"]) == 0


def test_invalid_config_is_not_rolled_out(gateway: Gateway) -> None:
    before = [pod["metadata"]["uid"] for pod in gateway.namespace.pods(SELECTOR)]
    config = json.loads(json.dumps(gateway.values["config"]))
    config["integrations"]["crm"]["auth"]["password"]["file"] = "/run/secrets/crm/missing"
    with pytest.raises(CommandFailed, match="config-check"):
        gateway.upgrade(config=config)
    assert [pod["metadata"]["uid"] for pod in gateway.namespace.pods(SELECTOR)] == before
    assert gateway.send()["sender"] == "webhooks:one"
    gateway.upgrade()


def test_disruption_budget_lets_one_pod_be_evicted_at_a_time(gateway: Gateway) -> None:
    gateway.namespace.wait_for_rollout("sidekey")
    refused = 0
    for target in gateway.namespace.pods(SELECTOR):
        name = target["metadata"]["name"]
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
        path = f"/api/v1/namespaces/{gateway.namespace.name}/pods/{name}/eviction"
        result = gateway.namespace.cluster.attempt(
            "kubectl", "create", "--raw", path, "--filename=-", text=json.dumps(eviction)
        )
        refused += "TooManyRequests" in result.stdout + result.stderr
    assert refused == 1
    gateway.namespace.wait_for_rollout("sidekey")
