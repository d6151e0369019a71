"""Rows of TLS identities: new upstream connections against the peers, and a thousand client certificates at once."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection

from benchmarks.arena import Arena, Running, one_by_one, side_by_side
from benchmarks.figures import CPU, RATE, RESIDENT_IDLE, START, Figure, Line, Outcome, Reach, Sample, at_most
from benchmarks.load import REQUEST_BODY, Load, Wrk
from benchmarks.peers import peers
from benchmarks.peers.base import Peer
from benchmarks.peers.sidekey import Sidekey
from benchmarks.processes import MeasureFailed
from benchmarks.rows.idle import idle_sample

_SIDES = {"client certificate": "mtls, once", "no certificate": "https, once"}


@dataclass(frozen=True, slots=True)
class NewConnections:
    """The upstream closes after each response. Peers resume TLS sessions as they do by default."""

    load: Load
    peers: Mapping[str, Peer]
    rounds: int = 3
    name: str = "newmtls"

    @property
    def title(self) -> str:
        """Title in the table."""
        return f"a new TLS connection to the upstream for each request, {self.load.connections} at a time"

    def run(self, arena: Arena) -> Outcome:
        """Processor time and rate, with a client certificate and without one."""
        outcome = Outcome([])
        for label, side in _SIDES.items():
            with side_by_side(arena, self.peers, arena.upstreams[side]) as comparison:
                comparison.load(self.rounds, self.load)
            medians = comparison.medians()
            lines = [
                Line(
                    f"{figure.label}, {label}",
                    figure,
                    {peer: values[figure] for peer, values in medians.items()},
                    at_most(1.2, over="nginx") if figure is CPU else None,
                )
                for figure in (CPU, RATE)
            ]
            outcome = Outcome(
                [*outcome.lines, *lines],
                {**outcome.failures, **{f"{peer}, {label}": why for peer, why in comparison.failures.items()}},
                {**outcome.rounds, **{f"{peer}, {label}": samples for peer, samples in comparison.rounds.items()}},
                {**outcome.tls, **{f"{peer}, {label}": tls for peer, tls in comparison.tls.items()}},
            )
        return outcome


ONE, MANY, KEPT = "sidekey, one", "sidekey, many", "sidekey, many kept"
RESIDENT_USED = Figure("RSS used MB", 1)


@dataclass(frozen=True, slots=True)
class Certificates:
    """Sidekey only: `mtls` integrations, each with a certificate and key of its own and a prefix of its own.

    What a certificate costs once it was used, and what a kept connection with it costs, are lines of their own.
    """

    count: int = 1_000
    starts: int = 3

    @property
    def name(self) -> str:
        """Name in ROWS=."""
        return f"mtls{self.count}"

    @property
    def title(self) -> str:
        """Title in the table."""
        return f"{self.count:,} client certificates against one: loaded, and after each was used for one request"

    def run(self, arena: Arena) -> Outcome:
        """Seconds and memory from starts."""
        many = Sidekey(certificates=tuple(arena.clients.issue(f"m{number}") for number in range(self.count)))
        closing_side: dict[str, Peer] = {ONE: Sidekey(), MANY: many}
        closed = one_by_one(arena, closing_side, arena.upstreams["mtls, once"], self.starts, self.sample)
        kept_comparison = one_by_one(arena, {KEPT: many}, arena.upstreams["mtls"], self.starts, self.sample)
        lines = self.lines(closed.medians() | kept_comparison.medians())
        return Outcome(
            lines,
            closed.failures | kept_comparison.failures,
            closed.rounds | kept_comparison.rounds,
            closed.tls | kept_comparison.tls,
        )

    def sample(self, running: Running) -> Sample:
        """Measure memory and start, and memory after each certificate was used. Raises MeasureFailed."""
        if running.subject != ONE:
            _use_each(running.job.port, self.count)
        return {**idle_sample(running), RESIDENT_USED: running.program.resident_bytes() / 1e6}

    def lines(self, medians: Mapping[str, Sample]) -> list[Line]:
        """Return the cost of one certificate, from the medians of each subject."""
        if not medians.keys() >= {ONE, MANY, KEPT}:
            return []

        def kib_each(subject: str, figure: Figure) -> float:
            return (medians[subject][figure] - medians[ONE][figure]) * 1e6 / 1024 / self.count

        return [
            _line("load, s more than one", 2, medians[MANY][START] - medians[ONE][START], at_most(5)),
            _line("KiB each, loaded", 1, kib_each(MANY, RESIDENT_IDLE), at_most(50)),
            _line("KiB each, used once", 1, kib_each(MANY, RESIDENT_USED), at_most(50)),
            _line("KiB each, connection kept", 1, kib_each(KEPT, RESIDENT_USED)),
        ]


def _use_each(port: int, count: int) -> None:
    """Send one request to each. Raises MeasureFailed if a response is not 200."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        for number in range(count):
            connection.request("POST", f"/i/m{number}/hook", REQUEST_BODY)
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                raise MeasureFailed(f"the request with the certificate of m{number} got {response.status}")


def _line(label: str, decimals: int, value: float, reach: Reach | None = None) -> Line:
    return Line(label, Figure(label, decimals), {"sidekey": value}, reach)


ROWS = (NewConnections(Wrk(32), peers("sidekey", "envoy", "nginx")), Certificates())
