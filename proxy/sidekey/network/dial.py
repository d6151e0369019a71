"""Dial an upstream: resolve, check the addresses, connect, start TLS. Sidekey makes every outgoing connection here.

A connection goes through the parent proxy of the config, if there is one: the dialer then also makes the connection to
the proxy. It ignores environment variables such as `HTTPS_PROXY`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final, NamedTuple, Protocol, TypeVar, cast

from sidekey.credentials.certificates.identity import ClientIdentity
from sidekey.credentials.certificates.pem_der import public_key
from sidekey.errors import Problem, ProblemError
from sidekey.network.guard import OwnListener, require_permitted
from sidekey.network.happy_eyeballs import LATE, connect_problem, first_connected, interleave
from sidekey.network.parent_proxy import CUT, SILENT, ConnectHandshake, connect_request, problem_of_proxy
from sidekey.network.resolve import Resolver
from sidekey.network.source_address import local_error, require_family
from sidekey.network.tls import TlsContexts, prepare_trust, tls_problem
from sidekey.network.tls_sessions import IdentityContexts, Sessions
from sidekey.network.tls_transport import TlsTransport
from sidekey.policy.addresses import Address, Network, is_loopback, parse_address, unwrap
from sidekey.policy.parent_proxy import LOCAL_NAME, is_local_name
from sidekey.policy.urls import Origin
from sidekey.snapshot.egress import Egress
from sidekey.snapshot.parent_proxy import ParentProxy
from sidekey.snapshot.snapshot import NetworkRules, Snapshot

P = TypeVar("P", bound=asyncio.Protocol)

MAX_AUTHORITIES: Final = 2
"""Addresses of the upstream that a parent proxy is asked to connect to: an IPv4 and an IPv6 one if there are both."""

PROXY_LOOKUP_TIMEOUT: Final = 1.0
"""Seconds to wait for the names of parent proxies at the target's port. They may belong to other integrations."""

_DENIAL_TIMEOUT: Final = 2.0
"""Seconds until the lookup of `Dialer.find_denial` times out."""


