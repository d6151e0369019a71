"""A login of a platform's own: one call brings a token, which goes with each request until it ends or is rejected."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Generator, Hashable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, ConfigDict, Field, field_validator
from pydantic_core.core_schema import ValidationInfo

from sidekey.credentials.base import (
    Attempt,
    Call,
    CallError,
    Credential,
    CredentialTraits,
    Destinations,
    Findings,
    Issued,
    KindSettings,
    Lineage,
    Pairs,
    Provider,
    Reply,
    SecretInput,
    Verdict,
)
from sidekey.credentials.basic import basic, check_user_name
from sidekey.credentials.calls import (
    DEFAULT_LIFE,
    MEDIA_TYPES,
    Format,
    Scalar,
    accepting,
    check_life,
    error_of_status,
    find,
    form,
    is_success,
    is_token,
    json_object,
    life_of,
    sent_at,
    with_query,
)
from sidekey.credentials.destination import SAFE_TO_CHANGE, ComparedAs
from sidekey.credentials.endpoint import check_endpoint, parse_endpoint, spelled_endpoint
from sidekey.credentials.fields import (
    FieldPath,
    Keys,
    Secret,
    SecretOrText,
    Section,
    Text,
    check_field_name,
    check_header_name,
    literally,
    mapping,
    normal_name,
    refuse_places,
)
from sidekey.credentials.header_values import CallHeaders, compared_headers, filled_headers, inputs_of
from sidekey.credentials.json_values import WrittenTree, filled, references
from sidekey.credentials.jwt import JwtCredential, JwtSettings
from sidekey.credentials.placement import Placement, TokenPlacement, placement_warnings
from sidekey.credentials.refresh_settings import ONE_PROCESS, RENEWAL_INTERVAL, RenewalInterval, SingleLiveToken
from sidekey.credentials.secret_holder import SecretHolder
from sidekey.credentials.units import Duration
from sidekey.policy.targets import Domain, Forbidden, Prefix

STEP = "login"

_AUTH = ("login", "auth")

_REFUSALS = frozenset({401, 403, 419, 440, 498})
"""Statuses by which an upstream may say that it did nothing for want of a valid token: of RFC 9110 (15.5.2, 15.5.4),
Laravel (419), Microsoft (440) and Esri (498). With any other the request may have been processed."""

_RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_NUMBER = re.compile(r"[0-9]{1,15}")

_MILLISECONDS = 1e11
"""From here on a time is in milliseconds: in seconds it would be the year 5138, and the other way round it is 1973."""


@dataclass(frozen=True, slots=True)
class TokenField:
    """Where the response has the token: at a path of its JSON (`json`), in a header, or as its whole body."""

    part: Literal["json", "header", "body"]
    name: str = ""

    def __str__(self) -> str:
        if self.part == "body":
            return "as its body"
        return f"under {self.name}" if self.part == "json" else f"in the header {self.name}"


def parse_token_field(text: str) -> TokenField:
    """Read `path`, `json:path`, `header:NAME` or `body`. Raises ValueError."""
    if text == "body":
        return TokenField("body")
    part, colon, name = text.partition(":")
    if colon and part == "header":
        return TokenField("header", check_header_name(name).lower())
    path = name if colon and part == "json" else text
    for each in path.split("."):
        check_field_name(each)
    return TokenField("json", path)


def _check_token_field(text: str) -> str:
    parse_token_field(text)
    return text


def _spelled_field(text: str) -> list[str]:
    found = parse_token_field(text)
    return [found.part, found.name]


@dataclass(frozen=True, slots=True)
class LoginResponse:
    """Where the response contains what. `lifetime` is in seconds, where it does not say how long the token lives."""

    token: TokenField
    expires_in: str | None = None
    expires_at: str | None = None
    lifetime: float = DEFAULT_LIFE

    def read(self, reply: Reply, now: float) -> tuple[str, float]:
        """The token and the seconds that it lives, of a response at `now`. Raises CallFault: nothing is repeated."""
        if not is_success(reply.status):
            raise error_of_status(STEP, reply)
        response = json_object(reply.body)
        token = _text_of(reply.body) if self.token.part == "body" else self._found(reply, response)
        if not isinstance(token, str) or not is_token(token):
            raise CallError("invalid", f"{STEP} did not return a usable token {self.token}")
        return token, self._life(response or {}, sent_at(reply.headers) or now)

    def _found(self, reply: Reply, response: Mapping[str, Any] | None) -> object:
        if self.token.part == "header":
            return reply.headers.get(self.token.name, "").strip(" \t")
        if response is None:
            raise CallError("invalid", f"{STEP} did not return a JSON object")
        return find(response, self.token.name)

    def _life(self, response: Mapping[str, Any], sent: float) -> float:
        """`sent` is the response's own time, where it says it: two readings of one clock, whatever its time."""
        value: object = None
        if self.expires_in is not None:
            value = find(response, self.expires_in)
        elif self.expires_at is not None:
            end = seconds_of(find(response, self.expires_at))
            value = None if end is None else end - sent
        return life_of(STEP, value, self.lifetime)


