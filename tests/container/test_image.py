"""The image, run by podman with the options of docs/image.md."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from cluster.images import ROOT, TOOLS
from cluster.kube import CommandFailed, eventually
from container.conftest import IMAGE, NETWORK, Upstream
from container.engine import Engine

CONFIG: Final = ROOT / "examples" / "compose" / "sidekey.yaml"
CONFINED: Final = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")
STOP_TIMEOUT: Final = 30
"""Seconds from SIGTERM to SIGKILL."""


class Container:
    """A Sidekey container. Its config and secrets are the folders `config` and `secrets`."""

    def __init__(self, engine: Engine, folder: Path, upstream: Upstream) -> None:
        self._engine: Final = engine
        self.config: Final = folder / "config"
        self.secrets: Final = folder / "secrets"
        self.config.mkdir()
        shutil.copy(CONFIG, self.config)
        upstream.add_to(self.config)
        self.secrets.mkdir()
        self.set_password("one")

    def set_password(self, password: str) -> None:
        """Replace the file of the secret by a rename."""
        new = self.secrets / ".new"
        new.write_text(password)
        # Group 0 may read it, as on OpenShift; other users may not.
        new.chmod(0o640)
        os.chown(new, 65532, 0)
        new.rename(self.secrets / "crm_password")

    def set_config(self, text: str) -> None:
        """Replace the config file."""
        (self.config / ".new").write_text(text)
        (self.config / ".new").rename(self.config / CONFIG.name)

    @contextlib.contextmanager
    def running(self, *options: str) -> Iterator[None]:
        """Run the container, and wait until it is healthy."""
        volumes = [f"--volume={self.config}:/etc/sidekey:ro", f"--volume={self.secrets}:/run/secrets:ro"]
        always = ["--detach", "--name=keys", f"--network={NETWORK}", f"--stop-timeout={STOP_TIMEOUT}", *volumes]
        self._engine.podman("run", *always, *options, IMAGE)
        try:
            eventually("Sidekey is healthy", lambda: self.check_health() is None, 30)
            yield
        finally:
            self._engine.podman("rm", "--force", "--time=0", "keys")

    def inspect(self, path: str) -> Any:
        """Return a value that `podman inspect` reports."""
        return json.loads(self._engine.podman("inspect", f"--format={{{{json {path}}}}}", "keys"))

    def process(self, *command: str) -> str:
        """Run a command on the host, with the ID of Sidekey's process in place of PID."""
        pid = str(self.inspect(".State.Pid"))
        return self._engine.run(*(word.replace("PID", pid) for word in command))

    def execute(self, *command: str) -> str:
        """Run a command in the container. Raises CommandFailed."""
        return self._engine.podman("exec", "keys", *command)

    def check_health(self) -> str | None:
        """Run the health check; return its output if it fails."""
        try:
            self._engine.podman("healthcheck", "run", "keys")
        except CommandFailed:
            return str(self.inspect(".State.Health.Log")[-1]["Output"])
        return None

    def curl(self, *arguments: str) -> subprocess.Popen[str]:
        """Start curl in another container that shares Sidekey's network namespace."""
        options = ["--rm", "--network=container:keys", "--entrypoint=curl", TOOLS, "--silent", "--show-error"]
        return self._engine.start("podman", "run", *options, *arguments)

    def send(self) -> str:
        """Send a request through Sidekey; return the credential that the upstream received."""
        output, errors = self.curl("http://127.0.0.1:8080/i/crm/whoami").communicate()
        try:
            return str(json.loads(output)["sender"])
        except (ValueError, KeyError):
            raise CommandFailed(output + errors + self.log()) from None

    def log(self) -> str:
        """Return what Sidekey has logged."""
        with self._engine.start("podman", "logs", "keys") as process:
            output, errors = process.communicate()
        return output + errors

    def events(self) -> list[str]:
        """Return the names of the events in the log."""
        return [json.loads(line)["event"] for line in self.log().splitlines()]

    def changed_files(self) -> set[str]:
        """Return the paths in the root file system that differ from the image."""
        return {line.partition(" ")[2] for line in self._engine.podman("diff", "keys").splitlines()}


@pytest.fixture
def container(engine: Engine, upstream: Upstream, tmp_path: Path) -> Container:
    return Container(engine, tmp_path, upstream)


