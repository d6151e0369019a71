"""Which hosts a CA may sign for: what the policies need (`Scope`), and what a certificate permits (`Bounds`).

Pure: `certificates` brings both into X.509's name constraints (RFC 5280 4.2.1.10) and reads them there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from sidekey.policy.addresses import Network, literal
from sidekey.policy.targets import Policy

NO_NAME = "invalid"
"""What is permitted where no name is: no name exists under it (RFC 6761 6.4), while without any permitted name every
name would be, and an excluded empty one is read differently by verifiers."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Hosts that need a certificate: `names` are host names with all that is under them, `addresses` single ones.

    A name constraint knows no exact names (RFC 5280 4.2.1.10), so none is kept that is under another.
    """

    names: frozenset[str] = frozenset()
    addresses: frozenset[IPv4Address | IPv6Address] = frozenset()

    @classmethod
    def of(cls, policies: Iterable[Policy], suffixes: Iterable[str] = ()) -> Scope:
        """What callers can reach by these policies; `suffixes` beside them."""
        hosts = {host for policy in policies for host in _reachable(policy)}
        literals = {host: literal(host) for host in hosts}
        addresses = frozenset(address for address in literals.values() if address is not None)
        # Frozen: `under` would copy any other set for each name.
        names = frozenset(host for host, address in literals.items() if address is None).union(suffixes)
        return cls(frozenset(name for name in names if not under(_parent(name), names)), addresses)

    def __bool__(self) -> bool:
        return bool(self.names or self.addresses)

    def outside(self, bounds: Iterable[Bounds]) -> Scope:
        """The part of it that none of these covers whole."""
        given = tuple(bounds)
        return Scope(
            frozenset(name for name in self.names if not any(each.permits_below(name) for each in given)),
            frozenset(each for each in self.addresses if not any(one.permits(str(each)) for one in given)),
        )

    def hosts(self) -> list[str]:
        """For people, in a steady order: names, then addresses."""
        return [*sorted(self.names), *map(str, sorted(self.addresses, key=lambda each: (each.version, int(each))))]


def _reachable(policy: Policy) -> Iterator[str]:
    """The hosts of targets that the policy may allow, wildcards by their suffix."""
    if policy.placeholder_origin is not None:
        # The origin that a grant learns is under one of the domains; until then callers name the placeholder.
        yield policy.placeholder_origin.host
    for prefix in policy.prefixes:
        # Where there are both, both must allow.
        if not policy.domains or any(domain.covers(prefix.origin) for domain in policy.domains):
            yield prefix.origin.host
    if not policy.prefixes or policy.placeholder_origin is not None:
        for domain in policy.domains:
            yield domain.origin.host


@dataclass(frozen=True, slots=True)
class Bounds:
    """Name constraints. `names` and `networks` are what is permitted, None: all of it; what is excluded wins.

    A name that begins with a dot means only what is under it, as OpenSSL reads it. Where any network is permitted,
    addresses of the other family are not: some verifiers let them pass, this one does not.
    """

    names: frozenset[str] | None = None
    networks: frozenset[Network] | None = None
    excluded_names: frozenset[str] = frozenset()
    excluded_networks: frozenset[Network] = frozenset()

    @classmethod
    def only(cls, scope: Scope) -> Bounds:
        """Those that permit a scope and nothing else.

        Of each family either addresses are permitted or the whole family is excluded, never both: OpenSSL, Go and
        GnuTLS refuse an address that is in both.
        """
        families = {address.version for address in scope.addresses}
        return cls(
            names=scope.names or frozenset((NO_NAME,)),
            networks=frozenset(map(_single, scope.addresses)) or None,
            excluded_networks=frozenset(each for each in _EVERYTHING if each.version not in families),
        )

    def permits(self, host: str) -> bool:
        """Whether a certificate for this host is within them."""
        address = literal(host)
        if address is None:
            return (self.names is None or under(host, self.names)) and not under(host, self.excluded_names)
        permitted = self.networks is None or any(address in network for network in self.networks)
        return permitted and not any(address in network for network in self.excluded_networks)

    def permits_below(self, name: str) -> bool:
        """Whether they permit this name with all that is under it."""
        return self.permits(name) and not any(under(each.removeprefix("."), {name}) for each in self.excluded_names)


_EVERYTHING = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))


def _single(address: IPv4Address | IPv6Address) -> Network:
    return IPv4Network(address) if isinstance(address, IPv4Address) else IPv6Network(address)


def under(name: str, suffixes: Iterable[str]) -> bool:
    """Whether a host name is one of these, or under it; one that begins with a dot is not under itself, "" is all."""
    found = frozenset(suffixes)
    if "" in found or name in found:
        return True
    _, _, rest = name.partition(".")
    while rest:
        if rest in found or f".{rest}" in found:
            return True
        _, _, rest = rest.partition(".")
    return False


def _parent(name: str) -> str:
    return name.partition(".")[2]
