"""Integrations, callers and request heads for tables of decisions."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from sidekey.errors import Problem
from sidekey.policy.callers import Caller, Callers
from sidekey.policy.canonical import CanonicalForm
from sidekey.policy.coverage import Coverage
from sidekey.policy.decision import Admitted, Denied
from sidekey.policy.headers import Role
from sidekey.policy.integration_rules import IntegrationRules
from sidekey.policy.listener import is_listener_host
from sidekey.policy.match import Matching
from sidekey.policy.messages import RequestHead
from sidekey.policy.passthrough import PassthroughPolicy
from sidekey.policy.targets import Policy, parse_prefix
from sidekey.policy.urls import Target
from sidekey.presets.preset import PresetRules

BASE = parse_prefix("https://a.test/api")
POLICY = Policy(prefixes=(BASE,))
PASSING = IntegrationRules("-", Policy(), Policy(), None)


class KnownIntegration:
    """An integration with these rules. `quick` has the targets that the fast parser allows."""

    def __init__(self, rules: IntegrationRules, quick: dict[bytes, Target] | None = None) -> None:
        self.rules = rules
        self._quick = quick or {}

    def __repr__(self) -> str:
        return self.rules.name

    def match_fast(self, url: bytes, *, forward: bool) -> Target | None:
        return self._quick.get(url)


@dataclass
class IntegrationTable:
    """The known integrations. `lookups` has every ID that was looked up."""

    integrations: dict[bytes, KnownIntegration]
    passthrough: PassthroughPolicy[KnownIntegration] | None = None
    instance: bytes = b"word"
    lookups: list[bytes] = field(default_factory=list)
    matching: Matching | None = None
    ca_hosts: frozenset[str] = frozenset()
    presets: dict[bytes, PresetRules | Problem] = field(default_factory=dict)

    def find_preset(self, name: bytes) -> PresetRules | Problem | None:
        return self.presets.get(name)

    def find(self, name: bytes) -> KnownIntegration | None:
        self.lookups.append(name)
        return self.integrations.get(name)

    def is_listener_host(self, host: bytes | None) -> bool:
        return host is None or is_listener_host(host, frozenset({"h.test"}))


def integration_rules(
    name: str = "h",
    policy: Policy = POLICY,
    *,
    parameters: tuple[str, ...] = (),
    unresolved: bool = False,
    stored: bool = False,
    spelling: CanonicalForm | None = None,
) -> IntegrationRules:
    """Build rules whose base is the first prefix of the policy."""
    base = policy.prefixes[0] if policy.prefixes else None
    return IntegrationRules.of(name, policy, base, parameters, unresolved=unresolved, stored=stored, canonical=spelling)


def integration_table(
    *integrations: KnownIntegration, passing: bool = False, unresolved: tuple[str, ...] = ()
) -> IntegrationTable:
    """Build the table of these integrations. With `passing`, uncovered targets pass."""
    by_name = {integration.rules.name.encode(): integration for integration in integrations}
    coverage = Coverage.of(integration.rules.policy for integration in integrations)
    return IntegrationTable(
        by_name,
        PassthroughPolicy(KnownIntegration(PASSING), coverage, frozenset(unresolved), frozenset({80, 443}))
        if passing
        else None,
    )


def head(
    target: str,
    method: bytes = b"GET",
    *,
    host: bytes | None = b"h.test",
    token: str | None = None,
    integration_id: str | None = None,
    proxy_authorization: bytes | None = None,
    fields: Sequence[bytes] = (),
    names: Sequence[bytes] = (),
    **control_headers: str,
) -> RequestHead:
    """Build a head. `control_headers` has values by the names of their roles in lower case."""
    return RequestHead(
        method,
        target.encode("latin-1"),
        host,
        [*fields],
        [*names],
        {Role[name.upper()]: value.encode() for name, value in control_headers.items()} or None,
        token=None if token is None else token.encode(),
        integration_id=None if integration_id is None else integration_id.encode("latin-1"),
        proxy_authorization=proxy_authorization,
    )


def basic(user: str, password: str = "x") -> bytes:
    """Build a value of Proxy-Authorization."""
    return b"Basic " + base64.b64encode(f"{user}:{password}".encode())


def tokens(**callers: frozenset[str] | None) -> Callers:
    """Build callers with tokens, which are their names here."""
    return Callers(
        {hashlib.sha256(name.encode()).digest(): Caller("one", allowed) for name, allowed in callers.items()}
    )


def outcome(decision: Admitted[KnownIntegration] | Denied[KnownIntegration]) -> str:
    """Return the allowed target, or the code of the problem."""
    if isinstance(decision, Denied):
        return decision.problem.code
    target = decision.target
    return "unresolved" if target is None else f"{target.origin}{target.request_target}"


H = KnownIntegration(integration_rules())
