"""Read, verify and write the rows, one task at a time, in the store's own thread.

Each change gets the next revision. A writer holds the database's only write lock from before it reads the highest
revision until its commit is visible (SQLite's RESERVED lock; in PostgreSQL an advisory lock, which is released after
the commit). So a reader that sees revision N sees everything below N, and no commit becomes visible late.

A look is one query over the index of revisions. It finds new rows, and rows that were restored or removed by other
means than a store. If it cannot explain what it sees, the process reads all rows again, as it does after each new
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
from sidekey.store.database import Database, Transaction, as_number, as_text, shown
from sidekey.store.errors import Changed, CommitUncertain, Exists, StoreRefused, StoreUnavailable
from sidekey.store.integrity import TOMBSTONE, RowAuthenticator, RowHeader, VerifiedRow
from sidekey.store.schema import create_tables, find_tables
from sidekey.store.sealing import KeyRing
from sidekey.store.state import Change, Name, Put, State, StateMark

T = TypeVar("T")

_ROWS: Final = 'SELECT kind, row_id, id, version, "key", mac, revision, body FROM sidekey_rows'
_MARK: Final = "SELECT count(*), coalesce(max(revision), 0), CAST(coalesce(sum(revision), 0) AS TEXT) FROM sidekey_rows"
_BREATH: Final = 50
"""Rows that are verified before other threads may run: less than a millisecond's work."""
_PAUSE: Final = 1e-6
"""Seconds: with 0 this thread would have the interpreter back before another has woken."""


