"""Sidekey as an unprivileged user, on a read-only root, and with a full disk."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

from support import programs
from support.http_get import get
from support.nginx import Nginx
from support.sidekey_process import SidekeyProcess

NOBODY = 65532
"""The user of distroless images; it has no entry in /etc/passwd."""

READ_ONLY = 'mount -o remount,bind,ro / && [ ! -w / ] && unset HOME && exec "$@"'

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="namespaces, prctl(2) and /proc are Linux's")


def as_nobody() -> list[str]:
    """Return the prefix of a command that runs it as an unprivileged user without any capability."""
    if os.getuid() != 0:
        return []
    drop = ["--no-new-privs", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]
    return [programs.require("setpriv"), f"--reuid={NOBODY}", f"--regid={NOBODY}", *drop]


def in_read_only_root() -> list[str]:
    """Return the prefix of a command that runs it without HOME on a read-only root."""
    unshare = programs.require("unshare")
    namespace = ["--mount"] if os.getuid() == 0 else ["--mount", "--map-root-user"]
    command = [unshare, *namespace, "/bin/sh", "-c", READ_ONLY, "sh"]
    result = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        programs.missing("unshare", f"no mount namespace can be made here ({result.stderr.strip()})")
    return command


@cache
def is_readable_by_others() -> bool:
    """Return True if another user may read the interpreter and the package."""
    command = [*as_nobody(), sys.executable, "-c", "import sidekey"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture
def folder() -> Iterator[Path]:
    """Create a folder that every user may enter, unlike pytest's folders."""
    if not is_readable_by_others():
        pytest.skip("the interpreter or the package lies where no other user may read it")
    path = Path(tempfile.mkdtemp(prefix="sidekey-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def config(port: int) -> str:
    """Build a config with integration `crm` at an upstream on this port, and its secret in a file."""
    return f"""\
integrations:
  crm:
    endpoint_prefix: http://127.0.0.1:{port}
    auth: {{type: basic, username: svc, password: {{file: password}}}}
"""


def serve_one_request(
    folder: Path,
    wrapper: Sequence[str] = (),
    environment: dict[str, str] | None = None,
    output: Path | None = None,
) -> SidekeyProcess:
    """Start Sidekey behind `wrapper`, serve one request, stop it, and return it with its log."""
    (folder / "password").write_text("secret")
    with (
        Nginx(folder) as nginx,
        SidekeyProcess(config(nginx.port), folder, wrapper=wrapper, environment=environment, output=output) as child,
    ):
        response = get(child.proxy_port, "/i/crm/x")
        assert (response.status, "authorization: Basic c3ZjOnNlY3JldA==" in response.body) == (200, True)
        assert child.stop() == 0
    return child


def test_sidekey_serves_as_an_unprivileged_user_on_a_read_only_root(folder: Path) -> None:
    """User 65532, no capability, no new privileges, no HOME, no writable folder."""
    child = serve_one_request(folder, [*in_read_only_root(), *as_nobody()], {"TMPDIR": "/nonexistent"})
    assert [json.loads(line)["event"] for line in child.lines][-1] == "stopped"


def test_demo_works_on_a_read_only_root(folder: Path) -> None:
    command = [*in_read_only_root(), *as_nobody(), sys.executable, "-m", "sidekey", "demo", "--once"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert "All of it worked." in result.stdout


def test_sidekey_serves_with_a_full_disk_for_its_log(tmp_path: Path) -> None:
    """Writes to standard error fail."""
    serve_one_request(tmp_path, output=Path("/dev/full"))


@pytest.mark.parametrize("redirection", ["2>&-", ">&- 2>&- <&-"])
def test_sidekey_serves_without_a_writable_log(redirection: str, folder: Path) -> None:
    """Standard error or all standard descriptors are closed."""
    assert serve_one_request(folder, ["/bin/sh", "-c", f'exec "$@" {redirection}', "sh"]).lines == []


def peek(pid: int, name: str) -> str:
    """Read a file of /proc/PID in an unprivileged process. Return the size or the error."""
    code = f"print(len(open('/proc/{pid}/{name}', 'rb').read(1) or b'-'))"
    result = subprocess.run([*as_nobody(), sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return result.stdout.strip() or result.stderr.strip().splitlines()[-1]


def test_other_processes_of_the_user_cannot_read_its_memory(folder: Path) -> None:
    """The user can read the memory of an unprotected process, but not of Sidekey."""
    open_to_all = [*as_nobody(), sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"]
    with (
        SidekeyProcess(config(1), folder, wrapper=as_nobody(), environment={"HOME": "/"}) as child,
        subprocess.Popen(open_to_all, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as control,
    ):
        assert control.stdout is not None
        control.stdout.readline()
        try:
            assert peek(control.pid, "environ") == "1"
            for name in ("mem", "maps", "environ", "fd/0"):
                assert "Permission denied" in peek(child.process.pid, name), name
            # Files in /proc of a process that is not dumpable belong to root (proc(5)).
            assert Path(f"/proc/{child.process.pid}/environ").stat().st_uid == 0
        finally:
            control.kill()


def test_debugger_of_the_user_cannot_attach(folder: Path) -> None:
    """`gdb -p` is refused."""
    gdb = programs.require("gdb")
    with SidekeyProcess(config(1), folder, wrapper=as_nobody()) as child:
        command = [*as_nobody(), gdb, "--batch", "-nx", "-p", str(child.process.pid), "-ex", "info registers"]
        result = subprocess.run(command, capture_output=True, text=True, check=False, env={"HOME": str(folder)})
        assert "Operation not permitted" in result.stderr
        assert "rip" not in result.stdout
        assert child.process.poll() is None


def test_core_dumps_are_disabled(tmp_path: Path) -> None:
    with SidekeyProcess("integrations: {}\n", tmp_path) as child:
        limits = Path(f"/proc/{child.process.pid}/limits").read_text()
    core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert core.split()[4] == "0"
