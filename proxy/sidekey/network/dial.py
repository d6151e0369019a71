"""Dial an upstream: resolve, check the addresses, connect, start TLS. Sidekey makes every outgoing connection here.

The dialer ignores environment variables such as `HTTPS_PROXY`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeVar

from sidekey.credentials.certificates.identity import ClientIdentity
from sidekey.credentials.certificates.pem_der import public_key
from sidekey.errors import Problem, ProblemError
from sidekey.network.guard import OwnListener, require_permitted
from sidekey.network.happy_eyeballs import connect_problem, first_connected
from sidekey.network.resolve import Resolver
from sidekey.network.source_address import local_error, require_family
from sidekey.network.tls import TlsContexts, prepare_trust, tls_problem
from sidekey.network.tls_sessions import IdentityContexts, Sessions
from sidekey.network.tls_transport import TlsTransport
from sidekey.policy.addresses import Address, AllowPrivate, NetworkOverride, is_loopback, parse_address
from sidekey.policy.urls import Origin
from sidekey.snapshot.snapshot import NetworkRules, Snapshot, Trust

P = TypeVar("P", bound=asyncio.Protocol)


class Dialer:
    """Connects to origins under the network rules of a config.

    The dialer never connects to `own_listeners`, which the caller sets once they are bound. `rules_version` increases
    when the rules change: do not reuse a connection that was made under an earlier version.
    """

    def __init__(self, rules: NetworkRules, *, resolver: Resolver | None = None) -> None:
        self.own_listeners: tuple[OwnListener, ...] = ()
        self.rules_version = 0
        self._rules = rules
        self._resolver = Resolver(rules) if resolver is None else resolver
        self._contexts = TlsContexts()
        self._identity_contexts = IdentityContexts()

    def prepare(self, snapshot: Snapshot) -> Callable[[], None]:
        """Prepare the rules of another snapshot, and return a function that applies them.

        A connection attempt that has started keeps the previous rules.
        """
        prepare_trust(snapshot)
        rules = snapshot.network
        # The operator's CA signs certificates for callers, so it must not vouch for upstreams as well.
        ca = snapshot.ca.operator_ca
        denied = frozenset() if ca is None else frozenset((public_key(ssl.PEM_cert_to_DER_cert(ca.certificate)),))
        resolver = self._resolver if rules == self._rules else self._resolver.with_rules(rules)

        def commit() -> None:
            if rules != self._rules:
                self.rules_version += 1
            self._rules, self._resolver = rules, resolver
            self._contexts.deny(denied)

        return commit

    def collect_certificate_requests(self) -> set[str]:
        """Return a set to which each server that requests a client certificate adds its name from now on.

        This slows down every connection, so only `sidekey test` uses it.
        """
        servers: set[str] = set()
        self._contexts.on_certificate_request = servers.add
        return servers

    async def connect(
        self,
        factory: Callable[[], P],
        origin: Origin,
        *,
        trust: Trust,
        allow_private: AllowPrivate,
        source_address: Address | None,
        timeout: float,  # noqa: ASYNC109 - one budget for steps with different errors
        identity: ClientIdentity | None = None,
        sessions: Sessions | None = None,
        loopback_only: bool = False,
    ) -> P:
        """Create a protocol and connect it to a permitted address. For https, the TLS handshake is complete.

        `timeout` covers lookup, TCP and TLS together, in seconds. `allow_private` and `source_address` come from the
        integration; `source_address` replaces the config's. The connection presents `identity` if the upstream requests
        a certificate. `sessions` must belong to this origin, trust and identity only; without it, no session is
        resumed. With `loopback_only`, the dialer connects to loopback addresses only.

        Raises ProblemError: upstream_unreachable, upstream_timeout, upstream_tls_failed, destination_denied,
        credential_unavailable (trusted_ca, identity) or overloaded. No request was sent in any of these cases.
        """
        deadline = asyncio.get_running_loop().time() + timeout
        # The rules may change during the lookup. `_resolve` reads them before it, too.
        source = self._rules.source_address if source_address is None else source_address
        addresses, context = await self._resolve(origin, trust, allow_private, deadline, identity)
        if loopback_only:
            addresses = _require_loopback(addresses)
        if source is not None:
            addresses = require_family(addresses, source)
        protocol = factory()
        try:
            async with asyncio.timeout_at(deadline):
                if context is None:
                    await _connect(protocol, addresses, origin.port, source)
                else:
                    if identity is not None and sessions is not None:
                        # Limits the number of TLS contexts with a client certificate.
                        self._identity_contexts.use(sessions)
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

    async def _resolve(
        self,
        origin: Origin,
        trust: Trust,
        allow_private: AllowPrivate,
        deadline: float,
        identity: ClientIdentity | None,
    ) -> tuple[Sequence[Address], ssl.SSLContext | None]:
        """Resolve the host to at least one permitted address. Return the TLS context as well if the origin is https."""
        # Read before the lookup: the rules may change meanwhile, and its result belongs to the earlier ones.
        if isinstance(allow_private, NetworkOverride):
            allowed = allow_private.networks
        else:
            allowed = (*self._rules.allow_private, *allow_private)
        addresses = await self._resolver.resolve(origin.host, deadline)
        dialable = require_permitted(addresses, origin.port, allowed, self.own_listeners)
        return dialable, self._contexts.get(trust, identity) if origin.scheme == "https" else None


def _require_loopback(addresses: Sequence[Address]) -> Sequence[Address]:
    """Return the loopback addresses, for an http URL. Raises ProblemError (destination_denied) if there is none."""
    loopback = [address for address in addresses if is_loopback(address)]
    if not loopback:
        raise ProblemError(
            Problem(
                "destination_denied",
                "the target's URL is http, and its host has no loopback address: use https",
                denial="private_address",
            )
        )
    return loopback


async def _connect(
    protocol: asyncio.BaseProtocol, addresses: Sequence[Address], port: int, source: Address | None
) -> None:
    """Connect a protocol by TCP to one of the addresses. Raises ProblemError and leaves no socket open."""
    loop = asyncio.get_running_loop()
    if len(addresses) == 1 and source is None:
        try:
            # Without AI_NUMERICHOST a second lookup could return an address that nobody has checked.
            await loop.create_connection(lambda: protocol, str(addresses[0]), port, flags=socket.AI_NUMERICHOST)
        except OSError as error:
            raise ProblemError(connect_problem((local_error(error, addresses[0], None),))) from None
        return
    connection = await first_connected(addresses, port, source)
    has_transport = False

    def take_over() -> asyncio.BaseProtocol:
        nonlocal has_transport
        # From here on the transport closes the socket: closing it below would break the transport.
        has_transport = True
        return protocol

    try:
        await loop.create_connection(take_over, sock=connection)
    finally:
        if not has_transport:
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
    """Connect a protocol by TLS over TCP. Raises ProblemError and leaves no socket open."""
    ready = asyncio.get_running_loop().create_future()
    transport = TlsTransport(protocol, context, _server_name(origin.host), sessions, ready)
    try:
        await _connect(transport, addresses, origin.port, source)
        try:
            await ready
        except OSError as error:
            raise ProblemError(tls_problem(error)) from None
        except BaseException:
            transport.abort()
            raise
    finally:
        # After a cancellation nobody retrieves the result of the handshake.
        ready.cancel()
        # An exception in `ready` refers to this frame: only the garbage collector could free that cycle.
        del ready, transport


@lru_cache(maxsize=1024)
def _server_name(host: str) -> str:
    """Return the name to verify in the certificate: the host name, or the address in canonical form."""
    address = parse_address(host)
    return host if address is None else str(address)
