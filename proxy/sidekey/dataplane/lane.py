"""An integration compiled for the hot path: its routes, and the lines its grant puts into every outbound head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from sidekey.core import headers, parameters, routing
from sidekey.core.paths import under
from sidekey.core.policy import Policy, Prefix, parse_learnt, upgrade
from sidekey.core.urls import Origin, Target

if TYPE_CHECKING:
    from sidekey.credentials.base import Grant
    from sidekey.credentials.identity import ClientIdentity
    from sidekey.dataplane.plane import Plane
    from sidekey.dataplane.pool import Pool
    from sidekey.observe.metrics import IntegrationStats
    from sidekey.settings.snapshot import Integration

_PLAIN = routing.PLAIN.fullmatch

DEFAULT_METHODS = frozenset(
    b"ACL BIND CHECKOUT COPY DELETE GET HEAD LINK LOCK M-SEARCH MERGE MKACTIVITY MKCALENDAR MKCOL MOVE NOTIFY OPTIONS"
    b" PATCH POST PROPFIND PROPPATCH PURGE PUT QUERY REBIND REPORT SEARCH SOURCE SUBSCRIBE UNBIND UNLINK UNLOCK"
    b" UNSUBSCRIBE".split()
)
"""What llhttp parses, without TRACE and CONNECT."""


class Route:
    """An origin of one integration: where its connections are, and what is injected into a head that goes there."""

    __slots__ = ("grant", "host", "identity", "injected", "origin", "pool", "query")

    pool: Pool
    """Set at once where there is no client certificate, else by `Lane.equip`: without one nothing is connected."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.host = b"\r\nHost: %b" % origin.authority.encode()
        self.grant: Grant | None = None
        self.identity: ClientIdentity | None = None
        self.injected = b""
        self.query = b""

    def compile(self, grant: Grant) -> None:
        """Write down what is injected: Host, and the grant's fields and query parameters."""
        self.grant = grant
        block = "".join(f"\r\n{name}: {value}" for name, value in grant.headers)
        self.injected = self.host + block.encode("latin-1")
        self.query = parameters.encode(grant.query).encode()


