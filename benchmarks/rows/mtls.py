"""Rows of TLS identities: new upstream connections against the peers, and a thousand client certificates at once."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection

from benchmarks.arena import Arena, Running, afresh, contest
from benchmarks.figures import CPU, RATE, RESIDENT_IDLE, START, Figure, Line, Outcome, Reach, Sample, at_most
from benchmarks.load import REQUEST_BODY, Load
from benchmarks.peers import PEERS
from benchmarks.peers.base import Peer
from benchmarks.peers.sidekey import Sidekey
from benchmarks.processes import MeasureFailed
from benchmarks.rows.idle import idle_sample

_SIDES = {"client certificate": "mtls, once", "no certificate": "https, once"}


@dataclass(frozen=True, slots=True)
class NewConnections:
    """The upstream closes after each answer. Peers resume sessions as their defaults have it."""

    load: Load
    peers: Mapping[str, Peer]
    rounds: int = 3
    name: str = "newmtls"

    @property
    def title(self) -> str:
        """What is measured, in words."""
        return f"a new TLS connection to the upstream for each request, {self.load.connections} at a time"

    def run(self, arena: Arena) -> Outcome:
        """Processor time and rate, with a client certificate and without one."""
        outcome = Outcome([], {}, {})
        for label, side in _SIDES.items():
            with contest(arena, self.peers, arena.upstreams[side]) as found:
                found.measure(self.rounds, lambda running: running.load(self.load))
            medians = found.medians()
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
                {**outcome.failures, **{f"{peer}, {label}": why for peer, why in found.failures.items()}},
                {**outcome.rounds, **{f"{peer}, {label}": samples for peer, samples in found.rounds.items()}},
            )
        return outcome


_ONE, _MANY, _KEPT = "sidekey, one", "sidekey, many", "sidekey, many kept"
_RESIDENT_USED = Figure("RSS used MB", 1)


@dataclass(frozen=True, slots=True)
class Certificates:
    """Sidekey only: `mtls` integrations, each with a certificate and key of its own and a prefix of its own.

    What stays of a certificate that was used is one thing, a connection that is kept with it another.
    """

    count: int = 1_000
    starts: int = 3

    @property
    def name(self) -> str:
        """How ROWS= names it."""
        return f"mtls{self.count}"

    @property
    def title(self) -> str:
        """What is measured, in words."""
        return f"{self.count:,} client certificates against one: loaded, and after each was used for one request"

    def run(self, arena: Arena) -> Outcome:
        """Seconds and memory from starts."""
        many = Sidekey(certificates=tuple(arena.clients.issue(f"m{number}") for number in range(self.count)))
        closing_side: dict[str, Peer] = {_ONE: Sidekey(), _MANY: many}
        closed = afresh(arena, closing_side, arena.upstreams["mtls, once"], self.starts, self._sample)
        kept = afresh(arena, {_KEPT: many}, arena.upstreams["mtls"], self.starts, self._sample)
        lines = self._lines(closed.medians() | kept.medians())
        return Outcome(lines, closed.failures | kept.failures, closed.rounds | kept.rounds)

    def _sample(self, running: Running) -> Sample:
        if running.subject != _ONE:
            _use_each(running.job.port, self.count)
        return {**idle_sample(running), _RESIDENT_USED: running.program.resident_bytes() / 1e6}

    def _lines(self, medians: Mapping[str, Sample]) -> list[Line]:
        if not medians.keys() >= {_ONE, _MANY, _KEPT}:
            return []

        def kib_each(subject: str, figure: Figure) -> float:
            return (medians[subject][figure] - medians[_ONE][figure]) * 1e6 / 1024 / self.count

        return [
            _line("load, s more than one", 2, medians[_MANY][START] - medians[_ONE][START], at_most(5)),
            _line("KiB each, loaded", 1, kib_each(_MANY, RESIDENT_IDLE), at_most(50)),
            _line("KiB each, used once", 1, kib_each(_MANY, _RESIDENT_USED), at_most(50)),
            _line("KiB each, connection kept", 1, kib_each(_KEPT, _RESIDENT_USED)),
        ]


def _use_each(port: int, count: int) -> None:
    """One request to each. Raises MeasureFailed where one is not answered 200."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        for number in range(count):
            connection.request("POST", f"/i/m{number}/hook", REQUEST_BODY)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise MeasureFailed(f"the certificate of m{number} was answered {answer.status}")


def _line(label: str, decimals: int, value: float, reach: Reach | None = None) -> Line:
    return Line(label, Figure(label, decimals), {"sidekey": value}, reach)


ROWS = (NewConnections(Load(32), PEERS), Certificates())
