"""Connect by TCP to the first of several addresses that accepts ("Happy Eyeballs", RFC 8305)."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain, zip_longest

from sidekey.errors import Problem, ProblemError
from sidekey.network.source_address import AbsentSource, NoPort, bind, local_error
from sidekey.policy.addresses import Address

ATTEMPT_DELAY = 0.25
"""Seconds to wait for an attempt before the next one starts (RFC 8305 5, "Connection Attempt Delay")."""

LATE = Problem("upstream_timeout", "the connection to the upstream took too long", error="connection_timeout")

_NO_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


async def first_connected(addresses: Sequence[Address], port: int, source: Address | None = None) -> socket.socket:
    """Connect a non-blocking socket to one of the addresses, of which there must be at least one.

    If `source` is set, it becomes the local address, and all addresses must be of its family. The caller must close the
    socket. Raises ProblemError: upstream_unreachable (connection_refused, destination_unavailable), upstream_timeout if
    the kernel gave up, or overloaded if the process has no sockets left or the machine no port.
    """
    attempts = _Attempts(addresses, port, source)
    try:
        attempts.start_next()
        await attempts.done
        connected, attempts.connected = attempts.connected, None
    finally:
        attempts.close()
    if connected is None:
        raise ProblemError(connect_problem(attempts.errors)) from None
    return connected


def interleave(addresses: Iterable[Address]) -> list[Address]:
    """Alternate IPv4 and IPv6, starting with the family of the first address (RFC 8305 4)."""
    families: dict[int, list[Address]] = {}
    for address in addresses:
        families.setdefault(address.version, []).append(address)
    return [address for address in chain.from_iterable(zip_longest(*families.values())) if address is not None]


class _Attempts:
    """Connection attempts: sockets that the loop watches. `done` resolves when one connects or all have failed.

    It needs no tasks, and avoids `sock_connect`: uvloop's resolves the address in a thread, which costs more than all
    the rest.
    """

    def __init__(self, addresses: Sequence[Address], port: int, source: Address | None) -> None:
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self._loop.create_future()
        self.connected: socket.socket | None = None
        self.errors: list[OSError] = []
        self._waiting = deque(interleave(addresses))
        self._port = port
        self._source = source
        self._pending: set[socket.socket] = set()
        self._timer: asyncio.TimerHandle | None = None

    def start_next(self) -> None:
        """Start the next attempt. If it fails at once, start the one after it."""
        self._stop_timer()
        while self._waiting and not self.done.done():
            address = self._waiting.popleft()
            try:
                self._start(address)
            except OSError as error:
                self.errors.append(local_error(error, address, self._source))
                continue
            if self._waiting:
                self._timer = self._loop.call_later(ATTEMPT_DELAY, self.start_next)
            return
        if not self._pending and not self.done.done():
            self.done.set_result(None)

    def _start(self, address: Address) -> None:
        attempt = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
        try:
            attempt.setblocking(False)
            attempt.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._source is not None:
                bind(attempt, self._source)
            with suppress(BlockingIOError):
                attempt.connect((str(address), self._port))
        except BaseException:
            attempt.close()
            raise
        self._pending.add(attempt)
        self._loop.add_writer(attempt, self._finish, attempt)

    def _finish(self, attempt: socket.socket) -> None:
        """Read the result of an attempt from the kernel."""
        self._loop.remove_writer(attempt)
        self._pending.remove(attempt)
        error_number = attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error_number or self.done.done():
            attempt.close()
            self.errors.append(OSError(error_number, "an attempt to connect has failed"))
            self.start_next()
        else:
            self.connected = attempt
            self.done.set_result(None)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """Close every remaining socket, including a connected one that the caller has not taken."""
        self._stop_timer()
        for attempt in self._pending:
            self._loop.remove_writer(attempt)
            attempt.close()
        if self.connected is not None:
            self.connected.close()


def connect_problem(errors: Sequence[OSError]) -> Problem:
    """Return one problem for the errors of all addresses.

    The most specific error wins: one of the source address, no local resources, a refused connection (the host is up),
    a timeout, any other.
    """
    numbers = {error.errno for error in errors}
    if any(isinstance(error, AbsentSource) for error in errors):
        return Problem(
            "upstream_unreachable",
            "source_address is not an address of this machine",
            error="destination_unavailable",
        )
    if any(isinstance(error, NoPort) for error in errors):
        return Problem(
            "overloaded",
            "this machine has no local port left for another connection to the upstream",
            headers=(("Retry-After", "1"),),
        )
    if numbers & _NO_RESOURCES:
        return Problem(
            "overloaded",
            "Sidekey has no sockets left for another upstream connection",
            headers=(("Retry-After", "1"),),
        )
    if errno.ECONNREFUSED in numbers:
        return Problem("upstream_unreachable", "the upstream refused the connection", error="connection_refused")
    if errno.ETIMEDOUT in numbers:
        return LATE
    return Problem("upstream_unreachable", "the upstream is unreachable", error="destination_unavailable")
