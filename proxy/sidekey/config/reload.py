"""Reload the config while Sidekey serves requests: check each second, load in a thread, publish.

A check compares the stamp of every file with its stamp at the last read. SIGHUP requests a load at once. A thread loads
the config, and the event loop publishes it in one step if it has no error. A change of a client certificate's files
needs no load: its loader reads them again.
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

from sidekey.config.diff import compare_snapshots
from sidekey.config.errors import ConfigError, FindingKind
from sidekey.config.file_stamps import Stamp, StampCache, stamp
from sidekey.config.load import Loader
from sidekey.config.load_result import Loaded
from sidekey.config.secrets import Stamps
from sidekey.network.tls import prepare_trust
from sidekey.observe.audit import AuditLog, Source
from sidekey.observe.log import get_logger
from sidekey.observe.metrics import Metrics
from sidekey.process import GARBAGE_COLLECTOR
from sidekey.publish import CommitError, Publisher, PublishRefused
from sidekey.snapshot.snapshot import Snapshot

WARNINGS_SHOWN: Final = 20
"""Maximum number of warnings that are logged for one load. There may be thousands, one for each integration."""

CHECK_EVERY: Final = 1.0
"""Seconds between two checks. A check of 1,000 files takes some 5 ms of CPU."""

RETRY_EVERY: Final = 5.0
"""Seconds between two loads because of a read error that may pass without a change, such as too many open files."""

SETTLE: Final = 0.2
"""Seconds between a change and the load, because several files usually change together."""

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

_EVENTS: Final[Mapping[FindingKind, str]] = {
    "unreadable": "secret or CA file cannot be read; what needs it is unavailable",
    "retained": "new secret or CA file cannot be used; the previous one stays in use",
    "refused": "client certificate must not be used; what needs it is unavailable",
    "mismatched": "preset cannot be used with its integration",
    "writable": "other users can change a file that Sidekey trusts",
}


def log_load(loaded: Loaded) -> None:
    """Log the findings of a config that is used despite them, the first warnings, and the number of warnings."""
    log = get_logger()
    for error, kind in loaded.findings:
        if kind in _EVENTS:
            log.error(_EVENTS[kind], place=str(error))
    for name, retained in loaded.retained.items():
        for error in retained.reasons:
            log.error(_EVENTS["retained"], integration=name, place=str(error))
    warnings = loaded.warnings
    if warnings:
        log.warning("the config has warnings; run `sidekey check` to list them", count=len(warnings))
    for warning in warnings[:WARNINGS_SHOWN]:
        log.warning("config warning", place=str(warning))


def log_errors(errors: Iterable[ConfigError]) -> None:
    """Log every error of a config that is not used."""
    log = get_logger()
    listed = list(errors)
    log.error("the config has errors and was not reloaded; the previous one stays in use", count=len(listed))
    for error in listed:
        log.error("config error", place=str(error))


class ReloadHooks(NamedTuple):
    """The parts of the process that the reloader calls, on the event loop.

    `publisher` owns the snapshot in use. `rotate` handles changes of `certificate_files`. `report` logs a defect and
    must not raise. `audit` logs the changes of the config.
    """

    publisher: Publisher
    certificate_files: Callable[[], set[Path]]
    rotate: Callable[[set[Path]], Awaitable[None]]
    metrics: Metrics
    report: Callable[[BaseException], str]
    audit: AuditLog


class _StoreUpdate(NamedTuple):
    """A pending update of the store's content, which `update_loader` passes to the loader. `by` is the operator."""

    update_loader: Callable[[], None]
    done: asyncio.Future[None]
    by: str


class ReloadError(Exception):
    """The store's content is not in use, because Sidekey stops or has a defect, which was reported."""


