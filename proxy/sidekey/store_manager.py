"""The store of a running process: what it says is in use, and what is committed is in use once the call returns."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

from sidekey.config.load import KeysError, Loaded, Loader
from sidekey.config.reload import Reloader, ReloadError
from sidekey.config.stored.build import StoredSource
from sidekey.config.stored.secrets import SealingKeys
from sidekey.errors import StartError
from sidekey.observe.log import get_logger, report_defect
from sidekey.observe.metrics import Metrics
from sidekey.publish import Commit
from sidekey.snapshot.snapshot import Snapshot, Stored
from sidekey.snapshot.store import StoreRules
from sidekey.store.audit import AuditEntry
from sidekey.store.errors import StoreError, StoreRefused, StoreUnavailable
from sidekey.store.open import open_store, start_store
from sidekey.store.sealing import KeyRing
from sidekey.store.state import Change, Name, State
from sidekey.store.store import LOOK_EVERY, Health, Store
from sidekey.tokens.store_ledger import StoreLedger


class StoreReport:
    """The last report on the store of a process. Before the first report it counts as up."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._log = get_logger()
        self._problem = ""
        self._read_only = False
        self._altered: frozenset[Name] = frozenset()
        self._rolled_back: Mapping[Name, tuple[int, int]] = {}

    def note(self, health: Health, state: State, *, read: bool = True) -> None:
        """Report the state of the connection and of the rows. Nothing is in use until the store was `read`."""
        problem = health.problem
        self._metrics.store = (not problem, state.revision, bool(state.rolled_back))
        self._note_rows(state)
        if health.read_only and not self._read_only:
            self._log.info("the database user may not change the store: this process refuses edits")
        self._read_only = health.read_only
        if problem == self._problem:
            return
        self._problem = problem
        if not problem:
            self._log.info("the store is in use", revision=state.revision)
        elif read:
            self._log.warning("the store cannot be used: what is loaded stays in use", reason=problem)
        else:
            self._log.warning("the store cannot be used: only what is in files is served", reason=problem)

    def _note_rows(self, state: State) -> None:
        for kind, name in sorted(state.altered - self._altered):
            self._log.error("a row of the store was altered and is not used", kind=kind, id=name)
        self._altered = state.altered
        for (kind, name), (seen, found) in sorted(state.rolled_back.items()):
            if self._rolled_back.get((kind, name)) != (seen, found):
                self._log.error(
                    "a row of the store is older than before: the present one is used",
                    kind=kind,
                    id=name,
                    seen=seen,
                    found=found,
                )
        self._rolled_back = state.rolled_back


