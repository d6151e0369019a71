"""Commands in the memory cgroup of a running Sidekey, as with `kubectl exec`, do not stop it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import programs
from support.cgroups import MemoryCgroup, memory_cgroup
from support.http_get import get
from support.ports import listening_socket
from support.sidekey_process import SidekeyProcess

MIB = 1 << 20
RESERVE_AND_STARTUP = 66 * MIB
MESSAGE = (
    "Not enough memory for this command. In a container, raise the memory limit, or run the command elsewhere with the "
    "same files.\n"
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="cgroups and the OOM killer are Linux's")


@pytest.fixture
def cgroup() -> Iterator[MemoryCgroup]:
    with memory_cgroup() as group:
        yield group


def start(cgroup: MemoryCgroup, *arguments: str) -> subprocess.Popen[str]:
    """Start a command in the cgroup."""
    command = [*cgroup.wrapper, sys.executable, "-m", "sidekey", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def integrations(folder: Path, count: int) -> str:
    """Return the YAML of this many integrations. Loading one takes about 9 KiB."""
    (folder / "password").write_text("secret")
    (folder / "password").chmod(0o600)
    auth = "auth: {type: basic, username: svc, password: {file: password}}"
    entries = [f"  t{number}: {{endpoint_prefix: 'https://api.test/{number}', {auth}}}\n" for number in range(count)]
    return f"integrations:\n{''.join(entries)}"


def write_config(folder: Path, count: int) -> str:
    """Write a config of this many integrations, separate from the service's config."""
    path = folder / "large.yaml"
    path.write_text(f"version: 1\n{integrations(folder, count)}")
    return str(path)


def assert_serves(child: SidekeyProcess) -> None:
    """Assert that the process still runs and responds."""
    assert child.process.poll() is None
    assert (get(child.admin_port, "/readyz").status, get(child.proxy_port, "/i/none/x").status) == (200, 403)


def test_check_exits_with_a_message_if_the_container_has_too_little_memory(
    cgroup: MemoryCgroup, tmp_path: Path
) -> None:
    """The command exits before the kernel would kill a process or the whole container."""
    large = write_config(tmp_path, 6000)
    with SidekeyProcess("", tmp_path, wrapper=cgroup.wrapper) as child:
        cgroup.limit(cgroup.used() + RESERVE_AND_STARTUP + 4 * MIB)
        check = start(cgroup, "check", "--config", large)
        assert (check.communicate(), check.returncode) == (("", MESSAGE), 1)
        assert_serves(child)


def test_command_does_not_start_within_the_reserve(cgroup: MemoryCgroup, tmp_path: Path) -> None:
    """Imports that run out of memory fail in unclear ways."""
    with SidekeyProcess("", tmp_path, wrapper=cgroup.wrapper) as child:
        cgroup.limit(cgroup.used() + RESERVE_AND_STARTUP - 4 * MIB)
        check = start(cgroup, "check", "--config", str(child.config))
        assert (check.communicate(), check.returncode) == (("", MESSAGE), 1)
        healthcheck = start(cgroup, "healthcheck", "--config", str(child.config))
        assert (healthcheck.communicate(), healthcheck.returncode) == (("ok\n", ""), 0)


@pytest.mark.parametrize("of_parent", [False, True], ids=["own limit", "limit of the parent"])
def test_check_works_if_the_container_has_enough_memory(of_parent: bool, cgroup: MemoryCgroup, tmp_path: Path) -> None:
    """The limit may be that of the parent cgroup, such as a pod."""
    large = write_config(tmp_path, 6000)
    with memory_cgroup(cgroup.path) as child_cgroup:
        cgroup.limit(256 * MIB)
        inner = child_cgroup if of_parent else cgroup
        with SidekeyProcess("", tmp_path, wrapper=inner.wrapper) as child:
            check = start(inner, "check", "--config", large)
            assert (check.communicate(), check.returncode) == (("ok: 6000 integrations\n", ""), 0)
            cgroup.limit(cgroup.used() + RESERVE_AND_STARTUP + 4 * MIB)
            check = start(inner, "check", "--config", large)
            assert (check.communicate(), check.returncode) == (("", MESSAGE), 1)
            assert_serves(child)


