"""Oracle Responsys (REST API v1.3): a login gives a token, and the host that all further requests go to."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlencode

from pydantic import Field

from sidekey.credentials.base import (
    Attempt,
    Call,
    CallError,
    Credential,
    CredentialTraits,
    Destinations,
    Findings,
    Grant,
    InjectionPoints,
    Issued,
    KindSettings,
    Lineage,
    Outcome,
    Pairs,
    Reply,
    SecretInput,
    Verdict,
)
from sidekey.credentials.calls import error_of_status, is_token, json_object, retry_after
from sidekey.credentials.destination import ComparedAs
from sidekey.credentials.endpoint import parse_endpoint
from sidekey.credentials.fields import (
    Keys,
    PublicText,
    Reference,
    Secret,
    SecretOrText,
    Text,
    check_not_empty,
    literally,
    mapping,
)
from sidekey.credentials.refresh_settings import ONE_PROCESS, RENEWAL_INTERVAL, RenewalInterval, SingleLiveToken
from sidekey.credentials.secret_holder import SecretHolder
from sidekey.policy import paths
from sidekey.policy.targets import Domain, Forbidden, Prefix, parse_domain, parse_prefix
from sidekey.policy.urls import Target

LIFE = 5400.0
"""Seconds a token is used. The response does not say how long it lives; Oracle's pages say two hours, and three."""

_LIMIT_WINDOW = 60.0
"""Seconds after which Responsys, which counts calls by the minute, accepts logins again where it does not say when."""

_LOGIN, _REFRESH = "login", "token refresh"

_HOSTS = tuple(
    map(
        parse_domain,
        (
            "https://*.responsys.net",
            "https://*.rsys8.net",
            "https://*.rsys9.net",
            "https://*.responsys.ocs.oraclecloud.com",
        ),
    )
)
"""Domains that an `endPoint` may be in without being in the config."""

_DEFAULT_PATH = "/rest/api/v1.3"
_VERSION = re.compile(r"/rest/api/v[0-9]+(?:\.[0-9]+)*(?=/|$)")
"""The path that the login is under, however far the path prefix narrows the API."""

_LOGIN_PATHS = "/rest/api/*/auth"

_BAD_TOKEN = frozenset({"INVALID_TOKEN", "TOKEN_EXPIRED"})
"""The codes of a 401 that a new token resolves; many other codes come with 401 as well."""

_REASONS = {
    "ACCOUNT_SUSPENDED": "the account is suspended",
    "API_DISABLED_FOR_USER": "the user may not use the API",
    "INSUFFICIENT_ACCESS": "the user lacks the access",
    "INVALID_USER_NAME_PASSWORD": "wrong user name or password",
}
"""What a refused login means, in our own words."""


