"""`/session`: exchange an operator's token for a cookie, and log out. `/sessions`: sessions of all operators."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from functools import partial
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from sidekey.api.auth.operators import Operator
from sidekey.api.errors import ApiProblem, not_found
from sidekey.api.handlers.tokens import WhoAmI, describe
from sidekey.api.messages import ApiRequest, ApiResult
from sidekey.api.models import Body, Instant, Page, read_body
from sidekey.api.route import PREFIX, Route
from sidekey.api.service import ApiServices
from sidekey.config.models import MAX_SESSION
from sidekey.snapshot.admin import AdminRules, Role
from sidekey.store.audit import AuditEntry
from sidekey.store.sessions import PUBLIC_ID_LENGTH, Session

_PATH: Final = "/session"

StoreState = Literal["ready", "absent", "unavailable"]


class LogIn(Body):
    """An operator's token to log in with."""

    token: str = Field(repr=False, json_schema_extra={"writeOnly": True})


class SessionState(Body):
    """The operator of a request, and how the console can be used."""

    who: WhoAmI | None = Field(description="The operator; null: the request has no valid token and no session.")
    oidc: bool = Field(description="Whether operators can log in with the company's account.")
    oidc_problem: str | None = Field(
        description="Why log-ins with the company's account do not work now; null: they work, or are not configured."
    )
    store: StoreState = Field(
        description="`absent`: Sidekey has no store. `unavailable`: the store cannot be used now."
    )


class ConsoleSession(Body):
    """A session of the console."""

    id: str
    who: str = Field(description="The name of the operator.")
    identity: str
    label: str = Field(description="A name to show, if it differs from `who`.")
    role: Role
    begun_at: Instant
    ends_at: Instant
    current: bool = Field(description="Whether it is the session of this request.")


class SessionPage(Page[ConsoleSession]):
    """A page of sessions, newest first. It may be empty although there is a next one."""


def _check_after(after: str) -> str:
    if not re.fullmatch(r"[0-9]{1,15}\.[0-9a-f]{32}", after, re.ASCII):
        raise ValueError("must be `next` of the previous page")
    return after


class SessionsAfter(Body):
    """The query of the list of sessions."""

    after: Annotated[str, AfterValidator(_check_after)] = Field(default="", description="`next` of the previous page.")


_ID: Final = re.compile(r"[0-9a-f]{32}")


@partial(Route, "GET", _PATH, "getSession", permission="anonymous", response=SessionState, needs_store=False)
async def read(service: ApiServices, request: ApiRequest) -> ApiResult:
    """Describe the operator of this request, if any, and whether the store can be used."""
    who = None if request.optional_operator is None else describe(request.optional_operator)
    rules = service.snapshot.admin.oidc
    problem = service.company_logins.problem(rules)
    oidc = rules is not None and not problem
    ready = service.store.health.up and not service.unread_reason
    store: StoreState = ("ready" if ready else "unavailable") if service.has_store else "absent"
    return ApiResult.of(SessionState(who=who, oidc=oidc, oidc_problem=problem or None, store=store))


@partial(
    Route,
    "POST",
    _PATH,
    "logIn",
    permission="anonymous",
    body=LogIn,
    response=WhoAmI,
    status=201,
    sets_cookie=True,
    codes=("invalid",),
)
async def log_in(service: ApiServices, request: ApiRequest) -> ApiResult:
    """Exchange an operator's token for the cookie of a session."""
    # There is no rate limit: a token has 256 random bits.
    # `run` instead of `run_validation`: a log-in must not wait for the validation of documents.
    token = (await service.run(read_body, LogIn, request.document)).token
    await service.discover_token(token)
    operator = service.authenticate(token)
    now = int(time.time())
    latest = now + int(MAX_SESSION)
    ends_at = min(latest, operator.expires_at or latest)
    cookie = service.store.new_cookie()
    session = Session(cookie.session, operator.digest, begun_at=now, auth_at=now, ends_at=ends_at)
    return await begin_session(service, request, replace(operator, session_ends_at=ends_at), session, cookie.value)


