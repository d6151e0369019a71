"""Where Sidekey runs in production: a read-only root, no HOME, an unprivileged user, a full disk (F90, K11, K31)."""

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
from support.child import Child
from support.http_get import get
from support.nginx import Nginx

NOBODY = 65532
"""The user of distroless images; it has no entry in /etc/passwd."""

READ_ONLY = 'mount -o remount,bind,ro / && [ ! -w / ] && unset HOME && exec "$@"'

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="namespaces, prctl(2) and /proc are Linux's")


def as_nobody() -> list[str]:
    """The words in front of a command that runs it as an unprivileged user without any capability."""
    if os.getuid() != 0:
        return []
    drop = ["--no-new-privs", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]
    return [programs.require("setpriv"), f"--reuid={NOBODY}", f"--regid={NOBODY}", *drop]


def in_read_only_root() -> list[str]:
    """The words in front of a command that runs it without HOME on a root that cannot be written."""
    unshare = programs.require("unshare")
    namespace = ["--mount"] if os.getuid() == 0 else ["--mount", "--map-root-user"]
    command = [unshare, *namespace, "/bin/sh", "-c", READ_ONLY, "sh"]
    tried = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        programs.missing("unshare", f"no mount namespace can be made here ({tried.stderr.strip()})")
    return command


@cache
def others_may_run_it() -> bool:
    """Whether another user may read the interpreter and the package."""
    command = [*as_nobody(), sys.executable, "-c", "import sidekey"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own is its user's alone."""
    if not others_may_run_it():
        pytest.skip("the interpreter or the package lies where no other user may read it")
    path = Path(tempfile.mkdtemp(prefix="sidekey-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def config(port: int) -> str:
    """Integration `crm` at an upstream on this port, its secret in a file beside the config."""
    return f"""\
integrations:
  crm:
    endpoint_prefix: http://127.0.0.1:{port}
    auth: {{type: basic, username: svc, password: {{file: password}}}}
"""


def served(
    folder: Path,
    wrapper: Sequence[str] = (),
    environment: dict[str, str] | None = None,
    output: Path | None = None,
) -> Child:
    """Start Sidekey behind `wrapper`, let it serve one request and end; returns it for a look at its log."""
    (folder / "password").write_text("secret")
    with (
        Nginx(folder) as nginx,
        Child(config(nginx.port), folder, wrapper=wrapper, environment=environment, output=output) as child,
    ):
        answer = get(child.proxy_port, "/i/crm/x")
        assert (answer.status, "authorization: Basic c3ZjOnNlY3JldA==" in answer.body) == (200, True)
        assert child.stop() == 0
    return child


def test_it_serves_as_an_unprivileged_user_on_a_read_only_root(folder: Path) -> None:
    """K31, F90: uid 65532, no capability, no new privileges, no HOME, nothing to write to."""
    child = served(folder, [*in_read_only_root(), *as_nobody()], {"TMPDIR": "/nonexistent"})
    assert [json.loads(line)["event"] for line in child.lines][-1] == "stopped"


def test_the_demo_works_there_as_well(folder: Path) -> None:
    """No file is written: the demo's config exists in memory alone."""
    command = [*in_read_only_root(), *as_nobody(), sys.executable, "-m", "sidekey", "demo", "--once"]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "All of it worked." in shown.stdout


def test_it_serves_where_the_disk_of_its_log_is_full(tmp_path: Path) -> None:
    """F90: standard error can be written to no more, which stops nothing."""
    served(tmp_path, output=Path("/dev/full"))


@pytest.mark.parametrize("redirection", ["2>&-", ">&- 2>&- <&-"])
def test_it_serves_where_its_log_can_not_be_written(redirection: str, folder: Path) -> None:
    """F90: where there is no standard error, or nothing at all, nothing stops either."""
    assert served(folder, ["/bin/sh", "-c", f'exec "$@" {redirection}', "sh"]).lines == []


def peek(pid: int, name: str) -> str:
    """What an unprivileged process is told that reads a file of /proc/PID."""
    code = f"print(len(open('/proc/{pid}/{name}', 'rb').read(1) or b'-'))"
    found = subprocess.run([*as_nobody(), sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return found.stdout.strip() or found.stderr.strip().splitlines()[-1]


def test_other_processes_of_its_user_do_not_read_its_memory(folder: Path) -> None:
    """K11: what holds secrets is closed to the same user; a process like it that does not protect itself is open."""
    open_to_all = [*as_nobody(), sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"]
    with (
        Child(config(1), folder, wrapper=as_nobody(), environment={"HOME": "/"}) as child,
        subprocess.Popen(open_to_all, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as control,
    ):
        assert control.stdout is not None
        control.stdout.readline()
        try:
            assert peek(control.pid, "environ") == "1"
            for name in ("mem", "maps", "environ", "fd/0"):
                assert "Permission denied" in peek(child.process.pid, name), name
            # What is not dumpable belongs to root in /proc (proc(5)).
            assert Path(f"/proc/{child.process.pid}/environ").stat().st_uid == 0
        finally:
            control.kill()


def test_no_debugger_of_its_user_attaches(folder: Path) -> None:
    """K11: gdb -p is refused."""
    gdb = programs.require("gdb")
    with Child(config(1), folder, wrapper=as_nobody()) as child:
        command = [*as_nobody(), gdb, "--batch", "-nx", "-p", str(child.process.pid), "-ex", "info registers"]
        tried = subprocess.run(command, capture_output=True, text=True, check=False, env={"HOME": str(folder)})
        assert "Operation not permitted" in tried.stderr
        assert "rip" not in tried.stdout
        assert child.process.poll() is None


def test_no_core_is_dumped(tmp_path: Path) -> None:
    """The size of a core file is zero; the limit shows in /proc."""
    with Child("integrations: {}\n", tmp_path) as child:
        limits = Path(f"/proc/{child.process.pid}/limits").read_text()
    core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert core.split()[4] == "0"
