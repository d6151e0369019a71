"""Look up the host of a target, for commands that explain its way."""

from __future__ import annotations

import asyncio
from typing import Final

from sidekey.errors import ProblemError
from sidekey.network.resolve import Resolver
from sidekey.policy.addresses import Address
from sidekey.snapshot.egress import Egress
from sidekey.snapshot.snapshot import Snapshot

_DNS_TIMEOUT: Final = 2.0
"""Seconds until a lookup times out."""


def look_up(snapshot: Snapshot, host: str) -> tuple[Address, ...]:
    """Look up a host as a running Sidekey would, or return no addresses if the lookup fails."""

    async def main() -> tuple[Address, ...]:
        return await Resolver(snapshot.network).resolve(host, asyncio.get_running_loop().time() + _DNS_TIMEOUT)

    try:
        return asyncio.run(main())
    except ProblemError:
        # No DNS here, or no such name: the explanation then leaves out addresses.
        return ()


def look_up_target(snapshot: Snapshot, host: str, egress: Egress) -> tuple[Address, ...]:
    """Look up the host of a target, unless a parent proxy resolves it."""
    return () if snapshot.network.leaves_name(host, egress) else look_up(snapshot, host)