def _text_of(body: bytes) -> object:
    """The token that a whole body is: a JSON string without its quotes, else the text."""
    try:
        text = body.decode("utf-8-sig").strip(" \t\r\n")
        value = json.loads(text)
    except UnicodeDecodeError:
        return None
    except (ValueError, RecursionError):
        # A page that says what is wrong is no token either.
        return None if text[:1] in ("<", "{", "[", '"') else text
    return text if isinstance(value, int | float) and not isinstance(value, bool) else value


def seconds_of(value: object) -> float | None:
    """A time in seconds since the epoch: of Unix seconds or milliseconds, or RFC 3339; None where it is none."""
    if isinstance(value, str):
        if _RFC_3339.fullmatch(value):
            try:
                return datetime.fromisoformat(value.upper()).timestamp()
            except (ValueError, OverflowError):
                return None
        if not _NUMBER.fullmatch(value):
            return None
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        seconds = float(value)
    except OverflowError:
        return None
    if not math.isfinite(seconds):
        return None
    return seconds / 1000 if seconds >= _MILLISECONDS else seconds


@dataclass(frozen=True, slots=True, repr=False)
class LoginRequest(SecretHolder):
    """The login as it is sent, beside what authenticates it."""

    url: str
    method: str
    headers: Pairs
    body: bytes

    def __repr__(self) -> str:
        return f"LoginRequest({self.method}, REDACTED)"


@dataclass(frozen=True, slots=True, repr=False)
class SessionCredential(SecretHolder):
    """What a login is made of, how its response is read, and which statuses reject the token."""

    request: LoginRequest
    proof: Pairs | JwtCredential
    response: LoginResponse
    placement: Placement
    rejected: frozenset[int]
    calls_a_minute: int
    lineage: Lineage

    def __repr__(self) -> str:
        return f"SessionCredential({self.request!r})"

    def obtain(self, attempt: Attempt) -> Generator[Call, Reply, Issued]:
        """One login, by headers or a token that is signed for it. Raises CallFault."""
        request, proof = self.request, self.proof
        if not isinstance(proof, tuple):
            proof = (yield from proof.obtain(attempt)).grant.headers
        headers = (*proof, *request.headers)
        reply = yield Call(STEP, request.method, request.url, headers, request.body)
        token, life = self.response.read(reply, attempt.now)
        return Issued(self.placement.grant(token), life)

    def verdict(self, status: int, body: bytes | None) -> Verdict:
        """By the status alone: what a platform says besides is its own."""
        del body
        return Verdict.REJECTED if status in self.rejected else Verdict.GOOD


@dataclass(frozen=True, slots=True, repr=False)
class Identity(SecretHolder):
    """Who logs in, and by what that is proven, as far as the two can be told apart; both may be secret."""

    who: tuple[Hashable, ...]
    proof: tuple[Hashable, ...]

    def __repr__(self) -> str:
        return "Identity(REDACTED)"


class NoAuthentication(Section):
    """Nothing: the body, the query or further headers authenticate the login."""

    type: Literal["none"]

    @property
    def names(self) -> tuple[str, ...]:
        """There are none."""
        return ()

    def inputs(self) -> Iterator[SecretInput]:
        """There are none."""
        yield from ()

    def proof(self, values: Mapping[Keys, str]) -> Pairs | JwtCredential:
        """There is none."""
        del values
        return ()

    def identity(self, values: Mapping[Keys, str]) -> Identity:
        """Nobody is named here."""
        del values
        return Identity((), ())


