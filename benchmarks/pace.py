"""A load at a constant rate over kept connections, whose answers are timed from the moment each request was due.

wrk sends when an answer came, so a pause of the proxy costs it one late answer; here every request that fell due in the
pause is late (the coordinated omission of closed loops).
"""

from __future__ import annotations

import math
import select
import socket
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks import wire
from benchmarks.load import REQUEST_BODY
from benchmarks.processes import MeasureFailed

_PATIENCE = 10.0
"""Seconds without any answer after which nothing more is expected."""


@dataclass(frozen=True, slots=True)
class Paced:
    """What came of a load: milliseconds of each answer, ascending, and how many answers had each status."""

    milliseconds: Sequence[float]
    statuses: Counter[str]

    def expect_only(self, *statuses: str) -> None:
        """Raise MeasureFailed unless every answer has one of these."""
        others = {seen: count for seen, count in self.statuses.items() if seen not in statuses}
        if others:
            raise MeasureFailed(f"answers other than {' and '.join(statuses)}: {others}")

    def percentile(self, share: float) -> float:
        """The answer time in milliseconds that `share` of the answers, within 0 and 1, did not exceed."""
        return percentile(self.milliseconds, share)


@dataclass(frozen=True, slots=True)
class Pace:
    """`rate` requests a second for so many seconds, taken by the connections in turn."""

    rate: int
    seconds: float
    connections: int = 32

    def run(self, port: int, path: str) -> Paced:
        """Run it from this process. Raises MeasureFailed where an answer does not come."""
        request = wire.request("POST", path, REQUEST_BODY)
        found = Paced([], Counter())
        times: list[float] = []
        with ExitStack() as stack:
            lines = {
                line.socket: line
                for line in (_Line(stack.enter_context(_connect(port)), request) for _ in range(self.connections))
            }
            turns = list(lines.values())
            total, due, answered = round(self.rate * self.seconds), 0, 0
            began = heard = time.perf_counter()
            while answered < total:
                now = time.perf_counter()
                while due < total and began + due / self.rate <= now:
                    turns[due % len(turns)].ask(began + due / self.rate)
                    due += 1
                wait = _PATIENCE if due == total else max(0.0, began + due / self.rate - now)
                # select takes microseconds, where poll and epoll round up to whole milliseconds.
                readable, _, _ = select.select(lines, [], [], wait)
                for ready in readable:
                    answer = lines[ready].read()
                    if answer is not None:
                        status, seconds = answer
                        times.append(seconds * 1e3)
                        found.statuses[status] += 1
                        answered += 1
                        heard = time.perf_counter()
                if time.perf_counter() - heard > _PATIENCE:
                    raise MeasureFailed(f"no answer for {_PATIENCE:g} s, after {answered} of {total}")
        return Paced(sorted(times), found.statuses)


class _Line:
    """A connection with the requests that are due on it; one at a time is on its way."""

    def __init__(self, connection: socket.socket, request: bytes) -> None:
        self.socket = connection
        self._request = request
        self._due: deque[float] = deque()
        self._received = b""

    def ask(self, due: float) -> None:
        """Send a request that is due, or as soon as those before it are answered."""
        self._due.append(due)
        if len(self._due) == 1:
            self.socket.sendall(self._request)

    def read(self) -> tuple[str, float] | None:
        """Take what came: the status of a whole answer and its seconds since it was due, else None."""
        piece = self.socket.recv(65536)
        if not piece:
            raise MeasureFailed("the proxy closed a kept connection")
        self._received += piece
        raw, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return None
        head = wire.parse_head(raw)
        if len(body) < head.length:
            return None
        seconds = time.perf_counter() - self._due.popleft()
        self._received = b""
        if self._due:
            self.socket.sendall(self._request)
        return head.start[1], seconds


def percentile(ascending: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values, within 0 and 1, do not exceed (nearest rank)."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


def _connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), _PATIENCE)
