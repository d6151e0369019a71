"""Programs under test: started on a core, measured from /proc, always stopped.

Memory is read from /proc/PID/status: smaps_rollup is closed to other users for a process that forbids core dumps, as
Sidekey does. Pages that several processes of one program share are counted for each. Private memory is the anonymous
part (RssAnon): pages of the program's file and of libraries belong to the page cache and are shared by all instances on
a machine. Processor time is read from the
processes' CPU clocks, in nanoseconds: /proc/PID/stat counts in ticks of 10 ms, 3 % of what nginx uses in a short round.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

_STOP_SECONDS = 5.0
_POLL_SECONDS = 0.01


class MeasureFailed(Exception):
    """A program under test did not start, or did not do the work that the row measures."""


class Program:
    """A running program with all its children, in one session so that they end together."""

    def __init__(self, command: Sequence[str], log: Path, core: int) -> None:
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                ["taskset", "--cpu-list", str(core), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._process.terminate()

    def stop(self) -> None:
        """Send SIGTERM, kill what remains, and wait for the end."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        while remaining := self.pids():
            for pid in remaining:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(_POLL_SECONDS)

    def check_alive(self) -> None:
        """Raise MeasureFailed with the end of its output if it has ended."""
        status = self._process.poll()
        if status is not None:
            tail = self.output().strip()[-600:]
            raise MeasureFailed(f"ended with status {status}: {tail or 'it printed nothing'}")

    def output(self) -> str:
        """Everything printed to stdout and stderr."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def cpu_seconds(self) -> float:
        """User and system time of its running processes."""
        return sum(map(cpu_seconds, self.pids()))

    def resident_bytes(self) -> int:
        """Resident memory of all its processes."""
        return sum(map(resident, self.pids()))

    def private_bytes(self) -> int:
        """Anonymous resident memory of all its processes."""
        return sum(map(private, self.pids()))

    def pids(self) -> list[int]:
        """Its running processes. The session's ID is the PID of the first one."""
        pids = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    stat = (entry / "stat").read_text(encoding="utf-8", errors="replace")
                except (FileNotFoundError, ProcessLookupError):
                    continue  # it ended while the folder was read
                state, session = parse_stat(stat)
                if session == self._process.pid and state != "Z":
                    pids.append(int(entry.name))
        return pids


class PeakMemory:
    """Samples the resident memory of a program's processes while the block runs."""

    def __init__(self, program: Program) -> None:
        self._pids = program.pids()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.peak = 0
        """Bytes."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        ended = False
        while not ended:
            ended = self._done.wait(_POLL_SECONDS)
            self.peak = max(self.peak, sum(map(resident, self._pids)))


def parse_stat(stat: str) -> tuple[str, int]:
    """State and session of a line of /proc/PID/stat (proc_pid_stat(5)).

    The second field is the program's name, which may hold spaces and parentheses.
    """
    fields = stat[stat.rindex(")") + 1 :].split()
    return fields[0], int(fields[3])


def parse_memory(status: str, field: str) -> int:
    """Return the bytes of a field in /proc/PID/status, or 0 for a process without memory."""
    line = next((line for line in status.splitlines() if line.startswith(f"{field}:")), None)
    return 0 if line is None else int(line.split()[1]) * 1024


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process with its ended threads, or 0 if it has ended.

    The kernel's number of a process' clock is made as the macro MAKE_PROCESS_CPUCLOCK of glibc makes it
    (clock_getcpuclockid(3)), which Python does not offer.
    """
    try:
        return time.clock_gettime(~pid << 3 | 2)
    except OSError:
        return 0.0


def resident(pid: int) -> int:
    """Return the resident memory of a process in bytes, or 0 if it has ended."""
    return _memory(pid, "VmRSS")


def private(pid: int) -> int:
    """Return the anonymous resident memory of a process in bytes, or 0 if it has ended."""
    return _memory(pid, "RssAnon")


def _memory(pid: int, field: str) -> int:
    try:
        return parse_memory(Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace"), field)
    except (FileNotFoundError, ProcessLookupError):
        return 0
