"""TCP connections: the first of several addresses that answers (RFC 8305, "happy eyeballs")."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import chain, zip_longest

from sidekey.core.addresses import Address
from sidekey.errors import Problem

HEAD_START = 0.25
"""Seconds an attempt has before the next one starts beside it (RFC 8305 5, "Connection Attempt Delay")."""

_OUT_OF_SOCKETS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


async def first_connected(addresses: Sequence[Address], port: int) -> socket.socket:
    """Connect a non-blocking socket to one of the addresses, of which there is at least one.

    The socket is the caller's to close; every other socket is closed by the end. Raises Problem: upstream_unreachable
    (connection_refused, destination_unavailable), upstream_timeout where the kernel gave up, or overloaded where
    this process has no sockets left.
    """
    waiting = deque(interleave(addresses))
    attempts: set[asyncio.Task[socket.socket]] = set()
    faults: list[OSError] = []
    try:
        if len(waiting) == 1:
            return await _connected(waiting[0], port)
        while waiting or attempts:
            if waiting:
                attempts.add(asyncio.create_task(_connected(waiting.popleft(), port)))
            ended, _ = await asyncio.wait(
                attempts,
                timeout=HEAD_START if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for attempt in ended:
                attempts.discard(attempt)
                fault = attempt.exception()
                if fault is None:
                    return attempt.result()
                if not isinstance(fault, OSError):
                    raise fault
                faults.append(fault)
    except OSError as fault:
        faults.append(fault)
    finally:
        for attempt in attempts:
            attempt.cancel()
            attempt.add_done_callback(_close_loser)
    raise most_telling(faults) from None


def interleave(addresses: Iterable[Address]) -> list[Address]:
    """Alternate the families, beginning with that of the first address (RFC 8305 4)."""
    families: dict[int, list[Address]] = {}
    for address in addresses:
        families.setdefault(address.version, []).append(address)
    return [address for address in chain.from_iterable(zip_longest(*families.values())) if address is not None]


async def _connected(address: Address, port: int) -> socket.socket:
    connection = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(connection, (str(address), port))
    except BaseException:
        connection.close()
        raise
    return connection


def _close_loser(attempt: asyncio.Task[socket.socket]) -> None:
    """Close what an attempt connected after all; asking for its exception marks that as seen."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


def most_telling(faults: Iterable[OSError]) -> Problem:
    """One answer for all failures: our own lack, then a refusal (the host is alive), then a timeout, then the rest."""
    numbers = {fault.errno for fault in faults}
    if numbers & _OUT_OF_SOCKETS:
        return Problem(
            "overloaded",
            "Sidekey has no sockets left for another upstream connection",
            headers=(("Retry-After", "1"),),
        )
    if errno.ECONNREFUSED in numbers:
        return Problem("upstream_unreachable", "the upstream refused the connection", error="connection_refused")
    if errno.ETIMEDOUT in numbers:
        return Problem(
            "upstream_timeout",
            "the connection to the upstream took too long",
            error="connection_timeout",
        )
    return Problem("upstream_unreachable", "no way leads to the upstream", error="destination_unavailable")
