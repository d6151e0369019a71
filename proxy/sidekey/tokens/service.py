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
    """Makes the token source of each integration, whose calls `fetcher` makes under the integration's own rules.

    `identity_of` finds where an integration's client certificate is, if it has one: every call offers it, since it may
    authenticate the client (RFC 8705 2) or be what the token is bound to (RFC 8705 3). `ledger` is where processes take
    turns that must call one at a time; None where there is no store. `report` is passed every defect, returns the id
    under which it is logged, and must not raise.
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
        self._turns = None if ledger is None else TokenLeases(ledger)
        self._integrations: Mapping[str, Integration] = MappingProxyType({})
        self._sources: dict[str, TokenSource] = {}
        self._former: dict[str, TokenSource] = {}
        """Of integrations that were changed, until their new source is asked for."""
        self._retired: WeakSet[TokenSource] = WeakSet()

    def prepare(self, snapshot: Snapshot) -> Callable[[], None]:
        """Get ready to serve the integrations of another snapshot; the result does so from then on.

        It retires the sources of integrations that are not the very same objects as before. Their successors are made
        when they are asked for, and take over what they may: there is nothing here to prepare that could fail.
        """
        return partial(self._commit, snapshot.integrations)

    def _commit(self, integrations: Mapping[str, Integration]) -> None:
        former, self._integrations = self._integrations, integrations
        for name in [name for name in self._sources if integrations.get(name) is not former.get(name)]:
            source = self._former[name] = self._sources.pop(name)
            source.retire()
            self._retired.add(source)
        for name in [name for name in self._former if not _has_token(integrations.get(name))]:
            del self._former[name]

    def source(self, integration: Integration) -> TokenSource:
        """The source of an integration that is served now, always the same one; on the event loop."""
        name = integration.id
        found = self._sources.get(name)
        if found is None:
            certificate = self._identity_of(integration)
            found = self._sources[name] = TokenSource(
                integration,
                self._fetch_for(integration, certificate),
                self._metrics,
                self._report,
                ready=partial(_present, certificate),
                former=self._former.pop(name, None),
                turns=self._turns if integration.traits.one_at_a_time else None,
            )
        return found

    def _fetch_for(self, integration: Integration, certificate: IdentitySource | None) -> Fetch:
        async def fetch(call: Call) -> Reply:
            return await self._fetcher.fetch(
                call,
                trust=integration.trust,
                allow_private=integration.allow_private,
                source_address=integration.source_address,
                timeout=TOKEN_TIMEOUT,
                largest=MAX_RESPONSE_SIZE,
                # Asked for with each call: it may have been rotated since the last.
                identity=await _present(certificate),
            )

        return fetch

    async def close(self) -> None:
        """Cancel every timer and every call under way, those of retired sources too.

        A call that may spend what processes share is waited for, and none is begun any more.
        """
        if self._turns is not None:
            self._turns.end()
        await asyncio.gather(*(source.close() for source in (*self._sources.values(), *self._retired)))
        if self._turns is not None:
            await self._turns.close(self._report)


def _has_token(integration: Integration | None) -> bool:
    """Whether it has a token, or will have one."""
    return integration is not None and integration.traits.ends


async def _present(certificate: IdentitySource | None) -> ClientIdentity | None:
    """The client certificate to present; None where there is none. Raises ProblemError."""
    return None if certificate is None else certificate.identity or await certificate.obtain()
