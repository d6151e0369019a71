"""The certificate sources of a process, and the tasks that keep them fresh."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable

from sidekey.certificates.fetching import AT_ONCE, Fetching
from sidekey.certificates.source import CertificateSource
from sidekey.certificates.watch import Watch
from sidekey.network.backoff import LONGEST
from sidekey.network.dial import Dialer
from sidekey.network.fetch import Fetcher
from sidekey.observe.metrics import Metrics
from sidekey.settings.snapshot import Integration


class Certificates:
    """Makes the certificate source of each integration; what is fetched is called through `dialer`.

    `report` is told of every defect, answers the id under which it is logged, and must not raise. Without `start` a
    source still reads and fetches what it lacks when it is asked.
    """

    def __init__(self, dialer: Dialer, metrics: Metrics, report: Callable[[BaseException], str]) -> None:
        self._fetcher = Fetcher(dialer)
        self._metrics = metrics
        self._report = report
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._sources: dict[str, CertificateSource] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def source(self, integration: Integration) -> CertificateSource | None:
        """The source of an integration, always the same one, None where it has no certificate; on the event loop."""
        ring = integration.certificate
        found = self._sources.get(integration.id)
        if found is None and ring is not None:
            fetching = Fetching(integration, ring, self._fetcher, self._slots) if ring.urls else None
            found = CertificateSource(integration.id, ring, self._metrics, fetching)
            self._sources[integration.id] = found
        return found

    def start(self, integrations: Iterable[Integration]) -> None:
        """Tell of every certificate by metric and log, and keep them fresh from now on."""
        sources = [source for each in integrations if (source := self.source(each)) is not None]
        loop = asyncio.get_running_loop()
        watch = Watch(sources, self._report)
        if watch:
            self._tasks.append(loop.create_task(watch.run()))
        self._tasks += [loop.create_task(self._keep(source)) for source in sources if source.ring.urls]

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
        """Cancel every task, timer and call under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *(each.close() for each in self._sources.values()), return_exceptions=True)
