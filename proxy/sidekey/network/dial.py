"""Dialling an upstream: resolve, judge, connect, TLS. The one place that says where an outgoing connection may go.

The proxy variables of the environment (`HTTPS_PROXY` and the like) are ignored.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeVar

from sidekey.credentials.certificates.encoding import public_key
from sidekey.credentials.certificates.identity import ClientIdentity
from sidekey.errors import Problem, ProblemError
from sidekey.network.guard import Listener, permitted
from sidekey.network.happy_eyeballs import connect_problem, first_connected
from sidekey.network.resolve import Resolver
from sidekey.network.source_address import local_error, of_family
from sidekey.network.tls import TlsContexts, prepare_trust, tls_problem
from sidekey.network.tls_sessions import IdentityContexts, Sessions
from sidekey.network.tls_transport import TlsTransport
from sidekey.policy.addresses import Address, AllowPrivate, NetworkOverride, is_loopback, literal
from sidekey.policy.urls import Origin
from sidekey.snapshot.snapshot import NetworkRules, Snapshot, Trust

P = TypeVar("P", bound=asyncio.Protocol)


class Dialer:
    """Connects to origins under the network rules of a config.

    `own_listeners` are refused whatever the rules allow: set it once they are bound. `rules_version` changes with the
    rules: a connection that was made under other ones must not be used again.
    """

    def __init__(self, rules: NetworkRules, *, resolver: Resolver | None = None) -> None:
        self.own_listeners: tuple[Listener, ...] = ()
        self.rules_version = 0
        self._rules = rules
        self._resolver = Resolver(rules) if resolver is None else resolver
        self._contexts = TlsContexts()
        self._personal = IdentityContexts()

    def prepare(self, snapshot: Snapshot) -> Callable[[], None]:
        """Get ready to dial by the rules of another snapshot; the result does so from then on.

        What has begun ends by the previous ones, in the lookup and in judging.
        """
        prepare_trust(snapshot)
        rules = snapshot.network
        # A CA of the operator's that signs for callers must not sign for upstreams as well.
        ca = snapshot.ca.operator_ca
        denied = frozenset() if ca is None else frozenset((public_key(ssl.PEM_cert_to_DER_cert(ca.certificate)),))
        resolver = self._resolver if rules == self._rules else self._resolver.renewed(rules)

        def commit() -> None:
            if rules != self._rules:
                self.rules_version += 1
            self._rules, self._resolver = rules, resolver
            self._contexts.deny(denied)

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
        allow_private: AllowPrivate,
        source_address: Address | None,
        timeout: float,  # noqa: ASYNC109 - one budget for steps that fail in different words
        identity: ClientIdentity | None = None,
        sessions: Sessions | None = None,
        loopback_only: bool = False,
    ) -> P:
        """Connect a protocol made by `factory` to an address that was judged; for https the handshake is done.

        `timeout` bounds lookup, TCP and TLS together, in seconds. `allow_private` is the integration's; so is
        `source_address`, which replaces the config's. `identity` is
        presented where the upstream asks for it. `sessions` must be those of this origin, trust and identity and of no
        others; without them nothing is resumed. With `loopback_only` only loopback addresses are dialled.

        Raises ProblemError: upstream_unreachable, upstream_timeout, upstream_tls_failed, destination_denied,
        credential_unavailable (trusted_ca, identity) or overloaded; none of them has sent a request.
        """
        deadline = asyncio.get_running_loop().time() + timeout
        # Read before the lookup, as the rules that the addresses are judged by.
        source = self._rules.source_address if source_address is None else source_address
        addresses, context = await self._find(origin, trust, allow_private, deadline, identity)
        if loopback_only:
            addresses = _loopback(addresses)
        if source is not None:
            addresses = of_family(addresses, source)
        protocol = factory()
        try:
            async with asyncio.timeout_at(deadline):
                if context is None:
                    await _connect(protocol, addresses, origin.port, source)
                else:
                    if identity is not None and sessions is not None:
                        self._personal.use(sessions)
                    await _connect_tls(protocol, addresses, origin, context, source=source, sessions=sessions)
        except TimeoutError:
            raise ProblemError(
                Problem(
                    "upstream_timeout",
                    "the connection to the upstream took too long",
                    error="connection_timeout",
                )
            ) from None
        return protocol

    async def _find(
        self,
        origin: Origin,
        trust: Trust,
        allow_private: AllowPrivate,
        deadline: float,
        identity: ClientIdentity | None,
    ) -> tuple[Sequence[Address], ssl.SSLContext | None]:
        """Resolve and judge: at least one address, and the TLS context where the origin is https."""
        # Read before the lookup: its result is judged by the rules that it was found under.
        if isinstance(allow_private, NetworkOverride):
            allowed = allow_private.networks
        else:
            allowed = (*self._rules.allow_private, *allow_private)
        addresses = await self._resolver.resolve(origin.host, deadline)
        judged = permitted(addresses, origin.port, allowed, self.own_listeners)
        return judged, self._contexts.get(trust, identity) if origin.scheme == "https" else None


def _loopback(addresses: Sequence[Address]) -> Sequence[Address]:
    """Return the loopback addresses. Raises ProblemError (destination_denied) where there is none."""
    found = [address for address in addresses if is_loopback(address)]
    if not found:
        raise ProblemError(
            Problem(
                "destination_denied",
                "the target's URL is http, and its host has no loopback address: use https",
                denial="private_address",
            )
        )
    return found


async def _connect(
    protocol: asyncio.BaseProtocol, addresses: Sequence[Address], port: int, source: Address | None
) -> None:
    """Connect a protocol by TCP to one of the addresses. Raises ProblemError, with nothing left open."""
    loop = asyncio.get_running_loop()
    if len(addresses) == 1 and source is None:
        try:
            # The loop connects by itself and looks nothing up: of an address that was judged no lookup makes another.
            await loop.create_connection(lambda: protocol, str(addresses[0]), port, flags=socket.AI_NUMERICHOST)
        except OSError as error:
            raise ProblemError(connect_problem((local_error(error, addresses[0], None),))) from None
        return
    connection = await first_connected(addresses, port, source)
    owned = False

    def own() -> asyncio.BaseProtocol:
        nonlocal owned
        # From here on a transport closes the socket; closing it below as well would pull it from under the loop.
        owned = True
        return protocol

    try:
        await loop.create_connection(own, sock=connection)
    finally:
        if not owned:
            connection.close()


async def _connect_tls(
    protocol: asyncio.Protocol,
    addresses: Sequence[Address],
    origin: Origin,
    context: ssl.SSLContext,
    *,
    source: Address | None,
    sessions: Sessions | None,
) -> None:
    """Connect a protocol by TLS over TCP. Raises ProblemError, with nothing left open."""
    ready = asyncio.get_running_loop().create_future()
    layer = TlsTransport(protocol, context, _server_name(origin.host), sessions, ready)
    try:
        await _connect(layer, addresses, origin.port, source)
        try:
            await ready
        except OSError as error:
            raise ProblemError(tls_problem(error)) from None
        except BaseException:
            layer.abort()
            raise
    finally:
        # After a cancellation nobody looks at the result of the handshake.
        ready.cancel()
        # An error that it holds refers to this frame: the two would wait for the garbage collector.
        del ready, layer


@lru_cache(maxsize=1024)
def _server_name(host: str) -> str:
    """What the certificate must be for: a name, or an address in its usual spelling."""
    address = literal(host)
    return host if address is None else str(address)
