"""Decide whether a caller may open a tunnel with CONNECT."""

from __future__ import annotations

from typing import TypeVar

from sidekey.errors import Problem
from sidekey.policy.callers import Caller, Callers
from sidekey.policy.decision import Denied, TunnelAdmitted, malformed_target
from sidekey.policy.identifiers import InvalidIdentifiers
from sidekey.policy.identify import RequestIdentity, identify, missing_id
from sidekey.policy.integration_rules import Candidate
from sidekey.policy.listener import check_loop
from sidekey.policy.messages import RequestHead
from sidekey.policy.passthrough import PassthroughPolicy
from sidekey.policy.routes import NOT_COVERED, Routes, check_tunnel_host, find_by_host
from sidekey.policy.urls import Authority, InvalidTarget, parse_authority

C = TypeVar("C", bound=Candidate)


def decide_connect(
    head: RequestHead, callers: Callers | None, routes: Routes[C], *, awaits_store: bool = False
) -> TunnelAdmitted[C] | Denied[C]:
    """Decide whether the caller may open a tunnel. This admits no request that the caller sends through the tunnel.

    An unresolved candidate is admitted: the caller of this function decides again once the candidate is resolved.
    """
    decision = _decide_connect(head, callers, routes)
    return decision.until_store_read() if awaits_store and isinstance(decision, Denied) else decision


def _decide_connect(head: RequestHead, callers: Callers | None, routes: Routes[C]) -> TunnelAdmitted[C] | Denied[C]:
    try:
        authority = parse_authority(head.target.decode("latin-1"))
    except InvalidTarget as malformed:
        return Denied(malformed_target(malformed))
    try:
        identity = identify(head, callers, routes)
    except InvalidIdentifiers as ambiguous:
        # mypyc types `error` once per function, so this exception needs another name than `malformed`.
        identity = Denied(Problem("request_invalid", str(ambiguous), denial="names_differ"))
    if isinstance(identity, Denied):
        return identity.for_connect(authority)
    return _decide_tunnel(head, identity, authority, routes)


def _decide_tunnel(
    head: RequestHead, identity: RequestIdentity[C], authority: Authority, routes: Routes[C]
) -> TunnelAdmitted[C] | Denied[C]:
    candidate, caller = identity.candidate, identity.caller
    problem = check_tunnel_host(candidate, authority.host, routes) or check_loop(head, routes)
    passes = _passes(authority, candidate, routes.passthrough) if problem is None else problem
    if isinstance(passes, Problem):
        return Denied(passes, candidate, authority).for_caller(caller)
    if not passes and (problem := _check_reach(authority, candidate, caller, routes)) is not None:
        return Denied(problem, candidate, authority).for_caller(caller)
    if passes and routes.passthrough is not None:
        candidate = routes.passthrough.candidate
    return TunnelAdmitted(authority, candidate, passes=passes, name=identity.name, token=identity.token, caller=caller)


def _passes(authority: Authority, named: C | None, passthrough: PassthroughPolicy[C] | None) -> bool | Problem:
    """Return True if the tunnel's bytes pass unchanged, False if Sidekey terminates the tunnel, or a Problem."""
    if passthrough is None:
        return False
    passes = passthrough.passes(authority.host, None if named is None else named.rules)
    if passes is True and authority.port not in passthrough.ports:
        return Problem("target_denied", "the port of the target is not in forward.pass_ports", denial="pass_ports")
    return passes


def _check_reach(authority: Authority, named: C | None, caller: Caller | None, routes: Routes[C]) -> Problem | None:
    """Return a Problem if every request in a tunnel to this authority would be outside the policies."""
    if named is not None:
        if named.rules.unresolved or named.rules.may_reach(authority):
            return None
        detail = "no target at this host and port is inside the integration's policy"
        return Problem("target_denied", detail, denial="outside_policy")
    if routes.matching is None:
        return missing_id(inside=False)
    candidates = find_by_host(authority.host, caller, routes)
    is_covered = any(candidate.rules.may_reach(authority) for candidate in candidates)
    return None if is_covered else NOT_COVERED
