"""An integration compiled for the hot path: the parser of plain targets, its routes, and the headers to inject."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sidekey.credentials.base import Grant, GrantSource
from sidekey.credentials.certificates.identity import ClientIdentity, IdentitySource
from sidekey.credentials.signing import SigningRules
from sidekey.observe.metrics import IntegrationStats
from sidekey.policy import parameters, paths
from sidekey.policy.callers import Caller
from sidekey.policy.canonical import PLAIN_PATH
from sidekey.policy.integration_rules import IntegrationRules
from sidekey.policy.parameters import may_override_method
from sidekey.policy.paths import under
from sidekey.policy.redaction import Redactor, searchable
from sidekey.policy.targets import Policy, Prefix, parse_discovered_base, upgrade
from sidekey.policy.urls import Origin, Target
from sidekey.presets.preset import METHOD, PresetRules
from sidekey.proxy.limits import InFlightCounter, InFlightCounters
from sidekey.proxy.upstream.pool import Pool
from sidekey.proxy.upstream.pools import Pools
from sidekey.proxy.upstream.request_writer import line_without_method
from sidekey.refresh import SingleFlight
from sidekey.snapshot.snapshot import Integration

_PLAIN: Final = paths.PLAIN_TARGET.fullmatch
_BY_PRESET: Final = frozenset({METHOD})


class Route:
    """An origin of one integration: its connection pool, and the headers and query parameters to inject.

    `pool` is None while the integration needs a client certificate and none is bound. `injected` are the header lines
    in one piece, `lines` one by one. These, `query` and `redactor` belong to `grant`. `in_flight_counter` counts the
    requests to the origin, or of the integration.
    """

    __slots__ = (
        "_host",
        "authority",
        "grant",
        "identity",
        "in_flight_counter",
        "injected",
        "lines",
        "origin",
        "pool",
        "query",
        "redactor",
        "scheme",
    )

    def __init__(self, origin: Origin, pool: Pool | None, in_flight_counter: InFlightCounter) -> None:
        self.origin: Final = origin
        self.in_flight_counter: Final = in_flight_counter
        self.pool = pool
        self.identity: ClientIdentity | None = None
        self.grant: Grant | None = None
        self.injected = b""
        self.lines: tuple[bytes, ...] = ()
        self.query = b""
        self.redactor: Redactor | None = None
        self.scheme: Final = origin.scheme.encode()
        self.authority: Final = origin.authority.encode()
        self._host = b"\r\nHost: %b" % self.authority

    def compile(self, grant: Grant, redactor: Redactor | None) -> None:
        """Encode Host, and the headers and query parameters of the grant."""
        lines = (self._host, *(f"\r\n{name}: {value}".encode("latin-1") for name, value in grant.headers))
        injected, query = b"".join(lines), parameters.encode_pairs(grant.query).encode()
        # After the encoding, which may fail: `grant` must not be set with the lines of another grant.
        self.grant, self.injected, self.query, self.redactor = grant, injected, query, redactor
        self.lines = lines

    def bind(self, identity: ClientIdentity | None, pool: Pool) -> None:
        """Use the connections of this pool, which present this client certificate."""
        self.identity = identity
        self.pool = pool


class Destination:
    """The destination of a request: its integration, its route, and its path with the query.

    `line` is the request line without the method. `methods` are the methods that callers may use. `preset` is the
    preset that the caller used, if any. `rules` are the rules of the integration that admitted the target: a grant with
    another base URL replaces them in the integration.
    """

    __slots__ = ("integration", "line", "methods", "path", "preset", "route", "rules")

    def __init__(
        self, integration: CompiledIntegration, route: Route, path: bytes, preset: PresetRules | None = None
    ) -> None:
        self.integration: Final = integration
        self.route: Final = route
        self.path: Final = path
        self.line: Final = line_without_method(path)
        self.preset: Final = preset
        self.rules: Final = integration.rules
        self.methods: Final = self.rules.methods if preset is None else _BY_PRESET

    def permits(self, caller: Caller) -> bool:
        """Return True if the caller may use the preset, or without a preset the integration."""
        preset = self.preset
        return caller.may_use(self.integration.name) if preset is None else caller.may_send(preset.id)


class CompiledIntegration:
    """One integration, prepared for the hot path.

    `rules` decide on targets. If `discovers_base_url`, grants contain the base URL: `apply_base_url` then changes the
    rules and calls `on_rules_changed`. The fast parser (`match_fast`) admits plain targets. It leaves some to the exact
    parser: those that contain one of the `_forbidden_segments`, those with a query if the policy checks parameters, and
    those whose query may override the method if only some methods are allowed.

    `needs_slow_path` is True if an exchange needs more than a grant. `watched` are the statuses of responses that may
    reject the grant. `redacts` is True if Sidekey removes secrets from response bodies. `removed_headers` are the
    headers that Sidekey does not forward. `in_flight_counter` counts the requests if the integration has its own limit,
    or if its origin is not known yet. `signing` are the rules for signatures, if Sidekey signs the requests.
    `resolution` lets all waiting requests share one attempt to read missing secrets. `resolved` is the object that
    replaces this one afterwards.
    """

    ROUTES: Final = 256
    __slots__ = (
        "_base_path",
        "_base_route",
        "_base_url_grant",
        "_checks_methods",
        "_checks_query",
        "_fast_entries",
        "_forbidden_segments",
        "_in_flight_counters",
        "_is_base_fast",
        "_on_rules_changed",
        "_plain",
        "_pools",
        "_redactor",
        "_routes",
        "certificate",
        "discovers_base_url",
        "grant_source",
        "in_flight_counter",
        "injection_points",
        "integration",
        "name",
        "needs_slow_path",
        "redacts",
        "removed_headers",
        "resolution",
        "resolved",
        "rules",
        "signing",
        "stats",
        "watched",
    )

    def __init__(
        self,
        integration: Integration,
        stats: IntegrationStats,
        grant_source: GrantSource,
        certificate: IdentitySource | None,
        *,
        pools: Pools,
        in_flight_counters: InFlightCounters,
        on_rules_changed: Callable[[CompiledIntegration], None],
    ) -> None:
        injection_points = integration.traits.injection_points
        self.integration: Final = integration
        self.name: Final = integration.id
        self.stats: Final = stats
        self.grant_source: Final = grant_source
        self.certificate: Final = certificate
        self.injection_points: Final = injection_points
        self.watched: Final = integration.traits.watched
        self.discovers_base_url: Final = integration.traits.discovers_base_url
        self.redacts: Final = integration.redact_response
        self.removed_headers: Final = integration.removed_headers
        signing = integration.traits.signing
        self.signing: Final[SigningRules | None] = signing
        unresolved = integration.rebuild is not None
        self.needs_slow_path: Final = (
            unresolved
            or self.discovers_base_url
            or bool(injection_points.body)
            or certificate is not None
            or signing is not None
        )
        self.resolved: CompiledIntegration | None = None
        self.resolution: Final[SingleFlight[None, None]] = SingleFlight()
        self._pools = pools
        self._in_flight_counters = in_flight_counters
        counts_alone = unresolved or bool(integration.in_flight)
        self.in_flight_counter: Final = (
            InFlightCounter(in_flight_counters, self.name, integration.in_flight) if counts_alone else None
        )
        self._on_rules_changed = on_rules_changed
        self._base_url_grant: Grant | None = None
        self._redactor: tuple[Grant, Redactor | None] | None = None
        self._routes: dict[Origin, Route] = {}
        self._apply_rules(integration.rules)

    def __repr__(self) -> str:
        return f"CompiledIntegration({self.name})"

    def _apply_rules(self, rules: IntegrationRules) -> None:
        """Apply these rules from now on."""
        self.rules = rules
        base = rules.base
        segments = forbidden_segments(rules.policy)
        self._forbidden_segments = segments or ()
        # Only the exact parser finds such a parameter, and converts a target to its canonical form.
        self._checks_query = bool(rules.parameters) or rules.canonical is not None
        self._checks_methods = rules.configured.methods is not None
        self._plain = _PLAIN if rules.canonical is None else PLAIN_PATH.fullmatch
        self._is_base_fast = segments is not None and base is not None and fast_base(rules.policy, base)
        if base is not None and any(
            segment in base.path.lower().encode("latin-1") for segment in self._forbidden_segments
        ):
            # `_is_plain` checks only the part after the base, but the path with the base could be forbidden.
            self._is_base_fast = False
        self._base_path = b"" if base is None else base.path.encode("latin-1")
        self._base_route = None if base is None else self._route(base.origin)
        self._fast_entries = self._build_fast_entries() if segments is not None else {}

    # Rules, and the fast parser.

    def replace_with(self, successor: CompiledIntegration) -> None:
        """Set the compiled integration that replaces this one, now that its secrets are read."""
        self.resolved = successor

    @property
    def latest(self) -> CompiledIntegration:
        """The latest replacement of this integration, or this one."""
        latest = self
        while latest.resolved is not None:
            latest = latest.resolved
        return latest

    def apply_base_url(self, grant: Grant | None) -> None:
        """Apply the base URL in the grant. If it changed, earlier decisions on targets are invalid.

        Without a current grant, the base URL is unknown, as at the start.
        """
        previous = self._base_url_grant
        if grant is previous:
            return
        if grant is None:
            self._base_url_grant = None
            self._apply_rules(self.integration.rules)
            self._on_rules_changed(self)
            return
        if grant.base_url is None or (previous is not None and previous.base_url == grant.base_url):
            self._base_url_grant = grant
            return
        self._apply_rules(self.rules.with_base(parse_discovered_base(grant.base_url)))
        # Set last, so that a grant whose base URL is not allowed raises every time.
        self._base_url_grant = grant
        self._on_rules_changed(self)

    def fast_destination(self, rest: bytes) -> Destination | None:
        """Return the destination of a reverse proxy target, or None to leave it to `decide`.

        `rest` is the part of the target after the ID.
        """
        route = self._base_route
        if route is None or not self._is_base_fast or not rest.startswith(b"/") or not self._is_plain(rest, 0):
            return None
        return Destination(self, route, self._base_path + rest)

    def destination(self, target: Target, preset: PresetRules | None = None) -> Destination:
        """Return the destination of a target that the policy allows."""
        return Destination(self, self.route(target.origin), target.request_target.encode("latin-1"), preset)

    def match_fast(self, url: bytes, *, forward: bool) -> Target | None:
        """Return the target if the fast parser admits it, else None. See `policy.integration_rules.Candidate`."""
        if not forward:
            destination = self.fast_destination(url)
            return None if destination is None else _target(destination.route.origin, destination.path)
        cut = url.find(b"/", len(b"https://"))
        entry = self._fast_entries.get(url[:cut])
        if entry is None or cut < 0 or not self._is_plain(url, cut):
            return None
        route, prefix = entry
        path = url[cut:]
        if not path.startswith(prefix) or path[len(prefix) : len(prefix) + 1] not in (b"", b"/", b"?"):
            return None
        return _target(route.origin, path)

    def _is_plain(self, target: bytes, start: int) -> bool:
        """Return True if the fast parser may decide on the path (and query) that begins at `start`."""
        if self._checks_query or self._checks_methods:
            cut = target.find(b"?", start)
            if cut >= 0 and (self._checks_query or may_override_method(target[cut:])):
                return False
        if not self._plain(target, start):
            return False
        if not self._forbidden_segments:
            return True
        lower = target[start:].lower()
        # A server may cut a path at a colon. Only the exact parser checks the part before the colon.
        return b":" not in lower and not any(segment in lower for segment in self._forbidden_segments)

    def _build_fast_entries(self) -> dict[bytes, tuple[Route, bytes]]:
        """Map the usual spelling of scheme and authority at the forward proxy to a route and a path prefix.

        If the forward proxy upgrades http to https, the http form is a key too.
        """
        policy = self.rules.policy
        entries: dict[bytes, tuple[Route, bytes]] = {}
        bases = policy.prefixes or [
            Prefix(domain.origin, policy.path) for domain in policy.domains if not domain.wildcard
        ]
        for base in reversed(bases):
            if base.origin != policy.placeholder_origin and fast_base(policy, base):
                entry = (self._route(base.origin), base.path.encode("latin-1"))
                entries[str(base.origin).encode()] = entry
                plain = base.origin._replace(scheme="http", port=80)
                if upgrade(policy, Target(plain, "/", None)).origin == base.origin:
                    entries[b"http://%b" % base.origin.authority.encode()] = entry
                    entries[b"http://%b:80" % base.origin.authority.encode()] = entry
        return entries

    # Routes.

    def route(self, origin: Origin) -> Route:
        """Return the route to an origin that the policy allows.

        The number of routes is limited, because a wildcard domain allows many origins. The routes of the fast parser
        are kept.
        """
        if len(self._routes) >= self.ROUTES and origin not in self._routes:
            permanent = [route for route, _ in self._fast_entries.values()]
            if self._base_route is not None:
                permanent.append(self._base_route)
            self._routes = {route.origin: route for route in permanent}
        return self._route(origin)

    def _route(self, origin: Origin) -> Route:
        route = self._routes.get(origin)
        if route is None:
            pool = self._pools.find(origin, self.integration, None) if self.certificate is None else None
            route = self._routes[origin] = Route(
                origin, pool, self.in_flight_counter or InFlightCounter(self._in_flight_counters, str(origin), 0)
            )
        return route

    @property
    def routes(self) -> tuple[Route, ...]:
        """All routes."""
        return tuple(self._routes.values())

    def bind_certificate(self, route: Route, identity: ClientIdentity) -> None:
        """Use only connections with this client certificate for the route."""
        pool = route.pool
        if pool is None or route.identity is not identity:
            if pool is not None:
                self._pools.retire(pool)
            pool = self._pools.find(route.origin, self.integration, identity)
            route.bind(identity, pool)

    def pools(self) -> set[Pool]:
        """Return the pools of all routes."""
        return {route.pool for route in self._routes.values() if route.pool is not None}

    def reconnect(self) -> None:
        """Replace the pools that were dropped."""
        for route in self._routes.values():
            if route.pool is not None and route.pool.dropped:
                route.bind(route.identity, self._pools.find(route.origin, self.integration, route.identity))

    def compile(self, route: Route, grant: Grant) -> None:
        """Encode the grant for a route, with the redactor of its secrets."""
        if (grant.signer is None) != (self.signing is None):
            raise RuntimeError("the grant is not signed by the rules of its integration")
        route.compile(grant, self.redactor(grant))

    # Responses.

    def redactor(self, grant: Grant) -> Redactor | None:
        """Return the redactor of the grant's secrets, or None if none of them can be searched for."""
        if self._redactor is None or self._redactor[0] is not grant:
            pairs = grant.secret_pairs()
            redactor = Redactor(grant.secrets, pairs) if pairs or searchable(grant.secrets) else None
            self._redactor = (grant, redactor)
        return self._redactor[1]