class Dialer:
    """Connects to origins under the network rules of a config.

    The dialer never connects to `own_listeners`, which the caller sets once they are bound. `rules_version` increases
    when the rules change: do not reuse a connection that was made under an earlier version. `proxy_connects` counts
    connections through a parent proxy by outcome. `instance` is the word of this process in `Via`.
    """

    def __init__(self, rules: NetworkRules, *, resolver: Resolver | None = None) -> None:
        self.own_listeners: tuple[OwnListener, ...] = ()
        self.rules_version = 0
        self.proxy_connects: dict[str, int] = {}
        self.instance = ""
        self._sends_via = False
        self._rules = rules
        self._proxy_addresses: dict[str, Sequence[Address]] = {}
        self._resolver = Resolver(rules) if resolver is None else resolver
        self._contexts = TlsContexts()
        self._identity_contexts = IdentityContexts()

    def prepare(self, snapshot: Snapshot) -> Callable[[], None]:
        """Prepare the rules of another snapshot, and return a function that applies them.

        A connection attempt that has started keeps the previous rules.
        """
        prepare_trust(snapshot)
        rules, sends_via = snapshot.network, snapshot.via
        # The operator's CA signs certificates for callers, so it must not vouch for upstreams as well.
        ca = snapshot.ca.operator_ca
        denied = frozenset() if ca is None else frozenset((public_key(ssl.PEM_cert_to_DER_cert(ca.certificate)),))
        resolver = self._resolver if rules == self._rules else self._resolver.with_rules(rules)

        def commit() -> None:
            if rules != self._rules:
                self.rules_version += 1
            self._rules, self._resolver, self._sends_via = rules, resolver, sends_via
            self._contexts.deny(denied)
            for host in self._proxy_addresses.keys() - {authority.host for authority in rules.proxies}:
                del self._proxy_addresses[host]

        return commit

    def collect_certificate_requests(self) -> set[str]:
        """Return a set to which each server that requests a client certificate adds its name from now on.

        This slows down every connection, so only `sidekey test` uses it.
        """
        servers: set[str] = set()
        self._contexts.on_certificate_request = servers.add
        return servers

    async def find_denial(self, origin: Origin, egress: Egress) -> str:
        """Return why Sidekey may not connect to an origin now, or "" if it may, or if the lookup of its host fails."""
        deadline = asyncio.get_running_loop().time() + _DENIAL_TIMEOUT
        attempt = _Attempt(
            self._rules, self._resolver, self.own_listeners, self._proxy_addresses, origin, egress, deadline
        )
        try:
            await attempt.resolve_target(loopback_only=False)
        except ProblemError as error:
            return error.problem.detail if error.problem.code == "destination_denied" else ""
        return ""

    async def connect(
        self,
        factory: Callable[[], P],
        origin: Origin,
        egress: Egress,
        *,
        timeout: float,  # noqa: ASYNC109 - one budget for steps with different errors
        identity: ClientIdentity | None = None,
        sessions: Sessions | None = None,
        loopback_only: bool = False,
    ) -> P:
        """Create a protocol and connect it to a permitted address. For https, the TLS handshake is complete.

        `timeout` covers lookup, TCP, CONNECT and TLS together, in seconds. The connection presents `identity` if the
        upstream requests a certificate. `sessions` must belong to this origin, egress and identity only; without it, no
        session is resumed. With `loopback_only`, the dialer connects to loopback addresses only.

        Raises ProblemError: upstream_unreachable, upstream_timeout, upstream_tls_failed, parent_proxy_failed,
        destination_denied, credential_unavailable (trusted_ca, identity, proxy) or overloaded. No request was sent in
        any of these cases.
        """
        deadline = asyncio.get_running_loop().time() + timeout
        attempt = _Attempt(
            self._rules, self._resolver, self.own_listeners, self._proxy_addresses, origin, egress, deadline
        )
        parent, addresses = await attempt.resolve_target(loopback_only=loopback_only)
        context = self._contexts.get(egress.trust, identity) if origin.scheme == "https" else None
        tunnel = None if parent is None else await self._prepare_tunnel(attempt, parent, addresses)
        connector: _Connector = attempt.connector(addresses, origin.port) if tunnel is None else tunnel
        if context is not None:
            connector = _Tls(connector, origin.host, context, sessions)
            if identity is not None and sessions is not None:
                # Limits the number of TLS contexts with a client certificate.
                self._identity_contexts.use(sessions)
        protocol = factory()
        try:
            async with asyncio.timeout_at(deadline):
                await connector.connect(protocol)
        except TimeoutError:
            raise ProblemError(LATE if tunnel is None else tunnel.late_problem()) from None
        return protocol

    async def _prepare_tunnel(self, attempt: _Attempt, parent: ParentProxy, addresses: Sequence[Address]) -> _Tunnel:
        """Resolve the proxy's host to permitted addresses, and build the requests to it. Raises ProblemError."""
        if parent.problem:
            # A direct connection may not be allowed.
            raise ProblemError(Problem("credential_unavailable", parent.problem, error="proxy_configuration_error"))
        via = f"Via: 1.1 sidekey ({self.instance})\r\n" if self._sends_via else ""
        requests = [connect_request(parent, authority, via) for authority in _authorities(attempt.origin, addresses)]
        try:
            connector: _Connector = await attempt.proxy_connector(parent)
            if parent.origin.scheme == "https":
                # No session is resumed: connections of different integrations share the proxy.
                connector = _Tls(connector, parent.origin.host, self._contexts.get(parent.trust), None)
        except ProblemError as raised:
            problem = problem_of_proxy(raised.problem)
            self._count_proxy_connect(problem)
            raise ProblemError(problem) from None
        return _Tunnel(requests, connector, self._count_proxy_connect)

    def _count_proxy_connect(self, problem: Problem | None) -> None:
        """Count a connection through a proxy: `ok`, a code that blames the upstream, or an error that blames the proxy.

        The errors are those of RFC 9209 2.3.
        """
        outcome = "ok" if problem is None else problem.code
        if problem is not None and problem.code == "parent_proxy_failed":
            outcome = problem.error
        self.proxy_connects[outcome] = self.proxy_connects.get(outcome, 0) + 1


