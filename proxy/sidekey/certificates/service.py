"""The certificate sources of a process, and the tasks that keep them fresh."""

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
    """Makes the certificate source of each integration; `fetcher` makes their calls.

    `report` is passed every defect, returns the id under which it is logged, and must not raise. A source of an
    integration that was never committed still reads and fetches what it lacks when it is asked.
    """

    def __init__(self, fetcher: Fetcher, metrics: Metrics, report: Callable[[BaseException], str]) -> None:
        self._fetcher = fetcher
        self._metrics = metrics
        self._report = report
        self._slots = asyncio.Semaphore(MAX_PARALLEL)
        self._integrations: Mapping[str, Integration] = MappingProxyType({})
        self._sources: dict[str, CertificateSource] = {}
        self._retired: WeakSet[CertificateSource] = WeakSet()
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def source(self, integration: Integration) -> CertificateSource | None:
        """The source of an integration that is served now, always the same one; None where it has no certificate.

        To be asked on the event loop.
        """
        found = self._sources.get(integration.id)
        if found is None and (found := self._make(integration)) is not None:
            self._sources[integration.id] = found
            found.activate()
        return found

    def _make(self, integration: Integration) -> CertificateSource | None:
        loader = integration.certificate
        if loader is None:
            return None
        urls = UrlFetch(integration, loader, self._fetcher, self._slots) if loader.urls else None
        return CertificateSource(integration.id, loader, self._metrics, urls)

    def prepare(self, snapshot: Snapshot) -> Callable[[], None]:
        """Make the sources that its integrations need beside those that are there; on the event loop.

        Nothing changes before the function that is returned is called. It retires the sources of integrations that are
        not the very same objects as before, and begins to report every certificate by metric and log and to keep it
        fresh.
        """
        former, integrations = self._integrations, snapshot.integrations
        changed = (each for name, each in integrations.items() if each is not former.get(name))
        made = {each.id: source for each in changed if (source := self._make(each)) is not None}
        return partial(self._commit, integrations, made)

    def _commit(self, integrations: Mapping[str, Integration], made: Mapping[str, CertificateSource]) -> None:
        former, self._integrations = self._integrations, integrations
        for name in [name for name in self._sources if integrations.get(name) is not former.get(name)]:
            self._retire(name, integrations.get(name))
        for name, source in made.items():
            self._sources[name] = source
            source.activate()
            if source.loader.urls:
                task = self._keepers[name] = asyncio.get_running_loop().create_task(self._keep(source))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _retire(self, name: str, successor: Integration | None) -> None:
        source = self._sources.pop(name)
        source.retire()
        self._retired.add(source)
        if successor is None or successor.certificate is None:
            self._metrics.reload_failures.pop((name, "certificate"), None)
        if (keeper := self._keepers.pop(name, None)) is not None:
            # A call under way goes on for who waits for it: only this task's waiting ends.
            keeper.cancel()

    def files(self) -> set[Path]:
        """Every file whose change asks for `changed`."""
        return {path for source in self._sources.values() for path in source.loader.files}

    async def changed(self, paths: Collection[Path]) -> None:
        """Read again what is in these files, one source after the other, each in its own way."""
        asked = set(paths)
        for source in list(self._sources.values()):
            if not asked.isdisjoint(source.loader.files):
                try:
                    await source.reload()
                except Exception as defect:  # noqa: BLE001  a defect of one leaves the others fresh
                    self._report(defect)

    async def _keep(self, source: CertificateSource) -> None:
        """Fetch it now and whenever it is due; the old one serves meanwhile."""
        pause = 0.0
        while math.isfinite(pause):
            await asyncio.sleep(pause)
            try:
                pause = await source.renew()
            except Exception as defect:  # noqa: BLE001  the edge of a task: the next attempt may succeed
                self._report(defect)
                pause = MAX_PAUSE

    async def close(self) -> None:
        """Cancel every task, timer and call under way, those of retired sources too."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        sources = (*self._sources.values(), *self._retired)
        await asyncio.gather(*tasks, *(each.close() for each in sources), return_exceptions=True)