class BasicAuthentication(Section):
    """HTTP Basic (RFC 7617)."""

    type: Literal["basic"]
    username: Annotated[SecretOrText, literally(check_user_name)] = Field(
        description="User name, without a colon: a secret, or in a file also plain text."
    )
    password: Secret = Field(description="Password, as a reference.")

    @property
    def names(self) -> tuple[str, ...]:
        """One header."""
        return ("Authorization",)

    def inputs(self) -> Iterator[SecretInput]:
        """User name and password."""
        yield SecretInput(("username",), self.username, check_user_name)
        yield SecretInput(("password",), self.password)

    def proof(self, values: Mapping[Keys, str]) -> Pairs | JwtCredential:
        """One header."""
        return (("Authorization", basic(values["username",], values["password",])),)

    def identity(self, values: Mapping[Keys, str]) -> Identity:
        """The password says nothing of who logs in."""
        return Identity((values["username",],), (values["password",],))


class HeadersAuthentication(Section):
    """Headers, of which some are secret."""

    type: Literal["headers"]
    headers: CallHeaders = Field(min_length=1, description="As `login.headers`.")

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(self.headers)

    def inputs(self) -> Iterator[SecretInput]:
        """Those of the headers."""
        yield from inputs_of(self.headers, "headers")

    def proof(self, values: Mapping[Keys, str]) -> Pairs | JwtCredential:
        """All of them."""
        return filled_headers(self.headers, values, "headers")

    def identity(self, values: Mapping[Keys, str]) -> Identity:
        """A key may be the only thing that says who logs in."""
        return Identity(compared_headers(self.headers, values, "headers"), ())


_NOT_OF_LOGINS = ("provider", "renewal_interval")
"""Keys of the kind that a login has no use for."""


def _leave_out(schema: dict[str, Any]) -> None:
    for key in _NOT_OF_LOGINS:
        del schema["properties"][key]


class JwtAuthentication(JwtSettings):
    """A token that is signed for each login, as a GitHub App does."""

    model_config = ConfigDict(json_schema_extra=_leave_out)

    @field_validator("token_placement")
    @classmethod
    def _check_placement(cls, placement: Placement) -> Placement:
        if placement.place != "header":
            raise ValueError("must be in a header: write the token of a login there")
        return placement

    @field_validator(*_NOT_OF_LOGINS)
    @classmethod
    def _check_unused(cls, value: object) -> object:
        del value
        raise ValueError("may not be set here: each login has a token of its own, and no profile")

    @property
    def names(self) -> tuple[str, ...]:
        """One header."""
        return self.token_placement.places().headers

    def proof(self, values: Mapping[Keys, str]) -> Pairs | JwtCredential:
        """What signs."""
        return self.credential(values)

    def identity(self, values: Mapping[Keys, str]) -> Identity:
        """Any of the claims may say who logs in, or what for; a key says neither."""
        lineage = self.credential(values).lineage
        return Identity(lineage.token, lineage.client)


Authentication = Annotated[
    NoAuthentication | BasicAuthentication | HeadersAuthentication | JwtAuthentication, Field(discriminator="type")
]


