"""`/session`: log in with an operator's token for a cookie, and log out."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import Final, Literal

from pydantic import Field

from sidekey.admin.api.messages import ApiRequest, ApiResult
from sidekey.admin.api.operators import Operator, unknown_token
from sidekey.admin.api.problems import ApiProblem
from sidekey.admin.api.resources import Body, read_body
from sidekey.admin.api.route import PREFIX, Route
from sidekey.admin.api.service import Service
from sidekey.admin.api.tokens import WhoAmI, describe
from sidekey.admin.sessions import LIFE
from sidekey.runtime.admin_rules import AdminRules
from sidekey.store.sessions import Session
from sidekey.store.tokens import digest_of

_PATH: Final = "/session"


class LogIn(Body):
    """An operator's token to log in with."""

    token: str = Field(repr=False, json_schema_extra={"writeOnly": True})


class SessionState(Body):
    """The operator of a request, and how the console can be used."""

    who: WhoAmI | None = Field(description="The operator; null: the request has no valid token and no session.")
    oidc: bool = Field(description="Whether operators can log in with the company's account.")
    store: Literal["ready", "absent", "unavailable"] = Field(
        description="`absent`: Sidekey has no store. `unavailable`: the store cannot be used now."
    )


async def read(service: Service, request: ApiRequest) -> ApiResult:
    """Describe the operator, if any, and the state of the store."""
    who = None if request.known is None else describe(request.known)
    ready = service.store.health.up and not service.managed.unread
    return ApiResult.of(SessionState(who=who, oidc=False, store="ready" if ready else "unavailable"))


async def log_in(service: Service, request: ApiRequest) -> ApiResult:
    """Begin a session. Nothing limits attempts: a token of Sidekey has 256 random bits."""
    # Not in the thread that validates documents, for which a log-in would wait.
    token = (await service.run(read_body, LogIn, request.document)).token
    await service.look_for(token)
    digest = digest_of(token)
    operator = service.operator(digest)
    if not isinstance(operator, Operator):
        service.count_login(operator)
        raise unknown_token()
    service.count_login("ok")
    now = int(time.time())
    ends_at = min(now + LIFE, operator.expires_at or now + LIFE)
    cookie = service.store.new_cookie()
    session = Session(cookie.session, digest, begun_at=now, auth_at=now, ends_at=ends_at)
    rules = service.snapshot.admin
    await service.begin_session(operator, session, request.source, request.cookies.get(cookie_name(rules), ""))
    result = ApiResult.of(describe(replace(operator, session_ends_at=ends_at)), status=201, location=f"{PREFIX}{_PATH}")
    return replace(result, cookies=(_cookie(rules, cookie.value),))


async def log_out(service: Service, request: ApiRequest) -> ApiResult:
    """End the session of this request, and delete its cookie."""
    if request.operator.session_ends_at is None:
        raise ApiProblem("not_found", "this request has a token and no session: revoke the token instead")
    rules = service.snapshot.admin
    await service.end_session(request.cookies[cookie_name(rules)])
    return ApiResult(204, cookies=(f"{_cookie(rules, '')}; Max-Age=0",))


def cookie_name(rules: AdminRules) -> str:
    """Return the name of the session's cookie."""
    return "__Host-sidekey-ui" if rules.over_tls else "sidekey-ui"


def _cookie(rules: AdminRules, value: str) -> str:
    secure = "; Secure" if rules.over_tls else ""
    return f"{cookie_name(rules)}={value}; Path=/; HttpOnly; SameSite=Strict{secure}"


_ONE: Final = partial(Route, path=_PATH)

ROUTES: Final = (
    _ONE(
        method="GET",
        name="getSession",
        summary="Describe the operator of this request, if any, and whether the store can be used.",
        permission="anonymous",
        handle=read,
        gives=SessionState,
        needs_store=False,
    ),
    _ONE(
        method="POST",
        name="logIn",
        summary="Exchange an operator's token for the cookie of a session.",
        permission="anonymous",
        handle=log_in,
        body=LogIn,
        gives=WhoAmI,
        status=201,
        sets_cookie=True,
        codes=("invalid",),
    ),
    _ONE(
        method="DELETE",
        name="logOut",
        summary="End the session of this request.",
        permission="self",
        handle=log_out,
        status=204,
        sets_cookie=True,
        codes=("not_found",),
    ),
)
