"""The certificate sources of a process, and the tasks that fetch certificates again."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from weakref import WeakSet

from sidekey.certificates.fetch import MAX_PARALLEL, UrlFetch
from sidekey.certificates.source import CertificateSource
from sidekey.network.fetch import Fetcher
from sidekey.observe.metrics import Metrics
from sidekey.refresh import MAX_PAUSE
from sidekey.snapshot.snapshot import Integration, Snapshot


class Certificates:
    """Creates the certificate source of each integration, whose calls `fetcher` makes.

    `report` logs a defect, returns the ID of its log line and must not raise. The source of an integration that is not
    committed, such as a draft, loads its certificate only when a request obtains it.
    """

    def __init__(self, fetcher: Fetcher, metrics: Metrics, report: Callable[[BaseException], str]) -> None:
        self._fetcher = fetcher
        self._metrics = metrics
        self._report = report
        self._slots = asyncio.Semaphore(MAX_PARALLEL)
        self._integrations: Mapping[str, Integration] = MappingProxyType({})
        self._sources: dict[str, CertificateSource] = {}
        self._retired: WeakSet[CertificateSource] = WeakSet()
        self._renewals: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def source(self, integration: Integration) -> CertificateSource | None:
        """Return the one source of an integration of the current snapshot, or None if it has no certificate.

        Call it on the event loop.
        """
        source = self._sources.get(integration.id)
        if source is None and (source := self._create_source(integration)) is not None:
            self._sources[integration.id] = source
            source.activate()
        return source

    def _create_source(self, integration: Integration) -> CertificateSource | None:
        loader = integration.certificate
        if loader is None:
            return None
        urls = UrlFetch(integration, loader, self._fetcher, self._slots) if loader.urls else None
        return CertificateSource(integration.id, loader, self._metrics, urls)

    def prepare(self, snapshot: Snapshot) -> Callable[[], None]:
        """Create the sources of new and changed integrations. Call it on the event loop.

        The returned commit retires the sources of changed integrations and activates the new sources. An integration is
        unchanged only if it is the same object.
        """
        previous, integrations = self._integrations, snapshot.integrations
        created = {
            name: source
            for name, integration in integrations.items()
            if integration is not previous.get(name) and (source := self._create_source(integration)) is not None
        }
        return partial(self._commit, integrations, created)

    def _commit(self, integrations: Mapping[str, Integration], created: Mapping[str, CertificateSource]) -> None:
        previous, self._integrations = self._integrations, integrations
        for name in [name for name in self._sources if integrations.get(name) is not previous.get(name)]:
            self._retire(name, integrations.get(name))
        for name, source in created.items():
            self._sources[name] = source
            source.activate()
            if source.loader.urls:
                task = self._renewals[name] = asyncio.get_running_loop().create_task(self._keep_fresh(source))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _retire(self, name: str, successor: Integration | None) -> None:
        source = self._sources.pop(name)
        source.retire()
        self._retired.add(source)
        if successor is None or successor.certificate is None:
            self._metrics.reload_failures.pop((name, "certificate"), None)
        if (renewal := self._renewals.pop(name, None)) is not None:
            # A running call continues for its other waiters: cancelling ends only this task's wait.
            renewal.cancel()

    def watched_files(self) -> set[Path]:
        """Files that certificates are read from."""
        return {path for source in self._sources.values() for path in source.loader.files}

    async def reload_changed(self, paths: Collection[Path]) -> None:
        """Reload the certificates that use these files, one after the other."""
        changed_paths = set(paths)
        for source in list(self._sources.values()):
            if not changed_paths.isdisjoint(source.loader.files):
                try:
                    await source.reload()
                except Exception as defect:  # noqa: BLE001  a defect must not keep other sources from reloading
                    self._report(defect)

    async def _keep_fresh(self, source: CertificateSource) -> None:
        """Fetch the certificate now and whenever it is due. The previous one stays in use meanwhile."""
        pause = 0.0
        while math.isfinite(pause):
            await asyncio.sleep(pause)
            try:
                pause = await source.renew()
            except Exception as defect:  # noqa: BLE001  the edge of a task: the next attempt may succeed
                self._report(defect)
                pause = MAX_PAUSE

    async def close(self) -> None:
        """Cancel every task, timer and running call, also of retired sources."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        sources = (*self._sources.values(), *self._retired)
        await asyncio.gather(*tasks, *(source.close() for source in sources), return_exceptions=True)
