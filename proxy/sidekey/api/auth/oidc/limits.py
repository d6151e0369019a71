"""Rate limit of log-ins by address. A limit for the whole process would let anybody lock everybody out."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import ceil
from typing import Final

from sidekey.api.auth.oidc.errors import TooManyLogins
from sidekey.policy.addresses import parse_address, unwrap

_MAX_PARALLEL: Final = 4
_MAX_PER_MINUTE: Final = 10
_MINUTE: Final = 60.0

_MAX_WAIT: Final = 5.0
"""Seconds that a log-in waits for others from its address."""

_MAX_ADDRESSES: Final = 1000


@dataclass(slots=True)
class _Address:
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_MAX_PARALLEL))
    started: deque[float] = field(default_factory=deque)


class LoginLimits:
    """Limits log-ins of the most recent addresses. An IPv6 /64 counts as one address."""

    def __init__(self) -> None:
        self._addresses: OrderedDict[str | bytes, _Address] = OrderedDict()

    @asynccontextmanager
    async def slot(self, address: str) -> AsyncIterator[None]:
        """Wait for a slot of the address, and release it at the end. Raises TooManyLogins."""
        network = _network(address)
        limit = self._addresses.setdefault(network, _Address())
        self._addresses.move_to_end(network)
        if len(self._addresses) > _MAX_ADDRESSES:
            self._addresses.popitem(last=False)
        now = time.monotonic()
        while limit.started and now - limit.started[0] >= _MINUTE:
            limit.started.popleft()
        if len(limit.started) >= _MAX_PER_MINUTE:
            raise TooManyLogins(ceil(limit.started[0] + _MINUTE - now))
        limit.started.append(now)
        try:
            async with asyncio.timeout(_MAX_WAIT):
                await limit.slots.acquire()
        except TimeoutError:
            raise TooManyLogins(1) from None
        try:
            yield
        finally:
            limit.slots.release()


def _network(source: str) -> str | bytes:
    """Return the IPv4 address of a source, or its IPv6 /64: hosts choose the other half at will."""
    address = parse_address(source.partition(" ")[0].partition("%")[0])
    return source if address is None else unwrap(address).packed[:8]
