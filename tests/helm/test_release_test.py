"""`helm test`: its pod reaches the Service like a caller, and its program recognizes Sidekey."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

from support import helm
from support.ports import free_port
from support.sidekey_process import SidekeyProcess

CONFIG = """\
integrations:
  crm:
    endpoint_prefix: https://crm.example.com/v1
    auth: {type: basic, username: svc, password: {insecure_value: secret}}
"""


@pytest.fixture(scope="module")
def gateway(rendered: dict[str, list[helm.Object]]) -> list[helm.Object]:
    """Return the objects of a gateway."""
    return rendered["gateway"]


def run(gateway: list[helm.Object], port: int) -> subprocess.CompletedProcess[str]:
    """Run the program of the pod against a port of this machine."""
    _, _, program, _, _ = helm.only(gateway, "Pod")["spec"]["containers"][0]["command"]
    command = [sys.executable, "-c", program, "127.0.0.1", str(port)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_pod_uses_a_name_of_the_service_that_sidekey_accepts(gateway: list[helm.Object]) -> None:
    pod, service = helm.only(gateway, "Pod"), helm.only(gateway, "Service")
    *_, host, port = pod["spec"]["containers"][0]["command"]
    assert host == f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"
    assert host in yaml.safe_load(helm.config_of(gateway))["listen"]["names"]
    assert port == str(service["spec"]["ports"][0]["port"])


def test_network_policy_admits_the_pod(gateway: list[helm.Object]) -> None:
    """It is a separate peer, because `networkPolicy.clients` may have only other namespaces."""
    clients, _ = helm.only(gateway, "NetworkPolicy")["spec"]["ingress"]
    *_, peer = clients["from"]
    assert peer.keys() == {"podSelector"}
    labels = helm.only(gateway, "Pod")["metadata"]["labels"]
    assert peer["podSelector"]["matchLabels"].items() <= labels.items()
    assert peer["podSelector"]["matchLabels"]["app.kubernetes.io/instance"] == "demo"


def test_helm_deletes_the_pod_of_a_passed_test_and_shows_the_log_of_a_failed_one(
    gateway: list[helm.Object],
) -> None:
    pod = helm.only(gateway, "Pod")
    hooks = {name: value for name, value in pod["metadata"]["annotations"].items() if name.startswith("helm.sh/")}
    assert hooks == {
        "helm.sh/hook": "test",
        "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded",
        "helm.sh/hook-output-log-policy": "hook-failed",
    }
    assert pod["spec"]["restartPolicy"] == "Never"


def test_pods_that_end_have_no_service_mesh(gateway: list[helm.Object]) -> None:
    """Istio reads the label, Linkerd the annotation. Helm waits until all containers of such a pod have ended."""
    for pod in (helm.only(gateway, "Pod"), helm.only(gateway, "Job")["spec"]["template"]):
        assert pod["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"
        assert pod["metadata"]["annotations"]["linkerd.io/inject"] == "disabled"


def test_program_passes_if_sidekey_responds(gateway: list[helm.Object], tmp_path: Path) -> None:
    with SidekeyProcess(CONFIG, tmp_path) as child:
        result = run(gateway, child.proxy_port)
    assert (result.returncode, result.stderr) == (0, "")
    assert f"Sidekey responds at http://127.0.0.1:{child.proxy_port}" in result.stdout


class Other(BaseHTTPRequestHandler):
    """A server that is not Sidekey."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def other() -> Iterator[int]:
    """Run another server, and yield its port."""
    with HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_program_fails_if_another_server_responds(gateway: list[helm.Object], other: int) -> None:
    result = run(gateway, other)
    assert (result.returncode, result.stdout) == (1, "")
    assert "responded with 200, but it is not Sidekey" in result.stderr


def test_program_says_what_to_check_if_nothing_responds(gateway: list[helm.Object]) -> None:
    result = run(gateway, free_port())
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert "ConnectionRefusedError" in line
    assert "Is a pod of the gateway ready?" in line
