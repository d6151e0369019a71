"""Dial loopback servers, for tests of the dialer."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import TypeVar, cast

import pytest

from sidekey.credentials.certificates.identity import ClientIdentity
from sidekey.errors import Problem, ProblemError
from sidekey.network.dial import Dialer
from sidekey.network.resolve import Resolver
from sidekey.network.tls_sessions import Sessions
from sidekey.policy.addresses import Address, AllowPrivate, Network
from sidekey.policy.urls import Origin
from sidekey.snapshot.egress import Egress
from sidekey.snapshot.snapshot import NetworkRules
from support.leak_check import assert_no_leaks
from support.private_ca import Authority
from support.raw_connection import DEADLINE

P = TypeVar("P", bound=asyncio.Protocol)
LOOPBACK: tuple[Network, ...] = (ip_network("127.0.0.0/8"),)
HOSTS = {
    "up.test": ("127.0.0.1",),
    "dead-first.test": ("127.0.0.2", "127.0.0.1"),
    "mixed.test": ("10.0.0.1", "169.254.169.254", "127.0.0.1"),
    "private.test": ("10.0.0.1", "192.168.0.1"),
    "metadata.test": ("169.254.169.254",),
}
RULES = NetworkRules(hosts=HOSTS, allow_private=LOOPBACK)


class RecordingProtocol(asyncio.Protocol):
    """Either end of a connection, which records its events."""

    transport: asyncio.Transport
    """Cast, because uvloop's transports do not inherit from asyncio's."""

    def __init__(self, on_connected: Callable[[asyncio.Transport], None] = lambda transport: None) -> None:
        self._on_connected = on_connected
        self.lost = asyncio.get_running_loop().create_future()
        """The exception that ended the connection, or None."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._on_connected(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


class LoopbackDialer:
    """A dialer with default arguments."""

    def __init__(self, ca: Authority, rules: NetworkRules = RULES, resolver: Resolver | None = None) -> None:
        self.dialer = Dialer(rules, resolver=resolver)
        self.trust = ca.trust

    async def connect(
        self,
        url: str,
        port: int,
        timeout: float = DEADLINE,
        allow_private: AllowPrivate = (),
    ) -> RecordingProtocol:
        """Connect to `scheme://host` on a port. The caller closes the connection."""
        return await self.connect_as(RecordingProtocol, url, port, timeout, allow_private)

    async def connect_as(
        self,
        factory: Callable[[], P],
        url: str,
        port: int,
        timeout: float = DEADLINE,
        allow_private: AllowPrivate = (),
        identity: ClientIdentity | None = None,
        sessions: Sessions | None = None,
        source_address: Address | None = None,
    ) -> P:
        """Connect with a protocol and further arguments of the dialer."""
        scheme, _, host = url.partition("://")
        return await self.dialer.connect(
            factory,
            Origin(scheme, host, port),
            Egress(self.trust, allow_private, source_address),
            timeout=timeout,
            identity=identity,
            sessions=sessions,
        )

    async def failure(self, url: str, port: int, timeout: float = DEADLINE) -> Problem:
        """Return the problem of a dial that must fail, without leaving anything open and without the library's text."""
        async with assert_no_leaks():
            with pytest.raises(ProblemError) as failed:
                await self.connect(url, port, timeout)
        raised, problem = failed.value, failed.value.problem
        assert raised.__cause__ is None
        assert raised.__context__ is None or raised.__suppress_context__
        assert problem.sent == "no"
        assert "127.0.0" not in problem.detail
        return problem


def summary(problem: Problem) -> tuple[str, int, str]:
    """Return code, status and Proxy-Status error."""
    return problem.code, problem.status, problem.error


@asynccontextmanager
async def upstream(
    context: ssl.SSLContext | None = None, host: str = "127.0.0.1", greeting: bytes = b""
) -> AsyncIterator[int]:
    """Run a server that greets, and return its port."""

    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: RecordingProtocol(lambda connection: connection.write(greeting)), host, 0, ssl=context
    )
    async with server:
        yield server.sockets[0].getsockname()[1]
