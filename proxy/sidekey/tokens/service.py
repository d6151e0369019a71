"""The token sources of a process, and the way their calls take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from sidekey.network.dial import Dialer
from sidekey.network.fetch import Fetcher
from sidekey.observe.metrics import Metrics
from sidekey.settings.snapshot import Integration
from sidekey.tokens.source import TokenSource

TOKEN_TIMEOUT = 10.0
"""Seconds for one call, from the lookup to the answer's last byte."""

LARGEST_ANSWER = 1 << 20
"""Bytes of an answer's body that are read."""


class Tokens:
    """Makes the token source of each integration, whose calls go through `dialer` under the integration's own rules.

    `report` is told of every defect, answers the id under which it is logged, and must not raise.
    """

    def __init__(self, dialer: Dialer, metrics: Metrics, report: Callable[[BaseException], str]) -> None:
        self._fetcher = Fetcher(dialer)
        self._metrics = metrics
        self._report = report
        self._sources: dict[str, TokenSource] = {}

    def source(self, integration: Integration) -> TokenSource:
        """The source of an integration, always the same one; on the event loop."""
        found = self._sources.get(integration.id)
        if found is None:
            fetch = partial(
                self._fetcher.fetch,
                trust=integration.trust,
                allow_private=integration.allow_private,
                timeout=TOKEN_TIMEOUT,
                largest=LARGEST_ANSWER,
            )
            found = self._sources[integration.id] = TokenSource(integration, fetch, self._metrics, self._report)
        return found

    async def close(self) -> None:
        """Cancel every timer and every call under way."""
        await asyncio.gather(*(source.close() for source in self._sources.values()))
