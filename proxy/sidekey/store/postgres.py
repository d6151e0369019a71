"""PostgreSQL through asyncpg (the extra `postgres`), on the event loop of the store's own thread.

One connection executes all statements and listens for changes. The next poll finds changes that it missed while it was
not connected. No error repeats the server's text, which may name the host or the values of a statement.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import asyncpg
from asyncpg.transaction import Transaction as AsyncpgTransaction

from sidekey.store.database import MAX_WAIT, Database, Transaction
from sidekey.store.errors import StoreDenied, StoreRefused, StoreUnavailable, StoreUnusable

_CHANNEL: Final = "sidekey_store"
_LOCK: Final = 0x5349444B
"""The advisory lock of the transaction that writes: "SIDK"."""

_COMMAND_TIMEOUT: Final = 15.0
"""Seconds until a statement times out."""

_CONNECTION_ERRORS: Final = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
)
"""Errors after the server or the network has closed the connection."""

_REASONS: Final = {
    "28": "rejects the user or the password",
    "3D": "has no database of this name",
    "3F": "has no schema in which its user may create tables",
    "42P01": "lacks a table of the store",
    "53": "has no room left: its disk is full, or it has too many connections",
    "55P03": "is locked by another Sidekey",
    "57P": "is starting or shutting down",
    "25006": "is read-only: a standby, perhaps; add target_session_attrs=read-write to the URL",
}
"""Errors that an operator can fix, by SQLSTATE or its first characters (PostgreSQL, appendix A)."""

_OTHER: Final = "refused a statement"

_DENIED: Final = "42501"
"""The SQLSTATE of a missing privilege."""

_TABLE: Final = re.compile(r"\bsidekey_[a-z]+\b")
"""A table of the store, the only part of the server's text that an error may repeat."""

_TEMPORARY_CLASSES: Final = ("08", "25", "28", "40", "53", "55", "57", "58", "XX")
"""Classes of SQLSTATEs that may be gone at the next attempt. After any other class, an operator must act.

A failover raises several of them. A password is rejected (28) during its rotation, because the server and the file
with the URL do not change at the same moment.
"""


