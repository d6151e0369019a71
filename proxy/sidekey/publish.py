"""Puts a config in use: every part of the process prepares for it, then all of them commit, in one step of the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from sidekey.snapshot.snapshot import Snapshot

Commit = Callable[[], None]
"""Puts in use what was prepared. Must not fail, and must not depend on which part commits first."""


class Changes(NamedTuple):
    """The sorted paths of the config in which two snapshots differ, and the store's new revision, if it has one."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    revision: int | None = None


class PublishRefused(Exception):
    """A part cannot serve by a snapshot although it is valid; the message says why, and what to do."""


class PublishedPart(Protocol):
    """What serves by a snapshot."""

    def prepare(self, snapshot: Snapshot) -> Commit:
        """Get ready to serve by another snapshot.

        May fail, with Refused where that is no defect. Must change nothing that anyone else sees, and must not depend
        on what another part has prepared. The result is called at once, or never.
        """
        ...


class Publisher:
    """Owns the snapshot in use. Nobody else keeps one: a part keeps what it has made of it.

    `parts` were made with `first`, which is in use from the start; their order does not matter to the result. What a
    commit raises is passed to `report`, which must not raise.
    """

    def __init__(
        self, first: Snapshot, parts: Iterable[PublishedPart], report: Callable[[BaseException], object]
    ) -> None:
        self.parts = list(parts)
        self._snapshot = first
        self._report = report

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot in use."""
        return self._snapshot

    def publish(self, snapshot: Snapshot) -> None:
        """Put a snapshot in use, from the next request on. Must be called on the event loop; nothing runs in between.

        What a part raises while it prepares is raised, and then nothing has changed. What parts raise while they commit
        is a defect: it is reported, the others commit all the same, `snapshot` is the one in use, and CommitError is
        raised.
        """
        commits = [part.prepare(snapshot) for part in self.parts]
        self._snapshot = snapshot
        try:
            commit_all(commits)
        except ExceptionGroup as defects:
            for defect in defects.exceptions:
                self._report(defect)
            # It refers to this frame: the two, and with them the snapshot, would wait for the garbage collector.
            del defect
            raise CommitError from None


class CommitError(Exception):
    """A snapshot is in use, but some of the parts still serve by the one before, or by something in between."""


def commit_all(commits: Iterable[Commit]) -> None:
    """Call all of them, also after one has raised. Raises a flat ExceptionGroup of whatever they raised."""
    defects: list[Exception] = []
    for commit in commits:
        try:
            commit()
        except ExceptionGroup as group:
            defects += group.exceptions
        except Exception as defect:  # noqa: BLE001  a defect of one part must not keep the others from the new config
            defects.append(defect)
    if defects:
        try:
            raise ExceptionGroup("parts failed to commit", defects)
        finally:
            # As above.
            del defects
