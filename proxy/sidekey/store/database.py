"""What the store needs of a database. Statements are written once, with `$1`, for all of them.

Everything here is called in the store's own thread, by one task at a time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

PATIENCE: Final = 5.0
"""Seconds that a database may take to let us connect, or to let another's transaction end."""


_LONGEST: Final = 200


def as_text(value: object) -> str:
    """A text as it was read. Whoever can write to the database can put anything into a column of it."""
    return value if isinstance(value, str) else repr(value)


def as_number(value: object) -> int:
    """A number as it was read; -1 where it is none."""
    return value if isinstance(value, int) else -1


def shown(text: str) -> str:
    """A text of the database for a terminal or a log: whoever wrote it may have had these in mind."""
    return text if text.isascii() and text.isprintable() and len(text) <= _LONGEST else ascii(text[:_LONGEST])


class Transaction(ABC):
    """Statements that are done together, or not at all."""

    @abstractmethod
    async def fetch(self, statement: str, *values: str | int | None) -> list[tuple[Any, ...]]:
        """The rows that a query gives. Raises StoreUnavailable."""

    @abstractmethod
    async def execute(self, statement: str, *values: str | int | None) -> int:
        """How many rows a statement has changed. Raises StoreUnavailable."""

    @abstractmethod
    async def execute_many(self, statement: str, rows: Sequence[Sequence[str | int | None]]) -> None:
        """Do a statement for each of these rows of values. Raises StoreUnavailable."""

    @abstractmethod
    async def has_table(self, name: str) -> bool:
        """Return True if there is a table of this name. Raises StoreUnavailable."""

    @abstractmethod
    async def now(self) -> float:
        """The database's time, in seconds since the epoch: that of processes may differ. Raises StoreUnavailable."""

    @abstractmethod
    async def announce(self) -> None:
        """Wake the others who wait, once this is committed. Raises StoreUnavailable."""


class Database(ABC):
    """A database, connected to as needed: what fails is tried again by the next call."""

    connections = 0
    """How often it was connected to; a new connection may lead to an older copy."""

    @abstractmethod
    async def connect(self, *, create: bool) -> None:
        """Connect now. `create` lets it be made where it is missing. Raises StoreUnavailable, StoreRefused."""

    def connect_by(self, url: str) -> None:
        """Connect by this URL of the same database from now on: its password may be another. A file has none."""
        del url

    @abstractmethod
    def reading(self) -> AbstractAsyncContextManager[Transaction]:
        """A transaction whose queries all see the same state. Raises StoreUnavailable."""

    @abstractmethod
    def writing(self) -> AbstractAsyncContextManager[Transaction]:
        """The only transaction that writes now; committed at its end, rolled back where that raises.

        Raises StoreUnavailable: nothing has changed, unless committing itself is what failed.
        """

    @abstractmethod
    async def wait(self, seconds: float) -> None:
        """Return as soon as another may have changed something, at the latest after so long. Raises nothing."""

    @abstractmethod
    async def damaged(self) -> str:
        """What is wrong with the database by its own account; empty: nothing. Raises StoreUnavailable."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect."""
