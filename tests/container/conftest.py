"""The engine and the upstream of the tests of Sidekey's image, which `make container-test` runs."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

import sidekey
from cluster import images
from cluster.images import ROOT
from cluster.kube import PYTHON, eventually
from cluster.pki import Authority
from container.engine import Engine, missing

HOST: Final = "crm.example.com"
"""The host that the examples send to. The tests' configs resolve it to the upstream's address."""

IMAGE: Final = f"{images.SIDEKEY}:{sidekey.__version__}"
NETWORK: Final = "apis"

_SUBNET: Final = "10.77.32.0/24"
_ADDRESS: Final = "10.77.32.250"

collect_ignore_glob = [] if "CONTAINER_TEST" in os.environ else ["test_*.py"]
"""Only `make container-test` runs these tests: they need root, podman and images."""


@dataclass(frozen=True)
class Upstream:
    """An https server on `NETWORK` that describes the requests that it receives."""

    authority: Authority

    def config(self, certificate: str) -> dict[str, Any]:
        """Build a config that leads to the upstream. `certificate` is the path of the CA for Sidekey."""
        network = {"allow_private": [_SUBNET], "hosts": {HOST: [_ADDRESS]}, "trusted_ca": {"file": certificate}}
        return {"version": 1, "network": network}

    def add_to(self, folder: Path) -> None:
        """Write that config, and the CA, to a config folder that is mounted at /etc/sidekey."""
        (folder / "ca.crt").write_bytes(self.authority.certificate)
        (folder / "network.yaml").write_text(yaml.safe_dump(self.config("/etc/sidekey/ca.crt")))


@pytest.fixture(scope="session")
def archives() -> list[Path]:
    """The archives of the images, from the folder that IMAGE_ARCHIVES names, or built."""
    if absent := missing():
        pytest.exit(f"container-test: needs {', '.join(absent)}; on Debian, `make peers` installs programs", 2)
    return list(images.build(sidekey.__version__))


@pytest.fixture(scope="session")
def engine(archives: list[Path]) -> Iterator[Engine]:
    """podman with the images."""
    # SIGTERM must run the teardown, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="sidekey-podman-") as scratch, Engine(Path(scratch, "engine")) as engine:
        for archive in archives:
            engine.podman("load", "--quiet", f"--input={archive}")
        yield engine


@pytest.fixture(scope="session")
def upstream(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Upstream:
    """The upstream, in its own container."""
    folder = tmp_path_factory.mktemp("upstream")
    authority = Authority("company-ca")
    authority.issue(folder / "tls", HOST, names=(HOST,))
    engine.podman("network", "create", f"--subnet={_SUBNET}", NETWORK)
    volumes = [f"--volume={folder}:/tls:ro", f"--volume={ROOT}/tests/cluster/upstream.py:/upstream.py:ro"]
    # Root, because it listens on port 443.
    options = ["--user=0:0", f"--network={NETWORK}", f"--ip={_ADDRESS}"]
    command = [f"--entrypoint={PYTHON}", IMAGE, "/upstream.py", "443", "/tls/tls.crt", "/tls/tls.key"]
    engine.podman("run", "--detach", "--name=upstream", *options, *volumes, *command)
    connect = "import socket; socket.create_connection(('127.0.0.1', 443))"
    eventually("the upstream listens", lambda: engine.podman("exec", "upstream", PYTHON, "-c", connect) == "")
    return Upstream(authority)
