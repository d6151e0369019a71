"""Which integrations name a host, for requests that name no integration: `forward.match_by_host`.

No two integrations of one caller may cover the same target, so that whose a target is can be told from it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from sidekey.policy.addresses import literal, unwrap
from sidekey.policy.paths import under
from sidekey.policy.targets import Domain, Policy, upgrade
from sidekey.policy.urls import Origin, Target


@dataclass(frozen=True, slots=True)
class Matching:
    """The IDs of the integrations that name a host, and of those that name every host under a suffix."""

    hosts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    suffixes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, policies: Mapping[str, Policy], narrowed: HostRestriction | None = None) -> Matching:
        """By the policies as configured: what a grant learns is not among them."""
        hosts: dict[str, list[str]] = {}
        suffixes: dict[str, list[str]] = {}
        for name, policy in policies.items():
            for claim in dict.fromkeys(_counting(name, policy, narrowed)):
                names = (suffixes if claim.wildcard else hosts).setdefault(claim.host, [])
                # The claims of one integration follow one another.
                if names[-1:] != [name]:
                    names.append(name)
        return cls(_frozen(hosts), _frozen(suffixes))

    def at(self, host: str) -> list[str]:
        """The IDs of those that may cover a target at this host."""
        found = list(self.hosts.get(host, ()))
        for suffix in above(host):
            found += (name for name in self.suffixes.get(suffix, ()) if name not in found)
        return found


def _frozen(names: Mapping[str, list[str]]) -> dict[str, tuple[str, ...]]:
    return {host: tuple(each) for host, each in names.items()}


def above(host: str) -> Iterator[str]:
    """Every name above a host's."""
    _, _, rest = host.partition(".")
    while rest:
        yield rest
        _, _, rest = rest.partition(".")


def is_under(host: str, suffixes: Container[str]) -> bool:
    """Whether a host is one of these names, or is under one."""
    return host in suffixes or any(name in suffixes for name in above(host))


class Claim(NamedTuple):
    """Targets that an integration covers: those under `path` at a host, or with `wildcard` at every one below it."""

    integration: str
    scheme: str
    host: str
    port: int
    path: str
    wildcard: bool


class HostRestriction(NamedTuple):
    """Integrations that are matched only at some host names and under them."""

    integrations: Container[str]
    hosts: frozenset[str]


class Overlap(NamedTuple):
    """Two integrations that cover one target."""

    first: str
    second: str
    where: str


def overlaps(
    policies: Mapping[str, Policy], together: Callable[[str, str], bool], narrowed: HostRestriction | None = None
) -> Iterator[Overlap]:
    """Pairs of integrations that cover one target, once each; `together` says whether one caller may use both."""
    at: dict[tuple[str, str, int], list[Claim]] = {}
    under_suffix: dict[tuple[str, str, int], list[Claim]] = {}
    for name, policy in policies.items():
        for claim in dict.fromkeys(_counting(name, policy, narrowed)):
            kept = under_suffix if claim.wildcard else at
            kept.setdefault((claim.scheme, claim.host, claim.port), []).append(claim)
    seen: set[tuple[str, str]] = set()
    for claims in (*at.values(), *under_suffix.values()):
        scheme, host, port = claims[0].scheme, claims[0].host, claims[0].port
        wider = [each for suffix in above(host) for each in under_suffix.get((scheme, suffix, port), ())]
        for first, second in _pairs(claims, wider):
            pair = min(first.integration, second.integration), max(first.integration, second.integration)
            if pair[0] != pair[1] and pair not in seen and together(*pair):
                seen.add(pair)
                narrow = first if len(first.path) > len(second.path) or second.wildcard else second
                origin = Origin(narrow.scheme, narrow.host, narrow.port)
                shown = f"{scheme}://*.{origin.authority}" if narrow.wildcard else str(origin)
                yield Overlap(*pair, f"{shown}{max(first.path, second.path, key=len)}")


def _pairs(claims: list[Claim], wider: Iterable[Claim]) -> Iterator[tuple[Claim, Claim]]:
    """Those that share a target: of one host by their paths, in time that grows with the pairs that are found."""
    by_path: dict[str, list[Claim]] = {}
    for claim in claims:
        by_path.setdefault(claim.path, []).append(claim)
    for path, same in by_path.items():
        for index, claim in enumerate(same):
            for other in same[index + 1 :]:
                yield claim, other
        parent = path
        while parent:
            parent = parent.rpartition("/")[0]
            for other in by_path.get(parent, ()):
                for claim in same:
                    yield claim, other
    for other in wider:
        for claim in claims:
            if under(claim.path, other.path) or under(other.path, claim.path):
                yield claim, other


def _counting(name: str, policy: Policy, narrowed: HostRestriction | None) -> Iterator[Claim]:
    """What the policy covers, as far as it is matched."""
    if narrowed is None or name not in narrowed.integrations:
        yield from _claims(name, policy)
        return
    for claim in _claims(name, policy):
        if is_under(claim.host, narrowed.hosts):
            yield claim
        elif claim.wildcard:
            for host in narrowed.hosts:
                if host.endswith(f".{claim.host}"):
                    yield claim._replace(host=host, wildcard=False)
                    yield claim._replace(host=host)


