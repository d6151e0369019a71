"""Which hosts the integrations cover: what goes there never leaves without a credential.

Judged by the host alone, whatever the scheme, port and path. So a mistake in one of those is a denial, and sends
nothing out that was meant to carry a credential.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sidekey.core.addresses import literal, unwrap
from sidekey.core.matching import is_under
from sidekey.core.policy import Policy


@dataclass(frozen=True, slots=True)
class Coverage:
    """Hosts in one spelling each, and the suffixes of wildcards, which cover themselves and every host below them."""

    hosts: frozenset[str] = frozenset()
    suffixes: frozenset[str] = frozenset()

    @classmethod
    def of(cls, policies: Iterable[Policy]) -> Coverage:
        """The hosts that these policies name: in prefixes, domains and forbidden targets, and as a stand-in.

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
    if policy.stand_in is not None:
        yield policy.stand_in.host


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
