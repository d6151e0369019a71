"""Oracle Responsys (REST API v1.3): a login returns a token and the host to which the token is sent."""

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
from sidekey.credentials.calls import error_of_status, is_token, parse_json_object, retry_after
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
    literal_check,
    mapping,
)
from sidekey.credentials.refresh_settings import ONE_PROCESS, RENEWAL_INTERVAL, RenewalInterval, SingleLiveToken
from sidekey.credentials.secret_holder import SecretHolder
from sidekey.policy import paths
from sidekey.policy.targets import Domain, Forbidden, Prefix, parse_domain, parse_prefix
from sidekey.policy.urls import Target

LIFETIME = 5400.0
"""Seconds to use a token. The response has no lifetime; Oracle's documentation says two hours in one place, three in
another."""

_LIMIT_WINDOW = 60.0
"""Seconds until Responsys, which counts calls by the minute, accepts logins again if it sends no Retry-After."""

_LOGIN, _REFRESH = "login", "token refresh"

_RESPONSYS_DOMAINS = tuple(
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
"""Domains that an `endPoint` may use without being in the config."""

_DEFAULT_PATH = "/rest/api/v1.3"
_API_ROOT = re.compile(r"/rest/api/v[0-9]+(?:\.[0-9]+)*(?=/|$)")
"""Matches the start of a path prefix that has the login below it, at `/auth/token`."""

_LOGIN_PATHS = "/rest/api/*/auth"

_BAD_TOKEN = frozenset({"INVALID_TOKEN", "TOKEN_EXPIRED"})
"""The codes of a 401 that a new token resolves. Many other codes have the status 401 as well."""

_REASONS = {
    "ACCOUNT_SUSPENDED": "the account is suspended",
    "API_DISABLED_FOR_USER": "the user may not use the API",
    "INSUFFICIENT_ACCESS": "the user lacks the access",
    "INVALID_USER_NAME_PASSWORD": "wrong user name or password",
}
"""Messages for the error codes of a refused login."""


@dataclass(frozen=True, slots=True, repr=False)
class ResponsysCredential(SecretHolder):
    """Logs in with user name and password, and refreshes the token."""

    calls_a_minute: ClassVar[int | None] = 5
    """Responsys allows about ten logins a minute for an account. Refused ones must not use up all of them."""

    url: str
    path_prefix: str
    username: str
    password: str

    def __repr__(self) -> str:
        return "ResponsysCredential(REDACTED)"

    @property
    def lineage(self) -> Lineage:
        """Return the token's identity. The path prefix is part of the grant."""
        return Lineage(("responsys", self.url, self.username), (self.path_prefix,), (self.password,))

    def obtain(self, attempt: Attempt) -> Generator[Call, Reply, Issued]:
        """Refresh the last token, or log in if there is none or the upstream rejected it. Raises CallError.

        If the refresh fails for another reason than the rate limit, log in.
        """
        previous_outcome: Outcome = "ok"
        if attempt.memory is not None and not attempt.rejected:
            fields = {"auth_type": "token"}
            try:
                reply = yield self._build_call(_REFRESH, fields, headers=(("Authorization", attempt.memory),))
                return self._read_reply(_REFRESH, reply)
            except CallError as error:
                if error.outcome == "rate_limited":
                    raise
                previous_outcome = error.outcome
        fields = {"user_name": self.username, "password": self.password, "auth_type": "password"}
        reply = yield self._build_call(_LOGIN, fields, previous_outcome=previous_outcome)
        return self._read_reply(_LOGIN, reply)

    def verdict(self, status: int, body: bytes | None) -> Verdict:
        """Decide by the code in the body. Most 401s do not concern the token, and logins are limited."""
        response = None if body is None else parse_json_object(body)
        if response is None:
            return Verdict.GOOD
        code = response.get("errorCode")
        if status == 401 and isinstance(code, str) and code in _BAD_TOKEN:
            return Verdict.REJECTED
        if status == 500 and code == "UNEXPECTED_EXCEPTION" and _mentions_bad_token(response):
            return Verdict.SPENT
        return Verdict.GOOD

    def _build_call(
        self,
        step: str,
        fields: Mapping[str, str],
        *,
        headers: Pairs = (),
        previous_outcome: Outcome = "ok",
    ) -> Call:
        content_type = ("Content-Type", "application/x-www-form-urlencoded")
        headers = (*headers, ("Accept", "application/json"), content_type)
        return Call(step, "POST", self.url, headers, urlencode(fields).encode("ascii"), previous_outcome)

    def _read_reply(self, step: str, reply: Reply) -> Issued:
        response = parse_json_object(reply.body)
        if reply.status != 200:
            raise _build_error(step, reply, response or {})
        token = None if response is None else response.get("authToken")
        if response is None or not isinstance(token, str) or not is_token(token):
            raise CallError("invalid", f"{step} did not return a usable authToken")
        base_url = f"{_parse_end_point(step, response.get('endPoint'))}{self.path_prefix}"
        # Responsys expects the token without a scheme.
        grant = Grant(headers=(("Authorization", token),), base_url=base_url, secrets=(token.encode("latin-1"),))
        return Issued(grant, LIFETIME, memory=token)


def _mentions_bad_token(response: Mapping[str, Any]) -> bool:
    texts = (response.get("title"), response.get("detail"))
    return any(isinstance(text, str) and "not a valid authentication token" in text.lower() for text in texts)


def _build_error(step: str, reply: Reply, response: Mapping[str, Any]) -> CallError:
    code = response.get("errorCode")
    if code == "API_LIMIT_EXCEEDED" and 400 <= reply.status < 500:
        reason = f"{step} returned {reply.status}: too many calls"
        seconds = retry_after(reply.headers)
        return CallError("rate_limited", reason, retry_after=_LIMIT_WINDOW if seconds is None else seconds)
    meaning = _REASONS.get(code) if isinstance(code, str) else None
    remark = "" if meaning is None else f"({meaning})"
    return error_of_status(step, reply, remark, needs_config_change=meaning is not None)


def _parse_end_point(step: str, value: object) -> str:
    """Return the origin in the `endPoint` of a response. A bare host means https. Raises CallError."""
    if not isinstance(value, str) or not value:
        raise CallError("invalid", f"{step} did not return an endPoint")
    try:
        target = parse_endpoint(value if "://" in value else f"https://{value}")
    except ValueError:
        raise CallError("invalid", f"{step} returned an endPoint that is not an https URL") from None
    if target.path != "/" or target.query is not None:
        raise CallError("invalid", f"{step} returned an endPoint with a path or query")
    return str(target.origin)


def _parse_login(text: str) -> Target:
    """Parse the login's base URL. Raises ValueError."""
    target = parse_endpoint(text)
    if target.path != "/" or target.query is not None:
        raise ValueError("must be a base URL without path and query: write the path as path_prefix")
    return target


def _check_login(text: str) -> None:
    _parse_login(text)


@lru_cache(maxsize=64)
def _parse_path(text: str) -> str:
    """Parse the path prefix, and drop its trailing slash. Raises ValueError."""
    if not text.startswith("/") or "?" in text:
        raise ValueError("must be a path that begins with a slash, such as /rest/api/v1.3")
    path = parse_prefix(f"https://host.invalid{text}").path
    if not path:
        raise ValueError("must have at least one segment, such as /rest/api/v1.3")
    return path


def _check_path(text: str) -> None:
    _parse_path(text)


def _login_origin(login: Reference) -> str:
    return str(_parse_login(login.value).origin)


def _canonical_path(prefix: Reference) -> str:
    return _parse_path(prefix.value)


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
    login_endpoint: Annotated[Text, literal_check(_check_login), ComparedAs(_login_origin)] = Field(
        description="The https base URL of the account's login host, such as `https://login2.responsys.net`."
    )
    username: Annotated[SecretOrText, literal_check(check_not_empty)] = Field(
        description="Name of the API user: a secret, or in a file also plain text."
    )
    password: Secret = Field(description="The user's password, as a reference.")
    path_prefix: Annotated[PublicText, literal_check(_check_path), ComparedAs(_canonical_path)] = Field(
        default_factory=lambda: Reference("text", _DEFAULT_PATH),
        description="Path of the API. Every target must be under this path, and Sidekey appends the path after "
        "`/i/ID` to it. The login is at `/auth/token` below the `/rest/api/vN` of this path, or below "
        "`/rest/api/v1.3`.",
    )
    renewal_interval: RenewalInterval = RENEWAL_INTERVAL
    single_live_token: SingleLiveToken = False

    @classmethod
    def discovers_base_url(cls, auth: Mapping[str, Any]) -> bool:
        """Return True: every login returns the base URL."""
        del auth
        return True

    @classmethod
    def find_single_process(cls, integration: Mapping[str, Any]) -> Findings:
        """Yield `single_live_token` if it is set."""
        if mapping(integration.get("auth")).get("single_live_token") is True:
            yield ("auth", "single_live_token"), ONE_PROCESS

    def traits(self) -> CredentialTraits:
        """Return the traits. Responsys also rejects a token with 500."""
        places = InjectionPoints(headers=("Authorization",))
        return CredentialTraits(
            places,
            calls=True,
            discovers_base_url=True,
            watched=frozenset({401, 500}),
            renewal_interval=self.renewal_interval,
            single_live_token=self.single_live_token,
        )

    def inputs(self) -> Iterator[SecretInput]:
        """Yield every text and secret."""
        yield SecretInput(("login_endpoint",), self.login_endpoint, _check_login)
        yield SecretInput(("username",), self.username, check_not_empty)
        yield SecretInput(("password",), self.password)
        yield SecretInput(("path_prefix",), self.path_prefix, _check_path)

    def destinations(self, values: Mapping[Keys, str]) -> Destinations | None:
        """Allow the domains of Responsys and the login's host, but never the login itself."""
        login, prefix = values.get(("login_endpoint",)), values.get(("path_prefix",))
        if login is None or prefix is None:
            return None
        origin, path = _parse_login(login).origin, _parse_path(prefix)
        forbidden = [Forbidden(None, _LOGIN_PATHS, below=True)]
        # A longer path prefix may have a login of its own, which `_LOGIN_PATHS` does not match.
        if not paths.matches_any(paths.final_form(f"{path}/auth"), ((_LOGIN_PATHS, False),)):
            forbidden.append(Forbidden(None, f"{path}/auth", below=True))
        return Destinations(
            domains=(Domain(origin), *_RESPONSYS_DOMAINS),
            forbidden=tuple(forbidden),
            base=Prefix(origin, path),
            path=path,
            placeholder_origin=origin,
        )

    def credential(self, values: Mapping[Keys, str]) -> Credential:
        """Build the credential."""
        path = _parse_path(values["path_prefix",])
        match = _API_ROOT.match(path)
        root = _DEFAULT_PATH if match is None else match[0]
        url = f"{_parse_login(values['login_endpoint',]).origin}{root}/auth/token"
        return ResponsysCredential(url, path, values["username",], values["password",])
