"""Route, lookup, policy: may this request take a credential or pass without one, and where does it go.

`admit` answers the common case by the quick reading and leaves everything else to the exact one; both say the same.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from sidekey.core import policy, routing
from sidekey.core.headers import Role, tokens
from sidekey.core.parameters import names_any
from sidekey.core.paths import UnreadablePath
from sidekey.core.urls import InvalidTarget, Target, parse_target
from sidekey.dataplane.lane import Known
from sidekey.errors import Problem

if TYPE_CHECKING:
    from sidekey.dataplane.exchange import Exchange
    from sidekey.dataplane.lane import Lane
    from sidekey.dataplane.plane import Plane

_CHALLENGE = ("Proxy-Authenticate", 'Basic realm="sidekey"')
_TOKEN_CHALLENGE = ("WWW-Authenticate", 'Sidekey-Token realm="sidekey"')
COMMON_METHODS = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
_NO_MARKS: dict[Role, bytes] = {}


def admit(exchange: Exchange) -> Problem | None:
    """Set the exchange's lane, route and path, or say why not."""
    plane = exchange.plane
    if exchange.marks is None and not plane.callers and plane.hosts.get(exchange.host):
        known = plane.targets.get(exchange.target) or _read_quickly(plane, exchange.target)
        if known is not None and exchange.method in known.lane.methods:
            exchange.lane, exchange.route, exchange.path = known
            return None
    try:
        return _admit_exactly(exchange, exchange.marks or _NO_MARKS)
    except routing.InvalidNaming as fault:
        return Problem("request_invalid", str(fault))


def _read_quickly(plane: Plane, target: bytes) -> Known | None:
    """The quick reading of a target at the reverse door; None leaves it to the exact one."""
    end = target.find(b"/", 3)
    if end < 0 or not target.startswith(routing.REVERSE):
        return None
    lane = plane.lanes.get(target[3:end])
    if lane is None or lane.base_route is None or not lane.quick or not lane.plain(target, end):
        return None
    known = Known(lane, lane.base_route, lane.base_path + target[end:])
    plane.remember(target, known)
    return known


def _admit_exactly(exchange: Exchange, marks: dict[Role, bytes]) -> Problem | None:
    target = exchange.target
    named, rest = routing.split_reverse(target) if target.startswith(routing.REVERSE) else (b"", b"")
    if not named:
        if target.startswith(b"/") or target == b"*":
            return Problem("not_found", "doors are /i/{id}/... and, as a proxy, absolute http:// targets")
        exchange.door = "forward"
    forward = exchange.door == "forward"
    if exchange.method == b"TRACE":
        return Problem("method_denied", "TRACE is never forwarded", headers=(("Allow", COMMON_METHODS),))
    if not forward and (fault := _check_door(exchange, marks)) is not None:
        return fault
    user = routing.ProxyUser(b"", b"")
    if Role.PROXY_AUTHORIZATION in marks:
        user = routing.proxy_user(marks[Role.PROXY_AUTHORIZATION])
    named_once = routing.agree(named, marks.get(Role.INTEGRATION_ID), user.name)
    lane = _lookup(exchange, marks, user, named_once)
    if isinstance(lane, Problem):
        return lane
    fault = _choose(exchange, lane)
    if fault is not None:
        return fault
    if routing.passed_through(marks.get(Role.VIA, b""), exchange.plane.word):
        return Problem("loop_detected", "Via shows that the request went through Sidekey before")
    _heed_expectations(exchange, marks)
    return _judge(exchange, exchange.lane, rest) if exchange.lane is lane else None


def _check_door(exchange: Exchange, marks: dict[Role, bytes]) -> Problem | None:
    """Keep browsers out of the reverse door: a page must not reach it, not even by DNS rebinding."""
    if marks.get(Role.SEC_FETCH_SITE, b"none") != b"none":
        return Problem("door_denied", "requests of web pages are refused (Sec-Fetch-Site)")
    if Role.ORIGIN in marks and not exchange.plane.callers:
        return Problem("door_denied", "requests of web pages are refused (Origin) where no callers are configured")
    if not exchange.plane.own_host(exchange.host):
        return Problem("door_denied", "Host is not this listener's: an IP address, localhost or one of listen.names")
    return None


def _lookup(
    exchange: Exchange, marks: dict[Role, bytes], user: routing.ProxyUser, named: bytes | None
) -> Lane | Problem | None:
    """The caller first, then the integration: who is not known learns nothing about which IDs exist.

    None where a caller who may send requests names no integration.
    """
    plane = exchange.plane
    forward = exchange.door == "forward"
    token = routing.agree(user.password if plane.callers else None, marks.get(Role.TOKEN))
    caller = None
    if plane.callers:
        caller = plane.callers.get(hashlib.sha256(token or b"").digest()) if token else None
        if caller is None:
            detail = "send the caller's token in Sidekey-Token or as the proxy user's password"
            if forward:
                return Problem("caller_denied", detail, status=407, headers=(_CHALLENGE,))
            return Problem("caller_denied", detail, headers=(_TOKEN_CHALLENGE,))
    if named is None:
        return None
    lane = plane.lane(named)
    if lane is None or (caller is not None and not caller.may_use(lane.name)):
        return Problem("integration_denied", "there is no such integration for this caller")
    return lane


