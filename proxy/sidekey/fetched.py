"""`sidekey check` of what lies behind URLs: fetches every client certificate once, and says what is wrong with it."""

from __future__ import annotations

import asyncio
import time

from sidekey.app import own_listeners
from sidekey.credentials.fields import Keys, SecretUnreadable
from sidekey.network.dial import Dialer
from sidekey.network.fetch import Fetcher
from sidekey.settings.load import Loaded
from sidekey.settings.snapshot import Integration, Snapshot
from sidekey.sources.certificates.url_fetch import AT_ONCE, UrlFetch

Reasons = dict[Keys, str]
"""Why something was not fetched, by its place in the integration."""


def judge_fetched(loaded: Loaded) -> None:
    """Add to a config without faults what cannot be fetched, or is faulty or remarkable once it is."""
    snapshot = loaded.snapshot
    if snapshot is None:
        raise ValueError("what a config with faults names is not fetched")
    unfetched = asyncio.run(_fetch_all(snapshot, list(loaded.places)))
    for name, places in loaded.places.items():
        faults, warnings = loaded.fetched(name)
        reasons = unfetched[name]
        # Of what did not come there is nothing else to say.
        silent = {places[place] for place in reasons}
        loaded.unreadable += [fault for fault in faults if fault._replace(message="") not in silent]
        loaded.unreadable += [places[place]._replace(message=reason) for place, reason in reasons.items()]
        loaded.warnings += warnings
    for found in (loaded.unreadable, loaded.warnings):
        found[:] = sorted(set(found))


async def _fetch_all(snapshot: Snapshot, names: list[str]) -> dict[str, Reasons]:
    """Fetch for these integrations at once, under the rules of a running Sidekey, and have it judged."""
    dialer = Dialer(snapshot.network)
    where = snapshot.listen
    dialer.own_listeners = own_listeners((where.proxy, where.admin, where.metrics))
    fetcher, slots = Fetcher(dialer), asyncio.Semaphore(AT_ONCE)

    async def fetch(integration: Integration) -> Reasons:
        certificate = integration.certificate
        if certificate is None:
            return {}
        try:
            await UrlFetch(integration, certificate, fetcher, slots).fetch()
        except SecretUnreadable as fault:
            return dict(fault.reasons)
        finally:
            certificate.load(time.time())
        return {}

    found = await asyncio.gather(*(fetch(snapshot.integrations[name]) for name in names))
    return dict(zip(names, found, strict=True))
