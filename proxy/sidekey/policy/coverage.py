"""Hosts that integrations cover. A request to any other host may pass without a credential."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sidekey.policy.addresses import parse_address, unwrap
from sidekey.policy.match import is_under, parent_domains
from sidekey.policy.targets import Policy


@dataclass(frozen=True, slots=True)
class Coverage:
    """Normalized hosts, and suffixes of wildcards. Unlike in `Matching`, a suffix also covers itself."""

    hosts: frozenset[str] = frozenset()
    suffixes: frozenset[str] = frozenset()

    @classmethod
    def of(cls, policies: Iterable[Policy]) -> Coverage:
        """Collect the hosts of prefixes, domains, forbidden targets and placeholders.

        They include every base URL that a token response may set, since `Policy.with_base` refuses any other.
        """
        hosts: set[str] = set()
        suffixes: set[str] = set()
        for policy in policies:
            hosts.update(map(_normalize, _hosts(policy)))
            suffixes.update(domain.origin.host for domain in policy.domains if domain.wildcard)
        return cls(frozenset(hosts), frozenset(suffixes))

    def within(self, hosts: frozenset[str]) -> Coverage:
        """Return the part at or under these host names."""
        narrower = frozenset(suffix for suffix in self.suffixes if is_under(suffix, hosts))
        wider = frozenset(host for host in hosts if any(suffix in self.suffixes for suffix in _suffixes(host)))
        return Coverage(frozenset(host for host in self.hosts if is_under(host, hosts)), narrower | wider)

    def __or__(self, other: Coverage) -> Coverage:
        return Coverage(self.hosts | other.hosts, self.suffixes | other.suffixes)

    def covers(self, host: str) -> bool:
        """Return True if a host is covered, also with a trailing dot or in another spelling of an IP address."""
        name = _normalize(host)
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


def _normalize(host: str) -> str:
    """Remove a trailing dot, parse addresses as the C library does, and unwrap IPv4 from IPv6."""
    name = host.removesuffix(".")
    address = parse_address(name)
    return name if address is None else str(unwrap(address))


def _suffixes(name: str) -> Iterator[str]:
    """Yield the name, unless it is empty, and its parent domains."""
    if name:
        yield name
    yield from parent_domains(name)
