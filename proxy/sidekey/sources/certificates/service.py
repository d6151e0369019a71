"""The certificate sources of a process, and the tasks that keep them fresh."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from weakref import WeakSet

from sidekey.network.backoff import LONGEST
from sidekey.network.dial import Dialer
from sidekey.network.fetch import Fetcher
from sidekey.observe.metrics import Metrics
from sidekey.settings.snapshot import Integration
from sidekey.sources.certificates.certificate_source import CertificateSource
from sidekey.sources.certificates.url_fetch import AT_ONCE, Fetching


class Certificates:
    """Makes the certificate source of each integration; what is fetched is called through `dialer`.

    `report` is told of every defect, answers the id under which it is logged, and must not raise. A source that was
    never adopted still reads and fetches what it lacks when it is asked.
    """

    def __init__(self, dialer: Dialer, metrics: Metrics, report: Callable[[BaseException], str]) -> None:
        self._fetcher = Fetcher(dialer)
        self._metrics = metrics
        self._report = report
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._integrations: Mapping[str, Integration] = MappingProxyType({})
        self._sources: dict[str, CertificateSource] = {}
        self._retired: WeakSet[CertificateSource] = WeakSet()
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def source(self, integration: Integration) -> CertificateSource | None:
        """The source of an integration that is served now, always the same one; None where it has no certificate.

        To be asked on the event loop.
        """
        ring = integration.certificate
        found = self._sources.get(integration.id)
        if found is None and ring is not None:
            fetching = Fetching(integration, ring, self._fetcher, self._slots) if ring.urls else None
            found = CertificateSource(integration.id, ring, self._metrics, fetching)
            self._sources[integration.id] = found
        return found

    def adopt(self, integrations: Mapping[str, Integration]) -> None:
        """Serve these integrations from now on: tell of every certificate by metric and log, and keep it fresh.

        The sources of integrations that are not the very same as before retire.
        """
        former, self._integrations = self._integrations, integrations
        for name in [name for name in self._sources if integrations.get(name) is not former.get(name)]:
            self._retire(name, integrations.get(name))
        for name, integration in integrations.items():
            if integration.certificate is None or integration is former.get(name):
                continue
            source = self.source(integration)
            if source is not None and source.ring.urls:
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
        return {path for source in self._sources.values() for path in source.ring.files}

    async def changed(self, paths: Collection[Path]) -> None:
        """Read again what lies in these files, one source after the other, each in its own way."""
        asked = set(paths)
        for source in list(self._sources.values()):
            if not asked.isdisjoint(source.ring.files):
                try:
                    await source.reload()
                except Exception as defect:  # noqa: BLE001  one that is a defect of ours leaves the others fresh
                    self._report(defect)

    async def _keep(self, source: CertificateSource) -> None:
        """Fetch it now and again; the old one serves meanwhile."""
        pause = 0.0
        while math.isfinite(pause):
            await asyncio.sleep(pause)
            try:
                pause = await source.renew()
            except Exception as defect:  # noqa: BLE001  the edge of a task: the next may go well
                self._report(defect)
                pause = LONGEST

    async def close(self) -> None:
        """Cancel every task, timer and call under way, those of retired sources too."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        sources = (*self._sources.values(), *self._retired)
        await asyncio.gather(*tasks, *(each.close() for each in sources), return_exceptions=True)
