"""Row: an idle peer: its memory, and the time to its first response."""

from __future__ import annotations

from benchmarks.arena import Arena, Running, one_by_one
from benchmarks.figures import PRIVATE_IDLE, RESIDENT_IDLE, START, Outcome, Sample, at_most, lines_of
from benchmarks.peers import FORWARDING, peers

_STARTS = 5


class Idle:
    """Each peer is started several times, alone."""

    name = "idle"
    title = (
        "memory after the first response and one of each status page, "
        "and seconds from the start of the program to that first response"
    )

    def run(self, arena: Arena) -> Outcome:
        """Memory and start of each peer."""
        comparison = one_by_one(arena, peers(*FORWARDING), arena.upstreams["http"], _STARTS, idle_sample)
        reaches = {RESIDENT_IDLE: at_most(90), START: at_most(0.7)}
        return Outcome(lines_of(comparison.medians(), reaches), comparison.failures, comparison.rounds)


def idle_sample(running: Running) -> Sample:
    """Return the figures of a start."""
    return {
        RESIDENT_IDLE: running.idle_bytes / 1e6,
        PRIVATE_IDLE: running.private_bytes / 1e6,
        START: running.start_seconds,
    }
