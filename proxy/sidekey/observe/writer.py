"""Write log lines in a background thread, so that the event loop never waits for an output.

`write` appends to a backlog, and the thread writes what has gathered. The backlog is bounded: if the reader of a pipe
stalls or a disk is full, lines are dropped and counted, and the next line that is written reports their number. An
output error never stops the process.

There is no lock, which could deadlock: the garbage collector may run a finalizer that logs at any point. A deque's
append and popleft are atomic, and each counter is written by one side only. Two threads that write at the same moment
may make the backlog's estimated size wrong by a few bytes, until the backlog is empty.
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
"""Maximum bytes of waiting lines. At full load, with every request logged, this is about 0.2 seconds."""

GATHER = 0.05
"""Seconds from the first waiting line to the write, in which more lines gather."""

BATCH = 512
"""Maximum lines of one write, which bounds how long the thread holds the interpreter lock."""


class LineWriter:
    """Writes lines to an output that it owns.

    Before `start`, `write` writes each line itself, so that commands need no thread. Afterwards a background thread
    does. Any thread may call `write`, `switch_to` and `reopen`. The first output stays open to report errors of later
    outputs.
    """

    def __init__(self, first: Output | int, *, backlog: int = BACKLOG) -> None:
        self._first = self._output = Output(first) if isinstance(first, int) else first
        self._backlog = backlog
        self._lines: deque[bytes] = deque()
        self._output_changes: deque[tuple[Output | None, bool]] = deque()
        """Outputs to switch to (None: reopen the current one), and whether the current one announces the switch."""
        self._clock = Clock()
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._woken = False
        self._closing = threading.Event()
        # Set by `write` alone: bytes accepted, lines refused.
        self._accepted = 0
        self._refused = 0
        # Set by the draining thread alone: bytes taken from the backlog, lines that failed, drops that were reported,
        # whether the last line is incomplete, and whether the first output has reported the error of the current one.
        self._taken = 0
        self._failed = 0
        self._reported = 0
        self._torn = False
        self._error_reported = False

    @classmethod
    def stderr(cls) -> LineWriter:
        """Create a writer to standard error."""
        return cls(open_standard_error("auto"))

    def count_dropped(self) -> int:
        """Return the number of lines that were dropped since the start."""
        return self._refused + self._failed

    @property
    def unreported(self) -> int:
        """Dropped lines that no log line has reported yet."""
        return self.count_dropped() - self._reported

    def start(self) -> None:
        """Start the background thread, which writes all later lines."""
        self._thread = threading.Thread(target=self._run, name="sidekey-log", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Accept a line, which ends in its only line feed. Never block after `start`, nor raise for an output error."""
        if self._accepted - self._taken >= self._backlog:
            self._refused += 1
            return
        self._lines.append(line)
        self._accepted += len(line)
        if not self._woken:
            self._notify()

    def switch_to(self, output: Output, *, announce: bool = False) -> None:
        """Switch to another output, and close the current one unless it is the first.

        With `announce`, the last line in the current output says where the log continues, so that nobody can redirect
        the log unnoticed.
        """
        self._output_changes.append((output, announce))
        self._notify()

    def reopen(self) -> None:
        """Reopen the file of the current output after a log rotation renamed it.

        Nothing happens if the output has no file. If the file cannot be opened, the current one stays in use and the
        first output reports the error.
        """
        self._output_changes.append((None, False))
        self._notify()

    def close(self, timeout: float = 2.0) -> None:
        """Write the waiting lines, for at most `timeout` seconds, and close the outputs. Refuse later lines."""
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
            # Clear before reading `_closing`: a later `close` wakes this thread again.
            self._wake.clear()
            closing = self._closing.wait(GATHER)
            # Reset before the drain: a `write` after the drain then wakes this thread again.
            self._woken = False
            self._drain()

    def _drain(self) -> None:
        self._switch_output()
        while self._lines:
            lines = [self._lines.popleft() for _ in range(min(len(self._lines), BATCH))]
            self._write_lines(lines)
            self._taken += sum(map(len, lines))
        if self.unreported:
            # Report now, since the next line may come late.
            self._write_lines([])
        self._taken = self._accepted

    def _switch_output(self) -> None:
        """Apply the requested changes of the output."""
        while self._output_changes:
            output, announce = self._output_changes.popleft()
            if announce and output is not None and output.path != self._output.path:
                self._announce(output.path)
            if output is None:
                try:
                    output = self._output.reopen()
                except OSError as error:
                    event = "the log file cannot be opened again; the one that was renamed stays in use"
                    self._report(self._output, event, error)
                    continue
            if output is not self._output:
                previous, self._output = self._output, output
                # Both are the same file if it was not renamed.
                self._torn = self._torn and os.path.sameopenfile(previous.fd, output.fd)
                self._error_reported = False
                if previous is not self._first:
                    previous.close()

    def _announce(self, path: str | None) -> None:
        """Write to the current output where the log continues."""
        if path is None:
            line = self._notice("log lines go to standard error", "info")
        else:
            line = self._notice("log lines go to a file", "info", file=path)
        render = self._output.render
        self._write((b"\n" if self._torn else b"") + (line if render is None else render(line)))

    def _write_lines(self, lines: list[bytes]) -> None:
        """Write the lines, after a notice of dropped lines, and count those that were not written completely."""
        dropped = self.unreported
        render = self._output.render
        prefix = [b"\n"] if self._torn else []
        if dropped:
            notice = self._notice("log lines were dropped", lines=dropped)
            prefix.append(notice if render is None else render(notice))
        block = b"".join(prefix + (lines if render is None else list(map(render, lines))))
        written = self._write(block)
        complete = block.count(b"\n", 0, written) - len(prefix)
        if dropped and complete >= 0:
            self._reported += dropped
        self._failed += len(lines) - max(complete, 0)
        if written:
            self._torn = block[written - 1] != ord("\n")

    def _write(self, block: bytes) -> int:
        """Write the block. Return the number of bytes that were written before the output failed."""
        view = memoryview(block)
        written = 0
        while written < len(block):
            try:
                written += os.write(self._output.fd, view[written:])
            except BlockingIOError:
                # Another process that shares the descriptor made it non-blocking. This thread may wait.
                poll = select.poll()
                poll.register(self._output.fd, select.POLLOUT)
                poll.poll()
            except OSError as error:
                # A full disk or a closed pipe: the lines are lost and counted.
                if not self._error_reported:
                    self._error_reported = True
                    self._report(self._output, "the log file cannot be written to; log lines are dropped", error)
                return written
        self._error_reported = False
        return written

    def _report(self, output: Output, event: str, error: OSError) -> None:
        """Report an output error on the first output. An error of the first output itself cannot be reported."""
        if output is self._first:
            return
        line = self._notice(event, "error", file=output.path, reason=os.strerror(error.errno or 0))
        with suppress(OSError):
            os.write(self._first.fd, line if self._first.render is None else self._first.render(line))

    def _notice(self, event: str, level: str = "warning", **values: object) -> bytes:
        line = {"timestamp": self._clock.stamp(), "level": level, "event": event, **values}
        return json.dumps(line, separators=(",", ":")).encode() + b"\n"
