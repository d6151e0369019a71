"""The token sources of a process, and how their calls are made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from weakref import WeakSet

from sidekey.credentials.base import Call, Reply
from sidekey.credentials.certificates.identity import ClientIdentity, IdentitySource
from sidekey.network.fetch import Fetcher
from sidekey.observe.metrics import Metrics
from sidekey.snapshot.snapshot import Integration, Snapshot
from sidekey.tokens.flow import Fetch
from sidekey.tokens.ledger import Ledger
from sidekey.tokens.shared import TokenLeases
from sidekey.tokens.source import TokenSource

TOKEN_TIMEOUT = 10.0
"""Seconds for one call, from the lookup to the response's last byte."""

MAX_RESPONSE_SIZE = 1 << 20
"""Bytes of a response's body that are read."""


class Tokens:
    """Creates the token source of each integration, whose calls `fetcher` makes under the integration's network rules.

    `identity_of` returns the source of an integration's client certificate. Every call offers the certificate: it may
    authenticate the client (RFC 8705 2), or the token may be bound to it (RFC 8705 3). `ledger` serializes the calls of
    processes that share a token. It is None without a store. `report` logs a defect, returns the ID of its log line and
    must not raise.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        metrics: Metrics,
        report: Callable[[BaseException], str],
        *,
        identity_of: Callable[[Integration], IdentitySource | None],
        ledger: Ledger | None = None,
    ) -> None:
        self._fetcher = fetcher
        self._identity_of = identity_of
        self._metrics = metrics
        self._report = report
        self._leases = None if ledger is None else TokenLeases(ledger)
        self._integrations: Mapping[str, Integration] = MappingProxyType({})
        self._sources: dict[str, TokenSource] = {}
        self._previous: dict[str, TokenSource] = {}
        """Sources of changed integrations, until their new source is created."""
        self._retired: WeakSet[TokenSource] = WeakSet()

    def prepare(self, snapshot: Snapshot) -> Callable[[], None]:
        """Prepare for a new snapshot. The returned commit retires the sources of changed integrations.

        An integration is unchanged only if it is the same object. New sources are created on first use.
        """
        return partial(self._commit, snapshot.integrations)

    def _commit(self, integrations: Mapping[str, Integration]) -> None:
        previous, self._integrations = self._integrations, integrations
        for name in [name for name in self._sources if integrations.get(name) is not previous.get(name)]:
            source = self._previous[name] = self._sources.pop(name)
            source.retire()
            self._retired.add(source)
        for name in [name for name in self._previous if not _uses_tokens(integrations.get(name))]:
            del self._previous[name]

    def source(self, integration: Integration) -> TokenSource:
        """Return the one source of an integration of the current snapshot. Call it on the event loop."""
        name = integration.id
        source = self._sources.get(name)
        if source is None:
            certificate = self._identity_of(integration)
            source = self._sources[name] = TokenSource(
                integration,
                self._fetch_for(integration, certificate),
                self._metrics,
                self._report,
                ready=partial(_obtain_identity, certificate),
                previous=self._previous.pop(name, None),
                leases=self._leases if integration.traits.needs_lease else None,
            )
        return source

    def _fetch_for(self, integration: Integration, certificate: IdentitySource | None) -> Fetch:
        async def fetch(call: Call) -> Reply:
            return await self._fetcher.fetch(
                call,
                integration.egress,
                timeout=TOKEN_TIMEOUT,
                max_size=MAX_RESPONSE_SIZE,
                # Obtained for each call, because it may have been rotated since the last.
                identity=await _obtain_identity(certificate),
            )

        return fetch

    async def close(self) -> None:
        """Cancel every timer and running call, also of retired sources.

        Begin no call with a shared refresh token any more, and wait for the running ones.
        """
        if self._leases is not None:
            self._leases.end()
        await asyncio.gather(*(source.close() for source in (*self._sources.values(), *self._retired)))
        if self._leases is not None:
            await self._leases.close(self._report)


def _uses_tokens(integration: Integration | None) -> bool:
    return integration is not None and integration.traits.grants_expire


async def _obtain_identity(certificate: IdentitySource | None) -> ClientIdentity | None:
    """Return the client certificate to present, or None without one. Raises ProblemError."""
    return None if certificate is None else certificate.identity or await certificate.obtain()
