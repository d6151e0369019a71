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
from typing import Final, NamedTuple, TypeVar

from sidekey.credentials.certificates.identity import ClientIdentity
from sidekey.credentials.certificates.pem_der import public_key
from sidekey.errors import Problem, ProblemError
from sidekey.network.guard import OwnListener, require_permitted
from sidekey.network.happy_eyeballs import connect_problem, first_connected, interleave
from sidekey.network.parent_proxy import (
    CUT,
    LATE,
    SILENT,
    ConnectHandshake,
    connect_request,
    problem_of_proxy,
    unusable_problem,
)
from sidekey.network.resolve import Resolver
from sidekey.network.source_address import local_error, require_family
from sidekey.network.tls import TlsContexts, prepare_trust, tls_problem
from sidekey.network.tls_sessions import IdentityContexts, Sessions
from sidekey.network.tls_transport import TlsTransport
from sidekey.policy.addresses import Address, AllowPrivate, Network, NetworkOverride, is_loopback, parse_address, unwrap
from sidekey.policy.parent_proxy import LOCAL_NAME, is_local_name
from sidekey.policy.urls import Origin
from sidekey.snapshot.parent_proxy import ParentProxy, ProxyChoice
from sidekey.snapshot.snapshot import NetworkRules, Snapshot, Trust

P = TypeVar("P", bound=asyncio.Protocol)

MAX_AUTHORITIES: Final = 2
"""Addresses of the upstream that a parent proxy is asked to connect to: an IPv4 and an IPv6 one if there are both."""

PROXY_LOOKUP_TIMEOUT: Final = 1.0
"""Seconds to wait for the names of parent proxies at the target's port. They may belong to other integrations."""

_LATE: Final = Problem("upstream_timeout", "the connection to the upstream took too long", error="connection_timeout")


class Dialer:
    """Connects to origins under the network rules of a config.

    The dialer never connects to `own_listeners`, which the caller sets once they are bound. `rules_version` increases
    when the rules change: do not reuse a connection that was made under an earlier version. `proxy_connects` counts
    connections through a parent proxy by outcome (`_Tunnel`). `instance` is the word of this process in `Via`.
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

    async def connect(
        self,
        factory: Callable[[], P],
        origin: Origin,
        *,
        trust: Trust,
        allow_private: AllowPrivate,
        source_address: Address | None,
        proxy: ProxyChoice = None,
        timeout: float,  # noqa: ASYNC109 - one budget for steps with different errors
        identity: ClientIdentity | None = None,
        sessions: Sessions | None = None,
        loopback_only: bool = False,
    ) -> P:
        """Create a protocol and connect it to a permitted address. For https, the TLS handshake is complete.

        `timeout` covers lookup, TCP, CONNECT and TLS together, in seconds. `allow_private`, `source_address` and
        `proxy` come from the integration; `source_address` and `proxy` replace the config's. The connection presents
        `identity` if the upstream requests a certificate. `sessions` must belong to this origin, trust, identity and
        proxy only; without it, no session is resumed. With `loopback_only`, the dialer connects to loopback addresses
        only.

        Raises ProblemError: upstream_unreachable, upstream_timeout, upstream_tls_failed, parent_proxy_failed,
        destination_denied, credential_unavailable (trusted_ca, identity, proxy) or overloaded. No request was sent in
        any of these cases.
        """
        deadline = asyncio.get_running_loop().time() + timeout
        # The rules may change during the lookup, whose result belongs to the earlier ones.
        network = _Network(self._rules, self._resolver, self.own_listeners, self._proxy_addresses)
        rules = network.rules
        source = rules.source_address if source_address is None else source_address
        allowed = (
            allow_private.networks
            if isinstance(allow_private, NetworkOverride)
            else (*rules.allow_private, *allow_private)
        )
        parent = None if loopback_only else rules.parent_for(proxy)
        if parent is not None and parent.no_proxy.covers_host(origin.host):
            parent = None
        addresses: Sequence[Address] = ()
        if parent is not None and parent.receives_name(origin.host, rules.hosts):
            _require_no_proxy(origin.host, [host for host, port in rules.proxies if port == origin.port])
            _require_public_name(origin.host)
        else:
            addresses = await network.resolve_target(origin, allowed, parent, deadline)
            if loopback_only:
                addresses = _require_loopback(addresses)
        if parent is not None and (direct := [*filter(parent.no_proxy.covers_address, addresses)]):
            addresses, parent = direct, None
        context = self._contexts.get(trust, identity) if origin.scheme == "https" else None
        route: _Direct | _Tunnel
        if parent is None:
            route = _Direct(addresses if source is None else require_family(addresses, source), origin.port, source)
        else:
            # An integration's own networks are for its own proxy only.
            allowed = allowed if parent is proxy else rules.allow_private
            route = await self._prepare_tunnel(network, parent, allowed, source, deadline)
            route.authorities = _authorities(origin, addresses)
        protocol = factory()
        try:
            async with asyncio.timeout_at(deadline):
                if context is None:
                    await route.connect(protocol)
                else:
                    if identity is not None and sessions is not None:
                        # Limits the number of TLS contexts with a client certificate.
                        self._identity_contexts.use(sessions)
                    await _connect_tls(protocol, route, origin.host, context, sessions)
        except TimeoutError:
            raise ProblemError(route.late_problem()) from None
        return protocol

    async def _prepare_tunnel(
        self,
        network: _Network,
        proxy: ParentProxy,
        allowed: Sequence[Network],
        source: Address | None,
        deadline: float,
    ) -> _Tunnel:
        """Resolve the proxy's host to permitted addresses. Raises ProblemError."""
        if proxy.problem:
            # A direct connection may not be allowed.
            raise ProblemError(unusable_problem(proxy))
        origin = proxy.origin
        try:
            addresses = await network.resolve_permitted(origin, allowed, deadline)
            direct = _Direct(addresses if source is None else require_family(addresses, source), origin.port, source)
            context = self._contexts.get(proxy.trust) if origin.scheme == "https" else None
        except ProblemError as raised:
            problem = problem_of_proxy(raised.problem)
            self._count_proxy_connect(problem.error)
            raise ProblemError(problem) from None
        via = f"Via: 1.1 sidekey ({self.instance})\r\n" if self._sends_via else ""
        return _Tunnel(proxy, direct, context, via, self._count_proxy_connect)

    def _count_proxy_connect(self, outcome: str) -> None:
        self.proxy_connects[outcome] = self.proxy_connects.get(outcome, 0) + 1


