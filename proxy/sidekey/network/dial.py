"""Dialling an upstream: resolve, judge, connect, TLS. The one place that says where an outgoing connection may lead.

The proxy variables of the environment (`HTTPS_PROXY` and the like) play no part.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from sidekey.core.addresses import Address, Network, literal
from sidekey.core.urls import Origin
from sidekey.errors import Problem
from sidekey.network.guard import Listener, permitted
from sidekey.network.race import first_connected
from sidekey.network.resolve import Resolver
from sidekey.network.tls import TlsContexts, tls_problem
from sidekey.settings.snapshot import NetworkRules, Trust

P = TypeVar("P", bound=asyncio.Protocol)


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
        self._allow_private = rules.allow_private
        self._resolver = Resolver(rules) if resolver is None else resolver
        self._contexts = TlsContexts()

    async def connect(
        self,
        factory: Callable[[], P],
        origin: Origin,
        *,
        trust: Trust,
        allow_private: tuple[Network, ...],
        timeout: float,  # noqa: ASYNC109 - one budget for steps that fail in different words
    ) -> P:
        """Connect a protocol made by `factory` to an address that was judged; for https the handshake is done.

        `timeout` bounds lookup, TCP and TLS together, in seconds. `allow_private` is the integration's part; the
        config's is added. Raises Problem: upstream_unreachable, upstream_timeout, upstream_tls_failed,
        destination_denied, credential_unavailable (trusted_ca) or overloaded; none of them has sent a request.
        """
        deadline = asyncio.get_running_loop().time() + timeout
        way = await self.find(origin, trust=trust, allow_private=allow_private, deadline=deadline)
        try:
            async with asyncio.timeout_at(deadline):
                connection = await first_connected(way.addresses, origin.port)
                return await _attach(connection, factory, way.context, origin.host, timeout)
        except TimeoutError:
            raise Problem(
                "upstream_timeout",
                "the connection to the upstream took too long",
                error="connection_timeout",
            ) from None

    async def find(self, origin: Origin, *, trust: Trust, allow_private: tuple[Network, ...], deadline: float) -> Way:
        """Resolve and judge, for whoever connects by other means and keeps to what was judged.

        `deadline` is on the running loop's clock. Raises Problem: upstream_unreachable (dns_error, dns_timeout),
        destination_denied or credential_unavailable (trusted_ca).
        """
        addresses = await self._resolver.resolve(origin.host, deadline)
        judged = permitted(addresses, origin.port, (*self._allow_private, *allow_private), self.own_listeners)
        return Way(tuple(judged), self._contexts.get(trust) if origin.scheme == "https" else None)


async def _attach(
    connection: socket.socket,
    factory: Callable[[], P],
    context: ssl.SSLContext | None,
    host: str,
    patience: float,
) -> P:
    """Give a connected socket its protocol and, with a context, TLS. Closes the socket on any failure."""
    owned = False

    def make() -> P:
        nonlocal owned
        protocol = factory()
        # From here on a transport closes the socket; closing it below as well would pull it from under the loop.
        owned = True
        return protocol

    try:
        if context is None:
            _, protocol = await asyncio.get_running_loop().create_connection(make, sock=connection)
            return protocol
        return await _secure(connection, make, context, host, patience)
    finally:
        if not owned:
            connection.close()


async def _secure(
    connection: socket.socket,
    make: Callable[[], P],
    context: ssl.SSLContext,
    host: str,
    patience: float,
) -> P:
    address = literal(host)
    try:
        _, protocol = await asyncio.get_running_loop().create_connection(
            make,
            sock=connection,
            ssl=context,
            server_hostname=host if address is None else str(address),
            # Later than the deadline of `connect`, whose answer is the more exact one.
            ssl_handshake_timeout=patience + 1,
        )
    except OSError as fault:
        raise tls_problem(fault) from None
    return protocol
