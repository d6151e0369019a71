"""Connect the store to the running process: publish its changes, whether this process or another one committed them."""

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
from sidekey.snapshot.snapshot import Snapshot, StoredObjects
from sidekey.snapshot.store import StoreRules
from sidekey.store.audit import AuditEntry
from sidekey.store.errors import StoreError, StoreRefused, StoreUnavailable
from sidekey.store.open import open_store, start_store
from sidekey.store.sealing import KeyRing
from sidekey.store.state import Change, Name, State
from sidekey.store.store import POLL_INTERVAL, Health, Store
from sidekey.tokens.store_ledger import StoreLedger


class StoreReport:
    """Reports changes of the store's state in the log and the metrics. The store counts as up at first."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._log = get_logger()
        self._problem = ""
        self._read_only = False
        self._altered: frozenset[Name] = frozenset()
        self._rolled_back: Mapping[Name, tuple[int, int]] = {}

    def update(self, health: Health, state: State, *, is_served: bool = True) -> None:
        """Report what has changed. `is_served` is False until this process serves the store's content."""
        problem = health.problem
        self._metrics.store = (not problem, state.revision, bool(state.rolled_back))
        self._report_rows(state)
        if health.read_only and not self._read_only:
            self._log.info("the database user may not change the store: this process refuses edits")
        self._read_only = health.read_only
        if problem == self._problem:
            return
        self._problem = problem
        if not problem:
            self._log.info("the store is in use", revision=state.revision)
        elif is_served:
            self._log.warning("the store cannot be used: what is loaded stays in use", reason=problem)
        else:
            self._log.warning("the store cannot be used: only what is in files is served", reason=problem)

    def _report_rows(self, state: State) -> None:
        for kind, name in sorted(state.altered - self._altered):
            self._log.error("a row of the store was altered and is not used", kind=kind, id=name)
        self._altered = state.altered
        for (kind, name), (previous_version, version) in sorted(state.rolled_back.items()):
            if self._rolled_back.get((kind, name)) != (previous_version, version):
                self._log.error(
                    "a row of the store is older than before: the present one is used",
                    kind=kind,
                    id=name,
                    seen=previous_version,
                    found=version,
                )
        self._rolled_back = state.rolled_back