class _Network(NamedTuple):
    """The rules, the resolver and the listeners for one connection.

    `proxy_addresses` has the last addresses of parent proxies by host, for all connections.
    """

    rules: NetworkRules
    resolver: Resolver
    own_listeners: Sequence[OwnListener]
    proxy_addresses: dict[str, Sequence[Address]]

    async def resolve_permitted(
        self, origin: Origin, allowed: Sequence[Network], deadline: float, proxies: Collection[Address] = ()
    ) -> list[Address]:
        """Resolve a host to at least one permitted address. Raises ProblemError."""
        addresses = await self.resolver.resolve(origin.host, deadline)
        return require_permitted(addresses, origin.port, allowed, self.own_listeners, proxies)

    async def resolve_target(
        self, origin: Origin, allowed: Sequence[Network], parent: ParentProxy | None, deadline: float
    ) -> list[Address]:
        """Resolve the host of an upstream, which must not be a parent proxy. Raises ProblemError."""
        hosts = [host for host, port in self.rules.proxies if port == origin.port]
        _require_no_proxy(origin.host, hosts)
        proxies: Collection[Address] = await self._resolve_proxies(hosts, deadline) if hosts else ()
        try:
            return await self.resolve_permitted(origin, allowed, deadline, proxies)
        except ProblemError as raised:
            if parent is None or raised.problem.error not in ("dns_error", "dns_timeout"):
                raise
            detail = (
                f"{raised.problem.detail}; if only the parent proxy can resolve it, set `resolve: proxy` of `proxy` in "
                "a config file, and name the host there, without a wildcard"
            )
            raise ProblemError(replace(raised.problem, detail=detail)) from None

    async def _resolve_proxies(self, hosts: Sequence[str], deadline: float) -> set[Address]:
        """Return the addresses of parent proxies. If a lookup fails, use the host's last addresses, if any.

        An error here would stop all integrations with targets at the port of the proxy.
        """
        now = asyncio.get_running_loop().time()
        # Half of the time remains for the target.
        lookup_deadline = min(now + PROXY_LOOKUP_TIMEOUT, (now + deadline) / 2)
        lookups = (self.resolver.resolve(host, lookup_deadline) for host in hosts)
        results = await asyncio.gather(*lookups, return_exceptions=True)
        for host, result in zip(hosts, results, strict=True):
            if not isinstance(result, BaseException):
                self.proxy_addresses[host] = result
            elif not isinstance(result, ProblemError):
                raise result
        return {unwrap(address) for host in hosts for address in self.proxy_addresses.get(host, ())}


