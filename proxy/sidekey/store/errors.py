"""Errors of the store. Their texts contain no secret and may be shown to operators."""

from __future__ import annotations


class StoreError(Exception):
    """The base class. `public` is the text for senders and unauthenticated readers: it names no path."""

    def __init__(self, text: str, public: str = "") -> None:
        super().__init__(text)
        self.public = public or text


class StoreUnavailable(StoreError):
    """The database cannot be reached, is locked, or has a full disk. Another attempt may succeed."""


class CommitUncertain(StoreUnavailable):
    """A commit failed, and may have taken effect all the same: a caller must read before it writes again."""


class StoreUnusable(StoreUnavailable):
    """The database is damaged, foreign, or refuses what Sidekey needs. Only an operator can change that."""


class StoreRefused(StoreError):
    """The database or the ring of keys must not be used. The text says what to do."""


class StoreDenied(StoreRefused):
    """The database user lacks a privilege for this statement. It may have those that other statements need."""


class Changed(StoreError):
    """The row has changed since the caller read it."""


class Exists(StoreError):
    """A row with this ID exists already."""
