"""Log lines on their way to a file descriptor, without the event loop ever waiting for it.

`write` appends to a backlog; a background thread joins what has gathered and writes it. The backlog is bounded: where
the reader of a pipe stalls or a disk is full, lines are dropped and counted, and the next line that gets through says
how many. Nothing that happens to the descriptor stops the process.

There is no lock: one could deadlock, as the garbage collector may run a finaliser that logs at any point. A deque's
append and popleft are atomic, and no counter is written by both sides. Two threads that write at the same moment may
lose a few bytes of the backlog's estimate, which an emptied backlog sets right.
"""

from __future__ import annotations

import json
import os
import select
import sys
import threading
from collections import deque

from sidekey.observe.clock import Clock

BACKLOG = 4 << 20
"""Bytes of lines that may wait; at full load with every request logged this is some 0.2 seconds' worth."""

GATHER = 0.05
"""Seconds between the first waiting line and the write, in which more lines gather."""

BATCH = 512
"""Lines that one write joins at most, which bounds how long the thread holds the interpreter."""


class LineWriter:
    """Writes whole lines to a file descriptor that it owns.

    Until `start` every line is written at once, by whoever writes it (a command line wants no thread); from then on by
    a background thread. `write` may be called from any thread.
    """

    def __init__(self, fd: int, *, backlog: int = BACKLOG) -> None:
        self._fd = fd
        self._backlog = backlog
        self._lines: deque[bytes] = deque()
        self._clock = Clock()
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._woken = False
        self._closing = threading.Event()
        # Written by `write` alone: bytes accepted, lines refused.
        self._accepted = 0
        self._refused = 0
        # Written by the draining thread alone: bytes gone, lines that failed, drops that were reported, a cut line.
        self._gone = 0
        self._failed = 0
        self._reported = 0
        self._torn = False

    @classmethod
    def stderr(cls) -> LineWriter:
        """Make a writer to a duplicate of standard error, or to nowhere where the process was started without one.

        Descriptor 2 itself is not written to: where it was closed, its number may now be that of a connection.
        """
        if sys.stderr is None:
            return cls(os.open(os.devnull, os.O_WRONLY))
        return cls(os.dup(sys.stderr.fileno()))

    @property
    def dropped(self) -> int:
        """Lines dropped that no line has reported yet."""
        return self._refused + self._failed - self._reported

    def start(self) -> None:
        """Leave the writing to a background thread from now on."""
        self._thread = threading.Thread(target=self._run, name="sidekey-log", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Accept a line, which ends in its only line feed.

        Never blocks once started, and a descriptor that fails never raises.
        """
        if self._accepted - self._gone >= self._backlog:
            self._refused += 1
            return
        self._lines.append(line)
        self._accepted += len(line)
        if not self._woken:
            self._notify()

    def close(self, timeout: float = 2.0) -> None:
        """Write what waits, for at most `timeout` seconds, and close the descriptor. Later lines are refused."""
        self._closing.set()
        if self._thread is not None:
            self._wake.set()
            self._thread.join(timeout)
            if self._thread.is_alive():
                # Blocked in write(2). The thread is a daemon and holds the descriptor until the process ends.
                return
        self._backlog = 0
        os.close(self._fd)

    def _notify(self) -> None:
        if self._thread is None:
            self._drain()
        else:
            self._woken = True
            self._wake.set()

    def _run(self) -> None:
        closing = False
        while not closing:
            self._wake.wait()
            closing = self._closing.wait(GATHER)
            self._wake.clear()
            # Before the drain: whoever appends after it finds `_woken` false and wakes this thread again.
            self._woken = False
            self._drain()

    def _drain(self) -> None:
        while self._lines:
            lines = [self._lines.popleft() for _ in range(min(len(self._lines), BATCH))]
            self._put(lines)
            self._gone += sum(map(len, lines))
        self._gone = self._accepted

    def _put(self, lines: list[bytes]) -> None:
        """Write the lines, after a notice of those dropped before, and account for what was not written."""
        dropped = self.dropped
        ahead = [b"\n"] if self._torn else []
        if dropped:
            ahead.append(self._notice(dropped))
        block = b"".join(ahead + lines)
        written = self._write(block)
        whole = block.count(b"\n", 0, written) - len(ahead)
        if dropped and whole >= 0:
            self._reported += dropped
        self._failed += len(lines) - max(whole, 0)
        if written:
            self._torn = block[written - 1] != ord("\n")

    def _write(self, block: bytes) -> int:
        """Write the block; returns how much of it was written before the descriptor failed."""
        view = memoryview(block)
        written = 0
        while written < len(block):
            try:
                written += os.write(self._fd, view[written:])
            except BlockingIOError:
                # Whoever shares the descriptor made it non-blocking; this thread may wait.
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll()
            except OSError:
                # A full disk, a closed pipe: the lines are lost and counted, the process goes on.
                return written
        return written

    def _notice(self, dropped: int) -> bytes:
        line = {
            "timestamp": self._clock.stamp(),
            "level": "warning",
            "event": "log lines were dropped",
            "lines": dropped,
        }
        return json.dumps(line, separators=(",", ":")).encode() + b"\n"
