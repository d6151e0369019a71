"""SQLite. Each call blocks the thread of the store, and no other thread.

With WAL and `synchronous=FULL`, a commit is on the disk before it returns. `secure_delete` overwrites deleted content.
Only the file's owner may read it. SQLite gives its -wal and -shm files the same mode.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sqlite3
import stat
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

from sidekey.store.database import MAX_WAIT, Database, Transaction
from sidekey.store.errors import StoreError, StoreRefused, StoreUnavailable, StoreUnusable

_REASONS: Final = {
    sqlite3.SQLITE_BUSY: "is locked by another process",
    sqlite3.SQLITE_LOCKED: "is locked by another process",
    sqlite3.SQLITE_FULL: "cannot be written: the disk is full",
    sqlite3.SQLITE_READONLY: "is read-only",
    sqlite3.SQLITE_CORRUPT: "is damaged: restore it from a backup",
    sqlite3.SQLITE_NOTADB: "is not an SQLite database",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_PERM: "cannot be opened: permission denied",
    sqlite3.SQLITE_IOERR: "cannot be read or written",
}
_TEMPORARY_RESULTS: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
    }
)
"""Results that may differ at the next attempt. After any other result an operator must act."""

_TEMPORARY_ERRNOS: Final = frozenset(
    {errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.EINTR}
)
"""Errors of the file system that may be gone at the next attempt."""

_COMPANION_SUFFIXES: Final = ("-wal", "-shm")
"""Suffixes of the files that SQLite keeps beside the database."""

E = TypeVar("E", bound=StoreError)


class SqliteDatabase(Database):
    """The database in the file at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._file_identity: tuple[int, int] | None = None

    async def connect(self, *, create: bool) -> None:
        """Open the file. Its folder must exist."""
        if self._connection is None:
            self._connect(create=create)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Transaction]:
        """Begin a transaction that reads."""
        async with self._transaction("BEGIN") as transaction:
            yield transaction

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Transaction]:
        """Begin the transaction that writes."""
        async with self._transaction("BEGIN IMMEDIATE") as transaction:
            yield transaction

    def appending(self) -> AbstractAsyncContextManager[Transaction]:
        """Begin the transaction that writes, because SQLite has only one."""
        return self.writing()

    async def wait(self, seconds: float) -> None:
        """Sleep: SQLite does not announce changes to other processes."""
        await asyncio.sleep(seconds)

    async def find_damage(self) -> str:
        """Run SQLite's integrity check, and return its first error."""
        with self._translate_errors():
            result = self._get_connection().execute("PRAGMA integrity_check(1)").fetchone()[0]
        return "" if result == "ok" else f"{self._path} is damaged: restore it from a backup"

    async def close(self) -> None:
        """Close the file."""
        self._disconnect()

    def _connect(self, *, create: bool) -> None:
        self._prepare_file(create=create)
        with self._translate_errors():
            connection = sqlite3.connect(
                f"file:{quote(str(self._path))}?mode=rw", uri=True, timeout=MAX_WAIT, isolation_level=None
            )
            try:
                self._set_up(connection)
            except BaseException:
                connection.close()
                raise
        self._connection = connection
        self.connections += 1
        self._file_identity = _identity(self._path.stat())

    def _set_up(self, connection: sqlite3.Connection) -> None:
        # Other programs may write bytes that are not UTF-8. Such a row is altered, and must not raise here.
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        connection.execute("PRAGMA trusted_schema=OFF")
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        if tables and not any(name.startswith("sidekey_") for name in tables):
            # Checked before the first write, because the path may name another program's database by mistake.
            raise self._error(StoreRefused, "is the database of another program: use a file for Sidekey alone")
        ((mode,),) = connection.execute("PRAGMA journal_mode=WAL")
        if mode != "wal":
            raise self._error(StoreRefused, "must be on a local file system, for SQLite's WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA secure_delete=ON").fetchall()

    def _prepare_file(self, *, create: bool) -> None:
        """Create the file if it is missing, and deny other users access."""
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | (os.O_CREAT if create else 0)
        try:
            descriptor = os.open(self._path, flags, 0o600)
        except OSError as error:
            raise self._unavailable("cannot be opened", error) from None
        try:
            self._secure_file(self._path, os.fstat(descriptor), descriptor)
        finally:
            os.close(descriptor)
        for name in _COMPANION_SUFFIXES:
            # A killed process or a backup may have left them. Opening and closing them would drop SQLite's locks.
            path = self._path.with_name(f"{self._path.name}{name}")
            with contextlib.suppress(FileNotFoundError):
                self._secure_file(path, path.lstat(), path)

    def _secure_file(self, path: Path, status: os.stat_result, file: int | Path) -> None:
        """Refuse another user's file, and deny other users access to this one."""
        if not stat.S_ISREG(status.st_mode):
            raise self._error(StoreRefused, "must be a regular file", path)
        if status.st_uid != os.geteuid():
            raise self._error(StoreRefused, "must belong to the user that Sidekey runs as", path)
        if stat.S_IMODE(status.st_mode) & 0o077:
            try:
                os.chmod(file, 0o600)  # noqa: PTH101 - a descriptor, where there is one
            except OSError as error:
                reason = "must be closed to other users, and its mode cannot be changed"
                raise self._unavailable(reason, error) from None

    def _get_connection(self) -> sqlite3.Connection:
        """Return a connection to the file that is at the path now. A backup may have replaced the file."""
        if self._connection is not None:
            try:
                identity = _identity(self._path.stat())
            except OSError as error:
                raise self._unavailable("cannot be opened", error) from None
            if identity == self._file_identity:
                return self._connection
            self._disconnect()
        self._connect(create=False)
        assert self._connection is not None  # noqa: S101  for mypy: it was just made
        return self._connection

    @asynccontextmanager
    async def _transaction(self, begin: str) -> AsyncIterator[Transaction]:
        with self._translate_errors():
            connection = self._get_connection()
            connection.execute(begin)
            try:
                yield _SqliteTransaction(connection)
                connection.execute("COMMIT")
            except BaseException:
                self._roll_back(connection)
                raise

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        try:
            # SQLite rolls back by itself after some errors, such as a full disk.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            # Closing rolls back too. The next call opens the file again.
            self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection, self._file_identity = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    @contextlib.contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Raise a StoreError for errors of the file system and for locks of another process."""
        try:
            yield
        except (sqlite3.ProgrammingError, sqlite3.NotSupportedError):
            raise
        except sqlite3.DatabaseError as error:
            code = error.sqlite_errorcode & 0xFF
            reason = _REASONS.get(code, "refused a statement")
            error_class = StoreUnavailable if code in _TEMPORARY_RESULTS else StoreUnusable
            # The name is SQLite's constant, such as SQLITE_IOERR_FSYNC. Its text may repeat the values of a statement.
            raise self._error(error_class, f"{reason} ({error.sqlite_errorname})") from None

    def _unavailable(self, reason: str, error: OSError) -> StoreUnavailable:
        error_class = StoreUnavailable if error.errno in _TEMPORARY_ERRNOS else StoreUnusable
        return self._error(error_class, f"{reason}: {os.strerror(error.errno or 0)}")

    def _error(self, error_class: type[E], reason: str, path: Path | None = None) -> E:
        return error_class(f"store.path: {path or self._path} {reason}", f"store.path: the file {reason}")


class _SqliteTransaction(Transaction):
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def fetch(self, statement: str, *values: str | int | None) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement, _parameters(values)).fetchall()

    async def execute(self, statement: str, *values: str | int | None) -> int:
        return self._connection.execute(statement, _parameters(values)).rowcount

    async def execute_many(self, statement: str, rows: Sequence[Sequence[str | int | None]]) -> None:
        self._connection.executemany(statement, [_parameters(values) for values in rows])

    async def has_table(self, name: str) -> bool:
        return bool(await self.fetch("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = $1", name))

    async def now(self) -> float:
        return time.time()

    async def announce(self) -> None:
        """Do nothing: other processes poll for changes."""


def _parameters(values: Sequence[str | int | None]) -> dict[str, str | int | None]:
    # SQLite reads `$1` as the name of a parameter.
    return {str(number): value for number, value in enumerate(values, 1)}


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
