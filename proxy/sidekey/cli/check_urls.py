"""`sidekey check` of client certificates at URLs: fetches each of them once, and reports its errors and warnings."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from sidekey.app import own_listeners
from sidekey.credentials.fields import Keys, SecretUnreadable
from sidekey.network.dial import Dialer
from sidekey.network.fetch import Fetcher
from sidekey.runtime.snapshot import Integration, Snapshot
from sidekey.settings.config_errors import Kind, Loc, error_at
from sidekey.settings.loaded import Loaded
from sidekey.settings.local_address import is_local
from sidekey.sources.certificates.url_fetch import AT_ONCE, UrlFetch

Reasons = dict[Keys, str]
"""Why something was not fetched, by its place in the integration."""


def check_urls(loaded: Loaded) -> None:
    """Add to a config without errors what cannot be fetched, and the errors and warnings of what can.

    Nothing is fetched from a source address that this machine does not have: that is a finding of its own.
    """
    snapshot, side = loaded.snapshot, loaded.files
    if snapshot is None or side is None:
        raise ValueError("the URLs of a config with errors must not be fetched")
    names = [name for name, each in side.integrations.items() if _may_fetch(each, snapshot)]
    for name, unfetched in asyncio.run(_fetch_all(snapshot, names)).items():
        certificate, raw = snapshot.integrations[name].certificate, side.entries[name].source
        if certificate is None:
            continue
        reasons = () if certificate.unreadable is None else certificate.unreadable.reasons
        # Of what was not fetched there is nothing else to report.
        further = ((loc, reason) for loc, reason in reasons if loc not in unfetched)
        found: tuple[tuple[Kind, Iterable[tuple[Loc, str]]], ...] = (
            ("unreadable", (*unfetched.items(), *further)),
            ("warning", certificate.warnings),
        )
        for kind, each in found:
            loaded.add(kind, (error_at(raw, loc, text, base=("integrations", name)) for loc, text in each))
    loaded.sort()


def _may_fetch(integration: Integration, snapshot: Snapshot) -> bool:
    certificate, source = integration.certificate, integration.source_address or snapshot.network.source_address
    return certificate is not None and bool(certificate.urls) and (source is None or is_local(source))


async def _fetch_all(snapshot: Snapshot, names: list[str]) -> dict[str, Reasons]:
    """Fetch for these integrations at once, under the rules of a running Sidekey, and check the result."""
    dialer = Dialer(snapshot.network)
    where = snapshot.listen
    dialer.own_listeners = own_listeners((where.proxy, where.admin, where.metrics))
    fetcher, slots = Fetcher(dialer, 2 * AT_ONCE), asyncio.Semaphore(AT_ONCE)

    async def fetch(integration: Integration) -> Reasons:
        certificate = integration.certificate
        if certificate is None:
            return {}
        try:
            await UrlFetch(integration, certificate, fetcher, slots).fetch()
        except SecretUnreadable as error:
            return dict(error.reasons)
        finally:
            certificate.load(time.time())
        return {}

    found = await asyncio.gather(*(fetch(snapshot.integrations[name]) for name in names))
    return dict(zip(names, found, strict=True))
