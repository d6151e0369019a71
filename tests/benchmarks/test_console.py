"""The row of the console, short: a real Sidekey whose pages are read while it has requests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from benchmarks.arena import Arena, Running
from benchmarks.console import Round, Visitor
from benchmarks.figures import Outcome
from benchmarks.pace import Pace
from benchmarks.peers.sidekey import Sidekey, base_of
from benchmarks.processes import MeasureFailed
from benchmarks.rows.console import PAGES, Console
from benchmarks.stored import fill
from support.peers import require

ROW = Console(Pace(100, 0.4, connections=4), count=3, repeats=1, rounds=1)


@pytest.fixture(scope="module")
def running(arena: Arena, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One Sidekey with stored integrations. The last test stops it."""
    require("nginx")
    upstream = arena.upstreams["http"]
    filled = fill(tmp_path_factory.mktemp("store") / "full.db", base_of(upstream), ROW.count)
    with ExitStack() as stack:
        yield arena.start("sidekey", Sidekey(store=filled), upstream, stack)


def reaches(outcome: Outcome) -> dict[str, str]:
    """The lines that have a reach, with it; nothing may have failed."""
    assert outcome.failures == {}
    return {line.label: str(line.reach) for line in outcome.lines if line.reach is not None}


def test_what_is_read_are_pages_for_who_is_logged_in(running: Running) -> None:
    """Without a session each leads to the log-in, which fails the row."""
    with Visitor(running.job.admin_port) as visitor:
        with pytest.raises(MeasureFailed, match="responded 303"):
            visitor.page("/")
        assert visitor.log_in() > 1_000
        assert all(visitor.page(path) > 0 for path in PAGES.values())
        with pytest.raises(MeasureFailed, match="responded 404"):
            visitor.page("/integrations/absent")


def test_pages_are_measured_alone_and_beside_requests(running: Running) -> None:
    """With the reach of each; all requests had responses, and pages were read while some were in flight."""
    outcome = ROW.measure(running)
    assert reaches(outcome) == {
        "first visit, KB compressed": "sidekey at most 60",
        **{f"{name} ms, slowest": "sidekey at most 100" for name in PAGES},
        "p99.9 ms, beside pages": "sidekey at most 20",
        "failed requests": "sidekey at most 0",
    }
    values = {line.label: line.values["sidekey"] for line in outcome.lines}
    assert values["failed requests"] == 0
    assert values["pages under load"] >= 1
    assert 0 < values["first visit, KB compressed"] <= 60
    assert set(outcome.rounds) == {"sidekey, alone", "sidekey, beside pages"}


def test_memory_is_measured_before_and_after_the_first_pages(arena: Arena, running: Running) -> None:
    """Those of an empty store: what a page keeps of integrations is not the console's."""
    upstream = running.job.upstream
    with ExitStack() as stack:
        store = fill(running.job.folder / "empty.db", base_of(upstream), 0)
        empty = arena.start("sidekey", Sidekey(store=store), upstream, stack)
        (megabytes,) = ROW.first_pages(empty, settle=0).values()
    assert 0 < megabytes < 60


def test_pages_are_read_when_they_are_due(running: Running) -> None:
    """So many a second, whatever one takes: a late one counts from when it was due."""
    with Visitor(running.job.admin_port) as visitor:
        visitor.log_in()
        slow = Round(visitor, ("/", "/access"), rate=1e6)
        seconds = [slow.next() for _ in range(3)]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0


def test_a_page_under_load_that_fails_fails_the_row(running: Running) -> None:
    """Otherwise latencies beside no page would be reported as those beside pages."""
    with Visitor(running.job.admin_port) as visitor:
        visitor.log_in()
        running.program.stop()
        with pytest.raises(MeasureFailed, match="failed"):
            Round(visitor, ("/",), rate=10).next()
