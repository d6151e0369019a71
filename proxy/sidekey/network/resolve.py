"""Names to addresses: literals, `network.hosts`, the hosts file, then DNS as an absolute name.

The answers are not judged here: whoever dials must do that (`guard`), so that literals cannot pass by it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address

from sidekey.core.addresses import Address, literal
from sidekey.errors import Problem, ProblemError
from sidekey.network.hosts import HostsFile
from sidekey.settings.snapshot import NetworkRules

MAX_LOOKUPS = 32
"""DNS lookups at a time. One name takes one of them, so that only as many hanging names can hold up the rest."""

Lookup = Callable[[str], tuple[Address, ...]]
"""Blocking: the addresses of a name, raising OSError (socket.gaierror) where there are none."""


def system_lookup(name: str) -> tuple[Address, ...]:
    """Ask the C library's resolver."""
    found = socket.getaddrinfo(name.encode("ascii"), None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return tuple(dict.fromkeys(ip_address(str(sockaddr[0])) for *_, sockaddr in found))


@dataclass(frozen=True, slots=True)
class _Answer:
    addresses: tuple[Address, ...] = ()
    fault: str = ""


_ABSENT = _Answer(fault="the target's host name has no address in DNS")
_FAILED = _Answer(fault="the lookup of the target's host name failed")
_NO_THREAD = _Answer(
    fault="the lookup of the target's host name could not start: the process is at its limit of threads"
)


@dataclass(slots=True, eq=False)
class _Flight:
    """One lookup of a name that any number of callers wait for."""

    host: str
    landed: asyncio.Future[_Answer]
    waiting: int = 0


class Resolver:
    """Resolves names for one event loop.

    getaddrinfo cannot be cancelled: it runs in daemon threads of our own, so that a DNS server that hangs delays
    neither the loop's default executor nor the end of the process.
    """

    def __init__(
        self,
        rules: NetworkRules,
        *,
        hosts_file: HostsFile | None = None,
        lookup: Lookup = system_lookup,
    ) -> None:
        self._static = {name: tuple(map(ip_address, texts)) for name, texts in rules.hosts.items()}
        self._search = rules.search
        self._hosts_file = HostsFile() if hosts_file is None else hosts_file
        self._lookup = lookup
        self._flights: dict[str, _Flight] = {}
        self._queue: deque[_Flight] = deque()
        self._running = 0

    def renewed(self, rules: NetworkRules) -> Resolver:
        """One for other rules, which shares no lookup with this one but looks names up in the same way."""
        return Resolver(rules, hosts_file=self._hosts_file, lookup=self._lookup)

    async def resolve(self, host: str, deadline: float) -> tuple[Address, ...]:
        """Find the addresses of `host` (lower case): at least one, in order of preference.

        `deadline` is on the running loop's clock. Raises ProblemError upstream_unreachable: dns_error, or dns_timeout.
        """
        spelled = literal(host)
        if spelled is not None:
            return (spelled,)
        known = self._static.get(host) or self._hosts_file.addresses(host)
        if known:
            return known
        try:
            async with asyncio.timeout_at(deadline):
                answer = await self._join(host)
        except TimeoutError:
            raise ProblemError(
                Problem(
                    "upstream_unreachable",
                    "the lookup of the target's host name took too long",
                    status=504,
                    error="dns_timeout",
                )
            ) from None
        if answer.fault:
            raise ProblemError(Problem("upstream_unreachable", answer.fault, error="dns_error"))
        return answer.addresses

    async def _join(self, host: str) -> _Answer:
        flight = self._flights.get(host)
        if flight is None:
            flight = self._flights[host] = _Flight(host, asyncio.get_running_loop().create_future())
            self._queue.append(flight)
        flight.waiting += 1
        try:
            self._start_queued()
            return await asyncio.shield(flight.landed)
        finally:
            flight.waiting -= 1

    def _start_queued(self) -> None:
        while self._queue and self._running < MAX_LOOKUPS:
            flight = self._queue.popleft()
            if not flight.waiting:
                del self._flights[flight.host]
                continue
            self._running += 1
            work = threading.Thread(
                target=self._work,
                args=(flight, asyncio.get_running_loop()),
                name="sidekey-dns",
                daemon=True,
            )
            try:
                work.start()
            except RuntimeError:
                self._running -= 1
                self._land(flight, _NO_THREAD)

    def _work(self, flight: _Flight, loop: asyncio.AbstractEventLoop) -> None:
        answer = _FAILED
        try:
            # The trailing dot makes the name absolute: no search domain is ever tried (RFC 1034 3.1).
            addresses = self._lookup(flight.host if self._search else f"{flight.host}.")
            answer = _Answer(addresses) if addresses else _ABSENT
        except OSError as fault:
            if fault.errno in (socket.EAI_NONAME, socket.EAI_NODATA):
                answer = _ABSENT
        finally:
            # A loop that was closed meanwhile has nobody who waits.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._finish, flight, answer)

    def _finish(self, flight: _Flight, answer: _Answer) -> None:
        self._running -= 1
        self._land(flight, answer)
        self._start_queued()

    def _land(self, flight: _Flight, answer: _Answer) -> None:
        del self._flights[flight.host]
        flight.landed.set_result(answer)
