"""The cluster of the tests: the one that KUBECONFIG names, or a node started from the binaries in CLUSTER_BIN."""

from __future__ import annotations

import base64
import os
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

import sidekey
from cluster import images
from cluster.kube import HERE, PYTHON, Cluster, Namespace, pod
from cluster.node import Node, missing
from cluster.pki import Authority

HOST = "crm.example.com"
"""The host that the examples of the chart send to. The tests' configs resolve it to the upstream's address."""

PRIVATE = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]

collect_ignore_glob = [] if "CLUSTER_TEST" in os.environ else ["test_*.py"]
"""Only `make cluster-test` runs these tests: they take minutes, and need a cluster or root."""


_UPSTREAM: Final = "sidekey-upstream"
_UPSTREAM_NAMESPACE: Final = {"kubernetes.io/metadata.name": _UPSTREAM}


@dataclass(frozen=True)
class Upstream:
    """The https server that receives the requests, and the CA of its certificate."""

    address: str
    authority: Authority

    def config(self) -> dict[str, Any]:
        """Build a config whose integration `crm` sends to the server."""
        return {
            "network": {
                "allow_private": PRIVATE,
                "hosts": {HOST: [self.address]},
                "trusted_ca": {"file": "/etc/company/ca.crt"},
            },
            "integrations": {
                "crm": {
                    "endpoint_prefix": f"https://{HOST}/hooks/v1",
                    "auth": {
                        "type": "basic",
                        "username": "webhooks",
                        "password": {"file": "/run/secrets/crm/password"},
                    },
                }
            },
        }

    def values(self, cluster: Cluster) -> dict[str, Any]:
        """Build the values of every release: image, config, network policy, and the CA of the upstream."""
        repository, _, tag = cluster.image.rpartition(":")
        return {
            "image": {"repository": repository, "tag": tag},
            "config": self.config(),
            "networkPolicy": {"extraEgress": [{"to": [{"namespaceSelector": {"matchLabels": _UPSTREAM_NAMESPACE}}]}]},
            "secrets": [{"name": "crm"}],
            "extraVolumes": [{"name": "company-ca", "configMap": {"name": "company-ca"}}],
            "extraVolumeMounts": [{"name": "company-ca", "mountPath": "/etc/company", "readOnly": True}],
        }

    def prepare(self, namespace: Namespace, password: str) -> None:
        """Create the ConfigMap and the Secret that the values name."""
        namespace.config_map("company-ca", {"ca.crt": self.authority.certificate.decode()})
        namespace.secret("crm", password=password)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Yield the cluster. If a test fails, print the logs of its components."""
    # SIGTERM must run the teardown, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    tag = sidekey.__version__
    image = os.environ.get("IMAGE", f"{images.SIDEKEY}:{tag}")
    if "CLUSTER_BIN" not in os.environ:
        existing = Cluster(Path(os.environ["KUBECONFIG"]), image)
        yield existing
        existing.wait_until_clean()
        return
    binaries = Path(os.environ["CLUSTER_BIN"])
    if absent := missing(binaries):
        pytest.exit(f"a node needs what this machine lacks: {', '.join(absent)}", returncode=2)
    archives = images.build(tag)
    with (
        tempfile.TemporaryDirectory(prefix="sidekey-node-") as scratch,
        Node(binaries, Path(scratch, "node"), archives) as node,
    ):
        yield Cluster(node.kubeconfig, f"{images.SIDEKEY}:{tag}", node.enter, node.socket)
        if request.session.testsfailed:
            print(node.logs())


@pytest.fixture(scope="session")
def upstream(cluster: Cluster) -> Iterator[Upstream]:
    """Start an https server in its own namespace."""
    authority = Authority("company-ca")
    with cluster.namespace(_UPSTREAM) as namespace, tempfile.TemporaryDirectory() as scratch:
        authority.issue(Path(scratch, "tls"), HOST, names=(HOST,))
        entries = {name: Path(scratch, name).read_text() for name in ("tls.crt", "tls.key")}
        namespace.config_map("upstream", {"upstream.py": (HERE / "upstream.py").read_text(), **entries})
        command = (PYTHON, "/upstream/upstream.py", "8443", "/upstream/tls.crt", "/upstream/tls.key")
        labels = {"app": "upstream"}
        server = pod("upstream", cluster.image, command=command, mounts={"upstream": "/upstream"}, labels=labels)
        server["spec"]["containers"][0]["readinessProbe"] = {"tcpSocket": {"port": 8443}, "periodSeconds": 1}
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "upstream"},
            "spec": {"selector": labels, "ports": [{"port": 443, "targetPort": 8443}]},
        }
        namespace.apply(server, service)
        namespace.kubectl("wait", "--for=condition=Ready", "pod/upstream", "--timeout=60s")
        yield Upstream(namespace.get("service", "upstream")["spec"]["clusterIP"], authority)


def tls_secret(namespace: Namespace, name: str, stem: Path, authority: Authority) -> None:
    """Create or change a Secret with the key and certificate of `stem`, as cert-manager does."""
    files = {
        "ca.crt": authority.certificate,
        "tls.crt": stem.with_suffix(".crt").read_bytes(),
        "tls.key": stem.with_suffix(".key").read_bytes(),
    }
    entries = {file: base64.b64encode(content).decode() for file, content in files.items()}
    namespace.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "kubernetes.io/tls", "data": entries}
    )