class _Direct:
    """A connection to one of some permitted addresses."""

    def __init__(self, addresses: Sequence[Address], port: int, source: Address | None) -> None:
        self._addresses = addresses
        self._port = port
        self._source = source

    async def connect(self, protocol: asyncio.BaseProtocol) -> None:
        """Connect a protocol by TCP. Raises ProblemError and leaves no socket open."""
        await _connect(protocol, self._addresses, self._port, self._source)

    def late_problem(self) -> Problem:
        """Return the problem of an attempt that took too long."""
        return _LATE


class _Tunnel:
    """A connection through a parent proxy, which `direct` reaches. `context` is that of a proxy whose scheme is https.

    The proxy connects to the first of the `authorities` that it can reach. `via` is Sidekey's header line, by which it
    detects loops. `count` counts the outcome: `ok`, a code that blames the upstream, or an error type of RFC 9209 2.3
    that blames the proxy.
    """

    def __init__(
        self,
        proxy: ParentProxy,
        direct: _Direct,
        context: ssl.SSLContext | None,
        via: str,
        count: Callable[[str], None],
    ) -> None:
        self.authorities: Sequence[str] = ()
        self._proxy = proxy
        self._direct = direct
        self._context = context
        self._via = via
        self._count = count
        self._handshake: ConnectHandshake | None = None

    async def connect(self, protocol: asyncio.BaseProtocol) -> None:
        """Connect a protocol by CONNECT. Raises ProblemError and leaves no socket open."""
        problem: Problem | None = None
        for authority in self.authorities:
            problem = await self._try(protocol, authority)
            if problem is None or problem.code != "upstream_unreachable":
                break
        if problem is not None:
            self._count(problem.error if problem.code == "parent_proxy_failed" else problem.code)
            raise ProblemError(problem)
        self._count("ok")

    async def _try(self, protocol: asyncio.BaseProtocol, authority: str) -> Problem | None:
        result: asyncio.Future[Problem | None] = asyncio.get_running_loop().create_future()
        request = connect_request(self._proxy, authority, self._via)
        handshake = self._handshake = ConnectHandshake(request, protocol, result)
        try:
            if self._context is None:
                await self._direct.connect(handshake)
            else:
                # No session is resumed: connections of different integrations share the proxy.
                await _connect_tls(handshake, self._direct, self._proxy.origin.host, self._context, None)
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
        """Return the problem of an attempt that took too long, and count it."""
        handshake = self._handshake
        if handshake is not None and handshake.is_open:
            return _LATE
        problem = SILENT if handshake is not None and handshake.transport is not None else LATE
        self._count(problem.error if problem is LATE else problem.code)
        return problem


def _require_no_proxy(host: str, proxies: Collection[str]) -> None:
    """Raise ProblemError (destination_denied) if the host is one of these parent proxies."""
    if host in proxies:
        detail = "the target is a parent proxy, which receives requests of Sidekey itself only"
        raise ProblemError(Problem("destination_denied", detail, denial="parent_proxy"))


def _require_public_name(host: str) -> None:
    """Raise ProblemError (destination_denied) for a name that a parent proxy must not resolve."""
    if is_local_name(host):
        detail = f"the parent proxy resolves names, and {LOCAL_NAME}"
        raise ProblemError(Problem("destination_denied", detail, denial="local_name"))


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
    route: _Direct | _Tunnel,
    host: str,
    context: ssl.SSLContext,
    sessions: Sessions | None,
) -> None:
    """Connect a protocol by TLS over a route to the host. Raises ProblemError and leaves no socket open."""
    ready = asyncio.get_running_loop().create_future()
    transport = TlsTransport(protocol, context, _server_name(host), sessions, ready)
    try:
        await route.connect(transport)
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
