"""The token sources of a process, and how their calls are made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from weakref import WeakSet

from sidekey.credentials.base import Call, Reply
from sidekey.credentials.identity import IdentitySource
from sidekey.network.dial import Dialer
from sidekey.network.fetch import Fetcher
from sidekey.observe.metrics import Metrics
from sidekey.runtime.snapshot import Integration, Snapshot
from sidekey.sources.tokens.auth_flow import Fetch
from sidekey.sources.tokens.token_source import TokenSource

TOKEN_TIMEOUT = 10.0
"""Seconds for one call, from the lookup to the response's last byte."""

LARGEST_RESPONSE = 1 << 20
"""Bytes of a response's body that are read."""


class Tokens:
    """Makes the token source of each integration, whose calls go through `dialer` under the integration's own rules.

    `identity_of` finds where an integration's client certificate is, if it has one: every call offers it, since it may
    authenticate the client (RFC 8705 2) or be what the token is bound to (RFC 8705 3). `report` is passed every defect,
    returns the id under which it is logged, and must not raise.
    """

    def __init__(
        self,
        dialer: Dialer,
        metrics: Metrics,
        report: Callable[[BaseException], str],
        *,
        identity_of: Callable[[Integration], IdentitySource | None],
    ) -> None:
        self._fetcher = Fetcher(dialer)
        self._identity_of = identity_of
        self._metrics = metrics
        self._report = report
        self._integrations: Mapping[str, Integration] = MappingProxyType({})
        self._sources: dict[str, TokenSource] = {}
        self._retired: WeakSet[TokenSource] = WeakSet()

    def prepare(self, snapshot: Snapshot) -> Callable[[], None]:
        """Get ready to serve the integrations of another snapshot; the result does so from then on.

        It retires the sources of integrations that are not the very same objects as before. Their successors are made
        when they are asked for: there is nothing here to prepare that could fail.
        """
        return partial(self._commit, snapshot.integrations)

    def _commit(self, integrations: Mapping[str, Integration]) -> None:
        former, self._integrations = self._integrations, integrations
        for name in [name for name in self._sources if integrations.get(name) is not former.get(name)]:
            source = self._sources.pop(name)
            source.retire()
            self._retired.add(source)
        self._fetcher.drop()

    def source(self, integration: Integration) -> TokenSource:
        """The source of an integration that is served now, always the same one; on the event loop."""
        found = self._sources.get(integration.id)
        if found is None:
            fetch = self._fetch_for(integration)
            found = self._sources[integration.id] = TokenSource(integration, fetch, self._metrics, self._report)
        return found

    def _fetch_for(self, integration: Integration) -> Fetch:
        certificate = self._identity_of(integration)

        async def fetch(call: Call) -> Reply:
            # Asked for with each call: it may have been rotated since the last.
            identity = None if certificate is None else certificate.identity or await certificate.obtain()
            return await self._fetcher.fetch(
                call,
                trust=integration.trust,
                allow_private=integration.allow_private,
                source_address=integration.source_address,
                timeout=TOKEN_TIMEOUT,
                largest=LARGEST_RESPONSE,
                identity=identity,
            )

        return fetch

    async def close(self) -> None:
        """Cancel every timer and every call under way, those of retired sources too."""
        await asyncio.gather(*(source.close() for source in (*self._sources.values(), *self._retired)))
        self._fetcher.close()
