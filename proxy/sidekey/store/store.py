"""The store, as the rest of the process sees it: every method is called on the process's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Final, Self

from sidekey.store import audit
from sidekey.store.audit import PAGE, AuditEntry, AuditPage
from sidekey.store.database import Database
from sidekey.store.errors import StoreError, StoreRefused, StoreUnavailable
from sidekey.store.keeper import Keeper
from sidekey.store.ring import KeyRing
from sidekey.store.state import Change, State
from sidekey.store.worker import Worker

LOOK_EVERY: Final = 1.0
"""Seconds between two looks at the revision, whatever a database tells."""

CHECK_EVERY: Final = 60.0
"""Seconds between two comparisons of all rows with the head."""

DROP_EVERY: Final = 3600.0
"""Seconds between two searches for entries of the audit that are too old."""

_RETRY: Final = 0.5


@dataclass(frozen=True, slots=True)
class Health:
    """How the store is. `up`: the last call reached the database; `problem` says why it is not, or must not be used."""

    up: bool
    revision: int
    problem: str = ""
    rolled_back: bool = False


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
        self._health = Health(up=False, revision=0)

    @classmethod
    async def open(
        cls, database: Database, ring: KeyRing, *, retention: float, patience: float = 30.0, create: bool = True
    ) -> Self:
        """Open the store, tried for `patience` seconds where the database cannot be reached; `create` may make it.

        Raises StoreUnavailable, StoreRefused, with nothing left open.
        """
        store = cls(database, ring, retention=retention)
        end = time.monotonic() + patience
        try:
            while True:
                try:
                    await store._worker.run(store._keeper.open(create=create))
                    break
                except StoreUnavailable:
                    if time.monotonic() >= end:
                        raise
                    await asyncio.sleep(_RETRY)
        except BaseException:
            await store.close()
            raise
        store._note(None)
        return store

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
    def health(self) -> Health:
        """How it is."""
        return self._health

    def use(self, ring: KeyRing, retention: float) -> None:
        """Go on with another ring, and another time for which entries of the audit are kept."""
        self._ring, self._retention = ring, retention
        self._worker.start(self._use(ring))

    async def read(self) -> State:
        """The present state."""
        return await self._worker.run(self._look(thorough=False))

    async def commit(self, changes: Sequence[Change], entry: AuditEntry) -> State:
        """Do all changes, or none, with their entry in the audit; the state with them.

        Raises Changed, Exists, and RolledBack, which is a StoreUnavailable.
        """
        return await self._worker.run(self._commit(changes, entry))

    async def audit(self, entry: AuditEntry) -> None:
        """Write an entry of what changed nothing."""
        await self._worker.run(self._audit(entry))

    async def audit_page(self, *, before: int | None = None, row: str | None = None, limit: int = PAGE) -> AuditPage:
        """Entries before the one of that number (None: from the newest on), of one row or of all."""
        ask = partial(audit.page, before=before, row=row, limit=limit)
        return await self._worker.run(self._keeper.query(ask))

    def watch(self, on_change: Callable[[], None]) -> None:
        """From now on look for changes, and call this on the running event loop when `state` or `health` is another.

        Also after changes of this process's own.
        """
        loop = asyncio.get_running_loop()
        self._watching = self._worker.start(self._watch(lambda: _tell(loop, on_change)))

    async def close(self) -> None:
        """End the watch and disconnect."""
        if self._watching is not None:
            self._watching.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_EVERY):
                await self._worker.run(self._database.close())
        await self._worker.close()

    # In the thread from here on.

    async def _use(self, ring: KeyRing) -> None:
        self._keeper.use(ring)

    async def _commit(self, changes: Sequence[Change], entry: AuditEntry) -> State:
        try:
            state = await self._keeper.commit(changes, (entry,))
        except (StoreUnavailable, StoreRefused) as error:
            self._note(error)
            raise
        self._note(None)
        return state

    async def _audit(self, entry: AuditEntry) -> None:
        async with self._keeper.transaction() as transaction:
            await audit.add(transaction, entry)

    async def _look(self, *, thorough: bool) -> State:
        try:
            state = await self._keeper.read(thorough=thorough)
        except StoreError as error:
            self._note(error)
            raise
        self._note(None)
        return state

    async def _watch(self, tell: Callable[[], None]) -> None:
        told = self.state, self._health
        checked = dropped = time.monotonic()
        while True:
            await self._database.wait(LOOK_EVERY)
            now = time.monotonic()
            try:
                # A row that was changed by other means than a store's leaves the revision what it was.
                due = now - checked >= CHECK_EVERY
                before = self.state.head
                touched = await self._database.touched()
                state = await self._look(thorough=due)
                if touched and state.head == before and not due:
                    await self._look(thorough=True)
                if due:
                    checked = now
                if now - dropped >= DROP_EVERY:
                    dropped = now
                    await self._drop()
            except StoreError as error:
                self._note(error)
            if told[0] is not self.state or told[1] != self._health:
                told = self.state, self._health
                tell()

    async def _drop(self) -> None:
        async with self._keeper.transaction() as transaction:
            await audit.drop(transaction, int(time.time() - self._retention))

    def _note(self, error: StoreError | None) -> None:
        state = self._keeper.state
        up = not isinstance(error, StoreUnavailable) or state.rolled_back
        problem = state.problem if error is None else str(error)
        self._health = Health(up, state.revision, problem, state.rolled_back)


def _tell(loop: asyncio.AbstractEventLoop, on_change: Callable[[], None]) -> None:
    # The loop may have ended while the store's thread looked.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(on_change)
