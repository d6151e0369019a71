"""Dialling an upstream: resolve, judge, connect, TLS. The one place that says where an outgoing connection may lead.

The proxy variables of the environment (`HTTPS_PROXY` and the like) play no part.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import NamedTuple, TypeVar, cast

from sidekey.core.addresses import Address, Network, literal
from sidekey.core.urls import Origin
from sidekey.credentials.identity import ClientIdentity
from sidekey.errors import Problem, ProblemError
from sidekey.network.guard import Listener, permitted
from sidekey.network.race import first_connected
from sidekey.network.resolve import Resolver
from sidekey.network.sessions import Sessions
from sidekey.network.tls import TlsContexts, tls_problem
from sidekey.network.tls_transport import TlsTransport
from sidekey.settings.snapshot import NetworkRules, Snapshot, Trust

P = TypeVar("P", bound=asyncio.Protocol)
B = TypeVar("B", bound=asyncio.BaseProtocol)


class Way(NamedTuple):
    """How an origin may be reached: addresses that were judged, at least one, and the TLS context where it is https."""

    addresses: tuple[Address, ...]
    context: ssl.SSLContext | None


class Dialer:
    """Connects to origins under the network rules of a config.

    `own_listeners` are refused whatever the rules allow: set it once they are bound.
    """

    def __init__(self, rules: NetworkRules, *, resolver: Resolver | None = None) -> None:
        self.own_listeners: tuple[Listener, ...] = ()
        self._rules = rules
        self._resolver = Resolver(rules) if resolver is None else resolver
        self._contexts = TlsContexts()

    def prepare(self, snapshot: Snapshot) -> Callable[[], None]:
        """Get ready to dial by the rules of another snapshot; the result does so from then on.

        What has begun goes on by the former ones, in the lookup and in judging.
        """
        rules = snapshot.network
        resolver = self._resolver if rules == self._rules else self._resolver.renewed(rules)

        def commit() -> None:
            self._rules, self._resolver = rules, resolver

        return commit

    def note_certificate_requests(self) -> set[str]:
        """The names of servers that ask for a client certificate from now on."""
        asking: set[str] = set()
        self._contexts.note = asking.add
        return asking

    async def connect(
        self,
        factory: Callable[[], P],
        origin: Origin,
        *,
        trust: Trust,
        allow_private: tuple[Network, ...],
        timeout: float,  # noqa: ASYNC109 - one budget for steps that fail in different words
        identity: ClientIdentity | None = None,
        sessions: Sessions | None = None,
    ) -> P:
        """Connect a protocol made by `factory` to an address that was judged; for https the handshake is done.

        `timeout` bounds lookup, TCP and TLS together, in seconds. `allow_private` is the integration's part; the
        config's is added. `identity` is presented where the upstream asks for it. `sessions` are those of this origin,
        trust and identity and of no others; without them nothing is resumed.

        Raises ProblemError: upstream_unreachable, upstream_timeout, upstream_tls_failed, destination_denied,
        credential_unavailable (trusted_ca, identity) or overloaded; none of them has sent a request.
        """
        deadline = asyncio.get_running_loop().time() + timeout
        way = await self.find(origin, trust=trust, allow_private=allow_private, deadline=deadline, identity=identity)
        try:
            async with asyncio.timeout_at(deadline):
                connection = await first_connected(way.addresses, origin.port)
                if way.context is None:
                    return await _attach(connection, factory)
                return await _secure(connection, factory, way.context, origin.host, sessions)
        except TimeoutError:
            raise ProblemError(
                Problem(
                    "upstream_timeout",
                    "the connection to the upstream took too long",
                    error="connection_timeout",
                )
            ) from None

    async def find(
        self,
        origin: Origin,
        *,
        trust: Trust,
        allow_private: tuple[Network, ...],
        deadline: float,
        identity: ClientIdentity | None = None,
    ) -> Way:
        """Resolve and judge, for whoever connects by other means and keeps to what was judged.

        `deadline` is on the running loop's clock. Raises ProblemError: upstream_unreachable (dns_error, dns_timeout),
        destination_denied or credential_unavailable (trusted_ca, identity).
        """
        # Taken before the lookup: the answer is judged by the rules that it was found under.
        allowed = (*self._rules.allow_private, *allow_private)
        addresses = await self._resolver.resolve(origin.host, deadline)
        judged = permitted(addresses, origin.port, allowed, self.own_listeners)
        return Way(tuple(judged), self._contexts.get(trust, identity) if origin.scheme == "https" else None)


async def _attach(connection: socket.socket, factory: Callable[[], B]) -> B:
    """Give a connected socket its protocol. Closes the socket on any failure."""
    owned = False

    def make() -> B:
        nonlocal owned
        protocol = factory()
        # From here on a transport closes the socket; closing it below as well would pull it from under the loop.
        owned = True
        return protocol

    try:
        _, protocol = await asyncio.get_running_loop().create_connection(make, sock=connection)
    finally:
        if not owned:
            connection.close()
    return protocol


async def _secure(
    connection: socket.socket,
    factory: Callable[[], P],
    context: ssl.SSLContext,
    host: str,
    sessions: Sessions | None,
) -> P:
    """Give a connected socket TLS and its protocol. Closes the socket on any failure."""
    address = literal(host)
    name = host if address is None else str(address)
    ready = asyncio.get_running_loop().create_future()
    protocol: P | None = None
    layer: TlsTransport | None = None

    def make() -> TlsTransport:
        nonlocal protocol
        protocol = factory()
        return TlsTransport(protocol, context, name, sessions, ready)  # noqa: F821 - it is deleted only below

    try:
        layer = await _attach(connection, make)
        await ready
    except OSError as fault:
        raise ProblemError(tls_problem(fault)) from None
    except BaseException:
        if layer is not None:
            layer.abort()
        raise
    finally:
        # What the handshake comes to after a cancellation is nobody's to look at.
        ready.cancel()
        # The failure that it holds refers to this frame: the two would wait for the garbage collector.
        del ready, layer
    return cast(P, protocol)
