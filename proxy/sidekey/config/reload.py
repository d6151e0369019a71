"""Reloads what has changed while requests are served: a check each second, a load in a thread, and the swap.

A check compares the state of every file with its state when it was last read; SIGHUP asks for a load at once. A thread
loads the config, and the event loop puts it in use in one step if it has no error. The owner of a client certificate
reads its files again.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, TypeVar, TypeVarTuple

from sidekey.config.diff import compare
from sidekey.config.errors import ConfigError, Kind
from sidekey.config.file_stamps import Stamp, StampCache, stamp
from sidekey.config.load import Loader
from sidekey.config.load_result import Loaded
from sidekey.config.secrets import Stamps
from sidekey.network.tls import prepare_trust
from sidekey.observe.audit import AuditLog, Source
from sidekey.observe.log import get_logger
from sidekey.observe.metrics import Metrics
from sidekey.process import COLLECTOR
from sidekey.publish import CommitError, Publisher, PublishRefused
from sidekey.snapshot.snapshot import Snapshot

WARNINGS_SHOWN: Final = 20
"""How many warnings of one load are logged each: there may be thousands, one for each integration."""


_EVENTS: Final[Mapping[Kind, str]] = {
    "unreadable": "secret or CA file cannot be read; what needs it is unavailable until it can be read",
    "refused": "client certificate must not be used; what needs it is unavailable",
    "mismatched": "preset cannot be used with its integration",
    "writable": "other users can change a file that Sidekey trusts",
}


def log_load(loaded: Loaded) -> None:
    """Log each finding with which a config is used nevertheless, the first warnings, and their number."""
    log = get_logger()
    for error, kind in loaded.findings:
        if kind in _EVENTS:
            log.error(_EVENTS[kind], place=str(error))
    for name, kept in loaded.kept.items():
        for error in kept.reasons:
            log.error(
                "new secret or CA file cannot be used; the previous one stays in use",
                integration=name,
                place=str(error),
            )
    warnings = loaded.warnings
    if warnings:
        log.warning("the config has warnings; run `sidekey check` to list them", count=len(warnings))
    for warning in warnings[:WARNINGS_SHOWN]:
        log.warning("config warning", place=str(warning))


def log_errors(errors: Iterable[ConfigError]) -> None:
    """Log every error of a config that is not used."""
    log = get_logger()
    found = list(errors)
    log.error("the config has errors and was not reloaded; the previous one stays in use", count=len(found))
    for error in found:
        log.error("config error", place=str(error))


T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

CHECK_EVERY = 1.0
"""Seconds between two checks. A check of 1,000 files takes some 5 ms of CPU."""

RETRY_EVERY = 5.0
"""Seconds between two loads because of a read error that may pass without a change, such as too many open files."""

SETTLE = 0.2
"""Seconds between a change and the load: several files are mostly written at once."""


class ReloadHooks(NamedTuple):
    """What the reloader calls, on the event loop.

    `publisher` owns the snapshot in use. `certificate_files` are those whose change `rotate` handles.
    `report` logs defects and must not raise; `audit` tells what was changed.
    """

    publisher: Publisher
    certificate_files: Callable[[], set[Path]]
    rotate: Callable[[set[Path]], Awaitable[None]]
    metrics: Metrics
    report: Callable[[BaseException], str]
    audit: AuditLog


class _Waiting(NamedTuple):
    """Who waits for what the store says, `by` whom it was changed, if that is known."""

    take: Callable[[], None]
    done: asyncio.Future[None]
    by: str


class ReloadError(Exception):
    """What the store says is not in use: because of a defect in Sidekey, which was reported, or since it stops."""


class Reloader:
    """Keeps a running process at what its config says. Must be made on the event loop that it uses.

    `loaded` is the first result of `loader`, and is in use. With `strict` a config is not used that `check` finds an
    error in.
    """

    def __init__(self, loader: Loader, loaded: Loaded, hooks: ReloadHooks, *, strict: bool) -> None:
        self._loader = loader
        self._hooks = hooks
        self._strict = strict
        self._config: dict[Path, Stamp] = dict(loaded.stamps)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reload")
        self._woken = asyncio.Event()
        self._asked = False
        self._asks: list[asyncio.Future[None]] = []
        """Results of `ask` that are not done."""
        self._due = True
        self._closed = False
        self._loaded = loaded
        """Whose files are in use."""
        self._waiting: list[_Waiting] = []
        """What takes a state of the store, and who waits until that is in use."""
        self._unread = self._retry_due = False
        """The last load had a read error that may pass without a change, and a load for that reason is due."""
        self._retry_at = 0.0
        self._findings: list[object] = []
        """The errors that were logged last."""
        self._failed: dict[str, Stamps] = {}
        """Files of secrets that could not be used, by integration, as they were counted."""
        self._task: asyncio.Task[None] | None = None
        self._log = get_logger()
        self._certificates: dict[Path, Stamp] = {path: stamp(path) for path in hooks.certificate_files()}
        self._certificates.update(loaded.certificates)

    def start(self) -> None:
        """Begin to check; what has changed since the load is reloaded at once."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def ask(self) -> asyncio.Future[None]:
        """Load the config as soon as possible, whether or not a file seems to have changed.

        The result is done when that load has ended, with or without an error in the config. `close` leaves it pending.
        """
        ended = asyncio.get_running_loop().create_future()
        self._asks.append(ended)
        self._asked = self._due = True
        self._woken.set()
        return ended

    async def join(self, take: Callable[[], None], by: str = "") -> None:
        """Put in use what the store says, once `take` has given it to the loader; return when it is.

        `by` is the name of the operator whose change it is, where that is known. `take` is called in the thread that
        loads. Raises ReloadError where it could not be put in use.
        """
        if self._closed:
            raise ReloadError
        done = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(take, done, by))
        self._woken.set()
        await done

    async def close(self) -> None:
        """End the checks, and wait for a load under way, whose result is not used any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._closed = True
        for each in self._waiting:
            _tell(each.done, in_use=False)
        await asyncio.to_thread(self._thread.shutdown)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        check_at = loop.time()
        while True:
            self._woken.clear()
            # A change of the store asks for no look at the files, however often there is one.
            due, self._due = self._due, False
            for step in (self._join_store, *((self._reload_changes,) if due else ())):
                try:
                    await step()
                except Exception as defect:  # noqa: BLE001  the edge of a task: the next change may go well
                    self._hooks.report(defect)
            if due:
                # A load that was asked for during the last step is still to come.
                if not self._asked:
                    for ended in self._asks:
                        ended.set_result(None)
                    self._asks.clear()
                check_at = loop.time() + CHECK_EVERY
            with suppress(TimeoutError):
                async with asyncio.timeout_at(check_at):
                    await self._woken.wait()
            # By the clock: what was woken meanwhile does not wait, and so never times out.
            if loop.time() >= check_at:
                self._due = True
                if self._unread and loop.time() >= self._retry_at:
                    self._retry_due = True
                    self._retry_at = loop.time() + RETRY_EVERY

    async def _reload_changes(self) -> None:
        """Check and reload, until a check finds nothing."""
        found = True
        while found:
            asked, self._asked = self._asked, False
            retry, self._retry_due = self._retry_due, False
            config, certificates = await self._in_thread(self._changes)
            found = asked or retry or bool(config or certificates)
            if config or asked or retry:
                try:
                    await self._reload(config, is_retry=not (config or asked))
                except Exception as defect:  # noqa: BLE001  the next change, or SIGHUP, may go well
                    self._hooks.report(defect)
            # They count as seen: a load that fails must not keep them from whoever holds them.
            if certificates:
                await self._hooks.rotate(certificates)

    async def _join_store(self) -> None:
        """Join the files in use with the store as it is now, if it has changed."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        began, published, previous = time.perf_counter(), False, self._hooks.publisher.snapshot
        try:
            # As in `_reload`.
            with COLLECTOR.paused():
                snapshot = await self._in_thread(self._joined, [each.take for each in waiting])
                published = self._publish(snapshot)
        finally:
            for each in waiting:
                _tell(each.done, in_use=published)
        by = sorted({each.by for each in waiting} - {""})
        await self._in_thread(self._log_changes, previous, "store", by, began if published else None)

    def _joined(self, takes: list[Callable[[], None]]) -> Snapshot:
        """The files in use, joined with the store, in the thread."""
        for take in takes:
            take()
        snapshot = self._loader.join(self._loaded)
        prepare_trust(snapshot)
        return snapshot

    def _changes(self) -> tuple[dict[Path, Stamp], set[Path]]:
        """Return the files of the config and of client certificates that differ from when they were read.

        Note those of certificates before they are read again: what changes meanwhile differs at the next check.
        """
        config, certificates = self._compare()
        if config or certificates:
            time.sleep(SETTLE)
            config, certificates = self._compare()
        self._certificates.update(certificates)
        return config, set(certificates)

    def _compare(self) -> tuple[dict[Path, Stamp], dict[Path, Stamp]]:
        looks = StampCache()
        config = {path: state for path, known in self._config.items() if (state := looks(path)) != known}
        held = {path: looks(path) for path in self._hooks.certificate_files()}
        certificates = {path: state for path, state in held.items() if state != self._certificates.get(path, state)}
        self._certificates = {**held, **self._certificates}
        return config, certificates

    async def _reload(self, changed: dict[Path, Stamp], *, is_retry: bool) -> None:
        """Load, and use the result; `changed` is what the check found."""
        began = time.perf_counter()
        previous = self._hooks.publisher.snapshot
        # A full collection would stop all requests for 0.1 s with 1,000 integrations and for 0.4 s with 10,000. What a
        # load makes is frozen before the collector runs again. It holds no cycles that would stay for ever.
        with COLLECTOR.paused():
            try:
                loaded = await self._in_thread(self._load)
            except Exception:
                self._hooks.metrics.config_loaded = False
                # It would fail again each second.
                self._config.update(changed)
                raise
            # Files of a config with errors may not all be known: those of the one in use are watched as well. What has
            # changed of them counts as seen: the next good load, whichever it is, checks all that it reads.
            former_stamps = {} if loaded.snapshot is not None else {**self._config, **changed}
            self._config = {**former_stamps, **loaded.stamps}
            self._unread = loaded.transient
            snapshot = self._usable(loaded)
            published = snapshot is not None and self._publish(snapshot)
            self._hooks.metrics.config_loaded = published
            if published:
                self._hooks.metrics.config_loaded_at = time.time()
                # Not after each change of the store: whatever is garbage just then would stay.
                gc.freeze()
            if snapshot is not None and self._hooks.publisher.snapshot is snapshot:
                self._loaded = loaded
            if snapshot is None or self._hooks.publisher.snapshot is snapshot:
                # In the thread: there may be a line for each of ten thousand integrations.
                await self._in_thread(self._log_findings, loaded, is_retry)
        await self._in_thread(self._log_changes, previous, "files", (), began if published else None)

    def _log_changes(self, previous: Snapshot, source: Source, by: Sequence[str], began: float | None) -> None:
        """Log the differences from a previous snapshot to the one in use. Blocks.

        `began` is the start of the reload, or None if not every part of the process uses its result.
        """
        now = self._hooks.publisher.snapshot
        if now is previous:
            return
        self._hooks.audit.change(compare(previous, now), source, tuple(by))
        if began is not None:
            before, integrations = previous.integrations, now.integrations
            self._log.info(
                "store reloaded" if source == "store" else "config reloaded",
                integrations=len(integrations),
                changed=sum(before.get(name) is not each for name, each in integrations.items()),
                removed=sum(name not in integrations for name in before),
                seconds=round(time.perf_counter() - began, 3),
            )

    def _load(self) -> Loaded:
        """Load, and prepare here what publishing would otherwise do on the event loop."""
        loaded = self._loader.load()
        if loaded.snapshot is not None:
            prepare_trust(loaded.snapshot)
        return loaded

    def _usable(self, loaded: Loaded) -> Snapshot | None:
        """The snapshot of a load, if it may be put in use."""
        metrics = self._hooks.metrics
        for name, kept in loaded.kept.items():
            if self._failed.get(name) != kept.files:
                self._failed[name] = kept.files
                metrics.reload_failures[name, "secret"] += 1
        if loaded.snapshot is not None:
            self._failed = {name: files for name, files in self._failed.items() if name in loaded.kept}
            # Read now, and held from some later load on where this one is not used.
            self._certificates = {**loaded.certificates, **self._certificates}
            if not loaded.stopping(strict=self._strict):
                return loaded.snapshot
        metrics.config_loaded = False
        return None

    def _publish(self, snapshot: Snapshot) -> bool:
        """Put a snapshot in use; False where the reload failed, which is a defect."""
        whole = True
        try:
            self._hooks.publisher.publish(snapshot)
        except CommitError:
            # The publisher has reported why. Who still serves by the previous config may go on to: it is not released.
            self._log.error("the config was reloaded only in part because of a defect in Sidekey: restart it")
            whole = False
        except PublishRefused as refused:
            self._log.error("the config was not reloaded; the previous one stays in use", reason=str(refused))
            return False
        except Exception as defect:  # noqa: BLE001  nothing has changed, and the next config may go well
            self._log.error(
                "the config was not reloaded because of a defect in Sidekey; the previous one stays in use",
                defect=self._hooks.report(defect),
            )
            return False
        held = self._hooks.certificate_files()
        self._certificates = {path: known for path, known in self._certificates.items() if path in held}
        return whole

    def _log_findings(self, loaded: Loaded, is_retry: bool) -> None:
        """Log the errors and warnings of a load; those of a retry only if the errors differ from the last ones."""
        findings: list[object] = [each for each in loaded.findings if each.kind != "warning"]
        findings += [(name, each.reasons) for name, each in loaded.kept.items()]
        if is_retry and findings == self._findings:
            return
        self._findings = findings
        stopping = loaded.stopping(strict=self._strict)
        if stopping:
            log_errors(stopping)
        else:
            log_load(loaded)

    async def _in_thread(self, work: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


def _tell(done: asyncio.Future[None], *, in_use: bool) -> None:
    """Tell whoever still waits whether what they wait for is in use."""
    if done.done():
        return
    if in_use:
        done.set_result(None)
    else:
        done.set_exception(ReloadError())
