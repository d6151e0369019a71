"""Reads, verifies and writes the rows, by one task at a time, in the store's own thread.

What was verified last is kept, and everything new is judged against it. A digest is only ever made of rows that were
verified: what somebody has removed from the database by other means stays missed, whatever is written later.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final, Literal, TypeVar

from sidekey.store import audit
from sidekey.store.audit import AuditEntry
from sidekey.store.database import Database, Transaction, as_text, shown
from sidekey.store.errors import Changed, Exists, RolledBack, StoreRefused, StoreUnavailable
from sidekey.store.integrity import Head, Held, Line, Seals, digest
from sidekey.store.ring import KeyRing
from sidekey.store.schema import migrate
from sidekey.store.state import Change, Put, State

T = TypeVar("T")

Depth = Literal["changes", "lines", "bodies"]
"""What is compared with what is known: what is newer than that; the lines of all rows; or all of them whole."""

ACCEPT: Final = "restore the newest backup, or accept what is there by: sidekey store accept"

_LINES: Final = 'SELECT kind, row_id, id, version, "key", mac'
_BREATH: Final = 50
"""Rows that are verified before other threads may run: less than a millisecond's work."""
_PAUSE: Final = 1e-6
"""Seconds: with 0 this thread would have the interpreter back before another has woken."""


