"""What the IDs of files hide of a store: it stays hidden until it is released, also once the file's is gone."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Final

from sidekey.runtime.snapshot import ALTERED, Judgement
from sidekey.store.records import DocumentRow

_NAMES: Final = {"integration": "an integration", "preset": "a preset"}


class Hiding:
    """Which rows were hidden here and may not say so yet, by their lasting IDs."""

    def __init__(self) -> None:
        self._hidden: set[str] = set()

    def take(self, rows: Iterable[DocumentRow]) -> None:
        """Go by these rows as far as they say themselves that they are hidden."""
        for row in rows if self._hidden else ():
            if row.hidden:
                self.marked(row)

    def judge(self, row: DocumentRow, files: Container[str]) -> Judgement | None:
        """Why a row is not served where it is a file's to respond, or an operator's to say that it is not any more.

        `files` are the IDs that files have.
        """
        if row.id in files:
            # What is worse is said: this one can only be deleted.
            if row.state == "altered":
                return ALTERED
            return Judgement("hidden", f"a file has {_NAMES[row.kind]} of this ID, which is served instead")
        if row.hidden or row.row in self._hidden:
            return Judgement("hidden", f"a file had {_NAMES[row.kind]} of this ID: release this one to serve it")
        return None

    def is_unsaid(self, row: DocumentRow, files: Container[str]) -> bool:
        """Whether it is hidden, and its row must be made to say so."""
        return (row.id in files or row.row in self._hidden) and not row.hidden and row.state == "ok"

    def note(self, rows: Iterable[DocumentRow]) -> None:
        """Files have hidden these in what is in use: they stay so, also where their rows do not say so yet."""
        self._hidden.update(row.row for row in rows)

    def marked(self, row: DocumentRow) -> bool:
        """Its row says, or said, that it is hidden: only the row counts from now on, whoever releases it and where.

        The result is whether it was hidden here, whatever its row says.
        """
        was_hidden = row.row in self._hidden
        self._hidden.discard(row.row)
        return was_hidden

    def has_hidden(self, row: DocumentRow) -> bool:
        """Whether a file has hidden it here, and its row did not say so yet."""
        return row.row in self._hidden
