"""Replacements of the local CA of tunnels: a CA of the tests, or none."""

from __future__ import annotations

import ssl

from sidekey.errors import Problem, ProblemError
from sidekey.network.tls_server import server_context
from support.private_ca import Authority

UNAVAILABLE = Problem("ca_unavailable", "there is no local CA")


class NoLeaves:
    """No CA: nothing can be signed."""

    def context_for(self, host: str) -> ssl.SSLContext | None:
        return None

    async def obtain(self, host: str) -> ssl.SSLContext:
        raise ProblemError(UNAVAILABLE)


class IssuedLeaves:
    """Leaves of a CA of the tests. `hosts` has the hosts of issued leaves, in order."""

    def __init__(self, ca: Authority) -> None:
        self._ca = ca
        self._contexts: dict[str, ssl.SSLContext] = {}
        self.hosts: list[str] = []

    def rotate(self, ca: Authority) -> None:
        """Sign with another CA from now on."""
        self._ca = ca
        self._contexts.clear()

    def context_for(self, host: str) -> ssl.SSLContext | None:
        return self._contexts.get(host)

    async def obtain(self, host: str) -> ssl.SSLContext:
        self.hosts.append(host)
        leaf = self._ca.leaf(host)
        pem = leaf.certificate.read_bytes() + leaf.key.read_bytes()
        context = self._contexts[host] = server_context(host, pem)
        return context
