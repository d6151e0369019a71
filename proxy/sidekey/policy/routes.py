"""Find the integrations that may serve a request, by ID and by host."""

from __future__ import annotations

from typing import Final, Protocol, TypeVar

from sidekey.errors import Problem
from sidekey.policy.callers import Caller
from sidekey.policy.integration_rules import Candidate
from sidekey.policy.match import Matching, is_under
from sidekey.policy.passthrough import PassthroughPolicy

C = TypeVar("C", bound=Candidate)
C_co = TypeVar("C_co", bound=Candidate, covariant=True)


class Routes(Protocol[C_co]):
    """The integrations of this process, and the names of its proxy listener."""

    @property
    def instance(self) -> bytes:
        """Random word in the Via header of this process, by which it recognizes its own requests (loops)."""
        ...

    @property
    def passthrough(self) -> PassthroughPolicy[C_co] | None:
        """Policy for targets that no integration covers, or None if they are denied."""
        ...

    @property
    def matching(self) -> Matching | None:
        """Integrations by host, for requests that name none, or None if every request must name its integration."""
        ...

    @property
    def ca_hosts(self) -> frozenset[str]:
        """The only hosts at and under which stored integrations serve tunnels and requests that name no integration."""
        ...

    def find(self, name: bytes) -> C_co | None:
        """Find the integration of this ID."""
        ...

    def is_listener_host(self, host: bytes | None) -> bool:
        """Return True if Host names the proxy listener. An HTTP/1.0 request may omit it."""
        ...


NOT_COVERED: Final = Problem(
    "target_denied", "no integration of this caller covers the target: name one, or see policies", denial="not_covered"
)


def find_by_host(host: str, caller: Caller | None, routes: Routes[C]) -> list[C]:
    """Return the resolved integrations that may serve the caller's request to this host without being named."""
    matching = routes.matching
    candidates = []
    for name in () if matching is None else matching.at(host):
        if caller is None or caller.may_use(name):
            candidate = routes.find(name.encode())
            if candidate is None or candidate.rules.unresolved:
                continue
            if candidate.rules.stored and not _may_serve_unnamed(name, host, caller, routes):
                continue
            candidates.append(candidate)
    return candidates


def _may_serve_unnamed(name: str, host: str, caller: Caller | None, routes: Routes[C]) -> bool:
    """Return True if a host may select this stored integration: it is under `ca.hosts`, and the caller lists the ID."""
    return caller is not None and caller.lists(name) and is_under(host, routes.ca_hosts)


def check_tunnel_host(candidate: C | None, host: str, routes: Routes[C]) -> Problem | None:
    """Return a Problem if the candidate is a stored integration and `ca.hosts` does not cover the tunnel's host."""
    if candidate is None or not candidate.rules.stored or is_under(host, routes.ca_hosts):
        return None
    detail = "in a tunnel a stored integration may be used only at hosts under ca.hosts"
    return Problem("ca_unavailable", detail, denial="ca_hosts")