class StoreManager:
    """Adds the content of a store to each load of the config, and commits changes to the store.

    It is also a `PublishedPart`: each new snapshot switches the store to its keys, retentions and URL.
    """

    def __init__(self, store: Store, rules: StoreRules, loader: Loader) -> None:
        self.store = store
        self.ledger = StoreLedger(store)
        self._rules = rules
        self._source = StoredSource(self._check_keys)
        self._loaded_state = State()
        """The state that `_source` has, for the next load."""
        self._served_state = State()
        """The state in the snapshot in use."""
        self._content_is_served = False
        """True once a snapshot with the store's content was in use."""
        self._update_source()
        self._reloader: Reloader | None = None
        self._report: StoreReport | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._retry: asyncio.TimerHandle | None = None
        self._log = get_logger()
        self._creation_logged = False
        loader.use_store(self._source)

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
        """Open the store of these rules, or leave that to `connect` if the database cannot be reached now.

        Raises StartError, with what to do, if another attempt would not help.
        """
        try:
            store = await start_store(rules)
        except StoreError as error:
            raise StartError(str(error)) from None
        return cls(store, rules, loader)

    @property
    def unread_reason(self) -> str:
        """The reason why the store's content is not served yet, or "". Anyone may read it."""
        if self._content_is_served:
            return ""
        return f"the store has not been read yet: {self.store.health.public or 'its content is being loaded'}"

    def connect(self, reloader: Reloader, metrics: Metrics) -> None:
        """Watch the store from now on: serve the changes of other processes, and report its state."""
        self._reloader = reloader
        self._report = StoreReport(metrics)
        self.store.watch(self._handle_state, report_defect)
        self._handle_state()

    @property
    def sealing_keys(self) -> SealingKeys:
        """The keys of the store. Raises StoreUnavailable until the store is open."""
        return SealingKeys(self.store.id, self.store.ring)

    async def commit(self, changes: Sequence[Change], entry: AuditEntry) -> State:
        """Commit all changes, or none, with their audit entry. Return the new state, which this process serves already.

        Raises as `Store.commit`, StoreUnavailable before `connect`, and ReloadError if the changes are committed, but a
        defect keeps this process from serving them.
        """
        if self._reloader is None:
            raise StoreUnavailable("Sidekey is starting: send the change again in a moment")
        state = await self.store.commit(changes, entry)
        await self._reload(entry.who)
        return state

    def prepare(self, snapshot: Snapshot) -> Commit:
        """Prepare for a new snapshot. The returned function switches to its store settings and content."""
        return partial(self._use_snapshot, snapshot.store, snapshot.stored)

    def _check_keys(self, rules: StoreRules) -> KeysError | None:
        """Return why the store cannot use the keys of these rules, or None. Called in the loading thread."""
        try:
            self.store.check_keys(KeyRing(dict(rules.keys)))
        except StoreUnavailable as error:
            return KeysError(
                f"cannot be checked while the store cannot be read, so the previous keys stay in use: {error}", True
            )
        except StoreRefused as error:
            return KeysError(str(error), False)
        return None

    def _use_snapshot(self, rules: StoreRules | None, stored: StoredObjects | None) -> None:
        if rules is not None and rules != self._rules:
            self._rules = rules
            self.store.switch_keys(KeyRing(dict(rules.keys)), rules.audit, rules.history, rules.url)
            self._spawn(self._reload())
        self._served_state = self._loaded_state
        if stored is not None and stored.is_read:
            self._content_is_served = True

    async def close(self) -> None:
        """End the watch, and disconnect."""
        if self._retry is not None:
            self._retry.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.ledger.close()
        await self.store.close()

    def _handle_state(self) -> None:
        """Report the store's state, and serve it if it is new."""
        if self.store.created and not self._creation_logged:
            self._creation_logged = True
            # If the operator expected a store, it is elsewhere: on an unmounted volume, or in another database.
            self._log.info("no store was found: an empty one was created", store=self.store.id)
        if self._report is not None:
            self._report.update(self.store.health, self.store.state, is_served=self._content_is_served)
        # `commit` itself serves the changes that this process commits.
        if _was_read(self.store.state) and self.store.state is not self._served_state:
            self._spawn(self._reload())

    async def _reload(self, by: str = "") -> None:
        """Publish the present state of the store, and return when it is in use."""
        if self._reloader is not None:
            # `_update_source` reads state and keys when the load starts, so that one load covers several changes.
            await self._reloader.publish_store(self._update_source, by)

    def _update_source(self) -> None:
        """Let the next load build from the present state of the store."""
        state = self.store.state
        if _was_read(state):
            self._loaded_state = state
            self._source.update(state, self.sealing_keys)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._run_reload(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run_reload(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except ReloadError:
            # The reloader has reported why.
            self._log.error("the store was not reloaded because of a defect in Sidekey")
            # A later change of the store loads again. Before the first load, this process serves nothing of the store.
            if not self._content_is_served and self._retry is None:
                self._retry = asyncio.get_running_loop().call_later(POLL_INTERVAL, self._retry_reload)

    def _retry_reload(self) -> None:
        self._retry = None
        self._handle_state()


def _was_read(state: State) -> bool:
    """Return True if the state was read from the store."""
    return state.mark is not None


def add_stored_content(rules: StoreRules, loader: Loader, loaded: Loaded) -> Snapshot:
    """Add the present content of the store to a loaded config, for a command. Raises StartError."""

    async def read() -> None:
        # The manager passes the state of the store to the loader, which `join` uses.
        manager = await StoreManager.open(rules, loader, create=False)
        await manager.close()

    asyncio.run(read())
    return loader.combine(loaded)
