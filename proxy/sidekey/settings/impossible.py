"""What of an integration can never work, whatever is sent to it: errors of `check`, and of whoever saves a document.

Each finding is proven by the config alone. What a lookup, a reply or a caller could change is never one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address, ip_network
from types import MappingProxyType
from typing import Final, NamedTuple

from sidekey.core.addresses import Address, Network, literal, refusal, unwrap
from sidekey.core.decide import DEFAULT_METHODS
from sidekey.core.policy import Domain, Policy, Prefix
from sidekey.core.possible import learns_any, passes
from sidekey.core.urls import Origin
from sidekey.credentials.fields import Keys
from sidekey.runtime.snapshot import Snapshot
from sidekey.settings.config_errors import Finding, Loc, show

_address = lru_cache(maxsize=1024)(ip_address)
"""Thousands of integrations have the same few hosts."""

_EVERYTHING: Final = (ip_network("0.0.0.0/0"), ip_network("::/0"))

_LOCALHOST: Final = {"localhost": ("127.0.0.1", "::1")}
"""What needs no lookup to be known (RFC 6761 6.3)."""

_MOST_NAMED: Final = 3
"""How many domains a message names."""


class Dialling(NamedTuple):
    """Which addresses may be dialled: the static ones of `network.hosts`, and the networks that are `allowed`.

    `stored`: for integrations of the store, where the operator alone allows networks. `looked_up` are the addresses
    that a lookup has found of other hosts, where somebody has looked.
    """

    hosts: Mapping[str, Sequence[str]] = MappingProxyType({})
    allowed: tuple[Network, ...] = ()
    stored: bool = False
    looked_up: Mapping[str, tuple[Address, ...]] = MappingProxyType({})

    @classmethod
    def of_files(cls, snapshot: Snapshot) -> Dialling:
        """Those of integrations of files."""
        return cls(snapshot.network.hosts, snapshot.network.allow_private)

    @classmethod
    def of_store(cls, snapshot: Snapshot) -> Dialling:
        """Those of stored integrations."""
        allowed = () if snapshot.store is None else snapshot.store.allow_private
        return cls(snapshot.network.hosts, allowed, stored=True)

    def knows(self, rule: Prefix | Domain | Origin) -> bool:
        """Whether the addresses of a rule's host are known without a lookup."""
        host = _host(rule)
        return host is not None and (host in self.hosts or host in _LOCALHOST or literal(host) is not None)

    def refuse(self, rule: Prefix | Domain | Origin, allowed: Sequence[Network]) -> str | None:
        """Why a rule's host cannot be dialled, and the way out; None where it may be.

        `allowed` is the integration's.
        """
        host = _host(rule)
        if host is None:
            return None
        address = literal(host)
        if address is not None:
            return self._refuse((address,), host, (*self.allowed, *allowed))
        texts = self.hosts.get(host, ())
        found = tuple(map(_address, texts or _LOCALHOST.get(host, ()))) or self.looked_up.get(host, ())
        known_by = " by network.hosts" if texts else " by a lookup" if host in self.looked_up else ""
        return self._refuse(found, f"{host} is {{}}{known_by}, which", (*self.allowed, *allowed))

    def _refuse(self, addresses: tuple[Address, ...], said: str, allowed: Sequence[Network]) -> str | None:
        if not addresses or any(refusal(each, allowed) is None for each in addresses):
            return None
        # Of several one is enough: the first that somebody could allow.
        openable = [each for each in addresses if refusal(each, _EVERYTHING) is None]
        address = (openable or addresses)[0]
        said, reason = said.format(address), refusal(address, allowed)
        if not openable:
            return f"{said} is never dialled ({reason}), whatever allow_private says: use another address"
        # An IPv4 address inside an IPv6 one is allowed as the former.
        judged = unwrap(address)
        network = f"{judged}/{judged.max_prefixlen}"
        way_out = f"add {network} to allow_private of the integration, or to network.allow_private"
        if self.stored:
            way_out = f"the operator must add {network} to store.allow_private"
        return f"{said} is not a global address ({reason}): {way_out}"


UNKNOWN: Final = Dialling(allowed=_EVERYTHING)
"""Where the rules are not known: refuses what is never dialled alone."""