def test_kernel_kills_commands_before_the_service(cgroup: MemoryCgroup, tmp_path: Path) -> None:
    """Three parallel commands rely on the same memory, and the service uses more than any command."""
    with SidekeyProcess(integrations(tmp_path, 6000), tmp_path, wrapper=cgroup.wrapper) as child:
        cgroup.limit(cgroup.used() + RESERVE_AND_STARTUP + 40 * MIB)
        checks = [start(cgroup, "check", "--config", str(child.config)) for _ in range(3)]
        ends = [(*check.communicate(), check.returncode) for check in checks]
        assert set(ends) <= {("ok: 6000 integrations\n", "", 0), ("", MESSAGE, 1), ("", "", -signal.SIGKILL)}
        assert_serves(child)


def in_version_2(folder: Path, limit: str, reclaimable: int) -> list[str]:
    """Return the prefix of a command that runs it with the view of a container: a cgroup v2 with 100 MiB in use."""
    root = folder / "cgroup"
    root.mkdir()
    (root / "memory.max").write_text(f"{limit}\n")
    (root / "memory.current").write_text(f"{100 * MIB}\n")
    (root / "memory.stat").write_text(f"anon 1\ninactive_file {reclaimable * MIB}\n")
    namespace = ["--mount"] if os.geteuid() == 0 else ["--mount", "--map-root-user"]
    mount = 'mount --bind "$0" /sys/fs/cgroup && exec "$@"'
    prefix = [programs.require("unshare"), *namespace, "/bin/sh", "-c", mount, str(root)]
    result = subprocess.run([*prefix, "true"], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        programs.missing("unshare", f"no mount namespace can be made here ({result.stderr.strip()})")
    return prefix


@pytest.mark.parametrize(
    ("limit", "reclaimable", "expected"),
    [
        ("max", 0, ("ok: 1 integration\n", "", 0)),
        (str(128 * MIB), 60, ("ok: 1 integration\n", "", 0)),
        (str(128 * MIB), 20, ("", MESSAGE, 1)),
    ],
    ids=["no limit", "page cache", "too little"],
)
def test_limits_of_cgroups_version_2_apply(
    limit: str, reclaimable: int, expected: tuple[str, str, int], tmp_path: Path
) -> None:
    """Unused page cache counts as free."""
    path = write_config(tmp_path, 1)
    command = [*in_version_2(tmp_path, limit, reclaimable), sys.executable, "-m", "sidekey", "check", "--config", path]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr, result.returncode) == expected


def test_small_local_ca_is_read_within_a_small_limit(tmp_path: Path) -> None:
    """The first run creates the CA, the second reads it."""
    path = write_config(tmp_path, 1)
    prefix = in_version_2(tmp_path, str(142 * MIB), 30)
    command = [*prefix, sys.executable, "-m", "sidekey", "ca", "show", "--config", path]
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    runs = [subprocess.run(command, env=environment, capture_output=True, text=True, check=False) for _ in range(2)]
    assert [(result.stderr, result.returncode) for result in runs] == [("", 0), ("", 0)]
    assert runs[0].stdout == runs[1].stdout


def test_commands_but_not_run_prefer_the_oom_killer(tmp_path: Path) -> None:
    """The test reads the score while the command waits for a response."""
    score = Path("/proc/self/oom_score_adj").read_text()
    with SidekeyProcess("", tmp_path) as child:
        assert Path(f"/proc/{child.process.pid}/oom_score_adj").read_text() == score
    with listening_socket() as listener:
        port = listener.getsockname()[1]
        (tmp_path / "sidekey.yaml").write_text(f'version: 1\nlisten: {{admin: "127.0.0.1:{port}"}}\n')
        command = [sys.executable, "-m", "sidekey", "healthcheck", "--config", str(tmp_path / "sidekey.yaml")]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            connection, _ = listener.accept()
            with connection:
                assert Path(f"/proc/{process.pid}/oom_score_adj").read_text() == "1000\n"
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                connection.shutdown(socket.SHUT_WR)
            assert process.wait(timeout=60) == 0