class Lane:
    """One integration as the hot path sees it.

    `policy` and `base` are what targets are judged by now: the integration's own, until a grant has `learnt` more.
    `base_path` is what a plain rest is joined to at the reverse door; `entries` serve the forward door's quick reading.
    A plain target that holds one of the `marks` is left to the exact reading. `named` are the parameters that a caller
    may not name himself. `involved` says that an exchange takes more than the grant that is there. `decided` is the
    lane that came after this one because what was missing of its integration could be read.
    """

    ROUTES: Final = 256
    __slots__ = (
        "base",
        "base_path",
        "base_route",
        "certificate",
        "decided",
        "entries",
        "integration",
        "involved",
        "learns",
        "learnt",
        "marks",
        "methods",
        "name",
        "named",
        "places",
        "plane",
        "policy",
        "quick",
        "routes",
        "scrubber",
        "source",
        "stats",
        "strip",
        "undecided",
        "watched",
    )

    def __init__(self, plane: Plane, integration: Integration, stats: IntegrationStats) -> None:
        self.plane = plane
        self.integration = integration
        self.name = integration.id
        self.stats = stats
        self.source = plane.source_of(integration)
        self.certificate = plane.identity_of(integration)
        self.places = integration.traits.places
        self.watched = integration.traits.watched
        self.learns = integration.traits.learns
        self.learnt: Grant | None = None
        self.named = self.places.query + self.places.body
        self.scrubber: tuple[Grant, parameters.Scrubber] | None = None
        self.routes: dict[Origin, Route] = {}
        methods = integration.policy.methods
        self.strip = frozenset(headers.normalise(name.encode("latin-1")) for name in self.places.headers)
        self.methods = DEFAULT_METHODS
        if methods is not None:
            self.methods = frozenset(method.encode() for method in methods) & DEFAULT_METHODS
            self.strip |= headers.METHOD_OVERRIDES
        self.undecided = integration.rebuild is not None
        self.decided: Lane | None = None
        self.involved = self.undecided or self.learns or bool(self.places.body) or self.certificate is not None
        self._aim(integration.policy, integration.base)

    def _aim(self, policy: Policy, base: Prefix | None) -> None:
        """Judge by this policy from now on, and put this base before what comes by the reverse door."""
        self.policy = policy
        self.base = base
        marks = quick_marks(policy)
        self.marks = marks or ()
        if self.named:
            # Whether the caller named the parameter himself is for the exact reading to see.
            self.marks += (b"?",)
        self.quick = marks is not None and base is not None and quick_base(policy, base)
        if base is not None and any(mark in base.path.lower().encode("latin-1") for mark in self.marks):
            # What comes by the reverse door could end at the base itself, or just below it.
            self.quick = False
        self.base_path = b"" if base is None else base.path.encode("latin-1")
        self.base_route = None if base is None else self._route(base.origin)
        self.entries = self._entries() if marks is not None else {}

    def learn(self, grant: Grant) -> bool:
        """Take in what the grant learnt: whether targets must be judged again, since the base is another now."""
        former, self.learnt = self.learnt, grant
        if grant.base_url is None or (former is not None and former.base_url == grant.base_url):
            return False
        base = parse_learnt(grant.base_url)
        self.plane.forget(self)
        self._aim(self.integration.policy.learn(base), base)
        return True

    def aimed(self, target: Target) -> Target:
        """The forward door's target as it is judged: upgraded, and moved to the origin that a grant learnt."""
        policy = self.integration.policy
        target = upgrade(policy, target)
        return target if self.learnt is None or self.base is None else policy.move(target, self.base.origin)

    def route(self, origin: Origin) -> Route:
        """The route to an origin the policy allowed; bounded, since a wildcard domain allows many.

        Those that are compiled into the lane always stay among them.
        """
        if len(self.routes) >= self.ROUTES and origin not in self.routes:
            lasting = [route for route, _ in self.entries.values()]
            if self.base_route is not None:
                lasting.append(self.base_route)
            self.routes = {route.origin: route for route in lasting}
        return self._route(origin)

    def _route(self, origin: Origin) -> Route:
        route = self.routes.get(origin)
        if route is None:
            route = self.routes[origin] = Route(origin)
            if self.certificate is None:
                route.pool = self.plane.pool(origin, self.integration, None)
        return route

    def equip(self, route: Route, identity: ClientIdentity) -> None:
        """Let what goes by this route use connections of this client certificate, and no others."""
        if route.identity is not identity:
            if route.identity is not None:
                self.plane.retire(route.pool)
            route.identity = identity
            route.pool = self.plane.pool(route.origin, self.integration, identity)

    def pools(self) -> list[Pool]:
        """Those of its routes, as far as it is known which connections these use."""
        return [route.pool for route in self.routes.values() if hasattr(route, "pool")]

    def reconnect(self) -> None:
        """Leave the pools that were dropped."""
        for route in self.routes.values():
            if hasattr(route, "pool") and route.pool.dropped:
                route.pool = self.plane.pool(route.origin, self.integration, route.identity)

    def plain(self, target: bytes, start: int = 0) -> bool:
        """Whether the quick reading may judge the path (and query) that begins at `start`."""
        if not _PLAIN(target, start):
            return False
        if not self.marks:
            return True
        lower = target[start:].lower()
        return not any(mark in lower for mark in self.marks)

    def scrub(self, lines: list[bytes], grant: Grant) -> list[bytes]:
        """The lines of an answer without the injected parameters, which an upstream may repeat in a URL."""
        if self.scrubber is None or self.scrubber[0] is not grant:
            self.scrubber = (grant, parameters.Scrubber(grant.query + grant.body))
        clean = self.scrubber[1]
        kept = (clean(line) if headers.line_name(line) in headers.HOLD_URLS else line for line in lines)
        return [line for line in kept if line is not None]

    def _entries(self) -> dict[bytes, tuple[Route, bytes]]:
        """Scheme and authority, as callers mostly write them at the forward door, to a route and a prefix's path.

        The http form stands beside the https one where the door upgrades it.
        """
        policy = self.policy
        found: dict[bytes, tuple[Route, bytes]] = {}
        bases = policy.prefixes or [
            Prefix(domain.origin, policy.path) for domain in policy.domains if not domain.wildcard
        ]
        for base in reversed(bases):
            if base.origin != policy.stand_in and quick_base(policy, base):
                entry = (self._route(base.origin), base.path.encode("latin-1"))
                found[str(base.origin).encode()] = entry
                plain = base.origin._replace(scheme="http", port=80)
                if upgrade(policy, Target(plain, "/", None)).origin == base.origin:
                    found[b"http://%b" % base.origin.authority.encode()] = entry
                    found[b"http://%b:80" % base.origin.authority.encode()] = entry
        return found


class Known(NamedTuple):
    """What the quick reading made of a target: whose it is, and where it goes."""

    lane: Lane
    route: Route
    path: bytes


def quick_base(policy: Policy, base: Prefix) -> bool:
    """Whether base plus a plain rest without a mark is always inside the policy, so that the quick reading may answer.

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
    """The last segments of the forbidden paths: a plain path without one of them, in any case, is none of these.

    None where a forbidden path is not plain itself, so that nothing is told quickly.
    """
    marks = []
    for forbidden in policy.forbidden:
        path = forbidden.path.rstrip("/").lower().encode("latin-1")
        last = path[path.rfind(b"/") :]
        if not _PLAIN(path) or len(last) < 2 or last == b"/*" or b"?" in path:
            return None
        marks.append(last)
    return tuple(marks)
