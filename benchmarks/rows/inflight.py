"""Row: memory of a request in flight on a slow upstream."""

from __future__ import annotations

from benchmarks.arena import Arena, Running, one_by_one
from benchmarks.figures import Figure, Outcome, Sample, at_most, lines_of
from benchmarks.held import Callers, HeldUpstream
from benchmarks.peers import peers
from benchmarks.processes import MeasureFailed

_REQUESTS = 5_000
_ROUNDS = 3
_EACH = Figure("KiB a request in flight", 1)


class InFlight:
    """5,000 callers wait at once, each on a connection of its own. This process has the outer ends of both hops."""

    name = "inflight5000"
    title = "5,000 requests in flight on an upstream that does not respond yet"

    def run(self, arena: Arena) -> Outcome:
        """Growth of memory over idle for each request."""
        needed = 2 * _REQUESTS + 500
        if arena.open_files < needed:
            raise MeasureFailed(
                f"{needed:,} open files are needed and {arena.open_files:,} allowed; raise the hard limit (ulimit -Hn)"
            )
        with HeldUpstream() as upstream:
            comparison = one_by_one(
                arena,
                peers("sidekey", "envoy", "nginx"),
                upstream.upstream,
                _ROUNDS,
                lambda running: _hold(running, upstream),
            )
        return Outcome(lines_of(comparison.medians(), {_EACH: at_most(24)}), comparison.failures, comparison.rounds)


def _hold(running: Running, upstream: HeldUpstream) -> Sample:
    with Callers(running.job.port, running.peer.path("hook"), _REQUESTS) as callers:
        upstream.await_held(_REQUESTS)
        loaded = running.program.resident_bytes()
        upstream.release()
        callers.expect_responses()
    return {_EACH: (loaded - running.idle_bytes) / _REQUESTS / 1024}
