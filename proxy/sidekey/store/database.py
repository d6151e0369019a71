"""The interface to a database. All databases execute the same statements, with parameters such as `$1`.

The store calls it in its own thread, from one task at a time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

MAX_WAIT: Final = 5.0
"""Seconds to wait for a connection, or for the transaction of another process to end."""

_MAX_LENGTH: Final = 200


def as_text(value: object) -> str:
    """Return a text column as text. Other programs may write any type to the database."""
    return value if isinstance(value, str) else repr(value)


def as_number(value: object) -> int:
    """Return a number column as a number, or -1 if it has another type."""
    return value if isinstance(value, int) else -1


def printable(text: str) -> str:
    """Escape control characters in a text of the database, for a terminal or a log."""
    return text if text.isascii() and text.isprintable() and len(text) <= _MAX_LENGTH else ascii(text[:_MAX_LENGTH])


class Transaction(ABC):
    """Statements that take effect together, or not at all."""

    @abstractmethod
    async def fetch(self, statement: str, *values: str | int | None) -> list[tuple[Any, ...]]:
        """Return the rows of a query. Raises StoreUnavailable."""

    @abstractmethod
    async def execute(self, statement: str, *values: str | int | None) -> int:
        """Execute a statement, and return how many rows it changed. Raises StoreUnavailable."""

    @abstractmethod
    async def execute_many(self, statement: str, rows: Sequence[Sequence[str | int | None]]) -> None:
        """Execute a statement once for each row of values. Raises StoreUnavailable."""

    @abstractmethod
    async def has_table(self, name: str) -> bool:
        """Return True if there is a table of this name. Raises StoreUnavailable."""

    @abstractmethod
    async def now(self) -> float:
        """Return the database's clock, in seconds since the epoch. Clocks of processes may differ."""

    @abstractmethod
    async def announce(self) -> None:
        """Wake other processes when this transaction commits. Raises StoreUnavailable."""


class Database(ABC):
    """A database. Each call connects if there is no connection; after an error the next call tries again."""

    connections = 0
    """Number of connections so far. A new one may lead to an older copy of the database."""

    @abstractmethod
    async def connect(self, *, create: bool) -> None:
        """Connect now. `create` creates a missing database file. Raises StoreUnavailable, StoreRefused."""

    def set_url(self, url: str) -> None:
        """Use another URL of the same database from the next connection on. A file has no URL."""
        del url

    @abstractmethod
    def reading(self) -> AbstractAsyncContextManager[Transaction]:
        """Begin a transaction that reads one snapshot. Raises StoreUnavailable."""

    @abstractmethod
    def writing(self) -> AbstractAsyncContextManager[Transaction]:
        """Begin the only transaction that writes. It commits at its end, or rolls back if the block raises.

        Raises StoreUnavailable: nothing has changed, unless the commit itself failed.
        """

    @abstractmethod
    def appending(self) -> AbstractAsyncContextManager[Transaction]:
        """Begin a transaction that adds to usage or failures, beside the transaction that writes.

        A crash of the database may lose it after its commit. Raises StoreUnavailable as `writing` does.
        """

    @abstractmethod
    async def wait(self, seconds: float) -> None:
        """Return when another process announces a change, at the latest after so many seconds. Raises nothing."""

    @abstractmethod
    async def find_damage(self) -> str:
        """Return the first error of the database's own integrity check, or "". Raises StoreUnavailable."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect."""