class StoreManager:
    """Joins what a store says with the files of a config, from the loader's next load on.

    As a part of the process (`runtime.publisher.Part`) it goes by the keys of the snapshot in use.
    """

    def __init__(self, store: Store, rules: StoreRules, loader: Loader) -> None:
        self.store = store
        self.ledger = StoreLedger(store)
        self._rules = rules
        self._source = StoredSource(self._check_keys)
        self._taken = self._used = State()
        """What a snapshot was made of last, and what the one in use was made of."""
        self._is_read = False
        self._take()
        self._reloader: Reloader | None = None
        self._report: StoreReport | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._retry: asyncio.TimerHandle | None = None
        self._log = get_logger()
        self._made_noted = False
        loader.follow(self._source)

    @classmethod
    async def open(cls, rules: StoreRules, loader: Loader, *, create: bool = True) -> StoreManager:
        """Open the store of these rules. Raises StartError with what to do."""
        try:
            store = await open_store(rules, create=create)
        except StoreError as error:
            raise StartError(str(error)) from None
        return cls(store, rules, loader)

    @classmethod
    async def start(cls, rules: StoreRules, loader: Loader) -> StoreManager:
        """Open the store of these rules, or begin without it where it cannot be reached: `follow` tries it again.

        Raises StartError with what to do, where trying again would not help.
        """
        try:
            store = await start_store(rules)
        except StoreError as error:
            raise StartError(str(error)) from None
        return cls(store, rules, loader)

    @property
    def unread(self) -> str:
        """Why nothing of the store is in use yet, for anybody to read; empty once its content is in use."""
        if self._is_read:
            return ""
        return f"the store has not been read yet: {self.store.health.public or 'its content is being loaded'}"

    def follow(self, reloader: Reloader, metrics: Metrics) -> None:
        """Put in use from now on what others change in the store, too, and tell how the store is."""
        self._reloader = reloader
        self._report = StoreReport(metrics)
        self.store.watch(self._look, report_defect)
        self._look()

    @property
    def vault(self) -> SealingKeys:
        """Seals and opens the secrets of the store. Raises StoreUnavailable until the store is open."""
        return SealingKeys(self.store.id, self.store.ring)

    async def commit(self, changes: Sequence[Change], entry: AuditEntry) -> State:
        """Do all changes, or none, with their entry in the audit; the state that has them, which is in use here.

        Raises as `Store.commit`, StoreUnavailable before `follow`, when nothing could put it in use, and ReloadError
        where it is committed, but a defect keeps it from use.
        """
        if self._reloader is None:
            raise StoreUnavailable("Sidekey is starting: send the change again in a moment")
        state = await self.store.commit(changes, entry)
        await self._join(entry.who)
        return state

    def prepare(self, snapshot: Snapshot) -> Commit:
        """Get ready to go by the store's rules of another snapshot; the result does so from then on."""
        return partial(self._commit, snapshot.store, snapshot.stored)

    def _check_keys(self, rules: StoreRules) -> KeysError | None:
        """Why the store cannot go on with the keys of other rules; in the thread that loads."""
        try:
            self.store.check(KeyRing(dict(rules.keys)))
        except StoreUnavailable as error:
            return KeysError(f"are not changed while the store cannot be asked which are needed: {error}", True)
        except StoreRefused as error:
            return KeysError(str(error), False)
        return None

    def _commit(self, rules: StoreRules | None, stored: Stored | None) -> None:
        former = self._rules
        if rules is not None and rules != former:
            self._rules = rules
            self.store.use(KeyRing(dict(rules.keys)), rules.audit, rules.history, rules.url)
            self._spawn(self._join())
        self._used = self._taken
        if stored is not None and stored.read:
            self._is_read = True

    async def close(self) -> None:
        """End the watch, and disconnect."""
        if self._retry is not None:
            self._retry.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.ledger.close()
        await self.store.close()

    def _look(self) -> None:
        """Put in use what the store says now."""
        if self.store.made and not self._made_noted:
            self._made_noted = True
            # Where one was expected, it is elsewhere: a volume that is not mounted, or another database.
            self._log.info("no store was found: an empty one was created", store=self.store.id)
        if self._report is not None:
            self._report.note(self.store.health, self.store.state, read=self._is_read)
        # What this process commits is in use before anybody looks.
        if _was_read(self.store.state) and self.store.state is not self._used:
            self._spawn(self._join())

    async def _join(self, by: str = "") -> None:
        if self._reloader is not None:
            # The state and the keys of when the thread comes to it: two changes need not be joined one by one.
            await self._reloader.join(self._take, by)

    def _take(self) -> None:
        state = self.store.state
        if _was_read(state):
            self._taken = state
            self._source.take(state, self.vault)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except ReloadError:
            # The reloader has reported why.
            self._log.error("the store was not reloaded because of a defect in Sidekey")
            # Later states are put in use when the store changes. Nothing is served before the first one.
            if not self._is_read and self._retry is None:
                self._retry = asyncio.get_running_loop().call_later(LOOK_EVERY, self._look_again)

    def _look_again(self) -> None:
        self._retry = None
        self._look()


def _was_read(state: State) -> bool:
    """Return True if the state was read from the store."""
    return state.mark is not None


def joined(rules: StoreRules, loader: Loader, loaded: Loaded) -> Snapshot:
    """What was loaded of the files with what the store says now, for a command. Raises StartError."""

    async def read() -> None:
        managed = await StoreManager.open(rules, loader, create=False)
        await managed.close()

    asyncio.run(read())
    return loader.join(loaded)
