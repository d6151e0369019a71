"""Decide whether a request gets a credential or passes without one, and where it goes.

Pure functions of a frozen request head, the callers and the integrations. The data plane and `explain` decide here.
Nothing is allowed by default, and every denial is a value with its reason. `policy.identify` finds the caller and the
integration that the request names, `policy.decide_connect` decides on CONNECT, and `presets.decide` on presets.
"""

from __future__ import annotations

from typing import Final, TypeVar

from sidekey.errors import Problem
from sidekey.policy import targets
from sidekey.policy.callers import Caller, Callers
from sidekey.policy.decision import Admitted, Denied, malformed_target
from sidekey.policy.identifiers import REVERSE, InvalidIdentifiers, reverse_id, split_reverse
from sidekey.policy.identify import RequestIdentity, identify, is_forward, missing_id
from sidekey.policy.integration_rules import COMMON_METHODS, Candidate, IntegrationRules
from sidekey.policy.listener import check_browser, check_loop, check_origin
from sidekey.policy.messages import RequestHead
from sidekey.policy.parameters import UnreadableNames, contains_parameter, overrides_method
from sidekey.policy.passthrough import PassthroughPolicy
from sidekey.policy.paths import UnreadablePath
from sidekey.policy.routes import NOT_COVERED, Routes, check_tunnel_host, find_by_host
from sidekey.policy.targets import Prefix
from sidekey.policy.tunnel import TunnelContext
from sidekey.policy.urls import InvalidTarget, Origin, parse_target
from sidekey.policy.websocket import NOT_ALLOWED, NOT_PASSED

C = TypeVar("C", bound=Candidate)

_NO_PATH: Final = Problem(
    "not_found", "no such path: use /i/{id}/..., or /p/{id} of a preset, or configure Sidekey as HTTP_PROXY"
)
_TRACE: Final = Problem(
    "method_denied", "TRACE is never forwarded", headers=(("Allow", COMMON_METHODS),), denial="trace"
)


def decide(
    head: RequestHead,
    callers: Callers | None,
    routes: Routes[C],
    tunnel: TunnelContext | None = None,
    *,
    awaits_store: bool = False,
) -> Admitted[C] | Denied[C]:
    """Decide on a request that names no preset.

    Requests need no token if `callers` is None. A request in a `tunnel` has an absolute target. Sidekey `awaits_store`
    until it has read its store once.
    """
    try:
        decision = _decide(head, callers, routes, tunnel)
    except InvalidIdentifiers as error:
        return Denied(Problem("request_invalid", str(error), denial="names_differ"))
    return decision.until_store_read() if awaits_store and isinstance(decision, Denied) else decision


def _decide(
    head: RequestHead, callers: Callers | None, routes: Routes[C], tunnel: TunnelContext | None
) -> Admitted[C] | Denied[C]:
    forward = is_forward(head.target)
    if tunnel is not None and (not forward or head.method == b"CONNECT"):
        detail = "a request in a tunnel must have a path or an absolute URL as its target, and must not be a CONNECT"
        return Denied(Problem("request_invalid", detail, denial="target_malformed"))
    if not forward and not reverse_id(head.target):
        return Denied(_NO_PATH)
    if head.method == b"TRACE":
        return Denied(_TRACE)
    if not forward and (problem := check_browser(head, callers, routes)) is not None:
        return Denied(problem)
    if forward and head.is_websocket and (problem := check_origin(head, callers)) is not None:
        return Denied(problem)
    identity = identify(head, callers, routes, tunnel)
    if isinstance(identity, Denied):
        return identity
    return _decide_identified(head, identity, routes, tunnel).for_caller(identity.caller)


def _decide_identified(
    head: RequestHead, identity: RequestIdentity[C], routes: Routes[C], tunnel: TunnelContext | None
) -> Admitted[C] | Denied[C]:
    named = identity.candidate
    if tunnel is not None and tunnel.is_misdirected(head):
        detail = "Host, and a target that is absolute, must name the authority that the tunnel was opened to"
        return Denied(Problem("misdirected", detail, denial="other_host"), named)
    if tunnel is not None and (problem := check_tunnel_host(named, tunnel.origin.host, routes)) is not None:
        return Denied(problem, named)
    passed = _pass_through(head, named, routes.passthrough)
    if isinstance(passed, Denied):
        return passed
    if passed is not None:
        candidate = passed.candidate
    elif named is not None:
        candidate = named
    else:
        covered = _choose_by_host(head, identity.caller, routes, inside=tunnel is not None)
        if isinstance(covered, Denied):
            return covered
        candidate = covered.candidate
    if (problem := check_loop(head, routes)) is not None:
        return Denied(problem, candidate)
    return apply_rules(head, candidate) if passed is None else passed