class Keeper:
    """The rows of one store, by one ring."""

    def __init__(self, database: Database, ring: KeyRing) -> None:
        self._database = database
        self._ring = ring
        self._one = asyncio.Lock()
        self._seals: Seals | None = None
        self._disbelieved: Head | None = None
        self.state = State()
        self.made = False
        self.is_open = False

    @property
    def seals(self) -> Seals:
        """Makes and verifies MACs. Raises StoreUnavailable until the store is open."""
        if self._seals is None:
            raise StoreUnavailable("the store was not opened yet")
        return self._seals

    async def open(self, *, create: bool) -> State:
        """Connect, bring the tables up to date, and read. `create` makes what is not there at all.

        Raises StoreUnavailable, StoreRefused. What failed may be tried again.
        """
        async with self._one:
            await self._database.connect(create=create)
            async with self._database.writing() as transaction:
                await migrate(transaction, create=create)
                found = await transaction.fetch("SELECT id FROM sidekey_store")
                if found:
                    self._seals = Seals(self._ring, as_text(found[0][0]))
                    await check_keys(transaction, self._seals)
                else:
                    await self._make(transaction)
            self.made |= not found
        state = await self.read()
        self.is_open = True
        return state

    async def use(self, ring: KeyRing, url: str | None = None) -> None:
        """Go on with another ring, and another URL of the same database, from the next transaction on."""
        async with self._one:
            if url is not None:
                self._database.connect_by(url)
            self._ring = ring
            if self._seals is not None:
                self._seals = Seals(ring, self._seals.store)

    async def read(self, depth: Depth = "changes") -> State:
        """The present state.

        Raises StoreUnavailable, StoreRefused (a key is missing, or is another).
        """
        async with self._one, self._database.reading() as transaction:
            self.state = await self._read(transaction, depth)
        return self.state

    async def check(self, ring: KeyRing) -> None:
        """Raise StoreRefused for a ring that the store cannot go on with, and StoreUnavailable.

        Until the store is open any ring will do: opening checks the one that is then in use.
        """
        if not self.is_open:
            return
        seals = Seals(ring, self.seals.store)
        async with self._one, self._database.reading() as transaction:
            await check_keys(transaction, seals)

    async def commit(self, changes: Sequence[Change], entries: Sequence[AuditEntry] = ()) -> State:
        """Do all changes, or none, with their entries in the audit.

        Raises Changed, Exists, StoreUnavailable, RolledBack, StoreRefused.
        """
        async with self.writing() as (transaction, before):
            after = await self._write(transaction, before, changes)
            for entry in entries:
                await audit.add(transaction, entry)
        return self.adopt(after)

    async def vouch(self, transaction: Transaction, before: State, rows: Mapping[str, Held]) -> State:
        """Write the head of the next revision, over the rows as they are now; the state that will be."""
        assert before.head is not None  # noqa: S101  for mypy: it was verified
        head = self.seals.head(before.head.epoch, before.revision + 1, digest(each.text for each in rows.values()))
        if head.key != before.head.key:
            await self.note_key(transaction)
        await put_head(transaction, head)
        await transaction.announce()
        return State.of(head, rows)

    def adopt(self, state: State) -> State:
        """Go on from a state that was committed."""
        self.state = state
        return state

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[Transaction]:
        """Write what is outside the head, alone."""
        async with self._one, self._database.writing() as transaction:
            yield transaction

    async def damaged(self) -> str:
        """As `Database.damaged`."""
        async with self._one:
            return await self._database.damaged()

    async def query(self, ask: Callable[[Transaction], Awaitable[T]]) -> T:
        """Read what is outside the head."""
        async with self._one, self._database.reading() as transaction:
            return await ask(transaction)

    @asynccontextmanager
    async def writing(self, *, disbelieved: bool = False) -> AsyncIterator[tuple[Transaction, State]]:
        """The transaction that writes, with the state that it begins with, verified.

        Raises StoreUnavailable, RolledBack (but where `disbelieved` says that it may be), StoreRefused.
        """
        async with self._one, self._database.writing() as transaction:
            before = await self._read(transaction)
            # What was read stays true where this is rolled back.
            self.state = before
            if before.rolled_back and not disbelieved:
                raise RolledBack(before.problem)
            yield transaction, before

    async def _make(self, transaction: Transaction) -> None:
        """Make a new store of empty tables. Raises StoreRefused where these are not empty."""
        if await transaction.fetch("SELECT 1 FROM sidekey_head UNION ALL SELECT 1 FROM sidekey_rows LIMIT 1"):
            # Nothing counts without the ID, and a new head would take the place of the one that vouches for the rows.
            raise StoreRefused("the store has lost its ID: restore a backup that has all tables")
        self._seals = seals = Seals(self._ring, secrets.token_hex(16))
        await transaction.execute("INSERT INTO sidekey_store (id) VALUES ($1)", seals.store)
        await self.note_key(transaction)
        await put_head(transaction, seals.head(_milliseconds(), 0, digest(())))

    async def note_key(self, transaction: Transaction) -> None:
        """Note that the store is written with the first key."""
        first = self._ring.first
        await transaction.execute(
            'INSERT INTO sidekey_keys ("key", proof) VALUES ($1, $2) ON CONFLICT ("key") DO NOTHING',
            first,
            self.seals.key_check(first),
        )

    async def _read(self, transaction: Transaction, depth: Depth = "changes") -> State:
        """The state as this transaction sees it. Raises StoreRefused."""
        known = self.state
        head = await read_head(transaction)
        if depth == "changes" and head is not None and head == self._disbelieved:
            # What is wrong may be put right under the same head, which the next reading of all rows finds.
            return known
        if depth == "changes" and head is not None and head == known.head:
            return replace(known, problem="") if known.problem else known
        problem = _contradicts(head, known)
        if head is not None and not problem and not self.seals.vouches(head):
            # Whoever has another key than the others must not be told to accept what these have written.
            await check_keys(transaction, self.seals)
            problem = "the head was altered"
        if head is not None and not problem:
            rows = await self._rows(transaction, head, known, depth)
            problem = "rows are gone or older" if rows is None else _older(rows, head, known)
            if rows is not None and not problem:
                self._disbelieved = None
                unchanged = head == known.head and not known.problem and rows == known.rows
                return known if unchanged else State.of(head, rows)
        self._disbelieved = head
        text = f"the store must not be believed: {problem}; {ACCEPT}"
        return known if known.problem == text else replace(known, problem=text)

    async def _rows(
        self, transaction: Transaction, head: Head, known: State, depth: Depth
    ) -> Mapping[str, Held] | None:
        """The rows that the head vouches for; None where they are not there."""
        if known.head is not None and known.head.epoch == head.epoch and depth == "changes":
            newer = await transaction.fetch(f"{_LINES}, body FROM sidekey_rows WHERE revision > $1", known.revision)
            rows = {**known.rows, **self._verified(newer)}
            if digest(each.text for each in rows.values()) == head.digest:
                return rows
        if depth == "bodies" or not known.rows:
            rows = await self.every_row(transaction)
            return rows if digest(each.text for each in rows.values()) == head.digest else None
        # Some were deleted, or what is known is not what the head was made of.
        lines = [Line.read(each) for each in await transaction.fetch(f"{_LINES} FROM sidekey_rows")]
        if digest(line.text() for line in lines) != head.digest:
            return None
        rows = _same(lines, known)
        for line in lines:
            if line.row not in rows:
                rows |= self._verified(
                    await transaction.fetch(f"{_LINES}, body FROM sidekey_rows WHERE row_id = $1", line.row)
                )
        return rows

    async def every_row(self, transaction: Transaction) -> dict[str, Held]:
        """All rows that are there, whatever the head says."""
        return self._verified(await transaction.fetch(f"{_LINES}, body FROM sidekey_rows"))

    def _verified(self, found: Iterable[tuple[Any, ...]]) -> dict[str, Held]:
        rows: dict[str, Held] = {}
        for number, (*columns, body) in enumerate(found, 1):
            held = self.seals.held(Line.read(columns), as_text(body))
            former = self.state.rows.get(held.line.row)
            # Read again, and the same: it stays the same object.
            rows[held.line.row] = held if former is None or former != held else former
            if number % _BREATH == 0:
                time.sleep(_PAUSE)
        return rows

    async def _write(self, transaction: Transaction, before: State, changes: Sequence[Change]) -> State:
        rows = dict(before.rows)
        names = {(each.line.kind, each.line.id): row for row, each in rows.items()}
        # An import brings thousands: they are inserted together, before anything that may concern one of them.
        new: list[tuple[Line, str]] = []
        for change in changes:
            record = change.record
            name = record.kind, record.id
            present = rows.get(names.get(name, ""))
            version = 0 if present is None else present.line.version
            if isinstance(change, Put) and change.expected is None:
                if present is not None:
                    raise Exists(record.id)
            elif present is None or present.line.row != record.row or version != change.expected:
                raise Changed(record.id, version)
            if isinstance(change, Put):
                written = record.at(version + 1)
                line = self.seals.line(written)
                if present is None:
                    new.append((line, written.body()))
                else:
                    new = await _insert(transaction, new, before.revision + 1)
                    await put_row(transaction, line, written.body(), before.revision + 1, version)
                rows[record.row] = Held(line, line.text(), written)
                names[name] = record.row
            else:
                new = await _insert(transaction, new, before.revision + 1)
                await _delete_row(transaction, record.row, version)
                del rows[record.row], names[name]
        await _insert(transaction, new, before.revision + 1)
        return await self.vouch(transaction, before, rows)


