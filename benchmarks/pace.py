"""A load at a constant rate over kept connections. Response times count from the moment each request was due."""

from __future__ import annotations

import math
import select
import socket
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Self

from benchmarks import wire
from benchmarks.figures import P50, P99, RATE, Figure
from benchmarks.load import REQUEST_BODY, WARM_UP_SECONDS, Spread
from benchmarks.processes import MeasureFailed

_PATIENCE = 10.0
"""Seconds without any response after which nothing more is expected."""

_KEPT_UP = 0.95
"""The part of the rate that responses must keep up with, for a figure at that rate."""


@dataclass(frozen=True, slots=True)
class Paced:
    """Result of a load: milliseconds of each response, ascending, and counts by status.

    `seconds` is the time from the first request to the last response.
    """

    milliseconds: Sequence[float]
    statuses: Counter[str]
    seconds: float

    def expect_only(self, *statuses: str) -> None:
        """Raise MeasureFailed unless every response has one of these statuses."""
        others = {seen: count for seen, count in self.statuses.items() if seen not in statuses}
        if others:
            raise MeasureFailed(f"responses other than {' and '.join(statuses)}: {others}")

    def percentile(self, share: float) -> float:
        """Return the response time in milliseconds that `share` of the responses, within 0 and 1, did not exceed."""
        return percentile(self.milliseconds, share)


@dataclass(frozen=True, slots=True)
class Pace:
    """A load of `rate` requests a second for `seconds`, on connections in turn. `spread` varies their paths."""

    rate: int
    seconds: float
    connections: int = 32
    spread: Spread | None = None

    def brief(self) -> Self:
        """The same load, long enough to warm up."""
        return replace(self, seconds=min(self.seconds, WARM_UP_SECONDS))

    def measure(
        self, port: int, path: str, folder: Path, fields: Mapping[str, str] | None = None
    ) -> tuple[int, dict[Figure, float]]:
        """Run it: requests done, and rate, p50, p99. Raises MeasureFailed unless all are 200 and keep pace."""
        del folder
        paced = self.run(port, path, fields)
        paced.expect_only("200")
        count = paced.statuses.total()
        rate = count / paced.seconds
        if rate < self.rate * _KEPT_UP:
            raise MeasureFailed(f"{rate:,.0f} of {self.rate:,} requests/s: the proxy or the load did not keep pace")
        return count, {RATE: rate, P50: paced.percentile(0.5), P99: paced.percentile(0.99)}

    def run(self, port: int, path: str, fields: Mapping[str, str] | None = None) -> Paced:
        """Run it from this process, with further header fields. Raises MeasureFailed if a response is missing."""
        requests = self._requests(path, fields)
        statuses: Counter[str] = Counter()
        times: list[float] = []
        with ExitStack() as stack:
            lines = {
                line.socket: line
                for line in (_Line(stack.enter_context(_connect(port)), requests) for _ in range(self.connections))
            }
            turns = list(lines.values())
            total, due = round(self.rate * self.seconds), 0
            began = heard = time.perf_counter()
            while len(times) < total:
                now = time.perf_counter()
                while due < total and began + due / self.rate <= now:
                    turns[due % len(turns)].send(began + due / self.rate)
                    due += 1
                wait = _PATIENCE if due == total else max(0.0, began + due / self.rate - now)
                # select takes microseconds, where poll and epoll round up to whole milliseconds.
                readable, _, _ = select.select(lines, [], [], wait)
                for ready in readable:
                    response = lines[ready].read()
                    if response is not None:
                        status, seconds = response
                        times.append(seconds * 1e3)
                        statuses[status] += 1
                        heard = time.perf_counter()
                if time.perf_counter() - heard > _PATIENCE:
                    raise MeasureFailed(f"no response for {_PATIENCE:g} s, after {len(times)} of {total}")
        return Paced(sorted(times), statuses, heard - began)

    def _requests(self, path: str, fields: Mapping[str, str] | None) -> Iterator[bytes]:
        paths = (path,) if self.spread is None else self.spread.paths()
        return cycle([wire.request("POST", path, REQUEST_BODY, fields=fields) for path in paths])


class _Line:
    """A connection with the requests that are due on it, one at a time in flight."""

    def __init__(self, connection: socket.socket, requests: Iterator[bytes]) -> None:
        self.socket = connection
        self._requests = requests
        self._due: deque[float] = deque()
        self._received = b""

    def send(self, due: float) -> None:
        """Send a request that is due, or after the responses of previous ones."""
        self._due.append(due)
        if len(self._due) == 1:
            self.socket.sendall(next(self._requests))

    def read(self) -> tuple[str, float] | None:
        """Read a piece. Return the status of a complete response and its seconds since it was due, else None."""
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
            self.socket.sendall(next(self._requests))
        return head.start[1], seconds


def percentile(ascending: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values, within 0 and 1, do not exceed (nearest rank)."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


def _connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), _PATIENCE)