def _host(rule: Prefix | Domain | Origin) -> str | None:
    """The one host that a rule is about; None where a wildcard is about any number."""
    if isinstance(rule, Origin):
        return rule.host
    return None if isinstance(rule, Domain) and rule.wildcard else rule.origin.host


class Destination(NamedTuple):
    """Where the credential of an integration may go, as far as it is known.

    `domains` are those that the integration itself lists, in its order; `calls` the servers that its kind must call,
    each with the keys that name it; `allow_private` is the integration's.
    """

    policy: Policy
    learns: bool
    domains: Sequence[Domain] = ()
    calls: Sequence[tuple[Keys, Origin]] = ()
    allow_private: tuple[Network, ...] = ()

    def depends_on(self, dialling: Dialling) -> bool:
        """Whether it names a host whose addresses these rules know."""
        called = (origin for _, origin in self.calls)
        rules: list[Prefix | Domain | Origin] = [*self.policy.prefixes, *self.policy.domains, *called]
        return any(map(dialling.knows, rules))


class Impossible(NamedTuple):
    """What can never work. `whole`: no request of the integration ever can."""

    findings: tuple[Finding, ...] = ()
    whole: bool = False

    def __str__(self) -> str:
        return "; ".join(f"{show(each.loc)}: {each.message}" for each in self.findings)


POSSIBLE: Final = Impossible()


def find_impossible(destination: Destination, dialling: Dialling) -> Impossible:
    """All that can never work of what an integration says."""
    policy, allowed = destination.policy, destination.allow_private
    calls = [
        Finding(("auth", *keys), reason)
        for keys, origin in destination.calls
        if (reason := dialling.refuse(origin, allowed)) is not None
    ]
    prefixes = {
        prefix: Finding(("endpoint_prefix", index), reason)
        for index, prefix in enumerate(policy.prefixes)
        if (reason := dialling.refuse(prefix, allowed)) is not None
    }
    domains = {
        domain: Finding(("allowed_domains", index), reason)
        for index, domain in enumerate(destination.domains)
        if (reason := dialling.refuse(domain, allowed)) is not None
    }
    methods = [*_method_errors(policy)]
    rules: Sequence[Prefix | Domain] = policy.prefixes or policy.domains
    passing = [each for each in rules if passes(policy, each, learns=destination.learns)]
    # Without any rule the lack of the key is an error already.
    denied = [] if passing or not rules else [_denied(destination)]
    findings = (*calls, *prefixes.values(), *domains.values(), *methods, *denied)
    if not findings:
        return POSSIBLE
    dead = {*prefixes, *domains}
    works = any(each not in dead and dialling.refuse(each, allowed) is None for each in passing)
    return Impossible(findings, bool(calls or methods or not works))


def _method_errors(policy: Policy) -> Iterator[Finding]:
    if policy.methods is not None and not any(each.encode() in DEFAULT_METHODS for each in policy.methods):
        yield Finding(("methods",), "no request can pass: must have a method that clients can send, such as GET")


def _denied(destination: Destination) -> Finding:
    """Why a policy allows no target at all."""
    policy = destination.policy
    if destination.learns and not learns_any(policy):
        text = "no base URL that the response may tell is allowed: endpoint_prefix or an allowed domain must be https"
        return Finding(_place(policy), f"no target can pass: {text} on port 443")
    if (
        policy.prefixes
        and policy.domains
        and not any(domain.covers(prefix.origin) for domain in policy.domains for prefix in policy.prefixes)
    ):
        named = ", ".join(map(str, policy.domains[:_MOST_NAMED]))
        more = ", ..." if len(policy.domains) > _MOST_NAMED else ""
        way_out = "change it, or add its base URL to allowed_domains, with allow_other_domains: true"
        text = f"no target can pass: endpoint_prefix is not under any allowed domain ({named}{more}): {way_out}"
        return Finding(_place(policy), text)
    if policy.path and policy.prefixes:
        text = f"no target can pass: the path must be under {policy.path}, and must not be that of a login"
        return Finding(_place(policy), text)
    never = ", ".join(map(str, policy.forbidden))
    return Finding(_place(policy), f"no target can pass: it is a token or login endpoint, or under one ({never})")


def _place(policy: Policy) -> Loc:
    return ("endpoint_prefix",) if policy.prefixes else ("auth",)