class LoginSettings(Section):
    """The login."""

    url: Annotated[Text, literally(check_endpoint), ComparedAs(spelled_endpoint)] = Field(
        description="The https URL of the login. Its base URL is an allowed domain; the login itself is never a target."
    )
    method: Literal["POST", "PUT", "GET"] = Field(default="POST", description="Method; `GET` has no body.")
    format: Format = Field(default="json", description="How the body is encoded; a form is flat.")
    headers: CallHeaders = Field(
        default={},
        description="Headers: a public text, or `{prefix: TEXT, secret: REFERENCE}`. Sidekey adds `Accept` if you do "
        "not set it.",
    )
    query: WrittenTree = Field(default={}, description="Query parameters, written like `body`, but flat.")
    body: WrittenTree = Field(
        default={},
        description="The body: text, numbers, booleans, lists and mappings, with secrets as references. Without it, "
        "Sidekey sends no body.",
    )
    auth: Authentication = Field(
        default=NoAuthentication(type="none"),
        description="How the login authenticates besides its body: `{type: basic, username: ..., password: ...}`, "
        "`{type: headers, headers: {...}}`, `{type: jwt, ...}` with the keys of that kind, or `{type: "
        "none}`.",
    )

    @field_validator("query")
    @classmethod
    def _check_query(cls, query: dict[str, Any]) -> dict[str, Any]:
        _refuse_nested(query, "a query")
        return query

    @field_validator("body")
    @classmethod
    def _check_body(cls, body: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if info.data.get("format") == "form":
            _refuse_nested(body, "a form")
        if info.data.get("method") == "GET" and body:
            raise ValueError("may not be used with GET, which has no body: write it under query")
        return body

    @field_validator("auth")
    @classmethod
    def _check_auth(cls, auth: Authentication, info: ValidationInfo) -> Authentication:
        names = {normal_name(name) for name in info.data.get("headers", ())}
        for name in auth.names:
            if normal_name(name) in names:
                raise ValueError(f"sets {name}, which is also in login.headers: remove one")
        return auth

    def inputs(self) -> Iterator[SecretInput]:
        """Every text and secret of the login."""
        yield SecretInput(("login", "url"), self.url, check_endpoint)
        yield from inputs_of(self.headers, "login", "headers")
        for name, tree in (("query", self.query), ("body", self.body)):
            for key, reference in references(tree, "login", name):
                yield SecretInput(key, reference)
        yield from (each._replace(key=(*_AUTH, *each.key)) for each in self.auth.inputs())

    def request(self, values: Mapping[Keys, str], accept: str) -> LoginRequest:
        """The login with everything read."""
        further = filled_headers(self.headers, values, "login", "headers")
        headers = accepting(further, accept)
        body = b""
        if self.body:
            tree = filled(self.body, values, "login", "body")
            text = json.dumps(tree) if self.format == "json" else form(_flat(tree))
            body = text.encode("ascii")
            headers = (*headers, ("Content-Type", MEDIA_TYPES[self.format]))
        url = with_query(values["login", "url"], _flat(filled(self.query, values, "login", "query")))
        return LoginRequest(url, self.method, headers, body)

    def asked(self, values: Mapping[Keys, str]) -> tuple[Hashable, ...]:
        """What is said in the login, as it is compared: whose token it is cannot be told from what proves it."""
        said = {
            name: filled(tree, values, "login", name) for name, tree in (("query", self.query), ("body", self.body))
        }
        headers = compared_headers(self.headers, values, "login", "headers")
        return (self.method, self.format, headers, json.dumps(said, sort_keys=True))


def _refuse_nested(tree: Mapping[str, Any], what: str) -> None:
    nested = [(name,) for name, node in tree.items() if isinstance(node, dict | list)]
    refuse_places(nested, f"must be a text, a number, true, false or a secret: {what} has no lists and mappings")


def _flat(tree: Mapping[str, Any]) -> list[tuple[str, Scalar]]:
    """The parameters of a document that has passed `_refuse_nested`."""
    return [*tree.items()]


class SessionTokenSettings(Section):
    """Where the login's response contains the token and its lifetime."""

    source: Annotated[str, AfterValidator(_check_token_field), ComparedAs(_spelled_field)] = Field(
        alias="from",
        description="A field of the JSON response, with dots between the names of nested objects; `header:NAME`; or "
        "`body` for the whole body (text or a JSON string). For a field named `body`, write `json:body`.",
    )
    expires_in: Annotated[FieldPath | None, SAFE_TO_CHANGE] = Field(
        default=None, description="Where the response contains the token's lifetime in seconds, written like `from`."
    )
    expires_at: Annotated[FieldPath | None, SAFE_TO_CHANGE] = Field(
        default=None,
        description="Instead of `expires_in`: where the response contains the token's expiry, in Unix seconds, Unix "
        "milliseconds or as RFC 3339.",
    )
    lifetime: Annotated[Duration, AfterValidator(check_life), SAFE_TO_CHANGE] = Field(
        default=DEFAULT_LIFE,
        description="How long Sidekey uses a token if the response has no lifetime; at least `1s`.",
    )

    @field_validator("expires_at")
    @classmethod
    def _check_one(cls, path: str | None, info: ValidationInfo) -> str | None:
        if path is not None and info.data.get("expires_in") is not None:
            raise ValueError("may not be used with expires_in: remove one")
        return path


def _check_rejected(statuses: list[int]) -> list[int]:
    if not statuses or len({*statuses}) < len(statuses) or not _REFUSALS.issuperset(statuses):
        known = ", ".join(map(str, sorted(_REFUSALS)))
        raise ValueError(
            f"must be a list of {known}, each once: a request with any other status may have been processed, and must "
            "not be sent again"
        )
    return statuses


class SessionSettings(KindSettings):
    """A token from a platform-specific login. Sidekey logs in again if the upstream rejects the token."""

    title: ClassVar[str] = "Session"
    summary: ClassVar[str] = "A log-in that returns a token"
    aliases: ClassVar[tuple[str, ...]] = (
        "cookie",
        "login",
    )
    also_called: ClassVar[frozenset[str]] = frozenset({"cookie", "login"})
    needs_prefix = False
    placeholder_profile: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"login": {"url": "https://provider.invalid/login"}, "token": {"from": "token"}}
    )

    filled_later: ClassVar[frozenset[str]] = JwtAuthentication.filled_later

    type: Literal["session"] = Field(description="The kind: a login that returns a token.")
    provider: Provider = None
    login: LoginSettings = Field(description="The login.")
    token: SessionTokenSettings = Field(description="Where the login's response contains the token.")
    placement: Annotated[TokenPlacement, ComparedAs(Placement.spelled)] = Field(
        default=Placement(),
        description="Where the token goes in a request: `header`, `body` or `query`, or `{in: header, name: "
        'X-Session, scheme: ""}`. Default: `Authorization: Bearer`. In query and body, the default name '
        "is `access_token`. With an empty scheme, no word precedes the token.",
    )
    rejected: Annotated[list[int], AfterValidator(_check_rejected), SAFE_TO_CHANGE] = Field(
        default=[401],
        description="Statuses with which the upstream rejects the token, from 401, 403, 419, 440 and 498. Sidekey "
        "then logs in and sends the request once more.",
    )
    logins_a_minute: Annotated[int, SAFE_TO_CHANGE] = Field(
        default=5, ge=1, le=60, description="Maximum number of logins in a minute."
    )
    renewal_interval: RenewalInterval = RENEWAL_INTERVAL
    single_live_token: SingleLiveToken = False

    @classmethod
    def find_warnings(cls, integration: Mapping[str, Any]) -> Findings:
        """A placement of the token that has disadvantages."""
        yield from placement_warnings(integration, "placement")

    @classmethod
    def find_single_process(cls, integration: Mapping[str, Any]) -> Findings:
        """A user of whom one token is live."""
        if mapping(integration.get("auth")).get("single_live_token") is True:
            yield ("auth", "single_live_token"), ONE_PROCESS

    def traits(self) -> CredentialTraits:
        """One place, and the statuses of the config."""
        return CredentialTraits(
            self.placement.places(),
            calls=True,
            watched=frozenset(self.rejected),
            renewal_interval=self.renewal_interval,
            single_live_token=self.single_live_token,
        )

    def inputs(self) -> Iterator[SecretInput]:
        """Those of the login."""
        yield from self.login.inputs()

    def destinations(self, values: Mapping[Keys, str]) -> Destinations | None:
        """The login's base URL, without the login."""
        text = values.get(("login", "url"))
        if text is None:
            return None
        login = parse_endpoint(text)
        return Destinations(
            domains=(Domain(login.origin),),
            forbidden=(Forbidden(login.origin, login.path),),
            base=Prefix(login.origin, ""),
        )

    def credential(self, values: Mapping[Keys, str]) -> Credential:
        """The credential with everything read."""
        token = self.token
        of_auth = {key[len(_AUTH) :]: value for key, value in values.items() if key[: len(_AUTH)] == _AUTH}
        field = parse_token_field(token.source)
        return SessionCredential(
            request=self.login.request(values, "application/json" if field.part == "json" else "*/*"),
            proof=self.login.auth.proof(of_auth),
            response=LoginResponse(field, token.expires_in, token.expires_at, token.lifetime),
            placement=self.placement,
            rejected=frozenset(self.rejected),
            calls_a_minute=self.logins_a_minute,
            lineage=self._lineage(values, self.login.auth.identity(of_auth), field),
        )

    def _lineage(self, values: Mapping[Keys, str], identity: Identity, field: TokenField) -> Lineage:
        """A secret of the login may say who logs in, so that a token is kept where all of them are the same."""
        return Lineage(
            client=("session", values["login", "url"], self.login.auth.type, *identity.who),
            token=(self.login.asked(values), (field.part, field.name), self.placement),
            proof=identity.proof,
        )
