"""benchmarks/hostile.py: the requests that are timed are whole, within the limits, and forwarded or refused."""

from __future__ import annotations

import random
from itertools import islice

import pytest

from benchmarks import hostile, hostile_bodies
from benchmarks.hostile import SORTS, Bench


@pytest.mark.parametrize("sort", SORTS)
async def test_each_request_is_forwarded_or_refused(sort: str) -> None:
    """Some of either: a search of which nothing passed, or all did, would look in one place only."""
    bench = Bench.make()
    statuses = set()
    for request in islice(SORTS[sort](random.Random(1)), 100):
        head, _, body = request.partition(b"\r\n\r\n")
        assert len(head) <= hostile.HEAD + 500
        assert len(body) <= hostile.BODY + 200
        assert len(request.split(b" ")[1]) <= hostile.TARGET
        taken, upstream, caller = bench.send(request)
        assert taken > 0
        assert upstream.startswith((b"GET /", b"POST /")) == caller.startswith(b"HTTP/1.1 200 OK\r\n")
        statuses.add(caller.split(b" ")[1])
    assert {b"200", b"400"} <= statuses
    assert b"500" not in statuses


def test_the_search_is_the_same_each_time() -> None:
    """By its seed, so that builds and commits can be compared."""
    for make in SORTS.values():
        once, again = (list(islice(make(random.Random(hostile.SEED)), 20)) for _ in range(2))
        assert once == again
        assert len(set(once)) > 15


async def test_the_worst_of_each_sort_is_told() -> None:
    """In milliseconds of processor time; the request comes with it."""
    taken, request = hostile.worst("head", 30)
    assert taken > 0
    assert request.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("run", "keys"), [(hostile.run, {"target", "query", "head", "worst"}), (hostile_bodies.run, {"body", "worst"})]
)
def test_the_rows_find_their_figures(run: object, keys: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The worst of all is among them."""
    monkeypatch.setattr(hostile, "worst", lambda sort: (float(len(sort)), b""))
    monkeypatch.setattr("gc.freeze", lambda: None)
    monkeypatch.setattr("gc.disable", lambda: None)
    assert callable(run)
    found = run()
    assert set(found) == keys
    assert found["worst"] == max(found.values())
