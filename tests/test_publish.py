"""Publishing: all parts use a snapshot or none, with failures in every part and in every order."""

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
class SnapshotPart:
    """A part that keeps the snapshot that it serves. `prepared` counts its preparations."""

    snapshot: Snapshot = FIRST
    prepared: int = 0
    fails: Exception | None = None
    fails_to_commit: Exception | None = None

    def prepare(self, snapshot: Snapshot) -> Commit:
        self.prepared += 1
        if self.fails is not None:
            raise self.fails

        def commit() -> None:
            if self.fails_to_commit is not None:
                raise self.fails_to_commit
            self.snapshot = snapshot

        return commit


@dataclass(slots=True)
class PublishedParts:
    """A publisher of some parts, and the defects that it reported."""

    parts: list[SnapshotPart] = field(default_factory=lambda: [SnapshotPart() for _ in range(PARTS)])
    reported: list[BaseException] = field(default_factory=list)

    def publisher(self) -> Publisher:
        return Publisher(FIRST, self.parts, self.reported.append)

    def in_use(self) -> list[Snapshot]:
        return [part.snapshot for part in self.parts]


def are_all(snapshots: list[Snapshot], snapshot: Snapshot) -> bool:
    """Return True if every item is this very object: equal ones would hide a mixture."""
    return all(item is snapshot for item in snapshots)


def test_every_part_uses_a_published_snapshot() -> None:
    """Each part prepares once."""
    published = PublishedParts()
    publisher = published.publisher()
    assert publisher.snapshot is FIRST
    publisher.publish(SECOND)
    assert publisher.snapshot is SECOND
    assert are_all(published.in_use(), SECOND)
    assert [part.prepared for part in published.parts] == [1] * PARTS
    assert published.reported == []


def test_first_snapshot_can_be_published() -> None:
    """Parts that begin with the first config use this."""
    published = PublishedParts()
    published.publisher().publish(FIRST)
    assert [part.prepared for part in published.parts] == [1] * PARTS


def test_no_part_commits_before_all_are_prepared() -> None:
    """The last part to prepare sees the others unchanged."""
    published = PublishedParts()
    seen: list[Snapshot] = []

    class Watcher(SnapshotPart):
        def prepare(self, snapshot: Snapshot) -> Commit:
            seen.extend(published.in_use())
            seen.append(publisher.snapshot)
            return SnapshotPart.prepare(self, snapshot)

    published.parts.append(Watcher())
    publisher = published.publisher()
    publisher.publish(SECOND)
    assert len(seen) == PARTS + 2
    assert are_all(seen, FIRST)


@pytest.mark.parametrize("place", range(PARTS))
def test_error_while_preparing_changes_nothing(place: int) -> None:
    """The error propagates, and the next snapshot can be published."""
    published = PublishedParts()
    publisher = published.publisher()
    published.parts[place].fails = error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError) as raised:
        publisher.publish(SECOND)
    assert raised.value is error
    assert publisher.snapshot is FIRST
    assert are_all(published.in_use(), FIRST)
    assert published.reported == []
    published.parts[place].fails = None
    publisher.publish(THIRD)
    assert publisher.snapshot is THIRD
    assert are_all(published.in_use(), THIRD)


@pytest.mark.parametrize("place", range(PARTS))
def test_error_in_a_commit_is_reported_and_other_parts_commit(place: int) -> None:
    """The call raises although the new snapshot is in use."""
    published = PublishedParts()
    publisher = published.publisher()
    published.parts[place].fails_to_commit = error = ZeroDivisionError()
    with pytest.raises(CommitError):
        publisher.publish(SECOND)
    assert published.reported == [error]
    assert publisher.snapshot is SECOND
    assert published.parts[place].snapshot is FIRST
    assert are_all([part.snapshot for part in published.parts if part is not published.parts[place]], SECOND)


def test_every_failed_commit_is_reported() -> None:
    """Also those of a part that consists of several."""
    published = PublishedParts()
    inner = [SnapshotPart(fails_to_commit=KeyError()), SnapshotPart(), SnapshotPart(fails_to_commit=IndexError())]

    class Composed:
        def prepare(self, snapshot: Snapshot) -> Commit:
            commits = [part.prepare(snapshot) for part in inner]
            return lambda: commit_all(commits)

    publisher = published.publisher()
    publisher.parts.insert(1, Composed())
    published.parts[-1].fails_to_commit = ZeroDivisionError()
    with pytest.raises(CommitError):
        publisher.publish(SECOND)
    assert [type(defect) for defect in published.reported] == [KeyError, IndexError, ZeroDivisionError]
    assert are_all([inner[1].snapshot, *published.in_use()[:-1]], SECOND)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("failing", [None, 0, 1, 2])
def test_order_of_parts_does_not_matter(order: tuple[int, ...], failing: int | None) -> None:
    """One part may fail."""
    published = PublishedParts([SnapshotPart() for _ in range(3)])
    if failing is not None:
        published.parts[failing].fails = ZeroDivisionError()
    publisher = Publisher(FIRST, [published.parts[place] for place in order], published.reported.append)
    if failing is None:
        publisher.publish(SECOND)
    else:
        with pytest.raises(ZeroDivisionError):
            publisher.publish(SECOND)
    assert are_all(published.in_use(), FIRST if failing is not None else SECOND)


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
def test_replaced_snapshot_is_freed_without_the_cyclic_collector(fail: Callable[[SnapshotPart], None]) -> None:
    """Also after a failure. The collector never visits the objects of a config."""
    published = PublishedParts()
    publisher = published.publisher()
    trust = Trust()
    watched = weakref.ref(trust)
    fail(published.parts[1])
    try:
        publisher.publish(Snapshot(integrations={"h": integration("h", "https://h.test", trust=trust)}))
    except (ZeroDivisionError, CommitError):
        published.reported.clear()
    published.parts[1].fails = published.parts[1].fails_to_commit = None
    del trust
    publisher.publish(THIRD)
    assert watched() is None
