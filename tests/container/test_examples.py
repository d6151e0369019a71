"""The examples for containers, run by podman: the compose files, and the plain manifest for Kubernetes."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from cluster.images import ROOT
from cluster.kube import CommandFailed, eventually
from container.conftest import HOST, IMAGE, NETWORK, Upstream
from container.engine import Engine

PLAIN: Final = ROOT / "helm" / "examples" / "plain" / "sidecar.yaml"
EVENTS: Final = f"https://{HOST}/hooks/v1/events"
POD: Final = "webhook-sender-pod"


class Compose:
    """The examples of compose in a copy of their folder, run by podman-compose.

    An override names the image instead of building it, and the network of the upstream. The image in place of
    curl's has no entry point.
    """

    def __init__(self, engine: Engine, folder: Path, upstream: Upstream) -> None:
        self._engine = engine
        self._folder = folder / "examples"
        shutil.copytree(ROOT / "examples", self._folder)
        for config in ("compose", "gateway"):
            upstream.add_to(self._folder / config)
        self._environment = {}
        for name, text in (("CRM_PASSWORD", "one"), ("BILLING_TOKEN", "the-token-of-the-service-billing")):
            file = folder / name
            file.write_text(text)
            file.chmod(0o644)
            self._environment[f"{name}_FILE"] = str(file)

    @contextlib.contextmanager
    def up(self, file: str, service: str, override: Mapping[str, Any]) -> Iterator[str]:
        """Start the services of a file; yield the output of the one that sends a request."""
        document = {
            "networks": {"default": {"name": NETWORK, "external": True}},
            "services": {"sidekey": {"image": IMAGE}, service: override},
        }
        (self._folder / "override.yaml").write_text(yaml.safe_dump(document))
        files = (f"--file={self._folder / file}", f"--file={self._folder / 'override.yaml'}")
        compose = ("podman-compose", *files)
        try:
            with self._engine.start(
                *compose, "up", "--detach", "--no-build", environment=self._environment
            ) as starting:
                # podman-compose waits for a health check, which only a timer of systemd would run.
                try:
                    eventually("Sidekey is healthy", self._check_health, 30)
                except AssertionError:
                    starting.kill()
                    raise AssertionError("".join(starting.communicate(timeout=30))) from None
                starting.communicate(timeout=60)
            self._engine.podman("wait", f"examples_{service}_1")
            yield self._engine.podman("logs", f"examples_{service}_1")
            self._engine.run(*compose, "stop", environment=self._environment)
            assert self._engine.podman("inspect", "--format={{.State.ExitCode}}", "examples_sidekey_1") == "0\n"
        finally:
            self._engine.run(*compose, "down", environment=self._environment)

    def _check_health(self) -> bool:
        return self._engine.podman("healthcheck", "run", "examples_sidekey_1") == ""


@pytest.fixture
def compose(engine: Engine, upstream: Upstream, tmp_path: Path) -> Compose:
    return Compose(engine, tmp_path, upstream)


def test_compose_file_runs_a_service_beside_sidekey(compose: Compose) -> None:
    with compose.up("compose.yaml", "app", {"entrypoint": ["curl"]}) as output:
        assert json.loads(output)["sender"] == "svc:one"


def test_compose_file_runs_a_gateway(compose: Compose) -> None:
    with compose.up("compose-gateway.yaml", "billing", {}) as output:
        assert json.loads(output)["sender"] == "svc:one"


def for_podman(upstream: Upstream, trust: Path) -> str:
    """Adapt the manifest: to the upstream, and to what podman's `kube play` does not support.

    Those are projected volumes, sidecars among the init containers, and writing to an emptyDir as any user.
    """
    documents = list(yaml.safe_load_all(PLAIN.read_text()))
    [entries] = [document["data"] for document in documents if document["kind"] == "ConfigMap"]
    config = {**yaml.safe_load(entries["sidekey.yaml"]), **upstream.config("/etc/sidekey/ca.crt")}
    entries.update({"sidekey.yaml": yaml.safe_dump(config), "ca.crt": upstream.authority.certificate.decode()})
    [spec] = [document["spec"]["template"]["spec"] for document in documents if document["kind"] == "Deployment"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    volumes["sidekey-config"].pop("projected")
    volumes["sidekey-config"]["configMap"] = {"name": "webhook-sender-sidekey"}
    volumes["sidekey-trust"].pop("emptyDir")
    volumes["sidekey-trust"]["hostPath"] = {"path": str(trust), "type": "Directory"}
    [sidecar] = spec.pop("initContainers")
    assert sidecar.pop("restartPolicy") == "Always"
    spec["containers"].insert(0, sidecar)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "crm"}, "stringData": {"password": "one"}}
    return yaml.safe_dump_all([secret, *documents])


def test_plain_manifest_runs_a_service_beside_sidekey(engine: Engine, upstream: Upstream, tmp_path: Path) -> None:
    trust = tmp_path / "trust"
    trust.mkdir()
    # Kubernetes creates the folder of an emptyDir with this mode. Only root can enter pytest's folders above it.
    trust.chmod(0o777)
    manifest = tmp_path / "sidecar.yaml"
    manifest.write_text(for_podman(upstream, trust))
    engine.podman("kube", "play", f"--network={NETWORK}", manifest)
    try:
        send = ("curl", "--silent", "--show-error", "--fail-with-body", "--json", "{}", EVENTS)
        execute = ("exec", f"{POD}-webhook-sender")
        eventually("a request passes", lambda: engine.podman(*execute, *send), 30)
        assert json.loads(engine.podman(*execute, *send))["sender"] == "webhooks:one"
        with pytest.raises(CommandFailed, match="No such file"):
            engine.podman(*execute, "ls", "/run/secrets")
        assert engine.podman(*execute, "id", "--user") == "10001\n"
    finally:
        engine.podman("kube", "down", manifest)
