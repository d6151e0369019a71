"""The row of stored integrations, short: a real Sidekey whose store is changed by the API while it has requests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.arena import Arena, Running
from benchmarks.figures import RESIDENT_IDLE, START
from benchmarks.pace import Pace
from benchmarks.peers.sidekey import Sidekey, base_of
from benchmarks.processes import MeasureFailed
from benchmarks.rows.stored import Stored, starting
from benchmarks.stored import Operator, fill
from support.peers import require

Used = tuple[Running, Operator]


@pytest.fixture(scope="module")
def both(arena: Arena, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Used]:
    """One Sidekey with three stored integrations, and an operator. The last test stops it."""
    require("nginx")
    upstream = arena.upstreams["http"]
    filled = fill(tmp_path_factory.mktemp("store") / "full.db", base_of(upstream), 3)
    with ExitStack() as stack:
        running = arena.start("sidekey", Sidekey(store=filled), upstream, stack)
        yield running, stack.enter_context(Operator(running.job.admin_port))


def test_what_is_filled_in_is_served_and_listed(both: Used) -> None:
    """The start itself proves that `bench` sends the credential. What cannot be asked for fails the row."""
    _, operator = both
    assert operator.page("") > 0
    assert [item["id"] for item in operator.get("")["items"]] == ["bench", "t0", "t1"]
    assert [item["id"] for item in operator.get("?q=for%20t1")["items"]] == ["t1"]
    assert {item["status"] for item in operator.get("")["items"]} == {"ok"}
    with pytest.raises(MeasureFailed, match="responded 400"):
        operator.page("?unknown=1")


def test_a_change_is_in_use_once_it_has_its_response(both: Used) -> None:
    """Each is another version of `bench`."""
    _, operator = both
    assert operator.change() > 0
    assert operator.get("/bench")["description"] == "changed 1 times"
    before = operator.get("/bench")["version"]
    operator.change()
    assert operator.get("/bench")["version"] == before + 1


def test_changes_and_lists_are_measured_alone_and_beside_requests(both: Used) -> None:
    """Requests of each side all had responses, and the integration was changed while some were in flight."""
    outcome = Stored(Pace(100, 0.2, connections=4), count=3, changes=1, rounds=1).measure(*both)
    assert outcome.failures == {}
    assert {line.label: str(line.reach) for line in outcome.lines if line.reach is not None} == {
        "change s, slowest": "sidekey at most 1",
        "list ms, slowest": "sidekey at most 100",
        "search ms, slowest": "sidekey at most 100",
        "search without a match ms, slowest": "sidekey at most 100",
        "p99.9 ms, beside changes and lists": "sidekey at most 20",
        "failed requests": "sidekey at most 0",
        "change s, slowest, under load": "sidekey at most 1",
    }
    values = {line.label: line.values["sidekey"] for line in outcome.lines}
    assert values["failed requests"] == 0
    assert values["changes under load"] >= 1
    assert set(outcome.rounds) == {"sidekey, alone", "sidekey, without changes", "sidekey, beside changes and lists"}


def test_an_empty_store_costs_what_it_has_more_than_none() -> None:
    """And a full one what it has more than an empty one; of subjects that failed nothing is said."""
    found = {
        "sidekey, no store": {START: 0.25, RESIDENT_IDLE: 60.0},
        "sidekey, empty store": {START: 0.5, RESIDENT_IDLE: 64.0},
        "sidekey, full store": {START: 1.5, RESIDENT_IDLE: 128.0},
    }
    assert [(line.label, line.values["sidekey"]) for line in starting(found)] == [
        ("start to first response s", 1.5),
        ("start, s more with an empty store", 0.25),
        ("RSS idle, MB more with an empty store", 4.0),
        ("RSS idle, MB more than an empty store", 64.0),
    ]
    del found["sidekey, empty store"]
    assert starting(found) == []


def test_an_empty_store_is_a_store_with_nothing_in_it(tmp_path: Path) -> None:
    """`bench` is in the config then."""
    filled = fill(tmp_path / "empty.db", "http://upstream.test/api", 0)
    assert filled.count == 0
    assert filled.database.stat().st_size > 0


def test_a_change_that_fails_fails_the_row(both: Used) -> None:
    """Otherwise latencies without any change would be reported as those beside changes."""
    running, operator = both
    running.program.stop()
    with pytest.raises(MeasureFailed, match="failed"):
        operator.change()