def _claims(name: str, policy: Policy) -> Iterator[Claim]:
    """What the policy covers as callers write it at the forward proxy, http where it is upgraded included."""
    for origin, path, wildcard in _bases(policy):
        yield Claim(name, origin.scheme, origin.host, origin.port, path, wildcard)
        if (origin.scheme, origin.port) == ("https", 443):
            plain = Origin("http", f"x.{origin.host}" if wildcard else origin.host, 80)
            if upgrade(policy, Target(plain, "/", None)).origin.scheme == "https":
                yield Claim(name, "http", origin.host, 80, path, wildcard)


def _bases(policy: Policy) -> Iterator[tuple[Origin, str, bool]]:
    """Origins and paths by prefixes and domains together, both of which must allow; see `policy.judge`."""
    if policy.placeholder_origin is not None and not policy.prefixes:
        # The other domains are those that may be learnt.
        yield policy.placeholder_origin, policy.path, False
        return
    if not policy.prefixes:
        for domain in policy.domains:
            yield domain.origin, policy.path, domain.wildcard
        return
    for prefix in policy.prefixes:
        path = prefix.path if under(prefix.path, policy.path) else policy.path
        if not under(path, prefix.path):
            continue
        for origin in dict.fromkeys((prefix.origin, policy.placeholder_origin or prefix.origin)):
            if not policy.domains or any(domain.covers(origin) for domain in policy.domains):
                yield origin, path, False


Named = Origin | Domain | str
"""What counts as one origin: an origin, a wildcard domain, or by its ID an integration that sends to one that is not
known yet."""


def named(integration: str, policy: Policy, *, unresolved: bool) -> Iterator[Named]:
    """The origins that an integration names as those its requests go to.

    Its prefixes' where it has any, else its domains'. Where the base URL is `unresolved`, or is learnt, it is one that
    nobody else is known to have.
    """
    if unresolved or policy.placeholder_origin is not None:
        yield integration
    elif policy.prefixes:
        for prefix in policy.prefixes:
            yield prefix.origin
    else:
        for domain in policy.domains:
            yield domain if domain.wildcard else domain.origin


def several(origins: Iterable[Named]) -> bool:
    """Whether these are two or more."""
    remaining = iter(origins)
    first = next(remaining, None)
    return any(origin != first for origin in remaining)


@dataclass(frozen=True, slots=True)
class Coverage:
    """Hosts in one spelling each, and the suffixes of wildcards, which cover themselves and every host below them."""

    hosts: frozenset[str] = frozenset()
    suffixes: frozenset[str] = frozenset()

    @classmethod
    def of(cls, policies: Iterable[Policy]) -> Coverage:
        """The hosts that these policies name: in prefixes, domains and forbidden targets, and as a placeholder.

        What a grant learns is among them: `Policy.learn` refuses a base URL that none of these covers.
        """
        hosts: set[str] = set()
        suffixes: set[str] = set()
        for policy in policies:
            hosts.update(map(_spelling, _hosts(policy)))
            suffixes.update(domain.origin.host for domain in policy.domains if domain.wildcard)
        return cls(frozenset(hosts), frozenset(suffixes))

    def within(self, hosts: frozenset[str]) -> Coverage:
        """What of it is at these host names, or under them."""
        narrower = frozenset(suffix for suffix in self.suffixes if is_under(suffix, hosts))
        wider = frozenset(host for host in hosts if any(suffix in self.suffixes for suffix in _suffixes(host)))
        return Coverage(frozenset(host for host in self.hosts if is_under(host, hosts)), narrower | wider)

    def __or__(self, other: Coverage) -> Coverage:
        """What either covers."""
        return Coverage(self.hosts | other.hosts, self.suffixes | other.suffixes)

    def covers(self, host: str) -> bool:
        """Whether an origin's host is covered, also with a dot at its end, and however it spells an address."""
        name = _spelling(host)
        return name in self.hosts or any(suffix in self.suffixes for suffix in _suffixes(name))


def _hosts(policy: Policy) -> Iterator[str]:
    for prefix in policy.prefixes:
        yield prefix.origin.host
    for domain in policy.domains:
        if not domain.wildcard:
            yield domain.origin.host
    for forbidden in policy.forbidden:
        if forbidden.origin is not None:
            yield forbidden.origin.host
    if policy.placeholder_origin is not None:
        yield policy.placeholder_origin.host


def _spelling(host: str) -> str:
    """The one spelling of a host: addresses as the C library reads them, IPv4 unwrapped from IPv6."""
    name = host.removesuffix(".")
    address = literal(name)
    return name if address is None else str(unwrap(address))


def _suffixes(name: str) -> Iterator[str]:
    """The name and every name above it."""
    while name:
        yield name
        _, _, name = name.partition(".")
