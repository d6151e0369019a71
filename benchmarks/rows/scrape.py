"""Row of scrapes, Sidekey only: their cost to requests in flight."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from http.client import HTTPConnection

from benchmarks import beside
from benchmarks.arena import Arena, Running
from benchmarks.beside import line
from benchmarks.figures import P999, Figure, Line, Outcome, Sample, at_most, medians
from benchmarks.load import Spread
from benchmarks.pace import Pace
from benchmarks.peers.sidekey import Sidekey
from benchmarks.processes import MeasureFailed

_TENANTS = 1_000
_WITHOUT, _WITH = "without scrapes", "with scrapes"
_MORE = Figure("p99.9 ms more with scrapes", 2)
_SCRAPE = Figure("scrape ms, median", 0)
_CPU = Figure("CPU ms a scrape", 0)
_SIZE = Figure("page KB, as sent", 0)
_ALONE = 5

_FIELDS = {
    "Accept": "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "Accept-Encoding": "gzip",
}
"""As Prometheus sends them."""


@dataclass(frozen=True, slots=True)
class Scrapes:
    """A constant load, spread over all integrations, in turn without scrapes and with one every few seconds."""

    pace: Pace
    interval: float = 5.0
    rounds: int = 3

    name = "scrape"

    @property
    def title(self) -> str:
        """Title in the table."""
        return (
            f"{_TENANTS:,} active integrations scraped every {self.interval:g} s, beside {self.pace.rate:,} requests/s "
            f"to them, {self.pace.seconds:g} s over {self.pace.connections} kept connections"
        )

    def run(self, arena: Arena) -> Outcome:
        """Start Sidekey and measure. Raises MeasureFailed."""
        with ExitStack() as stack:
            running = arena.start("sidekey", Sidekey(tenants=_TENANTS), arena.upstreams["http"], stack)
            return self.measure(running)

    def measure(self, running: Running) -> Outcome:
        """CPU time of scrapes alone, and latencies of the same load without and with scrapes, in turn."""
        rounds: dict[str, list[Sample]] = {_WITHOUT: [], _WITH: []}
        # The first requests make every integration an active one.
        beside.load(running, self.pace.brief())
        cpu_before = running.program.cpu_seconds()
        scrapes = [_scrape(running.job.admin_port) for _ in range(_ALONE)]
        alone = {
            _CPU: (running.program.cpu_seconds() - cpu_before) / _ALONE * 1e3,
            _SCRAPE: sorted(seconds for seconds, _ in scrapes)[_ALONE // 2] * 1e3,
            _SIZE: scrapes[-1][1] / 1e3,
        }
        for _ in range(self.rounds):
            rounds[_WITHOUT].append(beside.latencies(beside.load(running, self.pace)))
            with beside.repeating(lambda: self._scrape_and_wait(running.job.admin_port)):
                rounds[_WITH].append(beside.latencies(beside.load(running, self.pace)))
        return beside.outcome([*_lines(alone, rounds)], {"alone": [alone], **rounds})

    def _scrape_and_wait(self, port: int) -> None:
        seconds, _ = _scrape(port)
        time.sleep(max(0.0, self.interval - seconds))


def _scrape(port: int) -> tuple[float, int]:
    """Scrape once, and return the seconds until the page was read, and its size on the wire."""
    began = time.perf_counter()
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", "/metrics", headers=_FIELDS)
        response = connection.getresponse()
        page = response.read()
        if response.status != 200:
            raise MeasureFailed(f"GET /metrics responded {response.status}")
    return time.perf_counter() - began, len(page)


def _lines(alone: Sample, rounds: Mapping[str, Sequence[Sample]]) -> list[Line]:
    by_side = {side: medians(samples) for side, samples in rounds.items()}
    return [
        *(line(figure, value) for figure, value in alone.items()),
        *beside.latency_lines(rounds),
        line(_MORE, by_side[_WITH][P999] - by_side[_WITHOUT][P999], at_most(3)),
    ]


ROWS = (Scrapes(Pace(1_000, 20, spread=Spread(_TENANTS, "/i/t", "/hook"))),)
