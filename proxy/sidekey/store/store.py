"""The store, as the rest of the process sees it: every method is called on the process's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Self, TypeVar

from sidekey.store import audit, leases, sessions, upkeep, uses
from sidekey.store.audit import PAGE, AuditEntry, AuditPage
from sidekey.store.database import Database, Transaction
from sidekey.store.errors import StoreDenied, StoreError, StoreRefused, StoreUnavailable, StoreUnusable
from sidekey.store.keeper import Keeper
from sidekey.store.leases import Bound, Lease, NotLeased
from sidekey.store.ring import KeyRing
from sidekey.store.sessions import Session
from sidekey.store.state import Change, State
from sidekey.store.upkeep import DestinationsOf, Rotated, Verified
from sidekey.store.worker import Worker

T = TypeVar("T")

LOOK_EVERY: Final = 1.0
"""Seconds between two looks for changes, at most; at least half of that, so that processes spread."""

MAINTAIN_EVERY: Final = 3600.0
"""Seconds between two verifications of all rows, and between two searches for old entries of the audit."""

_PACE: Final = 0.02
"""Seconds between two looks, at least: anyone who can connect to the database can announce changes at any rate."""

_START: Final = 2.0
"""Seconds that a start waits for the first attempt to open the store, which goes on after that."""

_LONGEST_PAUSE: Final = 10.0
"""Seconds between two attempts to open it, at most."""

_GRACE: Final = 2.0
"""Seconds that a database may take to let us disconnect."""


@dataclass(frozen=True, slots=True)
class Health:
    """State of the connection. `up`: the last call reached the database, with its keys; else `problem` says why not.

    `public` says the same to anybody (`StoreError.public`). `read_only`: the database user may not change the store.
    """

    up: bool
    problem: str = ""
    public: str = ""
    read_only: bool = False


class Store:
    """One store. What its methods raise beside the named is StoreUnavailable, or StoreRefused where a key is missing.

    `retention` is how many seconds an entry of the audit is kept.
    """

    def __init__(self, database: Database, ring: KeyRing, *, retention: float) -> None:
        self._database = database
        self._retention = retention
        self._worker = Worker()
        self._keeper = Keeper(database, ring)
        self._ring = ring
        self._watching: Future[None] | None = None
        opening = "store: the database does not respond yet"
        self._health = Health(up=False, problem=opening, public=opening)

    @classmethod
    async def open(cls, database: Database, ring: KeyRing, *, retention: float, create: bool = True) -> Self:
        """Open the store; `create` may make it. Raises StoreUnavailable, StoreRefused, with nothing left open."""
        store = cls(database, ring, retention=retention)
        error = await store._begin(None, create=create)
        if error is not None:
            await store.close()
            raise error
        return store

    @classmethod
    async def start(cls, database: Database, ring: KeyRing, *, retention: float) -> Self:
        """Open the store, or where the database cannot be reached now, have `watch` try it again until it is open.

        Raises StoreUnusable and StoreRefused, with nothing left open, where trying again would not help. Where the
        database does not respond within a moment, `watch` finds these as well.
        """
        store = cls(database, ring, retention=retention)
        error = await store._begin(_START, create=True)
        if isinstance(error, StoreUnusable | StoreRefused):
            await store.close()
            raise error
        return store

    async def _begin(self, seconds: float | None, *, create: bool) -> StoreError | None:
        """Make the first attempt to open the store; the error where it failed within so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                return await self._worker.run(self._open(create=create))
        except TimeoutError:
            # It goes on in the thread.
            return None
        except BaseException:
            await self.close()
            raise

    @property
    def id(self) -> str:
        """The random ID of the store, which bindings name."""
        return self._keeper.seals.store

    @property
    def ring(self) -> KeyRing:
        """The ring of keys in use."""
        return self._ring

    @property
    def state(self) -> State:
        """What was verified last."""
        return self._keeper.state

    @property
    def made(self) -> bool:
        """Whether it was made just now: there was none."""
        return self._keeper.made

    @property
    def health(self) -> Health:
        """How it is."""
        return self._health

    def use(self, ring: KeyRing, retention: float, url: str | None = None) -> None:
        """Go on with another ring, another time for which entries of the audit are kept, and another password."""
        self._ring, self._retention = ring, retention
        self._worker.start(self._keeper.use(ring, url))

    def check(self, ring: KeyRing) -> None:
        """Raise StoreRefused for a ring that the store cannot go on with, and StoreUnavailable. Blocks."""
        self._worker.start(self._keeper.check(ring)).result()

    async def read(self) -> State:
        """The present state."""
        return await self._worker.run(self._look())

    async def commit(self, changes: Sequence[Change], *entries: AuditEntry) -> State:
        """Do all changes, or none, with their entries in the audit; the state with them.

        Raises Changed, Exists.
        """
        return await self._worker.run(self._commit(changes, entries))

    async def audit(self, entry: AuditEntry, previous: tuple[int, AuditEntry] | None = None) -> int:
        """Write an entry of what changed nothing, in place of the `previous` one if any; return its number."""
        return await self._write(lambda transaction: audit.add(transaction, entry, previous))

    async def audit_page(self, *, before: int | None = None, row: str | None = None, limit: int = PAGE) -> AuditPage:
        """Entries before the one of that number (None: from the newest on), of one row or of all."""
        return await self._query(partial(audit.page, before=before, row=row, limit=limit))

    async def lease(self, name: str, lineage: str, to: Sequence[str], seconds: int) -> Lease | NotLeased:
        """Take the lease of a token's renewal for so long, where nobody holds it.

        What it brings may go to the first of `to`; what was left for any of them is taken.
        """
        bounds = [Bound(lineage, each) for each in to]
        return await self._write(
            lambda transaction: leases.take(transaction, self._keeper.seals, name, bounds, seconds)
        )

    async def intend(self, lease: Lease, seconds: int) -> None:
        """Note, before it is done, that the token is going to be presented within so long. Raises LeaseLost."""
        await self._write(lambda transaction: leases.intend(transaction, self._keeper.seals, lease, seconds))

    async def finish(self, lease: Lease, result: str, *, spent: bool) -> None:
        """Leave what a call gave, sealed, and give the lease back; `spent`: for the first token. Raises LeaseLost."""
        await self._write(
            lambda transaction: leases.finish(transaction, self._keeper.seals, lease, result, spent=spent)
        )

    async def release(self, lease: Lease) -> None:
        """Give the lease back, where its token was certainly not spent. Raises LeaseLost."""
        await self._write(lambda transaction: leases.release(transaction, self._keeper.seals, lease))

    async def note_use(self, row: str) -> None:
        """Note that a row was used now."""
        await self._write(partial(uses.note, row=row))

    async def last_uses(self) -> Mapping[str, int]:
        """When rows were used last, in seconds since the epoch, by row."""
        return await self._query(uses.read)

    async def log_in(self, session: Session, entry: AuditEntry | None) -> None:
        """Keep a session of the console and write its audit entry, if any, in one transaction."""

        async def begin(transaction: Transaction) -> None:
            await sessions.begin(transaction, self._keeper.seals, session)
            if entry is not None:
                await audit.add(transaction, entry)

        await self._write(begin)

    async def session(self, session: str) -> Session | None:
        """The session of this ID; None: there is none, it is over, or it was altered."""
        return await self._query(lambda transaction: sessions.find(transaction, self._keeper.seals, session))

    async def log_out(self, session: str) -> None:
        """End a session."""
        await self._write(partial(sessions.end, session=session))

    async def rotate_key(self, destinations_of: DestinationsOf, who: str) -> Rotated:
        """Write with the first key whatever is written with another."""
        return await self._worker.run(upkeep.rotate(self._keeper, destinations_of, who))

    async def verify(self, destinations_of: DestinationsOf) -> Verified:
        """Read everything, and list what is wrong."""
        return await self._worker.run(upkeep.verify(self._keeper, destinations_of))

    def watch(self, on_change: Callable[[], None], report: Callable[[BaseException], object]) -> None:
        """From now on look for changes, and call `on_change` on the running event loop when there is one.

        A store that is not open yet is opened first.

        That is when `state` or `health` is another, also by this process's own doing. A defect is given to `report`,
        there too, and the watch goes on.
        """
        loop = asyncio.get_running_loop()
        # Taken here: the thread may be busy, and what it notes until it begins to watch is a change.
        known = self.state, self._health
        self._watching = self._worker.start(
            self._watch(known, lambda: _soon(loop, on_change), lambda defect: _soon(loop, partial(report, defect)))
        )

    async def _query(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        return await self._worker.run(self._keeper.query(work))

    async def _write(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        return await self._worker.run(self._keeper.write(work))

    async def close(self) -> None:
        """End the watch and disconnect."""
        if self._watching is not None:
            self._watching.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GRACE):
                await self._worker.run(self._database.close())
        await self._worker.close()

    # In the thread from here on.

    async def _open(self, *, create: bool) -> StoreError | None:
        """Open the store, and note how it is; the error where that failed."""
        try:
            await self._keeper.open(create=create)
        except StoreError as error:
            self._note(error)
            return error
        self._note(None)
        return None

    async def _commit(self, changes: Sequence[Change], entries: Sequence[AuditEntry]) -> State:
        try:
            state = await self._keeper.commit(changes, entries)
        except StoreDenied:
            # The store can still be read: this process only serves.
            raise
        except (StoreUnavailable, StoreRefused) as error:
            self._note(error)
            raise
        self._note(None)
        return state

    async def _look(self, *, whole: bool = False) -> State:
        try:
            state = await self._keeper.read(whole=whole)
        except StoreError as error:
            self._note(error)
            raise
        self._note(None)
        return state

    async def _watch(
        self, told: tuple[State, Health], tell: Callable[[], None], report: Callable[[BaseException], None]
    ) -> None:
        failures = 0
        while not self._keeper.is_open:
            failures += 1
            await asyncio.sleep(_pause(failures))
            try:
                await self._open(create=True)
            except Exception as defect:  # noqa: BLE001  the edge of a task: the next attempt may go well
                report(defect)
            if told[1] != self._health:
                told = self.state, self._health
                tell()
        verified = time.monotonic()
        dropped = -MAINTAIN_EVERY
        looked = 0.0
        while True:
            await self._database.wait(LOOK_EVERY * random.uniform(0.5, 1.0))  # noqa: S311  spreads load
            await asyncio.sleep(looked + _PACE - time.monotonic())
            now = looked = time.monotonic()
            try:
                whole = now - verified >= MAINTAIN_EVERY
                await self._look(whole=whole)
                if whole:
                    verified = now
                if now - dropped >= MAINTAIN_EVERY:
                    dropped = now
                    await self._drop()
            except StoreError as error:
                self._note(error)
            except Exception as defect:  # noqa: BLE001  the edge of a task: the next look may go well
                report(defect)
            if told[0] is not self.state or told[1] != self._health:
                told = self.state, self._health
                tell()

    async def _drop(self) -> None:
        """Drop old entries of the audit. A process that may not leaves it to one that may."""

        async def drop(transaction: Transaction) -> None:
            # By the database's time: one machine whose clock is wrong must not drop what all have written.
            await audit.drop(transaction, int(await transaction.now() - self._retention))

        try:
            await self._keeper.write(drop)
        except StoreDenied:
            read_only = True
        else:
            read_only = False
        self._health = replace(self._health, read_only=read_only)

    def _note(self, error: StoreError | None) -> None:
        problem, public = ("", "") if error is None else (str(error), error.public)
        self._health = replace(self._health, up=error is None, problem=problem, public=public)


def _pause(failures: int) -> float:
    """Seconds until the store is opened again, after so many attempts: processes must not all come back at once."""
    return min(_LONGEST_PAUSE, 2.0 ** (failures - 1)) * random.uniform(0.5, 1.0)  # noqa: S311  spreads load


def _soon(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    # The loop may have ended while the store's thread looked.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(callback)
