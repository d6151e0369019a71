"""Limits of log-ins for each address. A limit of the whole process would let anybody lock everybody out."""

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
from sidekey.policy.addresses import literal, unwrap

_MAX_PARALLEL: Final = 4
_IN_A_MINUTE: Final = 10
_MINUTE: Final = 60.0

_MAX_WAIT: Final = 5.0
"""Seconds that a log-in waits for those of the same address."""

_MAX_ADDRESSES: Final = 1000


@dataclass(slots=True)
class _Address:
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_MAX_PARALLEL))
    begun: deque[float] = field(default_factory=deque)


class LoginLimits:
    """Counts the log-ins of the addresses that were seen last. An IPv6 /64 counts as one address."""

    def __init__(self) -> None:
        self._addresses: OrderedDict[str | bytes, _Address] = OrderedDict()

    @asynccontextmanager
    async def turn(self, address: str) -> AsyncIterator[None]:
        """Let one log-in of an address go on. Raises TooManyLogins."""
        network = _network(address)
        found = self._addresses.setdefault(network, _Address())
        self._addresses.move_to_end(network)
        if len(self._addresses) > _MAX_ADDRESSES:
            self._addresses.popitem(last=False)
        now = time.monotonic()
        while found.begun and now - found.begun[0] >= _MINUTE:
            found.begun.popleft()
        if len(found.begun) >= _IN_A_MINUTE:
            raise TooManyLogins(ceil(found.begun[0] + _MINUTE - now))
        found.begun.append(now)
        try:
            async with asyncio.timeout(_MAX_WAIT):
                await found.turns.acquire()
        except TimeoutError:
            raise TooManyLogins(1) from None
        try:
            yield
        finally:
            found.turns.release()


def _network(source: str) -> str | bytes:
    """Return an IPv4 address, or the half of an IPv6 address that a network has, for hosts choose the rest at will."""
    address = literal(source.partition(" ")[0].partition("%")[0])
    return source if address is None else unwrap(address).packed[:8]
