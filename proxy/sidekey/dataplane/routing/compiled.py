"""An integration compiled for the hot path: its routes, and the lines its grant puts into every request head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sidekey.core import parameters, routing
from sidekey.core.callers import Caller
from sidekey.core.decide import IntegrationRules
from sidekey.core.parameters import may_override_method
from sidekey.core.paths import under
from sidekey.core.policy import Policy, Prefix, parse_learnt, upgrade
from sidekey.core.presets import METHOD, Preset
from sidekey.core.redaction import Redactor, searchable
from sidekey.core.signing import SigningRules
from sidekey.core.spelling import PLAIN
from sidekey.core.urls import Origin, Target
from sidekey.credentials.base import Grant, GrantSource
from sidekey.credentials.identity import ClientIdentity, IdentitySource
from sidekey.dataplane.shares import Hold, Share, Shares
from sidekey.dataplane.upstream.pool import Pool
from sidekey.dataplane.upstream.pools import Pools
from sidekey.dataplane.upstream.request_head import line_of
from sidekey.observe.metrics import IntegrationStats
from sidekey.runtime.snapshot import Integration

_PLAIN: Final = routing.PLAIN.fullmatch
_BY_PRESET: Final = frozenset({METHOD})


class Route:
    """An origin of one integration: where its connections are, and what is injected into a head that goes there.

    `pool` is None while a client certificate is needed and none is bound: without it nothing is connected. `injected`
    (in `lines`, one by one), `query` and `redactor` are those of `grant`. `share` counts the requests that go by it,
    and maybe by others.
    """

    __slots__ = (
        "_hold",
        "_host",
        "authority",
        "grant",
        "identity",
        "injected",
        "lines",
        "origin",
        "pool",
        "query",
        "redactor",
        "scheme",
        "share",
    )

    def __init__(self, origin: Origin, pool: Pool | None, hold: Hold) -> None:
        self.origin: Final = origin
        self._hold: Final = hold
        (self.share,) = hold
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
        """Write down what is injected: Host, and the grant's fields and query parameters; `redactor` is the grant's."""
        lines = (self._host, *(f"\r\n{name}: {value}".encode("latin-1") for name, value in grant.headers))
        injected, query = b"".join(lines), parameters.encode(grant.query).encode()
        # Both or neither: what cannot be written must not leave the lines of another grant, or none, for this one's.
        self.grant, self.injected, self.query, self.redactor = grant, injected, query, redactor
        self.lines = lines

    def bind(self, identity: ClientIdentity | None, pool: Pool) -> None:
        """Let what goes by this route use connections of this pool, which present this client certificate."""
        self.identity = identity
        self.pool = pool


class Destination:
    """Where a request goes: whose it is, by which route, and the path (and query) that is asked for there.

    `line` is what the request line says of that path, behind the method. `methods` are those that callers may use for
    it; `preset` is what it was asked for by.
    """

    __slots__ = ("integration", "line", "methods", "path", "preset", "route")

    def __init__(
        self, integration: CompiledIntegration, route: Route, path: bytes, preset: Preset | None = None
    ) -> None:
        self.integration: Final = integration
        self.route: Final = route
        self.path: Final = path
        self.line: Final = line_of(path)
        self.preset: Final = preset
        self.methods: Final = integration.rules.methods if preset is None else _BY_PRESET

    def permits(self, caller: Caller) -> bool:
        """Return True if the caller may send here: a preset needs no permission for its integration."""
        preset = self.preset
        return caller.may_use(self.integration.name) if preset is None else caller.may_send(preset.id)


class CompiledIntegration:
    """One integration as the hot path sees it.

    `rules` are what targets are judged by now: the integration's own, until a grant has told more. A plain target that
    holds one of the `_marks`, or has a query where that is judged as well, is left to the exact reading; so is a query
    that may name a method, where only some are allowed.
    `needs_slow_path` says that an exchange takes more than the grant that is there, `redacts` that secrets are replaced
    in bodies of responses. `share` counts its requests where it has a limit of its own, or no origin that is known yet.
    `signing` are the rules by which they are signed, if they are.
    `resolved` is what came after this one because what was missing of its integration could be read. `changed` is told
    when the rules have changed.
    """

    ROUTES: Final = 256
    __slots__ = (
        "_base_path",
        "_base_route",
        "_changed",
        "_entries",
        "_hold",
        "_judges_methods",
        "_judges_query",
        "_learnt",
        "_marks",
        "_plain",
        "_pools",
        "_quick",
        "_redactor",
        "_routes",
        "_shares",
        "certificate",
        "injection_points",
        "integration",
        "learns",
        "name",
        "needs_slow_path",
        "redacts",
        "resolved",
        "rules",
        "share",
        "signing",
        "source",
        "stats",
        "strip",
        "watched",
    )

    def __init__(
        self,
        integration: Integration,
        stats: IntegrationStats,
        source: GrantSource,
        certificate: IdentitySource | None,
        *,
        pools: Pools,
        shares: Shares,
        changed: Callable[[CompiledIntegration], None],
    ) -> None:
        places = integration.traits.places
        self.integration: Final = integration
        self.name: Final = integration.id
        self.stats: Final = stats
        self.source: Final = source
        self.certificate: Final = certificate
        self.injection_points: Final = places
        self.watched: Final = integration.traits.watched
        self.learns: Final = integration.traits.learns
        self.redacts: Final = integration.redact_response
        self.strip: Final = integration.stripped
        signing = integration.traits.signing
        self.signing: Final[SigningRules | None] = signing
        unresolved = integration.rebuild is not None
        self.needs_slow_path: Final = (
            unresolved or self.learns or bool(places.body) or certificate is not None or signing is not None
        )
        self.resolved: CompiledIntegration | None = None
        self._pools = pools
        self._shares = shares
        self._hold: Hold | None = None
        self.share: Share | None = None
        if integration.in_flight or unresolved:
            self._hold = shares.of_integration(self.name, integration.in_flight)
            (self.share,) = self._hold
        self._changed = changed
        self._learnt: Grant | None = None
        self._redactor: tuple[Grant, Redactor | None] | None = None
        self._routes: dict[Origin, Route] = {}
        self._go_by(integration.rules)

    def __repr__(self) -> str:
        return f"CompiledIntegration({self.name})"

    def _go_by(self, rules: IntegrationRules) -> None:
        """Judge by these rules from now on, and put their base before what comes by the reverse proxy."""
        self.rules = rules
        base = rules.base
        marks = quick_marks(rules.policy)
        self._marks = marks or ()
        # Whether the caller names such a parameter, or how one is spelled, is for the exact reading to see.
        self._judges_query = bool(rules.parameters) or rules.spelling is not None
        self._judges_methods = rules.own.methods is not None
        self._plain = _PLAIN if rules.spelling is None else PLAIN.fullmatch
        self._quick = marks is not None and base is not None and quick_base(rules.policy, base)
        if base is not None and any(mark in base.path.lower().encode("latin-1") for mark in self._marks):
            # What comes by the reverse proxy could end at the base itself, or just below it.
            self._quick = False
        self._base_path = b"" if base is None else base.path.encode("latin-1")
        self._base_route = None if base is None else self._route(base.origin)
        self._entries = self._quick_entries() if marks is not None else {}

    # Rules, and what they allow quickly.

    def resolve(self, successor: CompiledIntegration) -> None:
        """Send whoever still holds this one on to what came of it."""
        self.resolved = successor

    @property
    def latest(self) -> CompiledIntegration:
        """What came of this one: itself, while it is unresolved."""
        latest = self
        while latest.resolved is not None:
            latest = latest.resolved
        return latest

    def learn(self, grant: Grant) -> bool:
        """Note what the grant told: whether targets must be judged again, since the base is another now."""
        former = self._learnt
        if grant is former:
            return False
        if grant.base_url is None or (former is not None and former.base_url == grant.base_url):
            self._learnt = grant
            return False
        self._go_by(self.rules.learnt(parse_learnt(grant.base_url)))
        # Last: a grant whose base URL is not allowed counts as never learnt, however often it comes.
        self._learnt = grant
        self._changed(self)
        return True

    def quick(self, rest: bytes) -> Destination | None:
        """The quick reading of what follows the ID at the reverse proxy."""
        route = self._base_route
        if route is None or not self._quick or not rest.startswith(b"/") or not self._is_plain(rest, 0):
            return None
        return Destination(self, route, self._base_path + rest)

    def destination(self, target: Target, preset: Preset | None = None) -> Destination:
        """Where a target leads that the policy allowed; `preset` is what asks for it."""
        return Destination(self, self.route(target.origin), target.request_target.encode("latin-1"), preset)

    def read_quickly(self, url: bytes, *, forward: bool) -> Target | None:
        """The target where the quick reading allows it; see `core.decide.Candidate`."""
        if not forward:
            found = self.quick(url)
            return None if found is None else _target(found.route.origin, found.path)
        cut = url.find(b"/", len(b"https://"))
        entry = self._entries.get(url[:cut])
        if entry is None or cut < 0 or not self._is_plain(url, cut):
            return None
        route, prefix = entry
        path = url[cut:]
        if not path.startswith(prefix) or path[len(prefix) : len(prefix) + 1] not in (b"", b"/", b"?"):
            return None
        return _target(route.origin, path)

    def _is_plain(self, target: bytes, start: int) -> bool:
        """Whether the quick reading may judge the path (and query) that begins at `start`."""
        if self._judges_query or self._judges_methods:
            mark = target.find(b"?", start)
            if mark >= 0 and (self._judges_query or may_override_method(target[mark:])):
                return False
        if not self._plain(target, start):
            return False
        if not self._marks:
            return True
        lower = target[start:].lower()
        # A server may cut a path at a colon: only the exact reading compares what is before it.
        return b":" not in lower and not any(mark in lower for mark in self._marks)

    def _quick_entries(self) -> dict[bytes, tuple[Route, bytes]]:
        """Scheme and authority, as callers mostly write them at the forward proxy, to a route and a prefix's path.

        The http form stands beside the https one where the forward proxy upgrades it.
        """
        policy = self.rules.policy
        found: dict[bytes, tuple[Route, bytes]] = {}
        bases = policy.prefixes or [
            Prefix(domain.origin, policy.path) for domain in policy.domains if not domain.wildcard
        ]
        for base in reversed(bases):
            if base.origin != policy.placeholder_origin and quick_base(policy, base):
                entry = (self._route(base.origin), base.path.encode("latin-1"))
                found[str(base.origin).encode()] = entry
                plain = base.origin._replace(scheme="http", port=80)
                if upgrade(policy, Target(plain, "/", None)).origin == base.origin:
                    found[b"http://%b" % base.origin.authority.encode()] = entry
                    found[b"http://%b:80" % base.origin.authority.encode()] = entry
        return found

    # Routes.

    def route(self, origin: Origin) -> Route:
        """The route to an origin the policy allowed; bounded, since a wildcard domain allows many.

        Those that the quick reading uses always stay among them.
        """
        if len(self._routes) >= self.ROUTES and origin not in self._routes:
            lasting = [route for route, _ in self._entries.values()]
            if self._base_route is not None:
                lasting.append(self._base_route)
            self._routes = {route.origin: route for route in lasting}
        return self._route(origin)

    def _route(self, origin: Origin) -> Route:
        route = self._routes.get(origin)
        if route is None:
            pool = self._pools.find(origin, self.integration, None) if self.certificate is None else None
            route = self._routes[origin] = Route(origin, pool, self._hold or self._shares.of_origin(origin))
        return route

    @property
    def routes(self) -> tuple[Route, ...]:
        """Those that are known now."""
        return tuple(self._routes.values())

    def bind_certificate(self, route: Route, identity: ClientIdentity) -> None:
        """Let what goes by this route use connections of this client certificate, and no others."""
        pool = route.pool
        if pool is None or route.identity is not identity:
            if pool is not None:
                self._pools.retire(pool)
            pool = self._pools.find(route.origin, self.integration, identity)
            route.bind(identity, pool)

    def pools(self) -> set[Pool]:
        """Those of its routes, as far as it is known which connections these use."""
        return {route.pool for route in self._routes.values() if route.pool is not None}

    def reconnect(self) -> None:
        """Leave the pools that were dropped."""
        for route in self._routes.values():
            if route.pool is not None and route.pool.dropped:
                route.bind(route.identity, self._pools.find(route.origin, self.integration, route.identity))

    def compile(self, route: Route, grant: Grant) -> None:
        """Write down what this grant injects by a route."""
        if (grant.signer is None) != (self.signing is None):
            raise RuntimeError("the grant is not signed by the rules of its integration")
        route.compile(grant, self.redactor(grant))

    # Responses.

    def redactor(self, grant: Grant) -> Redactor | None:
        """What removes the grant's secrets from responses; None where it has none that can be searched."""
        if self._redactor is None or self._redactor[0] is not grant:
            pairs = grant.secret_pairs()
            redactor = Redactor(grant.secrets, pairs) if pairs or searchable(grant.secrets) else None
            self._redactor = (grant, redactor)
        return self._redactor[1]


