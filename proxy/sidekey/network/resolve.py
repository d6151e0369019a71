"""Resolve host names: literals, `network.hosts`, the hosts file, then DNS. Search domains need `network.search`.

The resolver does not check the addresses. The dialer does (`guard`), so literals cannot bypass the check.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from pathlib import Path

from sidekey.errors import Problem, ProblemError
from sidekey.policy.addresses import Address, parse_address
from sidekey.refresh import Failed, SingleFlight
from sidekey.snapshot.snapshot import NetworkRules

HostsTable = dict[str, tuple[Address, ...]]


class HostsFile:
    """A hosts file. An absent or unreadable file counts as empty, as for the C library."""

    def __init__(self, path: Path = Path("/etc/hosts")) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._table: HostsTable = {}

    def addresses(self, name: str) -> tuple[Address, ...]:
        """Return the addresses of a name (lower case) in the order of the file."""
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp != self._stamp:
                self._table = parse_hosts(self._path.read_text("utf-8", "replace"))
                self._stamp = stamp
        except OSError:
            self._table, self._stamp = {}, None
        return self._table.get(name, ())


def parse_hosts(text: str) -> HostsTable:
    """Parse lines of the form `ADDRESS NAME...`, and skip comments (`#`) and lines without a valid address.

    A name on several lines has the addresses of all its lines.
    """
    table: HostsTable = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        try:
            parsed = ip_address(address)
        except ValueError:
            continue
        for name in map(str.lower, names):
            table[name] = tuple(dict.fromkeys((*table.get(name, ()), parsed)))
    return table


MAX_LOOKUPS = 32
"""Parallel DNS lookups. Each name uses one, so only that many hanging names delay other names."""

Lookup = Callable[[str], tuple[Address, ...]]
"""A blocking lookup. It returns the addresses of a name, or raises OSError (socket.gaierror)."""


def system_lookup(name: str) -> tuple[Address, ...]:
    """Look up a name with the C library, so that it resolves as in every other program on the machine."""
    infos = socket.getaddrinfo(name.encode("ascii"), None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return tuple(dict.fromkeys(ip_address(str(sockaddr[0])) for *_, sockaddr in infos))


_Outcome = tuple[Address, ...] | Failed[str]
"""The addresses of a name, or the reason why there are none."""

_ABSENT = Failed("the target's host name has no address in DNS")
_FAILED = Failed("the lookup of the target's host name failed")
_NO_THREAD = Failed("the lookup of the target's host name could not start: the process is at its limit of threads")


class Resolver:
    """Resolves names for one event loop.

    getaddrinfo cannot be cancelled. It runs in daemon threads of the resolver, so a DNS server that hangs delays
    neither the loop's default executor nor the end of the process. Concurrent requests for a name share one lookup.
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
        self._lookups: dict[str, SingleFlight[tuple[Address, ...], str]] = {}
        self._threads = asyncio.Semaphore(MAX_LOOKUPS)

    def with_rules(self, rules: NetworkRules) -> Resolver:
        """Return a resolver for other rules, with the same hosts file and lookup function but no pending lookup."""
        return Resolver(rules, hosts_file=self._hosts_file, lookup=self._lookup)

    async def resolve(self, host: str, deadline: float) -> tuple[Address, ...]:
        """Return the addresses of `host` (lower case): at least one, in order of preference.

        `deadline` is on the running loop's clock. Raises ProblemError upstream_unreachable (dns_error or dns_timeout).
        """
        address = parse_address(host)
        if address is not None:
            return (address,)
        addresses = self._static.get(host) or self._hosts_file.addresses(host)
        if addresses:
            return addresses
        try:
            async with asyncio.timeout_at(deadline):
                outcome = await self._look_up_shared(host)
        except TimeoutError:
            raise ProblemError(
                Problem(
                    "upstream_unreachable",
                    "the lookup of the target's host name took too long",
                    status=504,
                    error="dns_timeout",
                )
            ) from None
        if isinstance(outcome, Failed):
            raise ProblemError(Problem("upstream_unreachable", outcome.error, error="dns_error"))
        return outcome

    async def _look_up_shared(self, host: str) -> _Outcome:
        lookup = self._lookups.get(host)
        if lookup is None:
            lookup = self._lookups[host] = SingleFlight()
        return await lookup.start_or_wait(partial(self._look_up, host, lookup))

    async def _look_up(self, host: str, lookup: SingleFlight[tuple[Address, ...], str]) -> _Outcome:
        """Wait for a free thread and look up the name in it, unless no request waits for the name any more."""
        try:
            await self._threads.acquire()
            if lookup.waiting:
                return await self._look_up_in_thread(host)
            self._threads.release()
            return _FAILED
        finally:
            # Results are not cached: the next request for the name starts another lookup.
            del self._lookups[host]

    async def _look_up_in_thread(self, host: str) -> _Outcome:
        loop = asyncio.get_running_loop()
        result: asyncio.Future[_Outcome] = loop.create_future()
        thread = threading.Thread(target=self._run_lookup, args=(host, loop, result), name="sidekey-dns", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            self._threads.release()
            return _NO_THREAD
        return await result

    def _run_lookup(self, host: str, loop: asyncio.AbstractEventLoop, result: asyncio.Future[_Outcome]) -> None:
        outcome: _Outcome = _FAILED
        try:
            # A trailing dot makes the name absolute, so the C library tries no search domain (RFC 1034 3.1).
            outcome = self._lookup(host if self._search else f"{host}.") or _ABSENT
        except OSError as error:
            if error.errno in (socket.EAI_NONAME, socket.EAI_NODATA):
                outcome = _ABSENT
        finally:
            # RuntimeError: the loop was closed meanwhile, so no task waits.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._finish, result, outcome)

    def _finish(self, result: asyncio.Future[_Outcome], outcome: _Outcome) -> None:
        self._threads.release()
        # The loop cancels the waiting task when it ends.
        if not result.cancelled():
            result.set_result(outcome)