class RowRepository:
    """The rows of one store, with one ring."""

    def __init__(self, database: Database, ring: KeyRing) -> None:
        self._database = database
        self._ring = ring
        self._one = asyncio.Lock()
        self._seals: RowAuthenticator | None = None
        self._connections = 0
        """Number of connections when all rows were read last."""
        self.state = State()
        self.made = False
        self.is_open = False

    @property
    def seals(self) -> RowAuthenticator:
        """Makes and verifies MACs. Raises StoreUnavailable until the store is open."""
        if self._seals is None:
            raise StoreUnavailable("the store was not opened yet")
        return self._seals

    async def open(self, *, create: bool) -> State:
        """Connect, check the tables and the keys, and read. `create` makes the store if there is none.

        An existing store is only read: the database user may lack every other privilege.

        Raises StoreUnavailable, StoreRefused. It can be called again after an error.
        """
        async with self._one:
            await self._database.connect(create=create)
            async with self._database.reading() as transaction:
                found = await self._find(transaction)
            if not found:
                if not create:
                    raise StoreRefused("there is no store yet: sidekey run makes it")
                async with self._database.writing() as transaction:
                    # Another process may have made it before this one had the lock.
                    found = await self._find(transaction)
                    if not found:
                        await self._make(transaction)
            self.made |= not found
        state = await self.read()
        self.is_open = True
        return state

    async def use(self, ring: KeyRing, url: str | None = None) -> None:
        """Use another ring, and another URL of the same database, from the next transaction on."""
        async with self._one:
            if url is not None:
                self._database.connect_by(url)
            self._ring = ring
            if self._seals is not None:
                self._seals = RowAuthenticator(ring, self._seals.store)

    async def read(self, *, whole: bool = False) -> State:
        """Return the present state. `whole` verifies all rows again.

        Raises StoreUnavailable, StoreRefused (a key is missing, or is another).
        """
        async with self._one, self._database.reading() as transaction:
            self.state = await self._read(transaction, whole=whole)
        return self.state

    async def check(self, ring: KeyRing) -> None:
        """Raise StoreRefused for a ring that lacks a key of the store, and StoreUnavailable.

        Before the store is open every ring passes, because opening checks the one that is then in use.
        """
        if not self.is_open:
            return
        seals = RowAuthenticator(ring, self.seals.store)
        async with self._one, self._database.reading() as transaction:
            await check_keys(transaction, seals)

    async def commit(self, changes: Sequence[Change], entries: Sequence[AuditEntry] = ()) -> State:
        """Make all changes, or none, with their audit entries.

        Raises Changed, Exists, StoreUnavailable, StoreRefused.
        """
        async with self.writing() as (transaction, before):
            rows = await self._write(transaction, before, changes)
            for entry in entries:
                await audit.add(transaction, entry)
            after = await self.complete(transaction, before, rows)
        return self.adopt(after)

    async def complete(self, transaction: Transaction, before: State, rows: Mapping[Name, VerifiedRow]) -> State:
        """Wake other processes when this commits, and return the state to adopt then."""
        await self.note_key(transaction)
        await transaction.announce()
        return before.following(await _read_mark(transaction), rows)

    def adopt(self, state: State) -> State:
        """Go on from a state that was committed."""
        self.state = state
        return state

    async def damaged(self) -> str:
        """Return the first error of the database's own integrity check, or ""."""
        async with self._one:
            return await self._database.damaged()

    async def query(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Read tables other than the rows."""
        async with self._one, self._database.reading() as transaction:
            return await work(transaction)

    async def write(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Write tables other than the rows. Raises CommitUncertain."""
        async with self._one:
            return await _within(self._database.writing(), work)

    async def append(self, work: Callable[[Transaction], Awaitable[None]]) -> None:
        """Add to usage or failures.

        An uncertain commit counts as a commit: adding twice is worse than losing a minute.
        """
        with suppress(CommitUncertain):
            async with self._one:
                await _within(self._database.appending(), work)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[tuple[Transaction, State]]:
        """Begin the only transaction that writes, with the state that it begins with.

        Raises StoreUnavailable, StoreRefused.
        """
        async with self._one, self._database.writing() as transaction:
            # These rows were committed, so they stay valid if this transaction is rolled back.
            self.state = await self._read(transaction)
            yield transaction, self.state

    async def _find(self, transaction: Transaction) -> bool:
        """Return True if there is a store that this ring may use, False if there is none. Raises StoreRefused."""
        if not await find_tables(transaction):
            return False
        found = await transaction.fetch("SELECT id FROM sidekey_store")
        if not found:
            # No row verifies without the ID.
            raise StoreRefused("the store has lost its ID: restore a backup that has all tables")
        self._seals = RowAuthenticator(self._ring, as_text(found[0][0]))
        await check_keys(transaction, self._seals)
        return True

    async def _make(self, transaction: Transaction) -> None:
        await create_tables(transaction)
        self._seals = RowAuthenticator(self._ring, secrets.token_hex(16))
        await transaction.execute("INSERT INTO sidekey_store (id) VALUES ($1)", self._seals.store)
        await self.note_key(transaction)

    async def note_key(self, transaction: Transaction) -> None:
        """Note that the store is written with the first key."""
        first = self._ring.first
        await transaction.execute(
            'INSERT INTO sidekey_keys ("key", proof) VALUES ($1, $2) ON CONFLICT ("key") DO NOTHING',
            first,
            self.seals.key_check(first),
        )

    async def _read(self, transaction: Transaction, *, whole: bool = False) -> State:
        """Return the state as this transaction sees it. Raises StoreRefused."""
        known = self.state
        mark = await _read_mark(transaction)
        whole |= known.mark is None or self._connections != self._database.connections
        if mark == known.mark and not whole:
            return known
        found: dict[Name, VerifiedRow] = {}
        rows: Mapping[Name, VerifiedRow] = found
        if not whole:
            found = self._verified(await transaction.fetch(f"{_ROWS} WHERE revision > $1", known.revision))
            rows = {**known.rows, **found}
            # If the mark differs, something other than Sidekey restored or removed rows.
            whole = StateMark.of(rows.values()) != mark
        if whole:
            rows = found = self._verified(await transaction.fetch(_ROWS))
        if not all(each.verified for each in found.values()):
            # This process may lack a key that others write with.
            await check_keys(transaction, self.seals)
        self._connections = self._database.connections
        return known if mark == known.mark and rows == known.rows else known.following(mark, rows)

    def _verified(self, found: Iterable[tuple[Any, ...]]) -> dict[Name, VerifiedRow]:
        rows: dict[Name, VerifiedRow] = {}
        for number, (*columns, body) in enumerate(found, 1):
            held = self.seals.held(RowHeader.read(columns), as_text(body))
            known = self.state.rows.get(held.line.name)
            # An unchanged row stays the same object, so that nothing is built again.
            rows[held.line.name] = held if known is None or known != held else known
            if number % _BREATH == 0:
                time.sleep(_PAUSE)
        return rows

    async def _write(
        self, transaction: Transaction, before: State, changes: Sequence[Change]
    ) -> dict[Name, VerifiedRow]:
        """Write changes, and return all rows with them. Raises Changed, Exists, StoreUnavailable."""
        rows = dict(before.rows)
        revision = before.revision + 1
        # An import brings thousands: they are inserted together, before any change of a present row.
        new: list[tuple[RowHeader, str]] = []
        for change in changes:
            record = change.record
            name = record.kind, record.id
            present = rows.get(name)
            exists = present is not None and not present.deleted
            version = 0 if present is None else present.line.version
            if isinstance(change, Put) and change.expected is None:
                if exists:
                    raise Exists(f"{record.id} exists already")
            elif present is None or not exists or present.line.row != record.row or version != change.expected:
                raise Changed(
                    f"{record.id} has changed: its version is {version}" if exists else f"{record.id} is gone"
                )
            written = record.at(version + 1)
            body = written.body() if isinstance(change, Put) else TOMBSTONE
            line = self.seals.line(name, record.row, version + 1, revision, body)
            if present is None:
                new.append((line, body))
            else:
                new = await _insert(transaction, new)
                await put_row(transaction, line, body, version)
            if not isinstance(change, Put):
                await _forget(transaction, record.row)
            rows[name] = VerifiedRow(line, written if isinstance(change, Put) else None)
        await _insert(transaction, new)
        return rows


async def _within(begin: AbstractAsyncContextManager[Transaction], work: Callable[[Transaction], Awaitable[T]]) -> T:
    """Do work in a transaction. Raises CommitUncertain if only its end failed."""
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


async def check_keys(transaction: Transaction, seals: RowAuthenticator) -> None:
    """Raise StoreRefused for a ring in which a key of the store is missing or differs."""
    for key, proof in await transaction.fetch('SELECT "key", proof FROM sidekey_keys ORDER BY "key"'):
        if key not in seals.ring:
            raise StoreRefused(f"store.keys: key {shown(as_text(key))} is missing: the store is written with it")
        if seals.key_check(key) != proof:
            raise StoreRefused(f"store.keys: key {key} is not the key that the store is written with")


async def _read_mark(transaction: Transaction) -> StateMark:
    ((count, revision, total),) = await transaction.fetch(_MARK)
    return StateMark(count, as_number(revision), as_text(total))


async def _insert(transaction: Transaction, rows: Sequence[tuple[RowHeader, str]]) -> list[tuple[RowHeader, str]]:
    """Write new rows, and return the empty list of those that are left."""
    if rows:
        await transaction.execute_many(
            'INSERT INTO sidekey_rows (kind, row_id, id, version, "key", mac, revision, body) '
            "VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            [(*line, body) for line, body in rows],
        )
    return []


async def put_row(transaction: Transaction, line: RowHeader, body: str, version: int) -> None:
    """Replace the row of the same kind and ID, which has this version. Raises StoreUnavailable."""
    changed = await transaction.execute(
        'UPDATE sidekey_rows SET row_id = $1, version = $2, "key" = $3, mac = $4, revision = $5, body = $6 '
        "WHERE kind = $7 AND id = $8 AND version = $9",
        line.row,
        line.version,
        line.key,
        line.mac,
        line.revision,
        body,
        line.kind,
        line.id,
        version,
    )
    if not changed:
        # No other Sidekey can write during this transaction.
        raise StoreUnavailable(f"{line.kind} {line.id} was changed by other means than Sidekey's: try again")


async def _forget(transaction: Transaction, row: str) -> None:
    """Delete the last use and the leases of a deleted row."""
    await transaction.execute("DELETE FROM sidekey_uses WHERE row_id = $1", row)
    await transaction.execute("DELETE FROM sidekey_leases WHERE name = $1", row)