class Reloader:
    """Reloads the config of a running process when files or the store change. Create it on the event loop.

    `loaded` is the result of the loader's first load, which is in use. With `strict`, the reloader refuses a config in
    which `check` finds an error.
    """

    def __init__(self, loader: Loader, loaded: Loaded, hooks: ReloadHooks, *, strict: bool) -> None:
        self._loader = loader
        self._hooks = hooks
        self._strict = strict
        self._config_stamps: dict[Path, Stamp] = dict(loaded.stamps)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reload")
        self._wake_up = asyncio.Event()
        self._load_requested = False
        self._load_requests: list[asyncio.Future[None]] = []
        """Pending results of `request_load`."""
        self._check_due = True
        self._closed = False
        self._loaded = loaded
        """The load whose files are in use."""
        self._store_updates: list[_StoreUpdate] = []
        self._has_transient_error = False
        """The last load had a read error that may pass without a change, so load again every `RETRY_EVERY`."""
        self._retry_due = False
        self._retry_at = 0.0
        self._logged_findings: list[object] = []
        self._counted_failures: dict[str, Stamps] = {}
        """By integration, the changed files that could not be used and that the metric has counted."""
        self._task: asyncio.Task[None] | None = None
        self._log = get_logger()
        loader.retain_commands(loaded)
        self._certificate_stamps: dict[Path, Stamp] = {path: stamp(path) for path in hooks.certificate_files()}
        self._certificate_stamps.update(loaded.certificate_stamps)

    def start(self) -> None:
        """Start the checks. The first one finds what has changed since the load."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def request_load(self) -> asyncio.Future[None]:
        """Load the config as soon as possible, even if no file seems to have changed.

        The result is done after that load, with or without an error in the config. `close` leaves it pending.
        """
        done = asyncio.get_running_loop().create_future()
        self._load_requests.append(done)
        self._load_requested = self._check_due = True
        self._wake_up.set()
        return done

    async def publish_store(self, update_loader: Callable[[], None], by: str = "") -> None:
        """Publish the store's content, and return when it is in use.

        The loader's thread calls `update_loader`, which passes the content to the loader. `by` is the name of the
        operator who made the change, if known. Raises ReloadError if the content could not be published.
        """
        if self._closed:
            raise ReloadError
        done = asyncio.get_running_loop().create_future()
        self._store_updates.append(_StoreUpdate(update_loader, done, by))
        self._wake_up.set()
        await done

    async def close(self) -> None:
        """Stop the checks, and wait for a running load, whose result is discarded."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._closed = True
        self.end_commands()
        for update in self._store_updates:
            _end_update(update.done, in_use=False)
        await asyncio.to_thread(self._thread.shutdown)

    def end_commands(self) -> None:
        """Kill the running programs of commands, and run no more."""
        if self._loader.commands is not None:
            self._loader.commands.close()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        check_at = loop.time()
        while True:
            self._wake_up.clear()
            # Frequent changes of the store must not cause checks of the files.
            check_due, self._check_due = self._check_due, False
            for step in (self._publish_store_updates, *((self._reload_changes,) if check_due else ())):
                try:
                    await step()
                except Exception as defect:  # noqa: BLE001  the edge of a task: the next change may go well
                    self._hooks.report(defect)
            if check_due:
                # A load that was requested during the last step has not run yet.
                if not self._load_requested:
                    for done in self._load_requests:
                        done.set_result(None)
                    self._load_requests.clear()
                check_at = loop.time() + CHECK_EVERY
            with suppress(TimeoutError):
                async with asyncio.timeout_at(check_at):
                    await self._wake_up.wait()
            # Compare the clock: with frequent wake-ups the wait never times out.
            if loop.time() >= check_at:
                self._check_due = True
                if self._has_transient_error and loop.time() >= self._retry_at:
                    self._retry_due = True
                    self._retry_at = loop.time() + RETRY_EVERY

    async def _reload_changes(self) -> None:
        """Check and reload, until a check finds no change."""
        changed = True
        while changed:
            requested, self._load_requested = self._load_requested, False
            retry, self._retry_due = self._retry_due, False
            config, certificates = await self._in_thread(self._find_changes)
            commands = self._loader.commands is not None and self._loader.commands.poll()
            changed = requested or retry or commands or bool(config or certificates)
            if config or requested or retry or commands:
                try:
                    await self._reload(config, is_retry=not (config or requested or commands))
                except Exception as defect:  # noqa: BLE001  the next change, or SIGHUP, may go well
                    self._hooks.report(defect)
            # The check has recorded their stamps, so rotate them even after a failed load.
            if certificates:
                await self._hooks.rotate(certificates)

    async def _publish_store_updates(self) -> None:
        """Publish the files in use with the pending updates of the store."""
        updates, self._store_updates = self._store_updates, []
        if not updates:
            return
        began, published, previous = time.perf_counter(), False, self._hooks.publisher.snapshot
        try:
            # A full collection would stop all requests: see `_reload`.
            with GARBAGE_COLLECTOR.paused():
                snapshot = await self._in_thread(self._build_with_store, [update.update_loader for update in updates])
                published = self._publish(snapshot)
        finally:
            for update in updates:
                _end_update(update.done, in_use=published)
        by = sorted({update.by for update in updates} - {""})
        await self._in_thread(self._log_changes, previous, "store", by, began if published else None)

    def _build_with_store(self, updates: list[Callable[[], None]]) -> Snapshot:
        """Build the snapshot of the files in use and the updated store. Blocks."""
        for update_loader in updates:
            update_loader()
        snapshot = self._loader.combine(self._loaded)
        prepare_trust(snapshot)
        return snapshot

    def _find_changes(self) -> tuple[dict[Path, Stamp], set[Path]]:
        """Return the files of the config and of client certificates that have changed since they were read. Blocks.

        Record the stamps of certificates before they are read again, so that the next check finds a change meanwhile.
        """
        config, certificates = self._compare_stamps()
        if config or certificates:
            time.sleep(SETTLE)
            config, certificates = self._compare_stamps()
        self._certificate_stamps.update(certificates)
        return config, set(certificates)

    def _compare_stamps(self) -> tuple[dict[Path, Stamp], dict[Path, Stamp]]:
        """Return the new stamps of changed files, and start to watch new files of certificates."""
        stamp_of = StampCache()
        config = {path: new for path, old in self._config_stamps.items() if (new := stamp_of(path)) != old}
        current = {path: stamp_of(path) for path in self._hooks.certificate_files()}
        certificates = {path: new for path, new in current.items() if new != self._certificate_stamps.get(path, new)}
        # Keep the old stamps of known files: the caller records a change after `SETTLE`.
        self._certificate_stamps = {**current, **self._certificate_stamps}
        return config, certificates

    async def _reload(self, changed: dict[Path, Stamp], *, is_retry: bool) -> None:
        """Load the config, and publish it if it may be used. `changed` has the new stamps that the check found."""
        began = time.perf_counter()
        previous = self._hooks.publisher.snapshot
        # A full collection would stop all requests for 0.1 s with 1,000 integrations and for 0.4 s with 10,000. The
        # objects of a load are frozen before the collector runs again. They contain no cycles that would leak.
        with GARBAGE_COLLECTOR.paused():
            try:
                loaded = await self._in_thread(self._load)
            except Exception:
                self._hooks.metrics.config_loaded = False
                # Otherwise it would fail again each second.
                self._config_stamps.update(changed)
                raise
            # A load with errors may not have found all files, so watch those of the config in use too. Changes among
            # them need no further load: the next good load reads all files.
            previous_stamps = {} if loaded.snapshot is not None else {**self._config_stamps, **changed}
            self._config_stamps = {**previous_stamps, **loaded.stamps}
            self._has_transient_error = loaded.transient
            snapshot = self._usable_snapshot(loaded)
            published = snapshot is not None and self._publish(snapshot)
            self._hooks.metrics.config_loaded = published
            if published:
                self._hooks.metrics.config_loaded_at = time.time()
                # Not after each change of the store, because it would freeze garbage too.
                gc.freeze()
            # After a CommitError too, the publisher has the new snapshot.
            in_use = snapshot is not None and self._hooks.publisher.snapshot is snapshot
            if in_use:
                self._loaded = loaded
            self._loader.retain_commands(self._loaded)
            # If the publisher refused the snapshot, `_publish` has logged why.
            if in_use or snapshot is None:
                # In the thread, because each of ten thousand integrations may need a line.
                await self._in_thread(self._log_findings, loaded, is_retry)
        await self._in_thread(self._log_changes, previous, "files", (), began if published else None)

    def _load(self) -> Loaded:
        """Load the config, and prepare its CAs, which would block the event loop. Blocks."""
        loaded = self._loader.load()
        if loaded.snapshot is not None:
            prepare_trust(loaded.snapshot)
        return loaded

    def _usable_snapshot(self, loaded: Loaded) -> Snapshot | None:
        """Return the snapshot of a load if it may be used. Count each new failure to use changed files."""
        metrics = self._hooks.metrics
        for name, retained in loaded.retained.items():
            if self._counted_failures.get(name) != retained.files:
                self._counted_failures[name] = retained.files
                metrics.reload_failures[name, "secret"] += 1
        if loaded.snapshot is not None:
            self._counted_failures = {
                name: files for name, files in self._counted_failures.items() if name in loaded.retained
            }
            # This load has read them. If it is not used, a later load may use the same loaders.
            self._certificate_stamps = {**loaded.certificate_stamps, **self._certificate_stamps}
            if not loaded.blocking(strict=self._strict):
                return loaded.snapshot
        metrics.config_loaded = False
        return None

    def _publish(self, snapshot: Snapshot) -> bool:
        """Publish a snapshot. Return True if every part of the process uses it.

        After a CommitError, the publisher has the snapshot, but some parts do not.
        """
        complete = True
        try:
            self._hooks.publisher.publish(snapshot)
        except CommitError:
            # The publisher has reported the defect. A part that failed continues with the previous config, which is
            # not released.
            self._log.error("the config was reloaded only in part because of a defect in Sidekey: restart it")
            complete = False
        except PublishRefused as refused:
            self._log.error("the config was not reloaded; the previous one stays in use", reason=str(refused))
            return False
        except Exception as defect:  # noqa: BLE001  nothing has changed, and the next config may go well
            self._log.error(
                "the config was not reloaded because of a defect in Sidekey; the previous one stays in use",
                defect=self._hooks.report(defect),
            )
            return False
        files = self._hooks.certificate_files()
        self._certificate_stamps = {path: state for path, state in self._certificate_stamps.items() if path in files}
        return complete

    def _log_findings(self, loaded: Loaded, is_retry: bool) -> None:
        """Log the errors and warnings of a load. After a retry, log them only if the errors have changed."""
        findings: list[object] = [finding for finding in loaded.findings if finding.kind != "warning"]
        findings += [(name, retained.reasons) for name, retained in loaded.retained.items()]
        if is_retry and findings == self._logged_findings:
            return
        self._logged_findings = findings
        blocking = loaded.blocking(strict=self._strict)
        if blocking:
            log_errors(blocking)
        else:
            log_load(loaded)

    def _log_changes(self, previous: Snapshot, source: Source, by: Sequence[str], began: float | None) -> None:
        """Log the differences between a previous snapshot and the one in use. Blocks.

        `began` is the start of the reload, or None if only a part of the process uses the result.
        """
        current = self._hooks.publisher.snapshot
        if current is previous:
            return
        self._hooks.audit.log_change(compare_snapshots(previous, current), source, tuple(by))
        if began is not None:
            old_integrations, integrations = previous.integrations, current.integrations
            self._log.info(
                "store reloaded" if source == "store" else "config reloaded",
                integrations=len(integrations),
                changed=sum(
                    old_integrations.get(name) is not integration for name, integration in integrations.items()
                ),
                removed=sum(name not in integrations for name in old_integrations),
                seconds=round(time.perf_counter() - began, 3),
            )

    async def _in_thread(self, work: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


def _end_update(done: asyncio.Future[None], *, in_use: bool) -> None:
    """End the wait for a store update, with ReloadError unless the update is in use."""
    if done.done():
        return
    if in_use:
        done.set_result(None)
    else:
        done.set_exception(ReloadError())
