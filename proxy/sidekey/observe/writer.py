"""Log lines on their way to an output, without the event loop ever waiting for it.

`write` appends to a backlog; a background thread joins what has gathered and writes it, as text where the output asks
for that. The backlog is bounded: where the reader of a pipe stalls or a disk is full, lines are dropped and counted,
and what gets through next says how many. Nothing that happens to the output stops the process.

There is no lock: one could deadlock, as the garbage collector may run a finaliser that logs at any point. A deque's
append and popleft are atomic, and no counter is written by both sides. Two threads that write at the same moment may
lose a few bytes of the backlog's estimate, which an emptied backlog sets right.
"""

from __future__ import annotations

import json
import os
import select
import threading
from collections import deque
from contextlib import suppress

from sidekey.observe.clock import Clock
from sidekey.observe.output import Output, open_standard_error

BACKLOG = 4 << 20
"""Bytes of lines that may wait; at full load with every request logged this is some 0.2 seconds' worth."""

GATHER = 0.05
"""Seconds between the first waiting line and the write, in which more lines gather."""

BATCH = 512
"""Lines that one write joins at most, which bounds how long the thread holds the interpreter."""


class LineWriter:
    """Writes whole lines to an output that it owns.

    Until `start` every line is written at once, by whoever writes it (a command line wants no thread); from then on by
    a background thread. `write`, `use` and `reopen` may be called from any thread. The first output stays open: what is
    wrong with a later one is said there.
    """

    def __init__(self, first: Output | int, *, backlog: int = BACKLOG) -> None:
        self._first = self._output = Output(first) if isinstance(first, int) else first
        self._backlog = backlog
        self._lines: deque[bytes] = deque()
        self._changes: deque[tuple[Output | None, bool]] = deque()
        """Outputs to be used from now on, and whether the present one is told; None: that is to be opened again."""
        self._clock = Clock()
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._woken = False
        self._closing = threading.Event()
        # Written by `write` alone: bytes accepted, lines refused.
        self._accepted = 0
        self._refused = 0
        # Written by the draining thread alone: bytes gone, lines that failed, drops that were reported, a cut line,
        # and whether the first output was told that this one fails.
        self._gone = 0
        self._failed = 0
        self._reported = 0
        self._torn = False
        self._told = False

    @classmethod
    def stderr(cls) -> LineWriter:
        """Make a writer to standard error."""
        return cls(open_standard_error("auto"))

    def count_dropped(self) -> int:
        """How many lines were dropped since the start."""
        return self._refused + self._failed

    @property
    def unreported(self) -> int:
        """Lines dropped that no line has reported yet."""
        return self.count_dropped() - self._reported

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

    def use(self, output: Output, *, tell: bool = False) -> None:
        """Write to another output from now on; the present one closes, but for the first.

        With `tell` its last line says where further ones are: nobody can lead the log away without a trace.
        """
        self._changes.append((output, tell))
        self._notify()

    def reopen(self) -> None:
        """Open the file of the present output again, which was renamed: what is written from now on goes to a new one.

        Without a file nothing happens. Where it cannot be opened, the present one stays in use, and that is said.
        """
        self._changes.append((None, False))
        self._notify()

    def close(self, timeout: float = 2.0) -> None:
        """Write what waits, for at most `timeout` seconds, and close the outputs. Later lines are refused."""
        self._closing.set()
        if self._thread is not None:
            self._wake.set()
            self._thread.join(timeout)
            if self._thread.is_alive():
                # Blocked in write(2). The thread is a daemon and holds the descriptor until the process ends.
                return
        self._backlog = 0
        self._output.close()
        self._first.close()

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
            # Before the look at `_closing`: a close after that look wakes this thread again.
            self._wake.clear()
            closing = self._closing.wait(GATHER)
            # Before the drain: whoever appends after it finds `_woken` false and wakes this thread again.
            self._woken = False
            self._drain()

    def _drain(self) -> None:
        self._change()
        while self._lines:
            lines = [self._lines.popleft() for _ in range(min(len(self._lines), BATCH))]
            self._put(lines)
            self._gone += sum(map(len, lines))
        if self.unreported:
            # The next line may be long in coming.
            self._put([])
        self._gone = self._accepted

    def _change(self) -> None:
        """Go on with the output that is asked for."""
        while self._changes:
            output, tell = self._changes.popleft()
            if tell and output is not None and output.path != self._output.path:
                self._lead(output.path)
            if output is None:
                try:
                    output = self._output.reopened()
                except OSError as error:
                    event = "the log file cannot be opened again; the one that was renamed stays in use"
                    self._tell(self._output, event, error)
                    continue
            if output is not self._output:
                former, self._output = self._output, output
                # The same file where nobody has renamed it.
                self._torn = self._torn and os.path.sameopenfile(former.fd, output.fd)
                self._told = False
                if former is not self._first:
                    former.close()

    def _lead(self, path: str | None) -> None:
        """Say in the present output where further lines are."""
        if path is None:
            line = self._notice("log lines go to standard error", "info")
        else:
            line = self._notice("log lines go to a file", "info", file=path)
        render = self._output.render
        self._write((b"\n" if self._torn else b"") + (line if render is None else render(line)))

    def _put(self, lines: list[bytes]) -> None:
        """Write the lines, after a notice of those dropped before, and account for what was not written."""
        dropped = self.unreported
        render = self._output.render
        ahead = [b"\n"] if self._torn else []
        if dropped:
            lines_dropped = self._notice("log lines were dropped", lines=dropped)
            ahead.append(lines_dropped if render is None else render(lines_dropped))
        block = b"".join(ahead + (lines if render is None else list(map(render, lines))))
        written = self._write(block)
        whole = block.count(b"\n", 0, written) - len(ahead)
        if dropped and whole >= 0:
            self._reported += dropped
        self._failed += len(lines) - max(whole, 0)
        if written:
            self._torn = block[written - 1] != ord("\n")

    def _write(self, block: bytes) -> int:
        """Write the block; returns how much of it was written before the output failed."""
        view = memoryview(block)
        written = 0
        while written < len(block):
            try:
                written += os.write(self._output.fd, view[written:])
            except BlockingIOError:
                # Whoever shares the descriptor made it non-blocking; this thread may wait.
                poll = select.poll()
                poll.register(self._output.fd, select.POLLOUT)
                poll.poll()
            except OSError as error:
                # A full disk, a closed pipe: the lines are lost and counted, the process goes on.
                if not self._told:
                    self._told = True
                    self._tell(self._output, "the log file cannot be written to; log lines are dropped", error)
                return written
        self._told = False
        return written

    def _tell(self, output: Output, event: str, error: OSError) -> None:
        """Say in the first output what is wrong with another one; what is wrong with that cannot be said."""
        if output is self._first:
            return
        line = self._notice(event, "error", file=output.path, reason=os.strerror(error.errno or 0))
        with suppress(OSError):
            os.write(self._first.fd, line if self._first.render is None else self._first.render(line))

    def _notice(self, event: str, level: str = "warning", **what: object) -> bytes:
        line = {"timestamp": self._clock.stamp(), "level": level, "event": event, **what}
        return json.dumps(line, separators=(",", ":")).encode() + b"\n"