def _contradicts(head: Head | None, known: State) -> str:
    """Why a head cannot follow the one that is known; empty: it can."""
    if head is None:
        return "the head is gone"
    if known.head is None or head.age > known.head.age or head == known.head:
        return ""
    return f"it is an older copy, of revision {head.revision} after {known.revision} was seen"


def _older(rows: Mapping[str, Held], head: Head, known: State) -> str:
    """Why rows cannot follow those that are known; empty: they can."""
    if known.head is None or known.head.epoch != head.epoch:
        return ""
    for row, held in rows.items():
        former = known.rows.get(row)
        if former is not None and held.line.version < former.line.version:
            return f"{held.line.kind} {held.line.id} is older than it was"
    return ""


def _same(lines: Iterable[Line], known: State) -> dict[str, Held]:
    """The rows that are what they were."""
    return {line.row: held for line in lines if (held := known.rows.get(line.row)) is not None and held.line == line}


async def check_keys(transaction: Transaction, seals: Seals) -> None:
    """Raise StoreRefused for a ring without, or with another, key of those that the store is written with."""
    for key, proof in await transaction.fetch('SELECT "key", proof FROM sidekey_keys ORDER BY "key"'):
        if key not in seals.ring:
            raise StoreRefused(f"store.keys: key {shown(as_text(key))} is missing: the store is written with it")
        if seals.key_check(key) != proof:
            raise StoreRefused(f"store.keys: key {key} is not the key that the store is written with")


async def read_head(transaction: Transaction) -> Head | None:
    """The head that is there, unverified."""
    found = await transaction.fetch('SELECT epoch, revision, digest, "key", mac FROM sidekey_head WHERE one = 1')
    return Head.read(found[0]) if found else None


async def put_head(transaction: Transaction, head: Head) -> None:
    """Write the head."""
    await transaction.execute(
        'INSERT INTO sidekey_head (one, epoch, revision, digest, "key", mac) VALUES (1, $1, $2, $3, $4, $5) '
        "ON CONFLICT (one) DO UPDATE SET epoch = excluded.epoch, revision = excluded.revision, "
        'digest = excluded.digest, "key" = excluded."key", mac = excluded.mac',
        head.epoch,
        head.revision,
        head.digest,
        head.key,
        head.mac,
    )


async def _insert(transaction: Transaction, rows: Sequence[tuple[Line, str]], revision: int) -> list[tuple[Line, str]]:
    """Write rows that are new; none is left to do then."""
    if rows:
        await transaction.execute_many(
            'INSERT INTO sidekey_rows (kind, row_id, id, version, "key", mac, revision, body) '
            "VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            [(*line, revision, body) for line, body in rows],
        )
    return []


async def put_row(transaction: Transaction, line: Line, body: str, revision: int, former: int) -> None:
    """Write a row over the one of version `former`."""
    changed = await transaction.execute(
        'UPDATE sidekey_rows SET version = $1, revision = $2, "key" = $3, mac = $4, body = $5 '
        "WHERE row_id = $6 AND version = $7",
        line.version,
        revision,
        line.key,
        line.mac,
        body,
        line.row,
        former,
    )
    if not changed:
        raise _gone(line.row)


async def _delete_row(transaction: Transaction, row: str, version: int) -> None:
    if not await transaction.execute("DELETE FROM sidekey_rows WHERE row_id = $1 AND version = $2", row, version):
        raise _gone(row)
    for table, column in (("sidekey_uses", "row_id"), ("sidekey_leases", "name")):
        await transaction.execute(f"DELETE FROM {table} WHERE {column} = $1", row)  # noqa: S608  our own names


def _gone(row: str) -> StoreUnavailable:
    return RolledBack(f"the store must not be believed: row {row} is gone or older; {ACCEPT}")


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000