class _Attempt(NamedTuple):
    """One connection attempt, under the rules at its start, which may change during a lookup.

    `proxy_addresses` has the last addresses of parent proxies by host, for all attempts.
    """

    rules: NetworkRules
    resolver: Resolver
    own_listeners: Sequence[OwnListener]
    proxy_addresses: dict[str, Sequence[Address]]
    origin: Origin
    egress: Egress
    deadline: float

    async def resolve_target(self, *, loopback_only: bool) -> tuple[ParentProxy | None, Sequence[Address]]:
        """Return the parent proxy of this connection, if any, and the permitted addresses. Raises ProblemError.

        There are no addresses if the proxy resolves the name.
        """
        rules, host, port = self.rules, self.origin.host, self.origin.port
        proxies_at_port = [proxy.host for proxy in rules.proxies if proxy.port == port]
        if host in proxies_at_port:
            detail = "the target is a parent proxy, which receives requests of Sidekey itself only"
            raise ProblemError(Problem("destination_denied", detail, denial="parent_proxy"))
        parent = None if loopback_only else rules.parent_for(self.egress)
        if parent is not None and parent.no_proxy.covers_host(host):
            parent = None
        if parent is not None and rules.leaves_name(host, self.egress):
            if is_local_name(host):
                detail = f"the parent proxy resolves names, and {LOCAL_NAME}"
                raise ProblemError(Problem("destination_denied", detail, denial="local_name"))
            return parent, ()
        proxies = await self._resolve_proxies(proxies_at_port) if proxies_at_port else ()
        try:
            allowed = rules.allowed_networks(self.egress.allow_private)
            addresses = await self._resolve(self.origin, allowed, proxies)
        except ProblemError as raised:
            if parent is None or raised.problem.error not in ("dns_error", "dns_timeout"):
                raise
            detail = (
                f"{raised.problem.detail}; if only the parent proxy can resolve it, set `resolve: proxy` of `proxy` in "
                "a config file, and name the host there, without a wildcard"
            )
            raise ProblemError(replace(raised.problem, detail=detail)) from None
        if loopback_only:
            return None, _require_loopback(addresses)
        if parent is not None and (direct := [*filter(parent.no_proxy.covers_address, addresses)]):
            return None, direct
        return parent, addresses

    async def _resolve(
        self, origin: Origin, allowed: Sequence[Network], proxies: Collection[Address] = ()
    ) -> list[Address]:
        """Resolve a host to at least one permitted address. Raises ProblemError."""
        addresses = await self.resolver.resolve(origin.host, self.deadline)
        return require_permitted(addresses, origin.port, allowed, self.own_listeners, proxies)

    async def _resolve_proxies(self, hosts: Sequence[str]) -> set[Address]:
        """Return the addresses of parent proxies. If a lookup fails, use the host's last addresses, if any.

        An error here would stop all integrations with targets at the port of the proxy.
        """
        now = asyncio.get_running_loop().time()
        # Half of the time remains for the target.
        deadline = min(now + PROXY_LOOKUP_TIMEOUT, (now + self.deadline) / 2)
        lookups = (self.resolver.resolve(host, deadline) for host in hosts)
        results = await asyncio.gather(*lookups, return_exceptions=True)
        for host, result in zip(hosts, results, strict=True):
            if not isinstance(result, BaseException):
                self.proxy_addresses[host] = result
            elif not isinstance(result, ProblemError):
                raise result
        return {unwrap(address) for host in hosts for address in self.proxy_addresses.get(host, ())}

    async def proxy_connector(self, parent: ParentProxy) -> _Tcp:
        """Return the connector for a parent proxy. Raises ProblemError."""
        # An integration's own networks are for its own proxy only.
        own = self.egress.allow_private if parent is self.egress.proxy else ()
        addresses = await self._resolve(parent.origin, self.rules.allowed_networks(own))
        return self.connector(addresses, parent.origin.port)

    def connector(self, addresses: Sequence[Address], port: int) -> _Tcp:
        """Return the connector for some permitted addresses. Raises ProblemError."""
        own, source = self.egress.source_address, self.rules.source_address
        source = source if own is None else own
        return _Tcp(addresses if source is None else require_family(addresses, source), port, source)


