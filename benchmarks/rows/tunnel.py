"""Rows of tunnels: kept ones, new ones with known and with new hosts, idle ones, and the effect of new hosts."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

from benchmarks.arena import Arena, Comparison, Running, one_by_one, side_by_side
from benchmarks.figures import (
    CPU,
    P50,
    P99,
    P999,
    RATE,
    Figure,
    Line,
    Outcome,
    Reach,
    Sample,
    at_least,
    at_most,
    cpu_ratios,
    lines_of,
    medians,
)
from benchmarks.load import Load
from benchmarks.pace import Pace
from benchmarks.peers import PURE, peers
from benchmarks.peers.base import Peer
from benchmarks.peers.envoy import Envoy
from benchmarks.peers.sidekey import GROUP, Sidekey
from benchmarks.processes import Program
from benchmarks.tunnels import MITMPROXY_ROOTS, SIDEKEY_ROOTS, TunnelLoad, Way
from benchmarks.upstream import Upstream

_REVERSE = "sidekey, reverse proxy"
_WITHOUT, _WITH = "without tunnels", "beside new hosts"
_LONG = 60.0
"""Seconds until a number of tunnels must be open."""
_TUNNELS = Figure("tunnels/s", 0)
_CPU_EACH = Figure("CPU us a tunnel", 0)
_EACH = Figure("KiB a tunnel", 1)
_FIRST = Figure("MB that the first tunnel takes once", 1)


def sidekey_way(upstream: Upstream) -> Way:
    """Reach Sidekey by CONNECT to the host of the integration `bench`."""
    return Way(upstream.authority, roots=SIDEKEY_ROOTS, user="bench:x")


def sidekey_hosts(upstream: Upstream) -> Way:
    """Reach Sidekey by CONNECT to each further host."""
    return Way(f"h{{}}.{upstream.authority}", roots=SIDEKEY_ROOTS, user="g{}:x", group=GROUP)


def envoy_way(upstream: Upstream) -> Way:
    """Reach Envoy with TLS at once."""
    return Way(upstream.authority, roots=str(upstream.ca))


def mitmproxy_way(authority: str) -> Way:
    """Reach mitmproxy by CONNECT, without a user."""
    return Way(authority, roots=MITMPROXY_ROOTS, user="any:x")


@dataclass(frozen=True, slots=True)
class Kept:
    """Kept tunnels, compared with Envoy, which terminates TLS without CONNECT, and with the reverse proxy."""

    connections: int = 32
    seconds: float = 1.5
    rounds: int = 5

    name = "tunnel32"

    @property
    def title(self) -> str:
        """Title in the table."""
        return (
            f"requests in {self.connections} kept tunnels, TLS on both sides (callers: TLSv1.3 X25519); "
            "Envoy accepts TLS; the reverse proxy by plain HTTP, with the same https upstream"
        )

    def run(self, arena: Arena) -> Outcome:
        """Rates, and the processor time of both ways through Sidekey."""
        upstream = arena.upstreams["https"]
        subjects: dict[str, Peer] = {
            "sidekey": Sidekey(tunnel_hosts=0),
            PURE: Sidekey(interpreter=sys.executable, tunnel_hosts=0),
            "envoy": Envoy(terminating=True),
        }
        load = partial(TunnelLoad, arena.tunnel_callers, connections=self.connections, seconds=self.seconds)
        loads: dict[str, Load] = {
            "sidekey": load(sidekey_way(upstream)),
            PURE: load(sidekey_way(upstream)),
            "envoy": load(envoy_way(upstream)),
        }
        with side_by_side(arena, subjects, upstream) as comparison:
            if "sidekey" in comparison.running:
                comparison.running[_REVERSE] = replace(comparison.running["sidekey"], subject=_REVERSE)
                loads[_REVERSE] = load(Way("127.0.0.1", "/i/bench/"))
            comparison.load(self.rounds, loads)
        return self.outcome(comparison)

    def outcome(self, comparison: Comparison) -> Outcome:
        """Build the lines of the comparison."""
        columns = comparison.medians()
        reverse = columns.pop(_REVERSE, None)
        lines = [*lines_of(columns), *cpu_ratios(columns, {"envoy": 1.3})]
        if reverse is not None and "sidekey" in columns:
            share = Figure("CPU / CPU at the reverse proxy", 2)
            lines.append(_line(f"{CPU.label}, reverse proxy", CPU, reverse[CPU]))
            lines.append(_line(share.label, share, columns["sidekey"][CPU] / reverse[CPU], at_most(1.25)))
        return Outcome(lines, comparison.failures, comparison.rounds, comparison.tls)


def _of(figure: Figure, by_column: Mapping[str, Mapping[Figure, float]]) -> dict[str, float]:
    return {column: values[figure] for column, values in by_column.items()}


@dataclass(frozen=True, slots=True)
class New:
    """Against mitmproxy. With warm leaves all tunnels are to one host; cold, each is to one that nobody asked for yet.

    `most` is how many hosts a cold round has; it must be more than the proxies get through.
    """

    connections: int = 32
    seconds: float = 1.5
    rounds: int = 3
    most: int = 1_500

    name = "tunnelnew"
    title = "a new tunnel for each request, TLS on both sides: to one host (warm), or each to a new one (cold)"

    def run(self, arena: Arena) -> Outcome:
        """Rate and processor time of both."""
        upstream = arena.upstreams["https"]
        subjects = {"sidekey": Sidekey(tunnel_hosts=self.most * (self.rounds + 1)), **peers("mitmproxy")}
        load = partial(TunnelLoad, arena.tunnel_callers, connections=self.connections, seconds=self.seconds, once=True)
        with side_by_side(arena, subjects, upstream) as warm:
            ways = {"sidekey": sidekey_way(upstream), "mitmproxy": mitmproxy_way(upstream.authority)}
            warm.load(self.rounds, {subject: load(way) for subject, way in ways.items()})
            cold = Comparison(dict(warm.running), warm.failures)
            ways = {"sidekey": sidekey_hosts(upstream), "mitmproxy": mitmproxy_way(f"h{{}}.{upstream.authority}")}
            loads = {subject: load(way, hosts=self.most, limit=self.most) for subject, way in ways.items()}
            unused = dict.fromkeys(loads, 0)

            def measure(running: Running) -> Sample:
                first = unused[running.subject]
                unused[running.subject] += self.most
                return running.load(replace(loads[running.subject], first=first))

            cold.measure(self.rounds, measure)
        return self.outcome({"warm": warm, "cold": cold})

    def outcome(self, comparisons: Mapping[str, Comparison]) -> Outcome:
        """Build the lines of both comparisons."""
        reaches = {
            "warm": at_least(8, "mitmproxy", over="sidekey"),
            "cold": at_least(2.5, "mitmproxy", over="sidekey"),
        }
        lines = [
            Line(f"{figure.label}, {leaves}", figure, _of(of, comparison.medians()), reach)
            for leaves, comparison in comparisons.items()
            for of, figure, reach in ((RATE, _TUNNELS, None), (CPU, _CPU_EACH, reaches[leaves]))
        ]
        rounds = {
            f"{subject}, {leaves}": samples
            for leaves, comparison in comparisons.items()
            for subject, samples in comparison.rounds.items()
        }
        return Outcome(lines, comparisons["cold"].failures, rounds, comparisons["warm"].tls)


@dataclass(frozen=True, slots=True)
class Idle:
    """Memory of tunnels after one request each, without the fixed cost of the first few."""

    few: int = 100
    count: int = 1_000
    rounds: int = 2

    name = "tunnelidle"

    @property
    def title(self) -> str:
        """Title in the table."""
        return f"memory of {self.count:,} tunnels that have each had a request; Envoy accepts TLS without CONNECT"

    def run(self, arena: Arena) -> Outcome:
        """Growth of memory for each tunnel."""
        upstream = arena.upstreams["https"]
        subjects: dict[str, Peer] = {"sidekey": Sidekey(tunnel_hosts=0), "envoy": Envoy(terminating=True)}
        ways = {"sidekey": sidekey_way(upstream), "envoy": envoy_way(upstream)}

        def hold(running: Running) -> Sample:
            load = TunnelLoad(arena.tunnel_callers, ways[running.subject], seconds=_LONG, once=True)
            port, folder, program = running.job.port, running.job.folder, running.program
            with replace(load, limit=self.few).beside(port, folder, hold=True):
                first = settled_bytes(program, arena.settle)
                with replace(load, limit=self.count).beside(port, folder, hold=True):
                    each = (settled_bytes(program, arena.settle) - first) / self.count
            once = first - running.idle_bytes - self.few * each
            return {_EACH: each / 1024, _FIRST: once / 1e6}

        comparison = one_by_one(arena, subjects, upstream, self.rounds, hold)
        return Outcome(
            lines_of(comparison.medians(), {_EACH: at_most(48)}), comparison.failures, comparison.rounds, comparison.tls
        )


@dataclass(frozen=True, slots=True)
class Hosts:
    """A constant load at the reverse proxy, in turn without tunnels and beside tunnels that are each to a new host."""

    pace: Pace
    rate: int = 100
    rounds: int = 3

    name = "tunnelhosts"

    @property
    def title(self) -> str:
        """Title in the table."""
        return (
            f"{self.pace.rate:,} requests/s at the reverse proxy, without tunnels and beside {self.rate} tunnels "
            "a second, each to a new host"
        )

    def run(self, arena: Arena) -> Outcome:
        """Start Sidekey and measure. Raises MeasureFailed."""
        upstream = arena.upstreams["https"]
        each = round(self.rate * self.pace.seconds)
        sidekey = Sidekey(tunnel_hosts=each * (self.rounds + 1))
        load = TunnelLoad(
            arena.tunnel_callers,
            sidekey_hosts(upstream),
            seconds=self.pace.seconds,
            once=True,
            rate=self.rate,
            hosts=each,
        )
        rounds: dict[str, list[Sample]] = {_WITHOUT: [], _WITH: []}
        with ExitStack() as stack:
            running = arena.start("sidekey", sidekey, upstream, stack)
            # The first tunnel imports what signs certificates.
            with load.beside(running.job.port, running.job.folder):
                self._others(running)
            for number in range(self.rounds):
                rounds[_WITHOUT].append(self._others(running))
                with replace(load, first=(number + 1) * each).beside(running.job.port, running.job.folder):
                    rounds[_WITH].append(self._others(running))
        return replace(self.outcome(rounds), tls={"sidekey": running.tls})

    def _others(self, running: Running) -> Sample:
        paced = self.pace.run(running.job.port, running.peer.path("hook"))
        paced.expect_only("200")
        return {P50: paced.percentile(0.5), P99: paced.percentile(0.99), P999: paced.percentile(0.999)}

    def outcome(self, rounds: Mapping[str, Sequence[Sample]]) -> Outcome:
        """What the tunnels cost the others: the difference of the medians of the rounds."""
        by_side = {side: medians(samples) for side, samples in rounds.items()}
        lines = [
            _line(f"{figure.label}, {side}", figure, values[figure])
            for figure in (P50, P99, P999)
            for side, values in by_side.items()
        ]
        more = Figure("p99.9 ms more beside new hosts", 2)
        lines.append(_line(more.label, more, by_side[_WITH][P999] - by_side[_WITHOUT][P999], at_most(10)))
        return Outcome(lines, rounds={f"sidekey, {side}": samples for side, samples in rounds.items()})


def settled_bytes(program: Program, seconds: float) -> int:
    """Return the resident memory after this time without work."""
    time.sleep(seconds)
    return program.resident_bytes()


def _line(label: str, figure: Figure, value: float, reach: Reach | None = None) -> Line:
    return Line(label, figure, {"sidekey": value}, reach)


ROWS = (Kept(), New(), Idle(), Hosts(Pace(1_000, 3, 16)))
