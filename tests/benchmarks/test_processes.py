"""Programs under test: what /proc says of them, and that none is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.processes import MeasureFailed, PeakMemory, Program, cpu_seconds, parse_memory, parse_stat, resident
from support.ask import within
from support.peers import require

PARENT = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()']).wait()"


@pytest.fixture(autouse=True)
def taskset() -> None:
    """Programs are pinned with taskset."""
    require("taskset")


def start(script: str, folder: Path) -> Program:
    """A Python program on the first core we may use."""
    return Program([sys.executable, "-c", script], folder / "output.log", min(os.sched_getaffinity(0)))


def test_a_program_name_with_parentheses_does_not_shift_the_fields() -> None:
    """The name is the one field of the line that may hold spaces and parentheses."""
    line = "7 (a) b (c) S 1 7 4711 0 -1 4194560 100 0 0 0 31 11 0 0 20 0 1 0 100 10000 200"
    assert parse_stat(line) == ("S", 4711)


def test_resident_memory_is_given_in_bytes() -> None:
    """The kernel writes kB for 1,024 bytes; a zombie has no such line."""
    assert parse_memory("Name:\tnginx\nVmHWM:\t   20 kB\nVmRSS:\t   12 kB\n", "VmRSS") == 12_288
    assert parse_memory("Name:\tnginx\nState:\tZ (zombie)\n", "VmRSS") == 0


def test_an_ended_program_is_reported_with_the_end_of_its_output(tmp_path: Path) -> None:
    """A peer that rejects its config says why."""
    with (
        start("print('no such directive'); raise SystemExit(3)", tmp_path) as program,
        pytest.raises(MeasureFailed, match="ended with status 3: no such directive"),
    ):
        while True:
            program.check_alive()


def test_children_are_measured_and_end_with_the_program(tmp_path: Path) -> None:
    """nginx, for one, works in a child of the process that was started."""
    with start(PARENT, tmp_path) as program:
        while len(pids := program.pids()) < 2:
            program.check_alive()
        assert program.resident_bytes() > 0
        with PeakMemory(program) as watched:
            pass
        assert watched.peak > 0
    assert [resident(pid) for pid in pids] == [0, 0]


def test_a_program_that_ignores_the_request_to_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hung peer does not outlive the benchmark."""
    monkeypatch.setattr("benchmarks.processes._STOP_SECONDS", 0.1)
    ignoring = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
    )
    with start(ignoring, tmp_path) as program:
        while "ready" not in (tmp_path / "output.log").read_text():
            program.check_alive()
        pids = program.pids()
    assert pids
    assert [resident(pid) for pid in pids] == [0] * len(pids)


def test_processor_time_is_that_of_all_its_processes(tmp_path: Path) -> None:
    """It agrees with the clock ticks of /proc, and is finer."""
    child = "import signal, time\nwhile time.process_time() < 0.05: pass\nprint('done', flush=True)\nsignal.pause()"
    parent = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}]).wait()"
    with start(parent, tmp_path) as program:
        while "done" not in (tmp_path / "output.log").read_text():
            program.check_alive()
        pids = program.pids()
        # Whoever has said that it is done still has to fall asleep.
        within(lambda: program.cpu_seconds() == sum(cpu_seconds(pid) for pid in pids))
        assert cpu_seconds(pids[-1]) >= 0.05
        stat = Path(f"/proc/{pids[-1]}/stat").read_text()
        ticks = sum(map(int, stat[stat.rindex(")") + 1 :].split()[11:13]))
        assert abs(cpu_seconds(pids[-1]) - ticks / os.sysconf("SC_CLK_TCK")) < 0.05


def test_processor_time_of_an_ended_process_is_zero() -> None:
    """A worker may end while its program is measured."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert cpu_seconds(ended.pid) == 0
