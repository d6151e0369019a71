"""Read, verify and write the rows, one task at a time, in the thread of the store.

Each change gets the next revision. A writer holds the database's only write lock from before it reads the highest
revision until its commit is visible (SQLite's RESERVED lock; in PostgreSQL an advisory lock, which is released after
the commit). So a reader that sees revision N sees everything below N, and no commit becomes visible late.

A poll is one query over the index of revisions. It finds new rows, and rows that something other than Sidekey restored
or removed. If new rows do not explain the result, the process reads all rows again. It also does so after each new
connection, which may lead to an older copy.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Final, TypeVar

from sidekey.store import audit
from sidekey.store.audit import AuditEntry
from sidekey.store.database import Database, Transaction, as_number, as_text, printable
from sidekey.store.errors import Changed, CommitUncertain, Exists, StoreRefused, StoreUnavailable
from sidekey.store.integrity import TOMBSTONE, RowAuthenticator, RowHeader, VerifiedRow
from sidekey.store.schema import create_tables, find_tables
from sidekey.store.sealing import KeyRing
from sidekey.store.state import Change, Name, Put, State, StateMark

T = TypeVar("T")

_ROWS: Final = 'SELECT kind, row_id, id, version, "key", mac, revision, body FROM sidekey_rows'
_MARK: Final = "SELECT count(*), coalesce(max(revision), 0), CAST(coalesce(sum(revision), 0) AS TEXT) FROM sidekey_rows"
_ROWS_BETWEEN_PAUSES: Final = 50
"""Rows to verify before other threads may run: less than a millisecond of work."""
_PAUSE: Final = 1e-6
"""Seconds to sleep then. With 0, this thread would take the interpreter back before another thread wakes."""


class RowRepository:
    """The rows of one store, with one ring."""

    def __init__(self, database: Database, ring: KeyRing) -> None:
        self._database = database
        self._ring = ring
        self._lock = asyncio.Lock()
        self._authenticator: RowAuthenticator | None = None
        self._connections = 0
        """Number of connections when all rows were read last."""
        self.state = State()
        self.created = False
        self.is_open = False

    @property
    def authenticator(self) -> RowAuthenticator:
        """The authenticator of the store. Raises StoreUnavailable until the store is open."""
        if self._authenticator is None:
            raise StoreUnavailable("the store was not opened yet")
        return self._authenticator

    async def open(self, *, create: bool) -> State:
        """Connect, check the tables and the keys, and read. `create` creates the store if there is none.

        An existing store is only read: the database user may lack every other privilege.

        Raises StoreUnavailable, StoreRefused. It can be called again after an error.
        """
        async with self._lock:
            await self._database.connect(create=create)
            async with self._database.reading() as transaction:
                exists = await self._find_store(transaction)
            if not exists:
                if not create:
                    raise StoreRefused("there is no store yet: sidekey run creates it")
                async with self._database.writing() as transaction:
                    # Another process may have created the store before this one had the lock.
                    exists = await self._find_store(transaction)
                    if not exists:
                        await self._create(transaction)
            self.created |= not exists
        state = await self.refresh()
        self.is_open = True
        return state

    async def switch_keys(self, ring: KeyRing, url: str | None = None) -> None:
        """Use another ring, and another URL of the same database, from the next transaction on."""
        async with self._lock:
            if url is not None:
                self._database.set_url(url)
            self._ring = ring
            if self._authenticator is not None:
                self._authenticator = RowAuthenticator(ring, self._authenticator.store)

    async def refresh(self, *, verify_all: bool = False) -> State:
        """Read the changes, and return the current state. `verify_all` reads and verifies all rows again.

        Raises StoreUnavailable, and StoreRefused if a key is missing or differs.
        """
        async with self._lock, self._database.reading() as transaction:
            self.state = await self._read_state(transaction, verify_all=verify_all)
        return self.state

    async def check_keys(self, ring: KeyRing) -> None:
        """Raise StoreRefused for a ring that lacks a key of the store, and StoreUnavailable.

        Before the store is open, every ring passes, because `open` checks the ring that is in use then.
        """
        if not self.is_open:
            return
        authenticator = RowAuthenticator(ring, self.authenticator.store)
        async with self._lock, self._database.reading() as transaction:
            await check_keys(transaction, authenticator)

    async def commit(self, changes: Sequence[Change], entries: Sequence[AuditEntry] = ()) -> State:
        """Make all changes, or none, with their audit entries.

        Raises Changed, Exists, StoreUnavailable, StoreRefused.
        """
        async with self.writing() as (transaction, previous):
            rows = await self._write(transaction, previous, changes)
            for entry in entries:
                await audit.add(transaction, entry)
            state = await self.complete(transaction, previous, rows)
        return self.adopt(state)

    async def complete(self, transaction: Transaction, previous: State, rows: Mapping[Name, VerifiedRow]) -> State:
        """Complete a change: wake other processes when it commits, and return the state to `adopt` then."""
        await self.record_key(transaction)
        await transaction.announce()
        return previous.next_state(await _read_mark(transaction), rows)

    def adopt(self, state: State) -> State:
        """Use a state after its commit."""
        self.state = state
        return state

    async def find_damage(self) -> str:
        """Return the first error of the database's own integrity check, or ""."""
        async with self._lock:
            return await self._database.find_damage()

    async def query(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Read tables other than the rows."""
        async with self._lock, self._database.reading() as transaction:
            return await work(transaction)

    async def write(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Write tables other than the rows. Raises CommitUncertain."""
        async with self._lock:
            return await _run_in(self._database.writing(), work)

    async def append(self, work: Callable[[Transaction], Awaitable[None]]) -> None:
        """Add usage or failures.

        An uncertain commit counts as a commit: adding twice is worse than losing a minute.
        """
        with suppress(CommitUncertain):
            async with self._lock:
                await _run_in(self._database.appending(), work)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[tuple[Transaction, State]]:
        """Begin the only transaction that writes, and yield it with the state before it.

        Raises StoreUnavailable, StoreRefused.
        """
        async with self._lock, self._database.writing() as transaction:
            # These rows were committed, so they stay valid if this transaction is rolled back.
            self.state = await self._read_state(transaction)
            yield transaction, self.state

    async def _find_store(self, transaction: Transaction) -> bool:
        """Return True if there is a store that this ring may use, False if there is none. Raises StoreRefused."""
        if not await find_tables(transaction):
            return False
        ids = await transaction.fetch("SELECT id FROM sidekey_store")
        if not ids:
            # No row verifies without the ID.
            raise StoreRefused("the store has lost its ID: restore a backup that has all tables")
        self._authenticator = RowAuthenticator(self._ring, as_text(ids[0][0]))
        await check_keys(transaction, self._authenticator)
        return True

    async def _create(self, transaction: Transaction) -> None:
        await create_tables(transaction)
        self._authenticator = RowAuthenticator(self._ring, secrets.token_hex(16))
        await transaction.execute("INSERT INTO sidekey_store (id) VALUES ($1)", self._authenticator.store)
        await self.record_key(transaction)

    async def record_key(self, transaction: Transaction) -> None:
        """Record that the store is written with the first key."""
        first = self._ring.first
        await transaction.execute(
            'INSERT INTO sidekey_keys ("key", proof) VALUES ($1, $2) ON CONFLICT ("key") DO NOTHING',
            first,
            self.authenticator.key_proof(first),
        )

    async def _read_state(self, transaction: Transaction, *, verify_all: bool = False) -> State:
        """Return the state as this transaction sees it. Raises StoreRefused."""
        previous = self.state
        mark = await _read_mark(transaction)
        verify_all |= previous.mark is None or self._connections != self._database.connections
        if mark == previous.mark and not verify_all:
            return previous
        changed: dict[Name, VerifiedRow] = {}
        rows: Mapping[Name, VerifiedRow] = changed
        if not verify_all:
            changed = self._verify(await transaction.fetch(f"{_ROWS} WHERE revision > $1", previous.revision))
            rows = {**previous.rows, **changed}
            # If the mark differs, something other than Sidekey restored or removed rows.
            verify_all = StateMark.of(rows.values()) != mark
        if verify_all:
            rows = changed = self._verify(await transaction.fetch(_ROWS))
        if not all(row.verified for row in changed.values()):
            # This process may lack a key that other processes write with.
            await check_keys(transaction, self.authenticator)
        self._connections = self._database.connections
        return previous if mark == previous.mark and rows == previous.rows else previous.next_state(mark, rows)

    def _verify(self, selected: Iterable[tuple[Any, ...]]) -> dict[Name, VerifiedRow]:
        rows: dict[Name, VerifiedRow] = {}
        for number, (*columns, body) in enumerate(selected, 1):
            row = self.authenticator.verify(RowHeader.parse(columns), as_text(body))
            previous = self.state.rows.get(row.header.name)
            # An unchanged row stays the same object, so that nothing is built again.
            rows[row.header.name] = row if previous is None or previous != row else previous
            if number % _ROWS_BETWEEN_PAUSES == 0:
                time.sleep(_PAUSE)
        return rows

    async def _write(
        self, transaction: Transaction, previous: State, changes: Sequence[Change]
    ) -> dict[Name, VerifiedRow]:
        """Write changes, and return all rows with them. Raises Changed, Exists, StoreUnavailable."""
        rows = dict(previous.rows)
        revision = previous.revision + 1
        # An import has thousands of new rows: insert them together.
        new: list[tuple[RowHeader, str]] = []
        for change in changes:
            record = change.record
            name = record.kind, record.id
            current = rows.get(name)
            exists = current is not None and not current.deleted
            version = 0 if current is None else current.header.version
            if isinstance(change, Put) and change.expected is None:
                if exists:
                    raise Exists(f"{record.id} exists already")
            elif current is None or not exists or current.header.row_id != record.row_id or version != change.expected:
                raise Changed(
                    f"{record.id} has changed: its version is {version}" if exists else f"{record.id} is gone"
                )
            new_record = record.with_version(version + 1)
            body = new_record.body() if isinstance(change, Put) else TOMBSTONE
            header = self.authenticator.sign(name, record.row_id, version + 1, revision, body)
            if current is None:
                new.append((header, body))
            else:
                await _insert(transaction, new)
                new.clear()
                await put_row(transaction, header, body, version)
            if not isinstance(change, Put):
                await _delete_uses_and_leases(transaction, record.row_id)
            rows[name] = VerifiedRow(header, new_record if isinstance(change, Put) else None)
        await _insert(transaction, new)
        return rows


async def _run_in(begin: AbstractAsyncContextManager[Transaction], work: Callable[[Transaction], Awaitable[T]]) -> T:
    """Run `work` in a transaction. Raises CommitUncertain if only the commit failed."""
    done = False
    try:
        async with begin as transaction:
            result = await work(transaction)
            done = True
    except StoreUnavailable as error:
        if done:
            raise CommitUncertain(str(error), error.public) from None
        raise
    return result


async def check_keys(transaction: Transaction, authenticator: RowAuthenticator) -> None:
    """Raise StoreRefused for a ring in which a key of the store is missing or differs."""
    for key, proof in await transaction.fetch('SELECT "key", proof FROM sidekey_keys ORDER BY "key"'):
        if key not in authenticator.ring:
            raise StoreRefused(f"store.keys: key {printable(as_text(key))} is missing: the store is written with it")
        if authenticator.key_proof(key) != proof:
            raise StoreRefused(f"store.keys: key {key} is not the key that the store is written with")


async def _read_mark(transaction: Transaction) -> StateMark:
    ((count, revision, total),) = await transaction.fetch(_MARK)
    return StateMark(count, as_number(revision), as_text(total))


async def _insert(transaction: Transaction, rows: Sequence[tuple[RowHeader, str]]) -> None:
    if rows:
        await transaction.execute_many(
            'INSERT INTO sidekey_rows (kind, row_id, id, version, "key", mac, revision, body) '
            "VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            [(*header, body) for header, body in rows],
        )


async def put_row(transaction: Transaction, header: RowHeader, body: str, version: int) -> None:
    """Replace the row of the same kind and ID, which has this version. Raises StoreUnavailable."""
    changed = await transaction.execute(
        'UPDATE sidekey_rows SET row_id = $1, version = $2, "key" = $3, mac = $4, revision = $5, body = $6 '
        "WHERE kind = $7 AND id = $8 AND version = $9",
        header.row_id,
        header.version,
        header.key,
        header.mac,
        header.revision,
        body,
        header.kind,
        header.id,
        version,
    )
    if not changed:
        # No other Sidekey can write during this transaction.
        raise StoreUnavailable(f"{header.kind} {header.id} was changed by other means than Sidekey's: try again")


async def _delete_uses_and_leases(transaction: Transaction, row: str) -> None:
    """Delete the last use and the leases of a deleted row."""
    await transaction.execute("DELETE FROM sidekey_uses WHERE row_id = $1", row)
    await transaction.execute("DELETE FROM sidekey_leases WHERE name = $1", row)