def _choose(exchange: Exchange, named: Lane | None) -> Problem | None:
    """Set the exchange's lane: the named one, or that of targets that pass, and then route and path as well."""
    passing = exchange.plane.passing
    if named is not None:
        exchange.lane = named
    if passing is not None and exchange.door == "forward":
        target = passing.target(exchange.target, named)
        if isinstance(target, Problem):
            return target
        if target is not None:
            exchange.lane = passing.lane
            _aim(exchange, passing.lane, target)
            return None
    if named is None:
        detail = "name the integration in X-Integration-Id or as the proxy user, http://ID:x@HOST:PORT"
        return Problem("integration_required", detail, headers=(_CHALLENGE,))
    return None


def _heed_expectations(exchange: Exchange, marks: dict[Role, bytes]) -> None:
    """Expect goes on where the caller speaks HTTP/1.1 (RFC 9110 10.1.1); Max-Forwards is counted down on OPTIONS."""
    expected = marks.get(Role.EXPECT)
    if expected is not None and exchange.http_1_1:
        exchange.expects_continue = b"100-continue" in tokens(expected)
        exchange.lines.append(b"\r\nExpect: " + expected)
        exchange.names.append(b"expect")
    hops = marks.get(Role.MAX_FORWARDS)
    if hops is not None:
        if exchange.method == b"OPTIONS" and hops.isdigit():
            exchange.last_hop = int(hops[:6]) == 0
            hops = b"%d" % max(0, int(hops[:6]) - 1)
        exchange.lines.append(b"\r\nMax-Forwards: " + hops)
        exchange.names.append(b"max-forwards")


def _judge(exchange: Exchange, lane: Lane, rest: bytes) -> Problem | None:
    integration = lane.integration
    method = exchange.method.decode("latin-1")
    if exchange.method not in lane.methods:
        allow = allowed_methods(integration.policy)
        return Problem("method_denied", f"{method} is not among the integration's methods", headers=(("Allow", allow),))
    if integration.rebuild is not None:
        # What the target is to be judged by cannot be read yet: `granting.decide` sees to that first.
        return None
    base = "" if exchange.door == "forward" else str(lane.base)
    url = (exchange.target if exchange.door == "forward" else rest).decode("latin-1")
    url = f"{base}{url}"
    if _judge_quickly(exchange, lane, rest):
        return None
    try:
        target = parse_target(url)
        if exchange.door == "forward":
            target = lane.aimed(target)
        decision = policy.judge(lane.policy, target)
    except (InvalidTarget, UnreadablePath) as fault:
        return Problem("request_invalid", str(fault))
    if not decision.allowed:
        return Problem(decision.code, decision.reason)
    if lane.named and target.query and names_any(target.query, lane.named):
        return Problem("request_invalid", "the query holds a parameter that Sidekey adds itself")
    _aim(exchange, lane, target)
    return None


def _aim(exchange: Exchange, lane: Lane, target: Target) -> None:
    exchange.route = lane.route(target.origin)
    exchange.path = target.request_target.encode("latin-1")


def readmit(exchange: Exchange, lane: Lane) -> Problem | None:
    """Admit again what was admitted before it was known what to judge it by: now `lane` knows."""
    fault = _choose(exchange, lane)
    return settle(exchange) if fault is None and exchange.lane is lane else fault


def settle(exchange: Exchange) -> Problem | None:
    """Judge again what was admitted before the grant told where it goes."""
    rest = routing.split_reverse(exchange.target)[1] if exchange.door == "reverse" else b""
    return _judge(exchange, exchange.lane, rest)


def _judge_quickly(exchange: Exchange, lane: Lane, rest: bytes) -> bool:
    """Set route and path where the quick reading allows the target; False leaves it to the exact one."""
    if exchange.door == "reverse":
        if lane.base_route is None or not lane.quick or not rest.startswith(b"/") or not lane.plain(rest):
            return False
        exchange.route = lane.base_route
        exchange.path = lane.base_path + rest
        return True
    target = exchange.target
    cut = target.find(b"/", len(b"https://"))
    entry = lane.entries.get(target[:cut])
    if entry is None or cut < 0 or not lane.plain(target, cut):
        return False
    exchange.route, prefix = entry
    exchange.path = path = target[cut:]
    return path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in (b"", b"/", b"?")


def allowed_methods(rules: policy.Policy) -> str:
    """What stands in Allow (RFC 9110 10.2.1)."""
    return COMMON_METHODS if rules.methods is None else ", ".join(sorted(rules.methods - policy.SAFE_METHODS_NEVER))