class PostgresDatabase(Database):
    """The database at a URL (libpq, 34.1.1.2). The URL may hold a password and is never shown."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: asyncpg.Connection | None = None
        self._woken = asyncio.Event()
        self._async_commit = False

    async def connect(self, *, create: bool) -> None:  # noqa: ARG002  see below
        """Connect now. An administrator creates the database."""
        with self._translate_errors():
            await self._get_connection()

    def set_url(self, url: str) -> None:
        """Keep the connection: the server checks a password only when a connection begins."""
        self._url = url

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Transaction]:
        """Begin a transaction that reads one snapshot."""
        with self._translate_errors():
            connection, transaction = await self._begin("repeatable_read", readonly=True)
            async with _commit_or_roll_back(transaction):
                yield _PostgresTransaction(connection)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Transaction]:
        """Begin the only transaction that writes. It sees everything that was committed before."""
        with self._translate_errors():
            connection, transaction = await self._begin("read_committed", readonly=False)
            async with _commit_or_roll_back(transaction):
                await connection.execute(f"SET LOCAL lock_timeout = {int(MAX_WAIT * 1000)}")
                if self._async_commit:
                    # A commit that was acknowledged must survive a crash of the server.
                    await connection.execute("SET LOCAL synchronous_commit = on")
                await connection.execute(f"SELECT pg_advisory_xact_lock({_LOCK})")
                yield _PostgresTransaction(connection)

    @asynccontextmanager
    async def appending(self) -> AsyncIterator[Transaction]:
        """Begin a transaction without the lock of the one that writes."""
        with self._translate_errors():
            connection, transaction = await self._begin("read_committed", readonly=False)
            async with _commit_or_roll_back(transaction):
                await connection.execute(f"SET LOCAL lock_timeout = {int(MAX_WAIT * 1000)}")
                await connection.execute("SET LOCAL synchronous_commit = off")
                yield _PostgresTransaction(connection)

    async def wait(self, seconds: float) -> None:
        """Return when another process announces a change, or the connection closes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        self._woken.clear()

    async def find_damage(self) -> str:
        """Return "": PostgreSQL checks its pages itself."""
        return ""

    async def close(self) -> None:
        """Disconnect."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await connection.close(timeout=1.0)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection.terminate()

    async def _begin(self, isolation: str, *, readonly: bool) -> tuple[asyncpg.Connection, AsyncpgTransaction]:
        """Begin a transaction, on a new connection if the server has closed the current one."""
        reused = self._connection is not None
        while True:
            connection = await self._get_connection()
            transaction = connection.transaction(isolation=isolation, readonly=readonly)
            try:
                await transaction.start()
            except _CONNECTION_ERRORS:
                # No statement was sent yet, so another attempt is safe. asyncpg reports a closed connection in
                # several ways.
                self._drop()
                if not reused:
                    raise
                reused = False
            else:
                return connection, transaction

    async def _get_connection(self) -> asyncpg.Connection:
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        try:
            connection = await asyncpg.connect(
                self._url,
                timeout=MAX_WAIT,
                command_timeout=_COMMAND_TIMEOUT,
                # A pooler in between may give each transaction another server process.
                statement_cache_size=0,
                server_settings={"application_name": "sidekey"},
            )
        except ssl.SSLError:
            # Before ValueError, of which the error of a certificate is a subclass.
            raise
        except ValueError:
            # asyncpg cannot parse the URL, and its text repeats it.
            raise StoreRefused(
                "store.url: must be a URL such as postgresql://USER:PASSWORD@HOST/DATABASE; with sslmode=verify-full "
                "it needs sslrootcert=FILE"
            ) from None
        try:
            connection.add_termination_listener(self._wake)
            await connection.add_listener(_CHANNEL, self._wake)
            self._async_commit = await connection.fetchval("SHOW synchronous_commit") == "off"
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection
        self.connections += 1
        return connection

    def _wake(self, *_: object) -> None:
        self._woken.set()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Raise a StoreError for errors of the server and the network, and drop a connection that may be broken."""
        try:
            yield
        except asyncpg.DataError:
            raise
        except asyncpg.PostgresError as error:
            state = error.sqlstate or ""
            reason = next((_REASONS[key] for key in (state, state[:3], state[:2]) if key in _REASONS), _OTHER)
            if state[:2] in ("08", "57"):
                self._drop()
            if state == _DENIED:
                table = _TABLE.search(str(error))
                privilege = f"a privilege on {table[0]}" if table else "a privilege"
                raise StoreDenied(
                    f"store.url: the database user lacks {privilege}: grant it, or use a Sidekey whose user has it "
                    f"(SQLSTATE {state})"
                ) from None
            error_class = StoreUnavailable if state.startswith(_TEMPORARY_CLASSES) else StoreUnusable
            raise error_class(f"store.url: the database {reason} (SQLSTATE {state})") from None
        except ssl.SSLCertVerificationError:
            self._drop()
            raise StoreUnavailable("store.url: the database's certificate is not that of its name and CA") from None
        except ssl.SSLError:
            self._drop()
            raise StoreUnavailable("store.url: the TLS handshake with the database failed") from None
        except TimeoutError:
            self._drop()
            raise StoreUnavailable("store.url: the database does not respond") from None
        except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            self._drop()
            name = errno.errorcode.get(error.errno or 0) if isinstance(error, OSError) else None
            code = f" ({name})" if name else ""
            raise StoreUnavailable(f"store.url: the database cannot be reached{code}") from None


class _PostgresTransaction(Transaction):
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def fetch(self, statement: str, *values: str | int | None) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await self._connection.fetch(statement, *values)]

    async def execute(self, statement: str, *values: str | int | None) -> int:
        # The command tag, such as `UPDATE 1`.
        count = (await self._connection.execute(statement, *values)).rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    async def execute_many(self, statement: str, rows: Sequence[Sequence[str | int | None]]) -> None:
        await self._connection.executemany(statement, rows)

    async def has_table(self, name: str) -> bool:
        # to_regclass() would miss a table that was committed while this transaction waited for its lock.
        return bool(
            await self._connection.fetchval(
                "SELECT EXISTS (SELECT FROM pg_catalog.pg_tables"
                " WHERE tablename = $1 AND schemaname = ANY (current_schemas(false)))",
                name,
            )
        )

    async def now(self) -> float:
        return float(
            await self._connection.fetchval("SELECT CAST(extract(epoch FROM clock_timestamp()) AS DOUBLE PRECISION)")
        )

    async def announce(self) -> None:
        """Notify other processes. The server does so when the transaction commits."""
        await self._connection.execute(f"NOTIFY {_CHANNEL}")


@asynccontextmanager
async def _commit_or_roll_back(transaction: AsyncpgTransaction) -> AsyncIterator[None]:
    """Commit at the end, or roll back if the block raises."""
    try:
        yield
    except BaseException:
        # If the connection has closed, so has the transaction.
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await transaction.rollback()
        raise
    await transaction.commit()
