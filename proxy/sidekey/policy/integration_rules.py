"""Rules that admit or deny the requests to one integration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Protocol

from sidekey.policy import targets
from sidekey.policy.canonical import CanonicalForm
from sidekey.policy.targets import Policy, Prefix, upgrade
from sidekey.policy.urls import Authority, Target

COMMON_METHODS: Final = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"

DEFAULT_METHODS: Final = frozenset(
    b"ACL BIND CHECKOUT COPY DELETE GET HEAD LINK LOCK M-SEARCH MERGE MKACTIVITY MKCALENDAR MKCOL MOVE NOTIFY OPTIONS"
    b" PATCH POST PROPFIND PROPPATCH PURGE PUT QUERY REBIND REPORT SEARCH SOURCE SUBSCRIBE UNBIND UNLINK UNLOCK"
    b" UNSUBSCRIBE".split()
)
"""The HTTP methods that llhttp, Sidekey's request parser, accepts, except TRACE and CONNECT."""


@dataclass(frozen=True, slots=True)
class IntegrationRules:
    """Rules that admit or deny the targets of one integration.

    `configured` is the policy of the config. `policy` and `base` are in force: they differ from the config once a token
    response has set the base URL. Sidekey adds the `parameters` itself, so the caller may not send them. `unresolved`
    means that a value that decides where the credential may go cannot be read yet. A `stored` integration serves
    tunnels, and requests that name no integration, only at hosts under `ca.hosts`. Presets forward the caller's headers
    in `caller_fields`. Sidekey brings targets into `canonical` form, if there is one, before it checks them. With
    `websocket`, it forwards WebSocket handshakes.
    """

    name: str
    configured: Policy
    policy: Policy
    base: Prefix | None
    methods: frozenset[bytes] = DEFAULT_METHODS
    parameters: tuple[str, ...] = ()
    unresolved: bool = False
    stored: bool = False
    caller_fields: frozenset[bytes] = frozenset()
    canonical: CanonicalForm | None = None
    websocket: bool = False

    @classmethod
    def of(
        cls,
        name: str,
        configured: Policy,
        base: Prefix | None,
        parameters: tuple[str, ...],
        *,
        unresolved: bool,
        stored: bool = False,
        caller_fields: frozenset[bytes] = frozenset(),
        canonical: CanonicalForm | None = None,
        websocket: bool = False,
    ) -> IntegrationRules:
        """Build the rules of an integration as configured, before a token response sets another base URL."""
        methods = DEFAULT_METHODS
        if configured.methods is not None:
            methods = frozenset(method.encode() for method in configured.methods) & DEFAULT_METHODS
        return cls(
            *(name, configured, configured, base, methods, parameters, unresolved, stored, caller_fields, canonical),
            websocket=websocket,
        )

    def with_base(self, base: Prefix) -> IntegrationRules:
        """Return the rules for the base URL in a token response. Raises ValueError if the policy denies that URL."""
        return replace(self, policy=self.configured.with_base(base), base=base)

    def resolve_target(self, target: Target) -> Target:
        """Resolve a forward-proxy target: upgrade http to https, and replace the policy's placeholder origin."""
        target = upgrade(self.configured, target)
        if self.policy is self.configured or self.base is None:
            return target
        return self.configured.move(target, self.base.origin)

    def may_reach(self, authority: Authority) -> bool:
        """Return True if the policy may allow an https or http request in a tunnel to this authority."""
        return any(
            self.policy.reaches(self.resolve_target(Target(authority.origin(scheme), "/", None)).origin)
            for scheme in ("https", "http")
        )

    @property
    def allow(self) -> str:
        """Value of the Allow header (RFC 9110 10.2.1)."""
        methods = self.configured.methods
        return COMMON_METHODS if methods is None else ", ".join(sorted(methods - targets.NEVER_FORWARDED))


class Candidate(Protocol):
    """An integration that may serve a request, or `PassthroughPolicy.candidate`, which takes its place."""

    @property
    def rules(self) -> IntegrationRules:
        """The rules in force."""
        ...

    def match_fast(self, url: bytes, *, forward: bool) -> Target | None:
        """Return the target if the fast parser can read and allow it, or None to leave it to the exact parser.

        `url` is absolute at the forward proxy. At the reverse proxy it is the part after the ID.
        """
        ...