@dataclass(frozen=True, slots=True, repr=False)
class ResponsysCredential(SecretHolder):
    """User name and password, and where they go."""

    calls_a_minute: ClassVar[int | None] = 5
    """Responsys allows about ten logins a minute; a refused one must not use them up for others of the account."""

    url: str
    path_prefix: str
    username: str
    password: str

    def __repr__(self) -> str:
        return "ResponsysCredential(REDACTED)"

    @property
    def lineage(self) -> Lineage:
        """A token is the user's; the grant contains the path prefix."""
        return Lineage(("responsys", self.url, self.username), (self.path_prefix,), (self.password,))

    def obtain(self, attempt: Attempt) -> Generator[Call, Reply, Issued]:
        """Refresh the last token where there is one that was not refused, else log in. Raises CallFault.

        A login follows a refresh that fails, with or without a response, unless there were too many calls.
        """
        previous: Outcome = "ok"
        if attempt.memory is not None and not attempt.rejected:
            fields = {"auth_type": "token"}
            try:
                reply = yield self._call(_REFRESH, fields, headers=(("Authorization", attempt.memory),))
                return self._issued(_REFRESH, reply)
            except CallError as error:
                if error.outcome == "rate_limited":
                    raise
                previous = error.outcome
        fields = {"user_name": self.username, "password": self.password, "auth_type": "password"}
        reply = yield self._call(_LOGIN, fields, previous=previous)
        return self._issued(_LOGIN, reply)

    def verdict(self, status: int, body: bytes | None) -> Verdict:
        """By the code in the body: most 401s do not concern the token, and a login after each would pass the limit."""
        response = None if body is None else json_object(body)
        if response is None:
            return Verdict.GOOD
        code = response.get("errorCode")
        if status == 401 and isinstance(code, str) and code in _BAD_TOKEN:
            return Verdict.REJECTED
        if status == 500 and code == "UNEXPECTED_EXCEPTION" and _says_bad_token(response):
            return Verdict.SPENT
        return Verdict.GOOD

    def _call(
        self,
        step: str,
        fields: Mapping[str, str],
        *,
        headers: Pairs = (),
        previous: Outcome = "ok",
    ) -> Call:
        content_type = ("Content-Type", "application/x-www-form-urlencoded")
        headers = (*headers, ("Accept", "application/json"), content_type)
        return Call(step, "POST", self.url, headers, urlencode(fields).encode("ascii"), previous)

    def _issued(self, step: str, reply: Reply) -> Issued:
        response = json_object(reply.body)
        if reply.status != 200:
            raise _error(step, reply, response or {})
        token = None if response is None else response.get("authToken")
        if response is None or not isinstance(token, str) or not is_token(token):
            raise CallError("invalid", f"{step} did not return a usable authToken")
        base_url = f"{_end_point(step, response.get('endPoint'))}{self.path_prefix}"
        # There is no scheme before the token.
        grant = Grant(headers=(("Authorization", token),), base_url=base_url, secrets=(token.encode("latin-1"),))
        return Issued(grant, LIFE, memory=token)


def _says_bad_token(response: Mapping[str, Any]) -> bool:
    said = (response.get("title"), response.get("detail"))
    return any(isinstance(text, str) and "not a valid authentication token" in text.lower() for text in said)


def _error(step: str, reply: Reply, response: Mapping[str, Any]) -> CallError:
    code = response.get("errorCode")
    if code == "API_LIMIT_EXCEEDED" and 400 <= reply.status < 500:
        reason = f"{step} returned {reply.status}: too many calls"
        asked = retry_after(reply.headers)
        return CallError("rate_limited", reason, retry_after=_LIMIT_WINDOW if asked is None else asked)
    meaning = _REASONS.get(code) if isinstance(code, str) else None
    return error_of_status(step, reply, "" if meaning is None else f"({meaning})", settings=meaning is not None)


def _end_point(step: str, value: object) -> str:
    """The origin that the response names; a bare host means https. Raises CallFault."""
    if not isinstance(value, str) or not value:
        raise CallError("invalid", f"{step} did not return an endPoint")
    try:
        target = parse_endpoint(value if "://" in value else f"https://{value}")
    except ValueError:
        raise CallError("invalid", f"{step} returned an endPoint that is not an https URL") from None
    if target.path != "/" or target.query is not None:
        raise CallError("invalid", f"{step} returned an endPoint with a path or query")
    return str(target.origin)


def _login(text: str) -> Target:
    """Read the login's base URL. Raises ValueError."""
    target = parse_endpoint(text)
    if target.path != "/" or target.query is not None:
        raise ValueError("must be a base URL without path and query: write the path as path_prefix")
    return target


def _check_login(text: str) -> None:
    _login(text)


@lru_cache(maxsize=64)
def _path(text: str) -> str:
    """Read the path prefix, without its trailing slash. Raises ValueError."""
    if not text.startswith("/") or "?" in text:
        raise ValueError("must be a path that begins with a slash, such as /rest/api/v1.3")
    path = parse_prefix(f"https://host.invalid{text}").path
    if not path:
        raise ValueError("must have at least one segment, such as /rest/api/v1.3")
    return path


