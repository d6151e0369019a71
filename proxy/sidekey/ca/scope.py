"""The hosts that a CA may sign for: those that the policies need (`Scope`) and those that it permits (`Bounds`).

Pure: `certificates` writes and reads them as X.509 name constraints (RFC 5280 4.2.1.10).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from sidekey.policy.addresses import Network, parse_address
from sidekey.policy.targets import Policy

NO_NAME = "invalid"
"""The permitted name of a CA for addresses only. No host is under it (RFC 6761 6.4). Without a permitted name every
name would be permitted, and verifiers disagree about an excluded empty name."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Hosts that need a certificate: `names` include their subdomains, `addresses` are single addresses.

    A name constraint always includes subdomains (RFC 5280 4.2.1.10), so no name is under another one.
    """

    names: frozenset[str] = frozenset()
    addresses: frozenset[IPv4Address | IPv6Address] = frozenset()

    @classmethod
    def of(cls, policies: Iterable[Policy], suffixes: Iterable[str] = ()) -> Scope:
        """Return the hosts that callers can reach under these policies, and `suffixes`."""
        hosts = {host for policy in policies for host in _reachable_hosts(policy)}
        literals = {host: parse_address(host) for host in hosts}
        addresses = frozenset(address for address in literals.values() if address is not None)
        # A frozenset, because `is_under` would copy any other set for each name.
        names = frozenset(host for host, address in literals.items() if address is None).union(suffixes)
        return cls(frozenset(name for name in names if not is_under(_parent(name), names)), addresses)

    def __bool__(self) -> bool:
        return bool(self.names or self.addresses)

    def outside(self, bounds: Iterable[Bounds]) -> Scope:
        """Return the hosts that none of the bounds permits."""
        options = tuple(bounds)
        return Scope(
            frozenset(name for name in self.names if not any(option.permits_below(name) for option in options)),
            frozenset(
                address for address in self.addresses if not any(option.permits(str(address)) for option in options)
            ),
        )

    def hosts(self) -> list[str]:
        """List the hosts for display: sorted names, then sorted addresses."""
        addresses = sorted(self.addresses, key=lambda address: (address.version, int(address)))
        return [*sorted(self.names), *map(str, addresses)]


def _reachable_hosts(policy: Policy) -> Iterator[str]:
    """Yield the hosts of targets that the policy may allow, and the suffix of wildcards."""
    if policy.placeholder_origin is not None:
        # The base URL of a grant is under one of the domains. Until it is known, callers use the placeholder.
        yield policy.placeholder_origin.host
    for prefix in policy.prefixes:
        # If a policy has prefixes and domains, both must allow the target.
        if not policy.domains or any(domain.covers(prefix.origin) for domain in policy.domains):
            yield prefix.origin.host
    if not policy.prefixes or policy.placeholder_origin is not None:
        for domain in policy.domains:
            yield domain.origin.host


@dataclass(frozen=True, slots=True)
class Bounds:
    """Name constraints. They permit `names` and `networks`, or all if it is None. Exclusions take precedence.

    A name that begins with a dot means its subdomains only, as in OpenSSL. If any network is permitted, addresses of
    the other family are not, although some verifiers accept them.
    """

    names: frozenset[str] | None = None
    networks: frozenset[Network] | None = None
    excluded_names: frozenset[str] = frozenset()
    excluded_networks: frozenset[Network] = frozenset()

    @classmethod
    def exactly(cls, scope: Scope) -> Bounds:
        """Build name constraints that permit exactly this scope.

        Each address family either has permitted addresses or is excluded, never both: OpenSSL, Go and GnuTLS refuse an
        address that is in both.
        """
        families = {address.version for address in scope.addresses}
        return cls(
            names=scope.names or frozenset((NO_NAME,)),
            networks=frozenset(map(_single, scope.addresses)) or None,
            excluded_networks=frozenset(network for network in _EVERYTHING if network.version not in families),
        )

    def permits(self, host: str) -> bool:
        """Return True if they permit a certificate for this host."""
        address = parse_address(host)
        if address is None:
            return (self.names is None or is_under(host, self.names)) and not is_under(host, self.excluded_names)
        permitted = self.networks is None or any(address in network for network in self.networks)
        return permitted and not any(address in network for network in self.excluded_networks)

    def permits_below(self, name: str) -> bool:
        """Return True if the constraints permit this name and all its subdomains."""
        return self.permits(name) and not any(
            is_under(excluded.removeprefix("."), {name}) for excluded in self.excluded_names
        )


_EVERYTHING = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))


def _single(address: IPv4Address | IPv6Address) -> Network:
    return IPv4Network(address) if isinstance(address, IPv4Address) else IPv6Network(address)


def is_under(name: str, suffixes: Iterable[str]) -> bool:
    """Return True if a host name is a suffix or its subdomain. `.a` matches subdomains only, an empty one all names."""
    names = frozenset(suffixes)
    if "" in names or name in names:
        return True
    _, _, rest = name.partition(".")
    while rest:
        if rest in names or f".{rest}" in names:
            return True
        _, _, rest = rest.partition(".")
    return False


def _parent(name: str) -> str:
    return name.partition(".")[2]
