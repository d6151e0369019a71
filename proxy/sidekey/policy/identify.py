"""Authenticate the caller of a request and find the integration that the request names.

The caller is authenticated before its integration ID is looked up, so that an unknown caller cannot find out which IDs
exist. An unknown ID and the ID of another caller's integration get the same response.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Generic, TypeVar

from sidekey.errors import Problem
from sidekey.policy.callers import Caller, Callers, Unidentified
from sidekey.policy.decision import Denied
from sidekey.policy.identifiers import (
    Identifiers,
    InvalidIdentifiers,
    parse_proxy_authorization,
    reverse_id,
    single_value,
)
from sidekey.policy.integration_rules import Candidate
from sidekey.policy.messages import RequestHead
from sidekey.policy.routes import Routes
from sidekey.policy.tunnel import TunnelContext

C = TypeVar("C", bound=Candidate)
C_co = TypeVar("C_co", bound=Candidate, covariant=True)

_CHALLENGE = ("Proxy-Authenticate", 'Basic realm="sidekey"')
_TOKEN_CHALLENGE = ("WWW-Authenticate", 'Sidekey-Token realm="sidekey"')
_UNKNOWN_INTEGRATION: Final = Problem(
    "integration_denied", "there is no such integration for this caller", denial="integration_unknown"
)
# For every ID that the caller may not use, existing or not: metrics must not reveal IDs of other callers' integrations.
_UNLISTED_INTEGRATION: Final = replace(_UNKNOWN_INTEGRATION, denial="integration_unlisted")


class RequestIdentity(Generic[C_co]):
    """The caller and the integration of a request, each None if there is none.

    `name` is the integration ID, in a tunnel perhaps that of the CONNECT. `token` is that of the request itself.
    """

    __slots__ = ("caller", "candidate", "name", "token")

    def __init__(self, candidate: C_co | None, caller: Caller | None, name: bytes | None, token: bytes | None) -> None:
        self.candidate: Final = candidate
        self.caller: Final = caller
        self.name: Final = name
        self.token: Final = token


def is_forward(target: bytes) -> bool:
    """Return True if a request target is for the forward proxy: neither a path nor `*`."""
    return not target.startswith(b"/") and target != b"*"


def named_id(head: RequestHead, tunnel: TunnelContext | None = None) -> str:
    """Return the integration ID in a request, admitted or not. It is empty without an ID, or with several."""
    try:
        name = _find_id(head, parse_proxy_authorization(head.proxy_authorization), tunnel)
    except InvalidIdentifiers:
        return ""
    return "" if name is None else name.decode("latin-1")


def _find_id(head: RequestHead, proxy_user: Identifiers, tunnel: TunnelContext | None) -> bytes | None:
    """Return the integration ID that all sources of the request agree on. Raises InvalidIdentifiers."""
    connect_id = None if tunnel is None else tunnel.name
    return single_value(reverse_id(head.target), head.integration_id, proxy_user.integration, connect_id)


def identify(
    head: RequestHead,
    callers: Callers | None,
    routes: Routes[C],
    tunnel: TunnelContext | None = None,
) -> RequestIdentity[C] | Denied[C]:
    """Authenticate the caller and find the integration that the request names. Raises InvalidIdentifiers."""
    proxy_user = parse_proxy_authorization(head.proxy_authorization)
    name = _find_id(head, proxy_user, tunnel)
    caller = authenticate(head, callers, proxy_user, tunnel)
    if isinstance(caller, Problem):
        return Denied(caller)
    candidate: C | None = None
    if name is not None:
        is_permitted = caller is None or caller.may_use(name.decode("latin-1"))
        candidate = routes.find(name) if is_permitted else None
        if candidate is None:
            denied: Denied[C] = Denied(_UNKNOWN_INTEGRATION if is_permitted else _UNLISTED_INTEGRATION)
            return denied.for_caller(caller)
    return RequestIdentity(candidate, caller, name, proxy_user.token or head.token or None)


def caller_keys(head: RequestHead, callers: Callers | None, tunnel: TunnelContext | None = None) -> frozenset[bytes]:
    """Return the keys by which an admitted request identifies its caller, or none if callers are not checked."""
    if callers is None:
        return frozenset()
    proxy_user = parse_proxy_authorization(head.proxy_authorization)
    return callers.keys(single_value(proxy_user.token, head.token, None if tunnel is None else tunnel.token))


def authenticate(
    head: RequestHead,
    callers: Callers | None,
    proxy_user: Identifiers,
    tunnel: TunnelContext | None = None,
) -> Caller | Problem | None:
    """Find the caller by its credentials. Return None if no callers are configured. Raises InvalidIdentifiers."""
    if callers is None:
        return None
    token = single_value(proxy_user.token, head.token, None if tunnel is None else tunnel.token)
    caller = callers.authenticate(token)
    if isinstance(caller, Unidentified):
        remedy = _token_remedy(token, has_certificate=callers.has_certificate)
        return _unknown_caller(caller, remedy, forward=is_forward(head.target), inside=tunnel is not None)
    return caller


def _token_remedy(token: bytes | None, *, has_certificate: bool) -> str:
    """Return what to change for a request without a caller's token. It never repeats the token."""
    if not token:
        return "send the caller's token in Sidekey-Token or as the proxy user's password"
    if token[:7].lower() == b"bearer ":
        return "no caller has this token: send it without the word Bearer"
    if has_certificate:
        return "no caller has this token: with a client certificate, send none, and leave the proxy password empty"
    if token.startswith(b"ey"):
        return "no caller has this token: send the whole JWT, and configure its issuer in jwt_issuers"
    return "no caller has this token: send a caller's token in Sidekey-Token or as the proxy user's password"


def _unknown_caller(reason: Unidentified, remedy: str, *, forward: bool, inside: bool) -> Problem:
    if reason.retry_after:
        return Problem("issuer_unavailable", reason.detail, headers=(("Retry-After", str(reason.retry_after)),))
    detail = reason.detail or remedy
    denial = reason.denial
    if inside:
        # No challenge: the CONNECT was authenticated, and the server that the client talks to would send none.
        detail = "the caller that opened the tunnel is no longer in the config: open another one with a valid token"
        if reason.detail:
            detail = f"{reason.detail}: open another tunnel with valid credentials"
        return Problem("caller_denied", detail, status=403, denial=denial)
    if forward:
        return Problem("caller_denied", detail, status=407, headers=(_CHALLENGE,), denial=denial)
    return Problem("caller_denied", detail, headers=(_TOKEN_CHALLENGE,), denial=denial)


def missing_id(*, inside: bool) -> Problem:
    """Build the problem of a request that must name its integration. `inside` means in a tunnel."""
    detail = "name the integration in X-Integration-Id or as the proxy user, http://ID:x@HOST:PORT"
    if inside:
        # No challenge: a CONNECT gets one.
        return Problem("integration_required", detail, status=403, denial="integration_missing")
    return Problem("integration_required", detail, headers=(_CHALLENGE,), denial="integration_missing")