class _Connector(Protocol):
    """Connects protocols to a server."""

    async def connect(self, protocol: asyncio.BaseProtocol) -> None:
        """Connect a protocol. Raises ProblemError and leaves no socket open."""
        ...


class _Tcp(NamedTuple):
    """Connects by TCP to one of some permitted addresses."""

    addresses: Sequence[Address]
    port: int
    source: Address | None

    async def connect(self, protocol: asyncio.BaseProtocol) -> None:
        addresses, port, source = self
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


class _Tls(NamedTuple):
    """Connects by TLS to a host, through another connector."""

    connector: _Connector
    host: str
    context: ssl.SSLContext
    sessions: Sessions | None

    async def connect(self, protocol: asyncio.BaseProtocol) -> None:
        ready = asyncio.get_running_loop().create_future()
        transport = TlsTransport(
            cast(asyncio.Protocol, protocol), self.context, _server_name(self.host), self.sessions, ready
        )
        try:
            await self.connector.connect(transport)
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


class _Tunnel:
    """Connects by CONNECT to the first address that a parent proxy can reach. `requests` has one CONNECT for each.

    `count` receives the problem, or None for an open tunnel.
    """

    def __init__(
        self, requests: Sequence[bytes], connector: _Connector, count: Callable[[Problem | None], None]
    ) -> None:
        self._requests = requests
        self._connector = connector
        self._count = count
        self._handshake: ConnectHandshake | None = None

    async def connect(self, protocol: asyncio.BaseProtocol) -> None:
        problem: Problem | None = None
        for request in self._requests:
            problem = await self._try(protocol, request)
            if problem is None or problem.code != "upstream_unreachable":
                break
        self._count(problem)
        if problem is not None:
            raise ProblemError(problem)

    async def _try(self, protocol: asyncio.BaseProtocol, request: bytes) -> Problem | None:
        result: asyncio.Future[Problem | None] = asyncio.get_running_loop().create_future()
        handshake = self._handshake = ConnectHandshake(request, protocol, result)
        try:
            await self._connector.connect(handshake)
            problem = await result
        except ProblemError as raised:
            return problem_of_proxy(raised.problem)
        except BaseException:
            handshake.abort()
            raise
        # A TLS transport reports its end itself. Any other protocol may have lost its connection already.
        if problem is None and handshake.is_closed and not isinstance(protocol, TlsTransport):
            return CUT
        return problem

    def late_problem(self) -> Problem:
        """Return the problem of an attempt that took too long, and count it unless the tunnel is open."""
        handshake = self._handshake
        if handshake is not None and handshake.is_open:
            return LATE
        problem = SILENT if handshake is not None and handshake.transport is not None else problem_of_proxy(LATE)
        self._count(problem)
        return problem


def _authorities(origin: Origin, addresses: Sequence[Address]) -> list[str]:
    """Return the authorities of CONNECT to try: judged addresses, or else the host name."""
    plain = map(unwrap, interleave(addresses)[:MAX_AUTHORITIES])
    hosts = [f"[{address}]" if address.version == 6 else str(address) for address in plain]
    return [f"{host}:{origin.port}" for host in hosts or [origin.host]]


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


@lru_cache(maxsize=1024)
def _server_name(host: str) -> str:
    """Return the name to verify in the certificate: the host name, or the address in canonical form."""
    address = parse_address(host)
    return host if address is None else str(address)