def _target(origin: Origin, path: bytes) -> Target:
    path_text, mark, query = path.decode("latin-1").partition("?")
    return Target(origin, path_text or "/", query if mark else None)


def fast_base(policy: Policy, base: Prefix) -> bool:
    """Return True if the policy allows the base plus any plain path without a forbidden segment.

    The path of the base must be plain, and the base an allowed prefix, or in an allowed domain without prefixes.
    """
    if policy.domains and not any(domain.covers(base.origin) for domain in policy.domains):
        return False
    path = base.path.encode("latin-1")
    if not _PLAIN(path) or b"?" in path or path.endswith(b"/"):
        return False
    if not under(base.path, policy.path):
        return False
    if not policy.prefixes:
        return bool(policy.domains)
    return any(prefix.origin == base.origin and prefix.path == base.path for prefix in policy.prefixes)


def forbidden_segments(policy: Policy) -> tuple[bytes, ...] | None:
    """Return the last segments of the forbidden paths, in lower case, or None if a forbidden path is not plain.

    A plain path without a colon and without these segments (ignoring case) cannot be a forbidden path.
    """
    segments = []
    for forbidden in policy.forbidden:
        # Unless grants contain the base URL, the host of a target is that of a prefix.
        known = policy.prefixes and policy.placeholder_origin is None
        if known and not any(forbidden.applies_to(prefix.origin) for prefix in policy.prefixes):
            continue
        path = forbidden.path.rstrip("/").lower().encode("latin-1")
        last = path[path.rfind(b"/") :]
        if not _PLAIN(path) or len(last) < 2 or last == b"/*" or b"?" in path:
            return None
        segments.append(last)
    return tuple(segments)
