"""Rows of fetched tokens, Sidekey only: a cold cache, short lifetimes, the cost of a call, many 401s."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks.arena import Arena, Running
from benchmarks.figures import P50, P99, P999, Figure, Line, Outcome, Reach, Sample, at_most, medians
from benchmarks.held import Callers
from benchmarks.issuer import Issuer, issuing
from benchmarks.load import Spread
from benchmarks.pace import Pace
from benchmarks.peers.sidekey import Sidekey
from benchmarks.probe import read_page
from benchmarks.processes import MeasureFailed
from benchmarks.tokens import Client, most_within

_LONG = 3600
"""Life in seconds of a token that is not renewed while a row runs."""

_PATIENCE = 5.0
"""Seconds until requests are in flight: well under the 10 after which Sidekey gives up on a token call."""

_MINUTE = 59.5
"""Seconds within which at most one forced renewal may come to the token endpoint: a minute between two starts, less
what one of them may take longer to arrive (a name is resolved, a connection is opened)."""

_REQUESTS = Figure("token requests", 0)
_DONE = Figure("ms from the token to all responses", 1)


@contextmanager
def started(arena: Arena, name: str, clients: Mapping[str, Client]) -> Iterator[tuple[Issuer, Running]]:
    """Run the endpoint and its upstream, and Sidekey with an integration for each client, all cold."""
    with issuing(arena.folder / name, arena.cores.load, clients) as issuer, ExitStack() as stack:
        yield issuer, arena.start("sidekey", Sidekey(tokens=issuer.endpoint), issuer.upstream, stack)


@dataclass(frozen=True, slots=True)
class Cold:
    """A token endpoint that responds only when all requests wait for it. Each round has a client of its own."""

    name = "oauth2cold"
    requests: int = 500
    rounds: int = 5

    @property
    def title(self) -> str:
        """Title in the table."""
        return f"{self.requests} requests at once without a token"

    @property
    def clients(self) -> dict[str, Client]:
        """One for each round."""
        return {f"cold{number}": Client(_LONG, held=True) for number in range(self.rounds)}

    def run(self, arena: Arena) -> Outcome:
        """Start and measure. Raises MeasureFailed."""
        with started(arena, self.name, self.clients) as (issuer, running):
            return self.measure(issuer, running)

    def measure(self, issuer: Issuer, running: Running) -> Outcome:
        """The token requests of the worst round, and how long the responses took once the token was there."""
        rounds = [self._round(issuer, running, client) for client in self.clients]
        maximum = max(sample[_REQUESTS] for sample in rounds)
        lines = [_line(_REQUESTS, maximum, at_most(1)), _line(_DONE, medians(rounds)[_DONE])]
        return Outcome(lines, rounds={"sidekey": rounds})

    def _round(self, issuer: Issuer, running: Running, client: str) -> Sample:
        with Callers(running.job.port, f"/i/{client}/hook", self.requests) as callers:
            _await_in_flight(running.job.admin_port, self.requests)
            began = time.perf_counter()
            issuer.release(client)
            callers.expect_responses()
            seconds = time.perf_counter() - began
        account = issuer.counts().accounts[client]
        if account.good != self.requests:
            raise MeasureFailed(f"{account.good} of {self.requests} requests reached the upstream with a token")
        return {_REQUESTS: len(account.calls), _DONE: seconds * 1e3}


def _await_in_flight(admin_port: int, count: int) -> None:
    """Wait until Sidekey has this many requests in flight. Raises MeasureFailed."""
    deadline = time.monotonic() + _PATIENCE
    seen = 0
    while seen < count:
        if time.monotonic() > deadline:
            raise MeasureFailed(f"only {seen} of {count} requests are in flight")
        seen = _in_flight(admin_port)


def _in_flight(admin_port: int) -> int:
    match = re.search(r"^sidekey_requests_in_flight (\d+)", read_page(admin_port, "/metrics"), re.MULTILINE)
    if match is None:
        raise MeasureFailed("the metrics have no sidekey_requests_in_flight")
    return int(match[1])


@dataclass(frozen=True, slots=True)
class Life:
    """The same constant load in turn with tokens of a short and of a long lifetime, through one Sidekey."""

    name = "oauth2life"
    pace: Pace
    rounds: int = 3
    short: int = 2

    @property
    def title(self) -> str:
        """Title in the table."""
        return (
            f"tokens of {self.short} s against long ones in turn, {self.pace.rate:,} requests/s for "
            f"{self.pace.seconds:g} s over {self.pace.connections} kept connections"
        )

    @property
    def clients(self) -> dict[str, Client]:
        """One for each life."""
        return {"long": Client(_LONG), "short": Client(self.short)}

    def run(self, arena: Arena) -> Outcome:
        """Start and measure. Raises MeasureFailed."""
        with started(arena, self.name, self.clients) as (issuer, running):
            return self.measure(issuer, running)

    def measure(self, issuer: Issuer, running: Running) -> Outcome:
        """Latencies of both, and how many expired tokens of a short life came to the upstream."""
        rounds: dict[str, list[Sample]] = {client: [] for client in self.clients}
        for client in rounds:
            # It opens the upstream connections.
            self._load(running, client, self.pace.brief())
        for _ in range(self.rounds):
            for client, samples in rounds.items():
                samples.append(self._load(running, client, self.pace))
        account = issuer.counts().accounts["short"]
        return Outcome(self._lines(rounds, account.expired, len(account.calls)), rounds=_subjects(rounds))

    def _load(self, running: Running, client: str, pace: Pace) -> Sample:
        paced = pace.run(running.job.port, f"/i/{client}/hook")
        # A token that has expired is counted at the upstream, and its response is a 401 where Sidekey does not replay.
        paced.expect_only("200", "401")
        return {P50: paced.percentile(0.5), P99: paced.percentile(0.99), P999: paced.percentile(0.999)}

    def _lines(self, rounds: Mapping[str, list[Sample]], expired: int, calls: int) -> list[Line]:
        by_side = {client: medians(samples) for client, samples in rounds.items()}
        lines = [
            _line(figure, by_side[client][figure], label=f"{figure.label}, {client} life")
            for figure in (P50, P99, P999)
            for client in by_side
        ]
        return [
            *lines,
            _line(Figure("p99, short / long life", 2), by_side["short"][P99] / by_side["long"][P99], at_most(2)),
            _line(Figure("expired tokens at the upstream", 0), expired, at_most(0)),
            _line(_REQUESTS, calls),
        ]


def _subjects(rounds: Mapping[str, list[Sample]]) -> dict[str, list[Sample]]:
    return {f"sidekey, {client} life": samples for client, samples in rounds.items()}


CALLS = Figure("token calls", 0)
OPENED = Figure("new connections to the token endpoint", 0)
CPU_SECONDS = Figure("CPU s", 3)


@dataclass(frozen=True, slots=True)
class Calls:
    """The same constant load in turn over integrations with tokens of a short and of a long lifetime.

    A token of a short life is renewed in the middle of it where it was used, so that there is a call for each request
    where an integration has a request each half life. What such rounds cost more is the cost of their calls.
    """

    name = "oauth2calls"
    integrations: int = 100
    seconds: float = 3
    connections: int = 8
    rounds: int = 5
    short: int = 1

    @property
    def rate(self) -> int:
        """Requests a second over all integrations."""
        return self.integrations * 2 // self.short

    @property
    def title(self) -> str:
        """Title in the table."""
        return (
            f"{self.integrations} integrations with tokens of {self.short} s against as many with long ones in turn, "
            f"{self.rate:,} requests/s spread over them"
        )

    @property
    def clients(self) -> dict[str, Client]:
        """One for each integration."""
        lives = {"long": _LONG, "short": self.short}
        return {
            f"{name}{number}": Client(lifetime)
            for name, lifetime in lives.items()
            for number in range(self.integrations)
        }

    def run(self, arena: Arena) -> Outcome:
        """Processor time of a call, and how many calls opened a connection. Raises MeasureFailed."""
        rounds: dict[str, list[Sample]] = {"long": [], "short": []}
        with started(arena, self.name, self.clients) as (issuer, running):
            for lifetime in rounds:
                self.round(issuer, running, lifetime)
            for _ in range(self.rounds):
                for lifetime, samples in rounds.items():
                    samples.append(self.round(issuer, running, lifetime))
        return Outcome(call_lines(rounds["long"], rounds["short"]), rounds=_subjects(rounds))

    def round(self, issuer: Issuer, running: Running, life: str) -> Sample:
        """The load on the integrations of one life: calls, new connections and processor time."""
        pace = Pace(self.rate, self.seconds, self.connections, Spread(self.integrations, f"/i/{life}", "/hook"))
        counts_before, used = issuer.counts(), running.program.cpu_seconds()
        pace.run(running.job.port, "").expect_only("200")
        used = running.program.cpu_seconds() - used
        after = issuer.counts()
        return {
            CALLS: after.calls - counts_before.calls,
            OPENED: after.connections - counts_before.connections,
            CPU_SECONDS: used,
        }


def call_lines(long: Sequence[Sample], short: Sequence[Sample]) -> list[Line]:
    """What the calls of the rounds cost, which follow each other in turn. Raises MeasureFailed.

    In a round of a long life the tokens are renewed which the round of a short life before it used last.
    """
    more = [
        {figure: many[figure] - few[figure] for figure in (CALLS, CPU_SECONDS)}
        for few, many in zip(long, short, strict=True)
    ]
    if not all(difference[CALLS] > 0 for difference in more):
        raise MeasureFailed("tokens of a short life were not renewed more often than long ones")
    cost = statistics.median(difference[CPU_SECONDS] / difference[CALLS] for difference in more)
    opened, calls = (sum(sample[figure] for sample in (*long, *short)) for figure in (OPENED, CALLS))
    return [
        _line(Figure("CPU us a token call", 0), cost * 1e6),
        _line(Figure("new connections a token call", 3), opened / calls, at_most(0.1)),
        _line(Figure("token calls", 0), calls),
    ]


@dataclass(frozen=True, slots=True)
class Storm:
    """An upstream that responds 401 to every token, however new."""

    name = "oauth2storm"
    pace: Pace

    @property
    def title(self) -> str:
        """Title in the table."""
        return f"an upstream that responds 401 for {self.pace.seconds:g} s, {self.pace.rate:,} requests/s"

    @property
    def clients(self) -> dict[str, Client]:
        """The one that is refused."""
        return {"storm": Client(_LONG, refused=True)}

    def run(self, arena: Arena) -> Outcome:
        """Start and measure. Raises MeasureFailed."""
        with started(arena, self.name, self.clients) as (issuer, running):
            return self.measure(issuer, running)

    def measure(self, issuer: Issuer, running: Running) -> Outcome:
        """Token requests after the first, which the 401s forced, and how long the 401s took to their callers."""
        paced = self.pace.run(running.job.port, "/i/storm/hook")
        calls = issuer.counts().accounts["storm"].calls
        paced.expect_only("401")
        forced = calls[1:]
        if not forced:
            raise MeasureFailed("no 401 forced a renewal")
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


ROWS = (Cold(), Life(Pace(2_000, 6)), Calls(), Storm(Pace(500, 64)))
