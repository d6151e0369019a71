"""Decide which targets may go through a parent proxy, and which names may be left to it to resolve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sidekey.policy.addresses import Address, Network, is_loopback, unwrap

_LOCAL_SUFFIXES: Final = frozenset({"internal", "local", "localhost", "svc"})
"""Names of private networks (ICANN SAC113, RFC 6762 3, RFC 6761 6.3), and of Kubernetes with its search domains."""

LOCAL_NAME: Final = (
    "must not receive this one: a name without a dot, one that ends like an address, and names under local, internal "
    "and svc may mean private addresses; write the full name, or add the host to `network.hosts` or `no_proxy`"
)
"""Why a parent proxy that resolves names does not receive a name for which `is_local_name` is true."""


@dataclass(frozen=True, slots=True)
class NoProxy:
    """Targets to which Sidekey connects directly: exact host names, suffixes that begin with a dot, and networks."""

    hosts: frozenset[str] = frozenset()
    suffixes: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()

    def covers_host(self, host: str) -> bool:
        """Return True for a host that is listed or below a listed suffix. `host` is in lower case."""
        name = host.removesuffix(".")
        return name in self.hosts or name.endswith(self.suffixes)

    def covers_address(self, address: Address) -> bool:
        """Return True for an address in a listed network, and for each address of this machine alone.

        At the proxy, a loopback address would mean a service of the proxy's machine.
        """
        plain = unwrap(address)
        # The kernel connects an unspecified address to the loopback one (ip(7)).
        return is_loopback(plain) or plain.is_unspecified or any(plain in network for network in self.networks)


def is_local_name(host: str) -> bool:
    """Return True for a host name that a proxy might resolve to a private address by its form alone.

    A last label that begins with a digit makes many resolvers read the name as an address, such as `127.0.0.1.`. No
    top-level domain begins with a digit (RFC 3696 2).
    """
    labels = host.removesuffix(".").split(".")
    return len(labels) == 1 or labels[-1] in _LOCAL_SUFFIXES or labels[-1][:1].isdigit()


def is_localhost(host: str) -> bool:
    """Return True for `localhost` and the names below it, which mean this machine (RFC 6761 6.3)."""
    return host.removesuffix(".").rpartition(".")[2] == "localhost"
