"""Find integrations by the host of a request, and find integrations that cover the same target.

`forward.match_by_host` lets a request name no integration. This requires that no two integrations of one caller cover
the same target.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from sidekey.policy.paths import under
from sidekey.policy.targets import Policy, upgrade
from sidekey.policy.urls import Origin, Target


@dataclass(frozen=True, slots=True)
class Matching:
    """IDs of integrations by the hosts, and by the suffixes of wildcards, that they name."""

    hosts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    suffixes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, policies: Mapping[str, Policy], restriction: HostRestriction | None = None) -> Matching:
        """Index the policies of the config. Base URLs in token responses do not count."""
        hosts: dict[str, list[str]] = {}
        suffixes: dict[str, list[str]] = {}
        for name, policy in policies.items():
            for claim in dict.fromkeys(_restricted_claims(name, policy, restriction)):
                names = (suffixes if claim.wildcard else hosts).setdefault(claim.host, [])
                # The claims of one integration follow one another.
                if names[-1:] != [name]:
                    names.append(name)
        return cls(_frozen(hosts), _frozen(suffixes))

    def at(self, host: str) -> list[str]:
        """Return the IDs of integrations that may cover a target at this host."""
        ids = list(self.hosts.get(host, ()))
        for suffix in parent_domains(host):
            ids += (name for name in self.suffixes.get(suffix, ()) if name not in ids)
        return ids


def _frozen(names: Mapping[str, list[str]]) -> dict[str, tuple[str, ...]]:
    return {host: tuple(ids) for host, ids in names.items()}


def parent_domains(host: str) -> Iterator[str]:
    """Yield the parent domains of a host."""
    _, _, rest = host.partition(".")
    while rest:
        yield rest
        _, _, rest = rest.partition(".")


def is_under(host: str, suffixes: Container[str]) -> bool:
    """Return True if a host equals one of these names or is under it."""
    return host in suffixes or any(name in suffixes for name in parent_domains(host))


class Claim(NamedTuple):
    """Targets that an integration covers: those under `path` at a host, or with `wildcard` at every host below it."""

    integration: str
    scheme: str
    host: str
    port: int
    path: str
    wildcard: bool


class HostRestriction(NamedTuple):
    """Restricts `integrations` to `hosts`, and the hosts under them, for requests that name no integration."""

    integrations: Container[str]
    hosts: frozenset[str]


class Overlap(NamedTuple):
    """Two integrations that cover a target, and the URL of that target."""

    first: str
    second: str
    url: str


def find_overlaps(
    policies: Mapping[str, Policy], share_caller: Callable[[str, str], bool], restriction: HostRestriction | None = None
) -> Iterator[Overlap]:
    """Yield each pair of integrations that cover the same target, if they `share_caller`."""
    by_host: dict[tuple[str, str, int], list[Claim]] = {}
    by_suffix: dict[tuple[str, str, int], list[Claim]] = {}
    for name, policy in policies.items():
        for claim in dict.fromkeys(_restricted_claims(name, policy, restriction)):
            index = by_suffix if claim.wildcard else by_host
            index.setdefault((claim.scheme, claim.host, claim.port), []).append(claim)
    seen: set[tuple[str, str]] = set()
    for claims in (*by_host.values(), *by_suffix.values()):
        scheme, host, port = claims[0].scheme, claims[0].host, claims[0].port
        wider = [claim for suffix in parent_domains(host) for claim in by_suffix.get((scheme, suffix, port), ())]
        for first, second in _pairs(claims, wider):
            pair = min(first.integration, second.integration), max(first.integration, second.integration)
            if pair[0] != pair[1] and pair not in seen and share_caller(*pair):
                seen.add(pair)
                narrow = first if len(first.path) > len(second.path) or second.wildcard else second
                origin = Origin(narrow.scheme, narrow.host, narrow.port)
                shown = f"{scheme}://*.{origin.authority}" if narrow.wildcard else str(origin)
                yield Overlap(*pair, f"{shown}{max(first.path, second.path, key=len)}")


def _pairs(claims: list[Claim], wider: Iterable[Claim]) -> Iterator[tuple[Claim, Claim]]:
    """Yield pairs of claims on one host that share a target."""
    # Looking up each parent path is faster than comparing every claim with every other.
    by_path: dict[str, list[Claim]] = {}
    for claim in claims:
        by_path.setdefault(claim.path, []).append(claim)
    for path, claims_at_path in by_path.items():
        for index, claim in enumerate(claims_at_path):
            for other in claims_at_path[index + 1 :]:
                yield claim, other
        parent = path
        while parent:
            parent = parent.rpartition("/")[0]
            for other in by_path.get(parent, ()):
                for claim in claims_at_path:
                    yield claim, other
    for other in wider:
        for claim in claims:
            if under(claim.path, other.path) or under(other.path, claim.path):
                yield claim, other


def _restricted_claims(name: str, policy: Policy, restriction: HostRestriction | None) -> Iterator[Claim]:
    """Yield the policy's claims, limited to the hosts of the restriction if it applies to this integration."""
    if restriction is None or name not in restriction.integrations:
        yield from _claims(name, policy)
        return
    for claim in _claims(name, policy):
        if is_under(claim.host, restriction.hosts):
            yield claim
        elif claim.wildcard:
            for host in restriction.hosts:
                if host.endswith(f".{claim.host}"):
                    yield claim._replace(host=host, wildcard=False)
                    yield claim._replace(host=host)


def _claims(name: str, policy: Policy) -> Iterator[Claim]:
    """Yield the targets that a policy covers as callers write them, including http targets that are upgraded."""
    for origin, path, wildcard in _bases(policy):
        yield Claim(name, origin.scheme, origin.host, origin.port, path, wildcard)
        if (origin.scheme, origin.port) == ("https", 443):
            plain = Origin("http", f"x.{origin.host}" if wildcard else origin.host, 80)
            if upgrade(policy, Target(plain, "/", None)).origin.scheme == "https":
                yield Claim(name, "http", origin.host, 80, path, wildcard)


def _bases(policy: Policy) -> Iterator[tuple[Origin, str, bool]]:
    """Yield origin, path and wildcard of the targets that both prefixes and domains allow (see `judge_target`)."""
    if policy.placeholder_origin is not None and not policy.prefixes:
        # The domains only bound the base URL that a token response may set.
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
        # Callers may also write the placeholder, where any prefix applies by its path alone (`Policy.find_prefix`).
        for origin in dict.fromkeys((prefix.origin, policy.placeholder_origin or prefix.origin)):
            if not policy.domains or any(domain.covers(origin) for domain in policy.domains):
                yield origin, path, False
