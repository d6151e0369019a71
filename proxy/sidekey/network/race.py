"""TCP connections: the first of several addresses that answers (RFC 8305, "happy eyeballs")."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain, zip_longest

from sidekey.core.addresses import Address
from sidekey.errors import Problem, ProblemError

HEAD_START = 0.25
"""Seconds an attempt has before the next one starts beside it (RFC 8305 5, "Connection Attempt Delay")."""

_OUT_OF_SOCKETS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


async def first_connected(addresses: Sequence[Address], port: int) -> socket.socket:
    """Connect a non-blocking socket to one of the addresses, of which there is at least one.

    The socket is the caller's to close; every other socket is closed by the end. Raises ProblemError:
    upstream_unreachable (connection_refused, destination_unavailable), upstream_timeout where the kernel gave up, or
    overloaded where this process has no sockets left.
    """
    race = _Race(addresses, port)
    try:
        race.start_next()
        await race.over
        winner, race.winner = race.winner, None
    finally:
        race.end()
    if winner is None:
        raise ProblemError(most_telling(race.faults)) from None
    return winner


def interleave(addresses: Iterable[Address]) -> list[Address]:
    """Alternate the families, beginning with that of the first address (RFC 8305 4)."""
    families: dict[int, list[Address]] = {}
    for address in addresses:
        families.setdefault(address.version, []).append(address)
    return [address for address in chain.from_iterable(zip_longest(*families.values())) if address is not None]


class _Race:
    """Attempts as sockets that the loop watches. `over` is resolved when there is a winner, or all have failed.

    There are no tasks, and no `sock_connect`: uvloop's has a thread resolve the address, at the price of all the rest.
    """

    def __init__(self, addresses: Sequence[Address], port: int) -> None:
        self._loop = asyncio.get_running_loop()
        self.over: asyncio.Future[None] = self._loop.create_future()
        self.winner: socket.socket | None = None
        self.faults: list[OSError] = []
        self._waiting = deque(interleave(addresses))
        self._port = port
        self._attempts: set[socket.socket] = set()
        self._timer: asyncio.TimerHandle | None = None

    def start_next(self) -> None:
        """Begin the next attempt, and where it fails at once the one after it."""
        self._stop_timer()
        while self._waiting and not self.over.done():
            address = self._waiting.popleft()
            try:
                self._start(address)
            except OSError as fault:
                self.faults.append(fault)
                continue
            if self._waiting:
                self._timer = self._loop.call_later(HEAD_START, self.start_next)
            return
        if not self._attempts and not self.over.done():
            self.over.set_result(None)

    def _start(self, address: Address) -> None:
        attempt = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
        try:
            attempt.setblocking(False)
            attempt.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with suppress(BlockingIOError):
                attempt.connect((str(address), self._port))
        except BaseException:
            attempt.close()
            raise
        self._attempts.add(attempt)
        self._loop.add_writer(attempt, self._told, attempt)

    def _told(self, attempt: socket.socket) -> None:
        """The kernel has come to a result."""
        self._loop.remove_writer(attempt)
        self._attempts.remove(attempt)
        fault = attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if fault or self.over.done():
            attempt.close()
            self.faults.append(OSError(fault, "an attempt to connect has failed"))
            self.start_next()
        else:
            self.winner = attempt
            self.over.set_result(None)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def end(self) -> None:
        """Close every socket that is left: the losers, and a winner whom nobody has taken."""
        self._stop_timer()
        for attempt in self._attempts:
            self._loop.remove_writer(attempt)
            attempt.close()
        if self.winner is not None:
            self.winner.close()


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