def _pass_through(
    head: RequestHead, named: C | None, passthrough: PassthroughPolicy[C] | None
) -> Admitted[C] | Denied[C] | None:
    """Admit or deny a request without a credential, or return None if an integration must serve it."""
    if passthrough is None or not is_forward(head.target):
        return None
    # An integration covers every target that its fast parser allows, so such a target cannot pass.
    if named is not None and named.match_fast(head.target, forward=True) is not None:
        return None
    target = passthrough.find_target(head.target, None if named is None else named.rules)
    if isinstance(target, Problem):
        return Denied(target, named)
    if target is None:
        return None
    return Denied(NOT_PASSED, named) if head.is_websocket else Admitted(passthrough.candidate, target)


def _choose_by_host(
    head: RequestHead, caller: Caller | None, routes: Routes[C], *, inside: bool
) -> Admitted[C] | Denied[C]:
    """Find the integration whose policy allows the target of a request that names none. Methods do not count."""
    if routes.matching is None:
        return Denied(missing_id(inside=inside))
    try:
        host = parse_target(head.target.decode("latin-1")).origin.host
    except InvalidTarget as error:
        return Denied(malformed_target(error))
    denied: Denied[C] | None = None
    for candidate in find_by_host(host, caller, routes):
        decision = _apply_target_rules(head, candidate)
        if isinstance(decision, Admitted):
            return decision
        # A target outside this policy may be covered by another one. Any other denial is reported if none admits it.
        if decision.problem.code != "target_denied" or decision.problem.denial == "method_not_allowed":
            denied = decision
    return denied or Denied(NOT_COVERED)


def decide_again(head: RequestHead, candidate: C, passthrough: PassthroughPolicy[C] | None) -> Admitted[C] | Denied[C]:
    """Decide again on an admitted request once its candidate is resolved."""
    passed = _pass_through(head, candidate, passthrough)
    return apply_rules(head, candidate) if passed is None else passed


def apply_rules(head: RequestHead, candidate: C) -> Admitted[C] | Denied[C]:
    """Decide on method, upgrade and target of a request by the rules of the candidate that are in force."""
    rules = candidate.rules
    if head.method not in rules.methods:
        method = head.method.decode("latin-1")
        detail = f"{method} is not among the integration's methods"
        allow = ("Allow", rules.allow)
        return Denied(Problem("method_denied", detail, headers=(allow,), denial="method_not_allowed"), candidate)
    if head.is_websocket and not rules.websocket:
        return Denied(NOT_ALLOWED, candidate)
    return _apply_target_rules(head, candidate)


def _apply_target_rules(head: RequestHead, candidate: C) -> Admitted[C] | Denied[C]:
    rules = candidate.rules
    if rules.unresolved:
        return Admitted(candidate, None)
    forward = is_forward(head.target)
    url = head.target if forward else split_reverse(head.target)[1]
    fast = candidate.match_fast(url, forward=forward)
    if fast is not None:
        return Admitted(candidate, fast)
    try:
        if forward:
            target = rules.resolve_target(parse_target(url.decode("latin-1")))
        else:
            target = parse_target(f"{rules.base}{url.decode('latin-1')}")
        if rules.canonical is not None:
            target = rules.canonical.canonicalize(target)
        verdict = targets.judge_target(rules.policy, target)
    except (InvalidTarget, UnreadablePath) as error:
        verdict = targets.unreadable_target(error)
    if not verdict.allowed:
        return Denied(Problem(verdict.code, verdict.reason, denial=verdict.denial), candidate)
    problem = _check_query(target.query, rules)
    return Admitted(candidate, target, verdict.rule) if problem is None else Denied(problem, candidate)


def _check_query(query: str | None, rules: IntegrationRules) -> Problem | None:
    canonical = rules.canonical
    if not query:
        return None
    try:
        if rules.configured.methods is not None and overrides_method(query, rules.methods):
            detail = "the query must not name a method in _method or _HttpMethod that is not among the integration's"
            return Problem("target_denied", detail, denial="method_not_allowed")
        if rules.parameters and contains_parameter(query, rules.parameters):
            detail = "the query must not contain a parameter that Sidekey adds itself"
            return Problem("request_invalid", detail, denial="parameter_injected")
        if canonical is not None and canonical.contains_reserved(query):
            detail = f"the query must not contain a parameter whose name begins with {canonical.reserved}"
            return Problem("request_invalid", detail, denial="parameter_injected")
    except UnreadableNames as error:
        return Problem("request_invalid", f"the query {error}", denial="parameters_unreadable")
    return None


def named_origin(head: RequestHead, base: Prefix | None, rules: IntegrationRules | None) -> Origin | None:
    """Return the origin a request was meant for, even if it was denied, or None if the target is malformed.

    `base` and `rules` belong to the integration that the request names.
    """
    if not is_forward(head.target):
        return base.origin if base is not None and head.target.startswith(REVERSE) else None
    try:
        target = parse_target(head.target.decode("latin-1"))
    except InvalidTarget:
        return None
    return (target if rules is None else rules.resolve_target(target)).origin