def _target(origin: Origin, path: bytes) -> Target:
    """The target of an origin-form that was read quickly."""
    written = path.decode("latin-1")
    before, mark, query = written.partition("?")
    return Target(origin, before or "/", query if mark else None)


def quick_base(policy: Policy, base: Prefix) -> bool:
    """Whether base plus a plain rest without a mark is always inside the policy, so that the quick reading may decide.

    So it is where the base's own path is plain and lies under a plain prefix of the same origin (or in an allowed
    domain without prefixes).
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


def quick_marks(policy: Policy) -> tuple[bytes, ...] | None:
    """Return the last segments of the forbidden paths, or None if one of these is not plain itself.

    A plain path that has no colon, and none of these segments in any case, is no forbidden path.
    """
    marks = []
    for forbidden in policy.forbidden:
        # Where grants do not tell the host of targets, it is that of a prefix.
        known = policy.prefixes and policy.placeholder_origin is None
        if known and not any(forbidden.concerns(prefix.origin) for prefix in policy.prefixes):
            continue
        path = forbidden.path.rstrip("/").lower().encode("latin-1")
        last = path[path.rfind(b"/") :]
        if not _PLAIN(path) or len(last) < 2 or last == b"/*" or b"?" in path:
            return None
        marks.append(last)
    return tuple(marks)
