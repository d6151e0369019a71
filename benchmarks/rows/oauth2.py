"""Rows of tokens that are fetched, Sidekey only: a cold cache, tokens of a short life, a storm of 401s."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection

from benchmarks.arena import Arena, Running
from benchmarks.figures import P50, P99, P999, Figure, Line, Outcome, Reach, Sample, at_most, medians
from benchmarks.held import Callers
from benchmarks.issuer import Issuer, issuing
from benchmarks.pace import Pace
from benchmarks.peers.sidekey import Sidekey
from benchmarks.processes import MeasureFailed
from benchmarks.tokens import Client, most_within

_LONG = 3600
"""Seconds of a life in which a token is not renewed while a row runs."""

_PATIENCE = 5.0
"""Seconds until requests are in flight: well under the 10 after which Sidekey gives a token endpoint up."""

_MINUTE = 59.5
"""Seconds within which one forced renewal may come to the token endpoint: a minute between two starts, less the
difference that the ways of the two may have (an address looked up, a connection opened)."""

_REQUESTS = Figure("token requests", 0)
_ANSWERED = Figure("ms from the token to all answers", 1)


@contextmanager
def _started(arena: Arena, name: str, clients: Mapping[str, Client]) -> Iterator[tuple[Issuer, Running]]:
    """Run the endpoint and its upstream, and before them Sidekey with an integration for each client, all cold."""
    with issuing(arena.folder / name, arena.cores.load, clients) as issuer, ExitStack() as stack:
        yield issuer, arena.start("sidekey", Sidekey(tokens=issuer.endpoint), issuer.upstream, stack)


@dataclass(frozen=True, slots=True)
class Cold:
    """A token endpoint that answers only when all requests wait for it. Each round has a client of its own."""

    name = "oauth2cold"
    requests: int = 500
    rounds: int = 5

    @property
    def title(self) -> str:
        """What is measured, in words."""
        return f"{self.requests} requests at once while no token is there"

    def run(self, arena: Arena) -> Outcome:
        """The token requests of the worst round, and how long the answers took once the token was there."""
        clients = {f"cold{number}": Client(_LONG, held=True) for number in range(self.rounds)}
        with _started(arena, self.name, clients) as (issuer, running):
            rounds = [self._round(issuer, running, client) for client in clients]
        most = max(sample[_REQUESTS] for sample in rounds)
        lines = [_line(_REQUESTS, most, at_most(1)), _line(_ANSWERED, medians(rounds)[_ANSWERED])]
        return Outcome(lines, rounds={"sidekey": rounds})

    def _round(self, issuer: Issuer, running: Running, client: str) -> Sample:
        with Callers(running.job.port, f"/i/{client}/hook", self.requests) as callers:
            _await_in_flight(running.job.admin_port, self.requests)
            began = time.perf_counter()
            issuer.release(client)
            callers.expect_answers()
            seconds = time.perf_counter() - began
        account = issuer.accounts()[client]
        if account.good != self.requests:
            raise MeasureFailed(f"{account.good} of {self.requests} requests reached the upstream with a token")
        return {_REQUESTS: len(account.asked), _ANSWERED: seconds * 1e3}


def _await_in_flight(admin_port: int, count: int) -> None:
    """Wait until Sidekey has so many requests in flight. Raises MeasureFailed."""
    deadline = time.monotonic() + _PATIENCE
    seen = 0
    while seen < count:
        if time.monotonic() > deadline:
            raise MeasureFailed(f"only {seen} of {count} requests are in flight")
        seen = _in_flight(admin_port)


def _in_flight(admin_port: int) -> int:
    connection = HTTPConnection("127.0.0.1", admin_port, timeout=_PATIENCE)
    try:
        connection.request("GET", "/metrics")
        page = connection.getresponse().read().decode()
    finally:
        connection.close()
    found = re.search(r"^sidekey_requests_in_flight (\d+)", page, re.MULTILINE)
    if found is None:
        raise MeasureFailed("the metrics do not tell the requests in flight")
    return int(found[1])


@dataclass(frozen=True, slots=True)
class Life:
    """The same constant load in turn with tokens of a short and of a long life, through one Sidekey."""

    name = "oauth2life"
    pace: Pace
    rounds: int = 3
    short: int = 2

    @property
    def title(self) -> str:
        """What is measured, in words."""
        return (
            f"tokens of {self.short} s against long ones in turn, {self.pace.rate:,} requests/s for "
            f"{self.pace.seconds:g} s over {self.pace.connections} kept connections"
        )

    def run(self, arena: Arena) -> Outcome:
        """Latencies of both, and what the upstream says of the tokens of a short life."""
        clients = {"long": Client(_LONG), "short": Client(self.short)}
        rounds: dict[str, list[Sample]] = {client: [] for client in clients}
        with _started(arena, self.name, clients) as (issuer, running):
            for client in clients:
                # It opens the upstream connections.
                self._load(running, client, Pace(self.pace.rate, 1))
            for _ in range(self.rounds):
                for client in clients:
                    rounds[client].append(self._load(running, client, self.pace))
            account = issuer.accounts()["short"]
        return Outcome(self._lines(rounds, account.expired, len(account.asked)), rounds=_subjects(rounds))

    def _load(self, running: Running, client: str, pace: Pace) -> Sample:
        paced = pace.run(running.job.port, f"/i/{client}/hook")
        # A token that the upstream finds expired is counted there, and answered by 401 where it is not replayed.
        paced.expect_only("200", "401")
        return {P50: paced.percentile(0.5), P99: paced.percentile(0.99), P999: paced.percentile(0.999)}

    def _lines(self, rounds: Mapping[str, list[Sample]], expired: int, asked: int) -> list[Line]:
        found = {client: medians(samples) for client, samples in rounds.items()}
        lines = [
            _line(figure, found[client][figure], label=f"{figure.label}, {client} life")
            for figure in (P50, P99, P999)
            for client in found
        ]
        return [
            *lines,
            _line(Figure("p99, short / long life", 2), found["short"][P99] / found["long"][P99], at_most(2)),
            _line(Figure("expired tokens at the upstream", 0), expired, at_most(0)),
            _line(_REQUESTS, asked),
        ]


def _subjects(rounds: Mapping[str, list[Sample]]) -> dict[str, list[Sample]]:
    return {f"sidekey, {client} life": samples for client, samples in rounds.items()}


@dataclass(frozen=True, slots=True)
class Storm:
    """An upstream that answers 401 to every token, however new."""

    name = "oauth2storm"
    pace: Pace

    @property
    def title(self) -> str:
        """What is measured, in words."""
        return f"{self.pace.seconds:g} s of upstream answers 401, {self.pace.rate:,} requests/s"

    def run(self, arena: Arena) -> Outcome:
        """Token requests after the first, which the 401s forced, and how long the 401s took to their callers."""
        with _started(arena, self.name, {"storm": Client(_LONG, refused=True)}) as (issuer, running):
            paced = self.pace.run(running.job.port, "/i/storm/hook")
            asked = issuer.accounts()["storm"].asked
        paced.expect_only("401")
        forced = asked[1:]
        if not forced:
            raise MeasureFailed("no answer of 401 forced a renewal")
        return Outcome(
            [
                _line(Figure("token requests forced", 0), len(forced)),
                _line(Figure("forced, most in any 60 s", 0), most_within(forced, _MINUTE), at_most(1)),
                _line(P50, paced.percentile(0.5)),
                _line(P99, paced.percentile(0.99)),
                _line(Figure("longest ms", 1), paced.percentile(1)),
            ]
        )


def _line(figure: Figure, value: float, reach: Reach | None = None, *, label: str = "") -> Line:
    return Line(label or figure.label, figure, {"sidekey": value}, reach)


ROWS = (Cold(), Life(Pace(2_000, 20)), Storm(Pace(500, 75)))
