"""Decide which forward-proxy targets pass without a credential."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

from sidekey.errors import Problem
from sidekey.policy.coverage import Coverage
from sidekey.policy.decision import STORE_UNREAD, malformed_target
from sidekey.policy.integration_rules import Candidate, IntegrationRules
from sidekey.policy.urls import InvalidTarget, Target, parse_target

C_co = TypeVar("C_co", bound=Candidate, covariant=True)


class PassthroughPolicy(Generic[C_co]):
    """Policy for forward-proxy targets that no integration covers: they pass without a credential.

    `candidate` takes the place of an integration for such requests: it adds no credential. `coverage` holds the hosts
    that integrations cover. Nothing passes while `unresolved` contains an integration, whose targets are unknown, or
    while Sidekey `awaits_store`, since a stored integration may cover the target. Tunnels pass to `ports` only.
    """

    __slots__ = ("awaits_store", "candidate", "coverage", "ports", "unresolved")

    def __init__(
        self,
        candidate: C_co,
        coverage: Coverage,
        unresolved: frozenset[str],
        ports: frozenset[int] = frozenset(),
        *,
        awaits_store: bool = False,
    ) -> None:
        self.candidate: Final = candidate
        self.coverage: Final = coverage
        self.unresolved: Final = unresolved
        self.ports: Final = ports
        self.awaits_store: Final = awaits_store

    def find_target(self, url: bytes, named: IntegrationRules | None) -> Target | Problem | None:
        """Return the target if it passes, None if an integration must decide on it, or a Problem."""
        try:
            target = parse_target(url.decode("latin-1"))
        except InvalidTarget as error:
            return None if named is not None else malformed_target(error)
        passes = self.passes(target.origin.host, named)
        if isinstance(passes, Problem):
            return passes
        return target if passes else None

    def passes(self, host: str, named: IntegrationRules | None) -> bool | Problem:
        """Return True if requests to this host pass, False if an integration covers it, or a Problem."""
        # The request may name an integration whose rules are older than the last reload and cover more.
        if self.coverage.covers(host) or (named is not None and Coverage.of((named.policy,)).covers(host)):
            return False
        if (self.unresolved or self.awaits_store) and named is not None and named.unresolved:
            return False
        if self.awaits_store:
            return STORE_UNREAD
        if self.unresolved:
            detail = "the targets of an integration cannot be read: until then nothing passes without a credential"
            return Problem("credential_unavailable", detail, error="proxy_configuration_error")
        if host.endswith("."):
            return Problem("target_denied", "the target's host must not end in a dot", denial="trailing_dot")
        return True
