"""Settings of the operating-system process. Each test needs a process, because the settings cannot be undone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from support.sidekey_process import run_code

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="prctl(2) and /proc are Linux's")


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run Python code that can use `process`."""
    return run_code(f"import resource, sys\nfrom sidekey import process\n{code}")


def output(code: str) -> str:
    """Return the output of Python code."""
    result = run(code)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def limited(soft: int, hard: int, in_flight: int) -> tuple[int, int, tuple[int, ...]]:
    """Return both limits of NOFILE after `raise_descriptor_limit`, the descriptor budget, and the backlog."""
    out = output(
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
        "process.raise_descriptor_limit()\n"
        f"budget = process.descriptor_budget({in_flight})\n"
        "print(*resource.getrlimit(resource.RLIMIT_NOFILE), *budget, process.backlog())"
    )
    first, second, *afforded = map(int, out.split())
    return first, second, tuple(afforded)


@LINUX
def test_memory_is_neither_dumped_nor_read_by_others() -> None:
    """PR_GET_DUMPABLE (3) is 0, and a core file has no size."""
    code = (
        "process.protect_memory()\n"
        "import ctypes\n"
        "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE)[0])"
    )
    assert output(code) == "0 0"


@LINUX
def test_passed_socket_is_not_inherited_by_programs() -> None:
    """Nor do they see the variables: such a program would keep the port open."""
    code = (
        "import os, socket\n"
        "listening = socket.create_server(('127.0.0.1', 0))\n"
        "os.dup2(listening.fileno(), 3)\n"
        "os.environ |= {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1', 'LISTEN_FDNAMES': 'proxy'}\n"
        "passed = process.inherited_socket()\n"
        "print(passed.getsockname() == listening.getsockname(), passed.get_inheritable())\n"
        "print([name for name in os.environ if name.startswith('LISTEN_')])"
    )
    assert output(code) == "True False\n[]"


def test_descriptors_are_raised_to_the_hard_limit() -> None:
    """500 callers would reach a shell's soft limit of 1024."""
    soft, hard, _ = limited(256, 1024, 10)
    assert (soft, hard) == (1024, 1024)


@pytest.mark.parametrize(
    ("hard", "in_flight", "afforded"),
    [
        (20_000, 10_000, (8_624, 17_248, 1_024)),
        (1024, 10, (10, 576, 64)),
        (1024, 10_000, (288, 576, 64)),
        (64, 10_000, (10, 20, 4)),
        (16, 10_000, (2, 4, 1)),
    ],
)
def test_descriptors_limit_exchanges_in_flight(hard: int, in_flight: int, afforded: tuple[int, int, int]) -> None:
    """Two each, after the reserved ones and the backlog: at most the configured number, and at least one."""
    assert limited(hard, hard, in_flight)[2] == afforded


@pytest.mark.parametrize(("hard", "maximum"), [(20_000, 32), (1024, 32), (256, 16), (64, 4), (16, 2)])
def test_few_descriptors_lower_connections_of_other_listeners(hard: int, maximum: int) -> None:
    """The data plane does not count these connections, so the reserved descriptors must suffice."""
    code = f"resource.setrlimit(resource.RLIMIT_NOFILE, ({hard}, {hard}))\nprint(process.lower_connections(32))"
    assert output(code) == str(maximum)


@pytest.mark.parametrize(("hard", "maximum"), [(20_000, 256), (1024, 64), (64, 4), (16, 2)])
def test_few_descriptors_lower_parallel_calls(hard: int, maximum: int) -> None:
    """At least two: one endpoint must not occupy all of them."""
    code = f"resource.setrlimit(resource.RLIMIT_NOFILE, ({hard}, {hard}))\nprint(process.max_calls())"
    assert output(code) == str(maximum)


def test_loop_is_of_uvloop_if_installed() -> None:
    pytest.importorskip("uvloop", reason="uvloop is not available here")
    assert output("print(type(process.new_event_loop()).__module__)").startswith("uvloop")


def test_loop_is_of_asyncio_without_uvloop() -> None:
    """Some platforms have no uvloop."""
    code = "sys.modules['uvloop'] = None\nprint(type(process.new_event_loop()).__module__)"
    assert output(code).startswith("asyncio")


def test_closed_standard_descriptors_are_opened() -> None:
    """libuv aborts the process when it closes a connection whose descriptor is 0, 1 or 2. Open ones stay unchanged."""
    code = (
        "import os, stat\nos.close(0)\nos.close(2)\nprocess.new_event_loop().close()\n"
        "print([os.fstat(number).st_rdev == os.stat(os.devnull).st_rdev for number in range(3)])"
    )
    assert output(code) == "[True, False, True]"


def test_collector_is_off_until_the_last_block_ends() -> None:
    """A scrape that ends during a reload must not start a full collection, which stops all requests."""
    code = (
        "import gc\nfirst, second = process.GARBAGE_COLLECTOR.paused(), process.GARBAGE_COLLECTOR.paused()\n"
        "first.__enter__(); second.__enter__(); first.__exit__(None, None, None); print(gc.isenabled())\n"
        "second.__exit__(None, None, None); print(gc.isenabled())"
    )
    assert output(code) == "False\nTrue"


def test_leave_ends_the_process_immediately() -> None:
    """Without exit handlers and without waiting for threads."""
    result = run("import atexit\natexit.register(print, 'too late')\nprocess.exit_now(143)")
    assert (result.returncode, result.stdout) == (143, "")
