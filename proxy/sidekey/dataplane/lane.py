"""An integration compiled for the hot path: its routes, and the lines its grant puts into every outbound head."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sidekey.core import headers, routing
from sidekey.core.policy import Policy, Prefix, upgrade
from sidekey.core.urls import Origin, Target
from sidekey.dataplane.pool import Pool

if TYPE_CHECKING:
    from sidekey.credentials.base import Grant
    from sidekey.dataplane.plane import Plane
    from sidekey.observe.metrics import IntegrationStats
    from sidekey.settings.snapshot import Integration

DEFAULT_METHODS = frozenset(
    b"ACL BIND CHECKOUT COPY DELETE GET HEAD LINK LOCK M-SEARCH MERGE MKACTIVITY MKCALENDAR MKCOL MOVE NOTIFY OPTIONS"
    b" PATCH POST PROPFIND PROPPATCH PURGE PUT QUERY REBIND REPORT SEARCH SOURCE SUBSCRIBE UNBIND UNLINK UNLOCK"
    b" UNSUBSCRIBE".split()
)
"""What llhttp parses, without TRACE and CONNECT."""


class Route:
    """An origin of one integration: where its connections are, and what is injected into a head that goes there."""

    __slots__ = ("grant", "host", "injected", "origin", "pool")

    def __init__(self, origin: Origin, pool: Pool) -> None:
        self.origin = origin
        self.pool = pool
        self.host = b"\r\nHost: %b" % origin.authority.encode()
        self.grant: Grant | None = None
        self.injected = b""

    def compile(self, grant: Grant) -> None:
        """Write down what is injected: Host, and the grant's fields."""
        self.grant = grant
        block = "".join(f"\r\n{name}: {value}" for name, value in grant.headers)
        self.injected = self.host + block.encode("latin-1")


class Known(NamedTuple):
    """What the quick reading made of a target: whose it is, and where it goes."""

    lane: Lane
    route: Route
    path: bytes


class Lane:
    """One integration as the hot path sees it.

    `base_path` is what a plain rest is joined to at the reverse door; `entries` serve the forward door's quick reading.
    """

    ROUTES = 256
    __slots__ = (
        "base_path",
        "base_route",
        "entries",
        "grant",
        "integration",
        "methods",
        "name",
        "plane",
        "quick",
        "routes",
        "stats",
        "strip",
    )

    def __init__(self, plane: Plane, integration: Integration, stats: IntegrationStats) -> None:
        self.plane = plane
        self.integration = integration
        self.name = integration.id
        self.stats = stats
        self.grant: Grant | None = None
        self.strip: frozenset[bytes] = frozenset()
        self.routes: dict[Origin, Route] = {}
        methods = integration.policy.methods
        self.methods = DEFAULT_METHODS
        if methods is not None:
            self.methods = frozenset(method.encode() for method in methods) & DEFAULT_METHODS
        base = integration.base
        self.quick = base is not None and quick_base(integration.policy, base)
        self.base_path = b"" if base is None else base.path.encode("latin-1")
        self.base_route = None if base is None else self.route(base.origin)
        self.entries = self._entries()

    def route(self, origin: Origin) -> Route:
        """The route to an origin the policy allowed; bounded, since a wildcard domain allows many."""
        route = self.routes.get(origin)
        if route is None:
            if len(self.routes) >= self.ROUTES:
                self.routes.clear()
            route = self.routes[origin] = Route(origin, self.plane.pool(origin, self.integration))
        return route

    def _entries(self) -> dict[bytes, tuple[Route, bytes]]:
        """Scheme and authority, as callers mostly write them at the forward door, to a route and a prefix's path.

        The http form stands beside the https one where the door upgrades it.
        """
        policy = self.integration.policy
        found: dict[bytes, tuple[Route, bytes]] = {}
        for prefix in reversed(policy.prefixes):
            if quick_base(policy, prefix):
                entry = (self.route(prefix.origin), prefix.path.encode("latin-1"))
                found[str(prefix.origin).encode()] = entry
                plain = prefix.origin._replace(scheme="http", port=80)
                if upgrade(policy, Target(plain, "/", None)).origin == prefix.origin:
                    found[b"http://%b" % prefix.origin.authority.encode()] = entry
                    found[b"http://%b:80" % prefix.origin.authority.encode()] = entry
        return found

    def adopt(self, grant: Grant) -> None:
        """Take up a new grant: its names are those that nothing may double; a route compiles it at its next use."""
        self.grant = grant
        self.strip = frozenset(headers.normalise(name.encode("latin-1")) for name, _ in grant.headers)
        if self.integration.policy.methods is not None:
            self.strip |= headers.METHOD_OVERRIDES


def quick_base(policy: Policy, base: Prefix) -> bool:
    """Whether base plus a plain rest is always inside the policy, so that the quick reading may answer.

    So it is where the base's own path is plain, lies under a plain prefix of the same origin (or in an allowed domain
    without prefixes), and no target is forbidden there.
    """
    if any(forbidden.origin == base.origin for forbidden in policy.forbidden):
        return False
    if policy.domains and not any(domain.covers(base.origin) for domain in policy.domains):
        return False
    path = base.path.encode("latin-1")
    if not routing.PLAIN.fullmatch(path) or b"?" in path or path.endswith(b"/"):
        return False
    if not policy.prefixes:
        return bool(policy.domains)
    return any(prefix.origin == base.origin and prefix.path == base.path for prefix in policy.prefixes)
