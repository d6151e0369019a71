"""`/session/oidc`: log in with the company account (OpenID Connect)."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

from pydantic import Field

from sidekey.api.auth.oidc.attempt import COOKIE_LIFETIME
from sidekey.api.auth.oidc.errors import IssuerUnavailable, LoginError, NoRole, TooManyLogins
from sidekey.api.auth.oidc.login import Authenticated, Redirect
from sidekey.api.auth.operators import Operator
from sidekey.api.errors import ApiProblem
from sidekey.api.handlers.sessions import begin_session, cookie_name, set_cookie
from sidekey.api.handlers.tokens import WhoAmI
from sidekey.api.messages import ApiRequest, ApiResult
from sidekey.api.models import Body, read_body
from sidekey.api.route import Route
from sidekey.api.service import ApiServices
from sidekey.observe.log import get_logger
from sidekey.snapshot.admin import OidcRules
from sidekey.store.sessions import Session

_COOKIE: Final = "sidekey-oidc"

T = TypeVar("T")


class StartLogIn(Body):
    """A company log-in to begin."""

    again: bool = Field(default=False, description="Whether the issuer must ask the person to log in again.")


class StartedLogIn(Body):
    """A started company log-in."""

    url: str = Field(description="The URL that the browser must open.")


class FinishLogIn(Body):
    """The parameters with which the issuer has redirected the browser to the callback page."""

    code: str = Field(repr=False, json_schema_extra={"writeOnly": True})
    state: str = Field(repr=False, json_schema_extra={"writeOnly": True})
    iss: str | None = None


@partial(
    Route,
    "POST",
    "/session/oidc/start",
    "startCompanyLogIn",
    permission="anonymous",
    body=StartLogIn,
    response=StartedLogIn,
    sets_cookie=True,
    codes=("invalid", "not_found", "oidc_unavailable"),
)
async def start(service: ApiServices, request: ApiRequest) -> ApiResult:
    """Begin a log-in with the company account."""
    sent = await service.run(read_body, StartLogIn, request.document)
    started = await _as_problems(service, service.company_logins.begin(_rules(service), again=sent.again))
    rules = service.snapshot.admin
    cookie = set_cookie(rules, cookie_name(rules, _COOKIE), started.cookie, COOKIE_LIFETIME)
    return replace(ApiResult.of(StartedLogIn(url=started.url)), cookies=(cookie,))


@partial(
    Route,
    "POST",
    "/session/oidc",
    "finishCompanyLogIn",
    permission="anonymous",
    body=FinishLogIn,
    response=WhoAmI,
    status=201,
    sets_cookie=True,
    codes=("invalid", "not_found", "oidc_failed", "no_role", "too_many", "oidc_unavailable"),
)
async def finish(service: ApiServices, request: ApiRequest) -> ApiResult:
    """Exchange the parameters of the issuer's redirect for the cookie of a session."""
    # Every response deletes the cookie of the attempt.
    admin = service.snapshot.admin
    name = cookie_name(admin, _COOKIE)
    deletion = set_cookie(admin, name, "", max_age=0)
    try:
        sent = await service.run(read_body, FinishLogIn, request.document)
        redirect = Redirect(sent.code, sent.state, sent.iss)
        rules, cookie = _rules(service), request.cookies.get(name, "")
        person = await _as_problems(service, service.company_logins.finish(rules, cookie, redirect, request.source))
        result = await _begin_company_session(service, request, rules, person)
    except ApiProblem as problem:
        problem.headers["Set-Cookie"] = deletion
        raise
    return replace(result, cookies=(*result.cookies, deletion))


async def _begin_company_session(
    service: ApiServices, request: ApiRequest, rules: OidcRules, person: Authenticated
) -> ApiResult:
    now = int(time.time())
    cookie = service.store.new_cookie()
    session = Session(
        cookie.session,
        service.store.identity_digest(person.grant.identity),
        begun_at=now,
        auth_at=person.auth_at,
        ends_at=now + rules.session_seconds,
        grant_text=person.grant.text(rules),
    )
    operator = service.operator_of_session(session)
    if not isinstance(operator, Operator):
        raise ApiProblem("oidc_failed", "the log-in failed, since the config has changed meanwhile: start again")
    service.count_login("ok")
    return await begin_session(service, request, operator, session, cookie.value)


def _rules(service: ApiServices) -> OidcRules:
    rules = service.snapshot.admin.oidc
    if rules is None:
        raise ApiProblem(
            "not_found", "`admin.oidc` is not set, so company log-ins are not possible: log in with a token"
        )
    return rules


async def _as_problems(service: ApiServices, work: Awaitable[T]) -> T:
    """Convert errors of a log-in to problems, and log all but rate limits."""
    try:
        return await work
    except TooManyLogins as error:
        headers = {"Retry-After": str(error.retry_after)}
        raise ApiProblem("too_many", f"{error.reason}: try again later", headers=headers) from None
    except IssuerUnavailable as error:
        _warn(service, "company log-in is not available", error)
        text = f"the issuer cannot be used: {error.reason}"
        raise ApiProblem("oidc_unavailable", text, headers={"Retry-After": "10"}) from None
    except LoginError as error:
        service.count_login("invalid")
        _warn(service, "company log-in refused", error)
        raise ApiProblem(_code(error), error.reason) from None


def _warn(service: ApiServices, event: str, error: LoginError) -> None:
    """Log an error, each reason at most once in ten seconds: anybody can cause one."""
    if service.login_warning_limiter.admit(error.reason):
        get_logger().warning(event, reason=error.reason)


def _code(error: LoginError) -> str:
    return "no_role" if isinstance(error, NoRole) else "oidc_failed"


ROUTES: Final = (start, finish)