async def begin_session(
    service: ApiServices, request: ApiRequest, operator: Operator, session: Session, value: str
) -> ApiResult:
    """Begin a session with a new cookie `value`, and end the session of the request's cookie. Raises StoreError."""
    rules = service.snapshot.admin
    entry = AuditEntry(
        who=operator.name, label=operator.label, action="login", row_id=operator.row, source=request.source
    )
    previous = request.cookies.get(cookie_name(rules), "")
    await service.sessions.begin(session, service.login_audit.admit(operator.digest, entry), previous)
    result = ApiResult.of(describe(operator), status=201, location=f"{PREFIX}{_PATH}")
    return replace(result, cookies=(set_cookie(rules, cookie_name(rules), value),))


@partial(Route, "DELETE", _PATH, "logOut", permission="self", status=204, sets_cookie=True, codes=("not_found",))
async def log_out(service: ApiServices, request: ApiRequest) -> ApiResult:
    """End the session of this request."""
    if request.operator.session_ends_at is None:
        raise ApiProblem("not_found", "this request has a token and no session: revoke the token instead")
    rules = service.snapshot.admin
    name = service.store.session_id(request.cookies[cookie_name(rules)])
    if name is not None:
        await service.sessions.end(name)
    return ApiResult(204, cookies=(set_cookie(rules, cookie_name(rules), "", max_age=0),))


@partial(Route, "GET", "/sessions", "listSessions", permission="admin", query=SessionsAfter, response=SessionPage)
async def browse(service: ApiServices, request: ApiRequest) -> ApiResult:
    """List the sessions of the console, newest first."""
    at, _, name = request.query.after.partition(".")
    page = await service.store.session_page((int(at or 1 << 62), name))
    current = service.store.session_id(request.cookies.get(cookie_name(service.snapshot.admin), ""))
    items = [
        _describe_session(session, operator, current=session.id == current)
        for session in page.sessions
        if (operator := service.operator_of_session(session)) is not None
    ]
    after = None if page.next is None else f"{page.next[0]}.{page.next[1][:PUBLIC_ID_LENGTH]}"
    return ApiResult.of(SessionPage(items=items, next=after))


def _describe_session(session: Session, operator: Operator, *, current: bool) -> ConsoleSession:
    return ConsoleSession(
        id=session.id[:PUBLIC_ID_LENGTH],
        who=operator.name,
        identity=operator.identity,
        label=operator.label,
        role=operator.role,
        begun_at=session.begun_at,
        ends_at=session.ends_at,
        current=current,
    )


@partial(
    Route,
    "DELETE",
    "/sessions/{id}",
    "endSession",
    permission="admin",
    status=204,
    codes=("not_found",),
    writes="session",
    action="end",
)
async def end(service: ApiServices, request: ApiRequest) -> ApiResult:
    """End a session of the console."""
    if not _ID.fullmatch(request.path_parameters["id"]):
        raise not_found()
    session = await service.store.find_session_by_prefix(request.path_parameters["id"])
    if session is None:
        raise not_found()
    operator = service.operator_of_session(session)
    name = "" if operator is None else operator.name
    await service.sessions.end(session.id, replace(request.audit_entry(), id=name))
    return ApiResult(204)


def cookie_name(rules: AdminRules, name: str = "sidekey-ui") -> str:
    """Return the name of a cookie, by default that of the session."""
    return f"__Host-{name}" if rules.is_over_tls else name


def set_cookie(rules: AdminRules, name: str, value: str, max_age: int | None = None) -> str:
    """Return the value of Set-Cookie. `max_age` is in seconds, or None until the browser closes."""
    age = "" if max_age is None else f"; Max-Age={max_age}"
    secure = "; Secure" if rules.is_over_tls else ""
    return f"{name}={value}; Path=/; HttpOnly; SameSite=Strict{age}{secure}"


ROUTES: Final = (read, log_in, log_out, browse, end)
