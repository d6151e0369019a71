"""Results of a decision: admitted or denied, for a request and for a CONNECT."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

from sidekey.errors import Problem
from sidekey.policy.callers import Caller
from sidekey.policy.integration_rules import Candidate
from sidekey.policy.tunnel import TunnelContext
from sidekey.policy.urls import Authority, InvalidTarget, Target

C_co = TypeVar("C_co", bound=Candidate, covariant=True)

STORE_UNREAD: Final = Problem(
    "store_unavailable",
    "the store has not been read yet, and no config file has this integration, preset, caller or target: retry later",
    headers=(("Retry-After", "5"),),
)

_STORE_DECIDES: Final = frozenset({"token_unknown", "integration_unknown", "preset_unknown", "not_covered"})
"""Denials that a stored caller, integration or preset could turn into an admission. All others are final."""


class Admitted(Generic[C_co]):
    """An admitted request: the integration `candidate` serves it at `target`. `rule` is the policy rule that allows it.

    `target` is None while the integration is unresolved: Sidekey decides again (`decide_again`) once it has read the
    missing value. `rule` is empty if the fast parser read the target, or if the target passes without a credential.
    `caller` is the caller's name, empty if there are no callers.
    """

    __slots__ = ("caller", "candidate", "rule", "target")

    def __init__(self, candidate: C_co, target: Target | None, rule: str = "", caller: str = "") -> None:
        self.candidate: Final = candidate
        self.target: Final = target
        self.rule: Final = rule
        self.caller: Final = caller

    def for_caller(self, caller: Caller | None) -> Admitted[C_co]:
        """Return this decision with the name of the authenticated caller."""
        return self if caller is None else Admitted(self.candidate, self.target, self.rule, caller.name)


class Denied(Generic[C_co]):
    """A denied request and its `problem`.

    `candidate` and `preset` (an ID) are set if the caller may know that they exist, `caller` (a name) if it is
    authenticated. `authority` is the target of a CONNECT.
    """

    __slots__ = ("authority", "caller", "candidate", "preset", "problem")

    def __init__(
        self,
        problem: Problem,
        candidate: C_co | None = None,
        authority: Authority | None = None,
        preset: str = "",
        caller: str = "",
    ) -> None:
        self.problem: Final = problem
        self.candidate: Final = candidate
        self.authority: Final = authority
        self.preset: Final = preset
        self.caller: Final = caller

    def for_caller(self, caller: Caller | None) -> Denied[C_co]:
        """Return this denial with the name of the authenticated caller."""
        if caller is None:
            return self
        return Denied(self.problem, self.candidate, self.authority, self.preset, caller.name)

    def for_connect(self, authority: Authority) -> Denied[C_co]:
        """Return this denial with the target of the CONNECT."""
        return Denied(self.problem, self.candidate, authority, self.preset, self.caller)

    def until_store_read(self) -> Denied[C_co]:
        """Return the denial for a process that has not read its store: 503 if a stored row could admit the request."""
        if self.problem.denial not in _STORE_DECIDES:
            return self
        return Denied(STORE_UNREAD, self.candidate, self.authority, self.preset, self.caller)


class TunnelAdmitted(Generic[C_co]):
    """An admitted CONNECT: the caller may open a tunnel to `authority`.

    If the tunnel `passes`, Sidekey forwards its bytes unchanged and without a credential, and `candidate` is that of
    the `PassthroughPolicy`. Otherwise `candidate` is the integration that the CONNECT names, or None to find one for
    each request. `name` and `token` are those of the CONNECT.
    """

    __slots__ = ("authority", "caller", "candidate", "name", "passes", "token")

    def __init__(
        self,
        authority: Authority,
        candidate: C_co | None,
        *,
        passes: bool,
        name: bytes | None,
        token: bytes | None,
        caller: Caller | None,
    ) -> None:
        self.authority: Final = authority
        self.candidate: Final = candidate
        self.passes: Final = passes
        self.name: Final = name
        self.token: Final = token
        self.caller: Final = caller

    def context(self, scheme: str) -> TunnelContext:
        """Build what requests of this scheme in the tunnel inherit from the CONNECT."""
        return TunnelContext(self.authority.origin(scheme), self.name, self.token)


def malformed_target(error: InvalidTarget) -> Problem:
    """Build the problem of a target that cannot be parsed."""
    return Problem("request_invalid", str(error), denial="target_malformed")
