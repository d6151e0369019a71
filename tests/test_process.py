"""What the process asks of the system, each in a process of its own: these settings cannot be taken back."""

from __future__ import annotations

import subprocess
import sys

import pytest

from support.child import run_code

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="prctl(2) and /proc are Linux's")


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run Python code that has `process` at hand."""
    return run_code(f"import resource, sys\nfrom sidekey import process\n{code}")


def said(code: str) -> str:
    """What Python code prints."""
    result = run(code)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def limited(soft: int, hard: int, in_flight: int) -> tuple[int, int, tuple[int, ...]]:
    """NOFILE's two limits after `raise_descriptors`, and what can be afforded then, with the backlog."""
    out = said(
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
        "process.raise_descriptors()\n"
        f"print(*resource.getrlimit(resource.RLIMIT_NOFILE), *process.afford({in_flight}), process.backlog())"
    )
    first, second, *afforded = map(int, out.split())
    return first, second, tuple(afforded)


@LINUX
def test_memory_is_neither_dumped_nor_read_by_others() -> None:
    """PR_GET_DUMPABLE (3) answers 0, and a core file has no size."""
    code = (
        "process.protect_memory()\n"
        "import ctypes\n"
        "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE)[0])"
    )
    assert said(code) == "0 0"


def test_descriptors_are_raised_to_the_hard_limit() -> None:
    """A shell's soft limit of 1024 would be reached by 500 callers."""
    soft, hard, _ = limited(256, 1024, 10)
    assert (soft, hard) == (1024, 1024)


@pytest.mark.parametrize(
    ("hard", "wanted", "afforded"),
    [
        (20_000, 10_000, (8_624, 17_248, 1_024)),
        (1024, 10, (10, 576, 64)),
        (1024, 10_000, (288, 576, 64)),
        (64, 10_000, (10, 20, 4)),
        (16, 10_000, (2, 4, 1)),
    ],
)
def test_exchanges_in_flight_are_what_the_descriptors_suffice_for(
    hard: int, wanted: int, afforded: tuple[int, int, int]
) -> None:
    """Two each, after those set aside and those accepted at one go; never more than the config asks for, never none."""
    assert limited(hard, hard, wanted)[2] == afforded


@pytest.mark.parametrize(("hard", "most"), [(20_000, 32), (1024, 32), (256, 16), (64, 4), (16, 2)])
def test_listeners_beside_the_data_planes_have_few_connections_with_few_descriptors(hard: int, most: int) -> None:
    """Their connections are not counted with those of the data plane, so that they must fit in what is set aside."""
    code = f"resource.setrlimit(resource.RLIMIT_NOFILE, ({hard}, {hard}))\nprint(process.side_connections(32))"
    assert said(code) == str(most)


@pytest.mark.parametrize(("hard", "most"), [(20_000, 256), (1024, 64), (64, 4), (16, 2)])
def test_calls_have_few_connections_with_few_descriptors(hard: int, most: int) -> None:
    """At least two: one endpoint must not have them all."""
    code = f"resource.setrlimit(resource.RLIMIT_NOFILE, ({hard}, {hard}))\nprint(process.calls())"
    assert said(code) == str(most)


def test_the_loop_is_uvloops_where_it_is_installed() -> None:
    """The quicker one carries the same protocols."""
    pytest.importorskip("uvloop", reason="uvloop is not available here")
    assert said("print(type(process.new_event_loop()).__module__)").startswith("uvloop")


def test_the_loop_is_asyncios_where_uvloop_is_not_installed() -> None:
    """Some platforms have no uvloop."""
    code = "sys.modules['uvloop'] = None\nprint(type(process.new_event_loop()).__module__)"
    assert said(code).startswith("asyncio")


def test_standard_descriptors_that_were_closed_are_taken() -> None:
    """libuv aborts the process when it closes a connection whose descriptor is 0, 1 or 2; the others are left alone."""
    code = (
        "import os, stat\nos.close(0)\nos.close(2)\nprocess.new_event_loop().close()\n"
        "print([os.fstat(number).st_rdev == os.stat(os.devnull).st_rdev for number in range(3)])"
    )
    assert said(code) == "[True, False, True]"


def test_collector_is_off_until_the_last_block_ends() -> None:
    """A scrape that ends during a reload must not start a full collection, which stops all requests."""
    code = (
        "import gc\nfirst, second = process.COLLECTOR.paused(), process.COLLECTOR.paused()\n"
        "first.__enter__(); second.__enter__(); first.__exit__(None, None, None); print(gc.isenabled())\n"
        "second.__exit__(None, None, None); print(gc.isenabled())"
    )
    assert said(code) == "False\nTrue"


def test_leaving_ends_the_process_at_once() -> None:
    """No exit handler and no thread holds it up."""
    result = run("import atexit\natexit.register(print, 'too late')\nprocess.leave(143)")
    assert (result.returncode, result.stdout) == (143, "")
