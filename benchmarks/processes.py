"""Programs under test: started on a core, measured from /proc, always stopped.

Memory is read from /proc/PID/status: smaps_rollup is closed to other users for a process that forbids core dumps, as
Sidekey does. Pages that several processes of one program share are counted for each.
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

_TICKS = os.sysconf("SC_CLK_TCK")
_STOP_SECONDS = 5.0
_POLL_SECONDS = 0.01


class MeasureFailed(Exception):
    """A program under test did not start, or did other work than was asked of it."""


class Program:
    """A running program and all the processes it started, in a session of their own so that they end together."""

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

    def stop(self) -> None:
        """Ask it to end, end what is left of it, and wait until nothing is."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        while left := self.pids():
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(_POLL_SECONDS)

    def check_alive(self) -> None:
        """Raise MeasureFailed with the end of its output where it has ended."""
        status = self._process.poll()
        if status is not None:
            tail = self.output().strip()[-600:]
            raise MeasureFailed(f"ended with status {status}: {tail or 'it printed nothing'}")

    def output(self) -> str:
        """All that it has printed, on both streams."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def cpu_seconds(self) -> float:
        """Processor time that its living processes have used, user and system."""
        return sum(ticks for _, ticks in self._members()) / _TICKS

    def resident_bytes(self) -> int:
        """Resident memory of all its processes."""
        return sum(map(resident, self.pids()))

    def pids(self) -> list[int]:
        """Its living processes."""
        return [pid for pid, _ in self._members()]

    def _members(self) -> list[tuple[int, int]]:
        """Its processes, each with the clock ticks it has used. The session's ID is the PID it was started with."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    stat = (entry / "stat").read_text(encoding="utf-8", errors="replace")
                except (FileNotFoundError, ProcessLookupError):
                    continue  # it ended while the folder was read
                state, session, ticks = parse_stat(stat)
                if session == self._process.pid and state != "Z":
                    found.append((int(entry.name), ticks))
        return found


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


def parse_stat(stat: str) -> tuple[str, int, int]:
    """State, session and clock ticks (utime + stime) of a line of /proc/PID/stat (proc_pid_stat(5)).

    The second field is the program's name, which may hold spaces and parentheses.
    """
    fields = stat[stat.rindex(")") + 1 :].split()
    return fields[0], int(fields[3]), int(fields[11]) + int(fields[12])


def parse_resident(status: str) -> int:
    """Bytes of VmRSS in the text of /proc/PID/status; 0 for a process that has no memory any more."""
    line = next((line for line in status.splitlines() if line.startswith("VmRSS:")), None)
    return 0 if line is None else int(line.split()[1]) * 1024


def resident(pid: int) -> int:
    """Bytes of resident memory of a process; 0 where it has ended."""
    try:
        return parse_resident(Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace"))
    except (FileNotFoundError, ProcessLookupError):
        return 0
