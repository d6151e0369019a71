"""Errors of the store. Their messages contain no secret, so operators may see them."""

from __future__ import annotations


class StoreError(Exception):
    """The base class. `public` is the message for senders and unauthenticated readers, which names no path."""

    def __init__(self, text: str, public: str = "") -> None:
        super().__init__(text)
        self.public = public or text


class StoreUnavailable(StoreError):
    """The database cannot be reached, is locked, or has a full disk. Another attempt may succeed."""


class CommitUncertain(StoreUnavailable):
    """A commit failed, but may have taken effect. The caller must read before it writes again."""


class StoreUnusable(StoreUnavailable):
    """The database is damaged, belongs to another program, or refuses a statement. Only an operator can fix that."""


class StoreRefused(StoreError):
    """The database or the key ring must not be used. The message says what to do."""


class StoreDenied(StoreRefused):
    """The database user lacks a privilege for this statement. Other statements may succeed."""


class Changed(StoreError):
    """The row has changed since the caller read it."""


class Exists(StoreError):
    """A row with this ID exists already."""