def _check_path(text: str) -> None:
    _path(text)


def _origin(login: Reference) -> str:
    return str(_login(login.value).origin)


def _below(prefix: Reference) -> str:
    return _path(prefix.value)


class ResponsysSettings(KindSettings):
    """A token from a Responsys login, sent as `Authorization` to the host that the login returns."""

    title: ClassVar[str] = "Oracle Responsys"
    summary: ClassVar[str] = "Log-in with user name and password"
    aliases: ClassVar[tuple[str, ...]] = (
        "Oracle Marketing",
        "login",
    )

    needs_prefix = False

    type: Literal["responsys"] = Field(description="The kind: Oracle Responsys.")
    login_endpoint: Annotated[Text, literally(_check_login), ComparedAs(_origin)] = Field(
        description="The https base URL of the account's login host, such as `https://login2.responsys.net`."
    )
    username: Annotated[SecretOrText, literally(check_not_empty)] = Field(
        description="Name of the API user: a secret, or in a file also plain text."
    )
    password: Secret = Field(description="The user's password, as a reference.")
    path_prefix: Annotated[PublicText, literally(_check_path), ComparedAs(_below)] = Field(
        default_factory=lambda: Reference("text", _DEFAULT_PATH),
        description="Path of the API. Every target must be under this path, and Sidekey appends the path after "
        "`/i/ID` to it. The login is at `/auth/token` below the `/rest/api/vN` of this path, or below "
        "`/rest/api/v1.3`.",
    )
    renewal_interval: RenewalInterval = RENEWAL_INTERVAL
    single_live_token: SingleLiveToken = False

    @classmethod
    def learns_base_url(cls, auth: Mapping[str, Any]) -> bool:
        """Always: a login returns it."""
        del auth
        return True

    @classmethod
    def find_single_process(cls, integration: Mapping[str, Any]) -> Findings:
        """A client of which one token is live."""
        if mapping(integration.get("auth")).get("single_live_token") is True:
            yield ("auth", "single_live_token"), ONE_PROCESS

    def traits(self) -> CredentialTraits:
        """One header, and the base URL. A 500 may concern the token as well."""
        places = InjectionPoints(headers=("Authorization",))
        return CredentialTraits(
            places,
            calls=True,
            learns=True,
            watched=frozenset({401, 500}),
            renewal_interval=self.renewal_interval,
            single_live_token=self.single_live_token,
        )

    def inputs(self) -> Iterator[SecretInput]:
        """Every key."""
        yield SecretInput(("login_endpoint",), self.login_endpoint, _check_login)
        yield SecretInput(("username",), self.username, check_not_empty)
        yield SecretInput(("password",), self.password)
        yield SecretInput(("path_prefix",), self.path_prefix, _check_path)

    def destinations(self, values: Mapping[Keys, str]) -> Destinations | None:
        """The login's host until an `endPoint` is learnt; the login itself never."""
        login, prefix = values.get(("login_endpoint",)), values.get(("path_prefix",))
        if login is None or prefix is None:
            return None
        origin, path = _login(login).origin, _path(prefix)
        forbidden = [Forbidden(None, _LOGIN_PATHS, below=True)]
        if not paths.matches_any(paths.final_form(f"{path}/auth"), ((_LOGIN_PATHS, False),)):
            forbidden.append(Forbidden(None, f"{path}/auth", below=True))
        return Destinations(
            domains=(Domain(origin), *_HOSTS),
            forbidden=tuple(forbidden),
            base=Prefix(origin, path),
            path=path,
            placeholder_origin=origin,
        )

    def credential(self, values: Mapping[Keys, str]) -> Credential:
        """The credential with everything read."""
        path = _path(values["path_prefix",])
        version = _VERSION.match(path)
        root = _DEFAULT_PATH if version is None else version[0]
        url = f"{_login(values['login_endpoint',]).origin}{root}/auth/token"
        return ResponsysCredential(url, path, values["username",], values["password",])