@pytest.mark.parametrize(("options", "ids"), [((), "65532:65532"), (("--user=1000680000:0",), "1000680000:0")])
def test_confined_container_sends_the_credential(container: Container, options: tuple[str, ...], ids: str) -> None:
    """The second user is like those that OpenShift assigns: any number, in group 0."""
    with container.running(*CONFINED, "--ulimit=core=0", *options):
        assert container.send() == "svc:one"
        status = container.process("cat", "/proc/PID/status")
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        user, group = ids.split(":")
        assert (fields["Uid"].split(), fields["Gid"].split()) == ([user] * 4, [group] * 4)
        capabilities = {int(fields[f"Cap{name}"], 16) for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")}
        assert capabilities == {0}
        assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")


def test_confined_container_runs_the_demo_without_a_network(engine: Engine) -> None:
    output = engine.podman("run", "--rm", "--network=none", *CONFINED, IMAGE, "demo", "--once")
    assert "All of it worked." in output


def test_process_leaves_no_core_dump(container: Container) -> None:
    """Root owns the files in /proc of a process that cannot be dumped."""
    with container.running():
        assert container.process("stat", "--format=%u", "/proc/PID/environ") == "0\n"


def test_nothing_is_written_into_a_writable_root(container: Container) -> None:
    """podman itself creates the mount points, and adds the user to the files of users and groups."""
    by_podman = {"/etc", "/etc/group", "/etc/passwd", "/etc/sidekey", "/run", "/run/secrets"}
    with container.running():
        container.set_password("two")
        eventually("the new secret is used", lambda: container.send() == "svc:two", 20)
        container.execute("sidekey", "check")
        assert container.changed_files() <= by_podman


def test_stuck_process_becomes_unhealthy(container: Container) -> None:
    """The check has two retries and no start period. podman has no timer here, so the test runs each check."""
    now = ('--health-cmd=["sidekey", "healthcheck"]', "--health-start-period=0s", "--health-retries=2")
    with container.running(*CONFINED, *now):
        container.process("kill", "-STOP", "PID")
        for _ in range(2):
            assert "no response from 127.0.0.1:9090" in str(container.check_health())
        assert container.inspect(".State.Health.Status") == "unhealthy"
        container.process("kill", "-CONT", "PID")
        assert container.check_health() is None
        assert container.inspect(".State.Health.Status") == "healthy"


def test_changed_files_are_reloaded_and_an_invalid_config_is_not(container: Container) -> None:
    with container.running(*CONFINED):
        assert container.send() == "svc:one"
        container.set_password("two")
        eventually("the new secret is used", lambda: container.send() == "svc:two", 20)
        config = yaml.safe_load(CONFIG.read_text())
        config["integrations"]["crm"]["auth"]["username"] = "other"
        container.set_config(yaml.safe_dump(config))
        eventually("the new config is used", lambda: container.send() == "other:two", 20)
        container.set_config(yaml.safe_dump({**config, "integrations": {"crm": {"auth": {"type": "none such"}}}}))
        refused = "the config has errors and was not reloaded; the previous one stays in use"
        eventually("the error is reported", lambda: refused in container.events(), 20)
        assert container.send() == "other:two"
        with pytest.raises(CommandFailed, match=r"integrations\.crm"):
            container.execute("sidekey", "check")


def test_request_in_flight_is_finished_at_sigterm(container: Container, engine: Engine) -> None:
    with container.running(*CONFINED):
        slow = container.curl("http://127.0.0.1:8080/i/crm/whoami?ms=6000")

        def is_in_flight() -> bool:
            metrics, _ = container.curl("http://127.0.0.1:9090/metrics").communicate()
            return "\nsidekey_requests_in_flight 1.0\n" in metrics

        eventually("the request is in flight", is_in_flight, 6)
        # podman sends SIGTERM, and SIGKILL after the time-out, which would be status 137.
        begin = time.monotonic()
        engine.podman("stop", "keys")
        took = time.monotonic() - begin
        output, errors = slow.communicate()
        assert json.loads(output)["sender"] == "svc:one", errors
        assert container.inspect(".State.ExitCode") == 0
        assert took < STOP_TIMEOUT / 2
