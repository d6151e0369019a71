"""A config is put in use whole or not at all: parts of every kind, made to fail at every place, in every order."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from sidekey.publish import Commit, CommitError, Publisher, commit_all
from sidekey.snapshot.snapshot import Snapshot, Trust
from support.plane import integration

PARTS = 4
FIRST, SECOND, THIRD = (Snapshot(integrations={}) for _ in range(3))


@dataclass(slots=True)
class Keeper:
    """A part that keeps the snapshot it is to serve by. `asked` counts how often it prepared."""

    snapshot: Snapshot = FIRST
    asked: int = 0
    fails: Exception | None = None
    fails_to_commit: Exception | None = None

    def prepare(self, snapshot: Snapshot) -> Commit:
        self.asked += 1
        if self.fails is not None:
            raise self.fails

        def commit() -> None:
            if self.fails_to_commit is not None:
                raise self.fails_to_commit
            self.snapshot = snapshot

        return commit


@dataclass(slots=True)
class Rig:
    """A publisher of some parts, and what it reported."""

    parts: list[Keeper] = field(default_factory=lambda: [Keeper() for _ in range(PARTS)])
    reported: list[BaseException] = field(default_factory=list)

    def publisher(self) -> Publisher:
        return Publisher(FIRST, self.parts, self.reported.append)

    def in_use(self) -> list[Snapshot]:
        return [part.snapshot for part in self.parts]


def is_all(found: list[Snapshot], snapshot: Snapshot) -> bool:
    """Whether every one of them is this very object: equal ones would hide a mixture."""
    return all(each is snapshot for each in found)


def test_a_snapshot_is_put_in_use_by_every_part() -> None:
    """Each prepares once, and the publisher says which one it is."""
    rig = Rig()
    publisher = rig.publisher()
    assert publisher.snapshot is FIRST
    publisher.publish(SECOND)
    assert publisher.snapshot is SECOND
    assert is_all(rig.in_use(), SECOND)
    assert [part.asked for part in rig.parts] == [1] * PARTS
    assert rig.reported == []


def test_the_first_snapshot_may_be_published_too() -> None:
    """So a process starts: parts that begin with the first config do it here."""
    rig = Rig()
    rig.publisher().publish(FIRST)
    assert [part.asked for part in rig.parts] == [1] * PARTS


def test_nothing_is_committed_before_all_are_prepared() -> None:
    """The last to prepare sees the others as they were."""
    rig = Rig()
    seen: list[Snapshot] = []

    class Watcher(Keeper):
        def prepare(self, snapshot: Snapshot) -> Commit:
            seen.extend(rig.in_use())
            seen.append(publisher.snapshot)
            return Keeper.prepare(self, snapshot)

    rig.parts.append(Watcher())
    publisher = rig.publisher()
    publisher.publish(SECOND)
    assert len(seen) == PARTS + 2
    assert is_all(seen, FIRST)


@pytest.mark.parametrize("place", range(PARTS))
def test_an_error_in_any_part_that_prepares_changes_nothing(place: int) -> None:
    """It is raised as it is, and the next snapshot is put in use."""
    rig = Rig()
    publisher = rig.publisher()
    rig.parts[place].fails = error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError) as raised:
        publisher.publish(SECOND)
    assert raised.value is error
    assert publisher.snapshot is FIRST
    assert is_all(rig.in_use(), FIRST)
    assert rig.reported == []
    rig.parts[place].fails = None
    publisher.publish(THIRD)
    assert publisher.snapshot is THIRD
    assert is_all(rig.in_use(), THIRD)


@pytest.mark.parametrize("place", range(PARTS))
def test_an_error_in_any_commit_is_reported_and_the_others_commit(place: int) -> None:
    """It is never a success: what is in use is the new snapshot, but not everywhere."""
    rig = Rig()
    publisher = rig.publisher()
    rig.parts[place].fails_to_commit = error = ZeroDivisionError()
    with pytest.raises(CommitError):
        publisher.publish(SECOND)
    assert rig.reported == [error]
    assert publisher.snapshot is SECOND
    assert rig.parts[place].snapshot is FIRST
    assert is_all([part.snapshot for part in rig.parts if part is not rig.parts[place]], SECOND)


def test_every_commit_that_fails_is_reported() -> None:
    """Also those that a part has put together of several."""
    rig = Rig()
    inner = [Keeper(fails_to_commit=KeyError()), Keeper(), Keeper(fails_to_commit=IndexError())]

    class Composed:
        def prepare(self, snapshot: Snapshot) -> Commit:
            commits = [each.prepare(snapshot) for each in inner]
            return lambda: commit_all(commits)

    publisher = rig.publisher()
    publisher.parts.insert(1, Composed())
    rig.parts[-1].fails_to_commit = ZeroDivisionError()
    with pytest.raises(CommitError):
        publisher.publish(SECOND)
    assert [type(defect) for defect in rig.reported] == [KeyError, IndexError, ZeroDivisionError]
    assert is_all([inner[1].snapshot, *rig.in_use()[:-1]], SECOND)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("failing", [None, 0, 1, 2])
def test_the_order_of_the_parts_does_not_matter(order: tuple[int, ...], failing: int | None) -> None:
    """Whether a part fails or not: which of them are on which snapshot is the same."""
    rig = Rig([Keeper() for _ in range(3)])
    if failing is not None:
        rig.parts[failing].fails = ZeroDivisionError()
    publisher = Publisher(FIRST, [rig.parts[place] for place in order], rig.reported.append)
    if failing is None:
        publisher.publish(SECOND)
    else:
        with pytest.raises(ZeroDivisionError):
            publisher.publish(SECOND)
    assert is_all(rig.in_use(), FIRST if failing is not None else SECOND)


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize(
    "fail",
    [
        lambda part: setattr(part, "fails", ZeroDivisionError()),
        lambda part: setattr(part, "fails_to_commit", ZeroDivisionError()),
        lambda part: None,
    ],
)
def test_a_snapshot_that_is_not_in_use_is_freed_without_the_collector(fail: Callable[[Keeper], None]) -> None:
    """Whatever became of it: the collector never looks at what a config is made of."""
    rig = Rig()
    publisher = rig.publisher()
    trust = Trust()
    watched = weakref.ref(trust)
    fail(rig.parts[1])
    try:
        publisher.publish(Snapshot(integrations={"h": integration("h", "https://h.test", trust=trust)}))
    except (ZeroDivisionError, CommitError):
        rig.reported.clear()
    rig.parts[1].fails = rig.parts[1].fails_to_commit = None
    del trust
    publisher.publish(THIRD)
    assert watched() is None
