"""`sidekey check` of client certificates at URLs: fetches each of them once, and reports its errors and warnings."""

from __future__ import annotations

import asyncio
import time

from sidekey.app import own_listeners
from sidekey.credentials.fields import Keys, SecretUnreadable
from sidekey.network.dial import Dialer
from sidekey.network.fetch import Fetcher
from sidekey.runtime.snapshot import Integration, Snapshot
from sidekey.settings.load import Loaded
from sidekey.settings.local_address import is_local
from sidekey.sources.certificates.url_fetch import AT_ONCE, UrlFetch

Reasons = dict[Keys, str]
"""Why something was not fetched, by its place in the integration."""


def check_urls(loaded: Loaded) -> None:
    """Add to a config without errors what cannot be fetched, and the errors and warnings of what can.

    What would leave from an address that this machine does not have is not fetched: `Loaded.absent` tells of it.
    """
    snapshot = loaded.snapshot
    if snapshot is None:
        raise ValueError("the URLs of a config with errors must not be fetched")
    names = [name for name in loaded.places if _may_leave(snapshot, name)]
    unfetched = asyncio.run(_fetch_all(snapshot, names))
    for name, reasons in unfetched.items():
        places = loaded.places[name]
        errors, warnings = loaded.fetched(name)
        # Of what was not fetched there is nothing else to report.
        silent = {places[place] for place in reasons}
        loaded.unreadable += [error for error in errors if error._replace(message="") not in silent]
        loaded.unreadable += [places[place]._replace(message=reason) for place, reason in reasons.items()]
        loaded.warnings += warnings
    for found in (loaded.unreadable, loaded.warnings):
        found[:] = sorted(set(found))


def _may_leave(snapshot: Snapshot, name: str) -> bool:
    source = snapshot.integrations[name].source_address or snapshot.network.source_address
    return source is None or is_local(source)


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
