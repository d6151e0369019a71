"""Publish a snapshot: every part of the process prepares, then all commit within one step of the event loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from sidekey.snapshot.snapshot import Snapshot

Commit = Callable[[], None]
"""Switches a part to the prepared snapshot. Must not fail, and must not depend on the order of commits."""


class Changes(NamedTuple):
    """The sorted paths of the config in which two snapshots differ, and the store's new revision, if it has one.

    `config.diff` computes them, and the audit log writes them.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    revision: int | None = None


class PublishRefused(Exception):
    """A part rejects a valid snapshot. The message says why, and what to do."""


class PublishedPart(Protocol):
    """A part of the process that serves a snapshot."""

    def prepare(self, snapshot: Snapshot) -> Commit:
        """Prepare to serve another snapshot. The publisher calls the returned commit at once, or never.

        Raises PublishRefused if the part cannot serve the snapshot. Must have no visible effect, and must not depend on
        the preparation of another part.
        """
        ...


class Publisher:
    """Owns the snapshot in use. Parts do not keep it, only what they derive from it.

    The caller builds `parts` from `first`, which is in use from the start. Their order does not matter. The publisher
    passes errors of commits to `report`, which must not raise.
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
        """Use a snapshot from the next request on. Must be called on the event loop, and does not await.

        If a part raises while it prepares, nothing changes and the error propagates. An error while a part commits is a
        defect: `publish` reports it, commits the remaining parts, and raises CommitError.
        """
        commits = [part.prepare(snapshot) for part in self.parts]
        self._snapshot = snapshot
        try:
            commit_all(commits)
        except ExceptionGroup as defects:
            for defect in defects.exceptions:
                self._report(defect)
            # Break the cycle between the exception and this frame, which would keep the old snapshot alive.
            del defect
            raise CommitError from None


class CommitError(Exception):
    """A snapshot is in use, but some parts still serve the previous one, or a mix of both."""


def commit_all(commits: Iterable[Commit]) -> None:
    """Call all commits, even after an error. Raises a flat ExceptionGroup of all errors.

    A part that consists of several parts commits with this too.
    """
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
            # Break the cycle between the exceptions and this frame, as in `publish`.
            del defects
