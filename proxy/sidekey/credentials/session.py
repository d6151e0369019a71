"""Platform-specific logins: one call returns a token, which Sidekey sends until it expires or is rejected."""

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
from sidekey.credentials.basic import build_basic, check_user_name
from sidekey.credentials.calls import (
    DEFAULT_LIFETIME,
    MEDIA_TYPES,
    Format,
    check_lifetime,
    encode_form,
    error_of_status,
    find_path,
    is_success,
    is_token,
    parse_json_object,
    read_lifetime,
    sent_at,
    with_accept,
    with_query,
)
from sidekey.credentials.destination import SAFE_TO_CHANGE, ComparedAs
from sidekey.credentials.endpoint import canonical_endpoint, check_endpoint, parse_endpoint
from sidekey.credentials.fields import (
    FieldPath,
    Keys,
    Secret,
    SecretOrText,
    Section,
    Text,
    check_field_name,
    check_header_name,
    literal_check,
    mapping,
    normal_name,
    refuse_locations,
)
from sidekey.credentials.header_values import CallHeaders, build_headers, comparable_headers, inputs_of
from sidekey.credentials.json_values import JsonDocument, fill_secrets, references
from sidekey.credentials.jwt import JwtCredential, JwtSettings
from sidekey.credentials.oauth2.client_authentication import Client
from sidekey.credentials.oauth2.grant_types import ONLY_WITH_TOKEN, TokenExchangeSettings
from sidekey.credentials.oauth2.parameters import FurtherParameters, comparable, fill_parameters
from sidekey.credentials.oauth2.parameters import references as parameter_references
from sidekey.credentials.oauth2.token_request import OAuth2Credential, TokenRequest
from sidekey.credentials.oauth2.token_response import ResponseShape
from sidekey.credentials.placement import Placement, TokenPlacement, placement_warnings
from sidekey.credentials.refresh_settings import ONE_PROCESS, RENEWAL_INTERVAL, RenewalInterval, SingleLiveToken
from sidekey.credentials.secret_holder import SecretHolder
from sidekey.credentials.units import Duration
from sidekey.policy.json_reader import parse_json
from sidekey.policy.parameters import Scalar
from sidekey.policy.targets import Domain, Forbidden, Prefix

STEP = "login"

_AUTH = ("login", "auth")

_REJECTION_STATUSES = frozenset({401, 403, 419, 440, 498})
"""Statuses with which an upstream may reject a token without processing the request: those of RFC 9110 (15.5.2,
15.5.4), Laravel (419), Microsoft (440) and Esri (498). With any other status it may have processed the request."""

_RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_NUMBER = re.compile(r"[0-9]{1,15}")

_MIN_MILLISECONDS = 1e11
"""A larger number is a time in milliseconds. As seconds it is the year 5138, as milliseconds 1973."""


@dataclass(frozen=True, slots=True)
class TokenField:
    """The location of the token in the response: a path in its JSON (`json`), a header, or the whole body."""

    part: Literal["json", "header", "body"]
    name: str = ""

    def __str__(self) -> str:
        if self.part == "body":
            return "as its body"
        return f"under {self.name}" if self.part == "json" else f"in the header {self.name}"


def parse_token_field(text: str) -> TokenField:
    """Parse `path`, `json:path`, `header:NAME` or `body`. Raises ValueError."""
    if text == "body":
        return TokenField("body")
    part, colon, name = text.partition(":")
    if colon and part == "header":
        return TokenField("header", check_header_name(name).lower())
    path = name if colon and part == "json" else text
    for segment in path.split("."):
        check_field_name(segment)
    return TokenField("json", path)


def _check_token_field(text: str) -> str:
    parse_token_field(text)
    return text


def _canonical_field(text: str) -> list[str]:
    field = parse_token_field(text)
    return [field.part, field.name]


@dataclass(frozen=True, slots=True)
class LoginResponse:
    """The locations of the token and its lifetime in a login response. `default_lifetime` is in seconds."""

    token: TokenField
    expires_in: str | None = None
    expires_at: str | None = None
    default_lifetime: float = DEFAULT_LIFETIME

    def read(self, reply: Reply, now: float) -> tuple[str, float]:
        """Return the token and its lifetime in seconds. Raises CallError without any text of the response."""
        if not is_success(reply.status):
            raise error_of_status(STEP, reply)
        response = parse_json_object(reply.body)
        token = _text_of(reply.body) if self.token.part == "body" else self._find_token(reply, response)
        if not isinstance(token, str) or not is_token(token):
            raise CallError("invalid", f"{STEP} did not return a usable token {self.token}")
        return token, self._lifetime(response or {}, sent_at(reply.headers) or now)

    def _find_token(self, reply: Reply, response: Mapping[str, Any] | None) -> object:
        if self.token.part == "header":
            return reply.headers.get(self.token.name, "").strip(" \t")
        if response is None:
            raise CallError("invalid", f"{STEP} did not return a JSON object")
        return find_path(response, self.token.name)

    def _lifetime(self, response: Mapping[str, Any], sent: float) -> float:
        """Read the lifetime. `sent` is the server's time if known, so its clock may be wrong."""
        value: object = None
        if self.expires_in is not None:
            value = find_path(response, self.expires_in)
        elif self.expires_at is not None:
            expires_at = parse_time(find_path(response, self.expires_at))
            value = None if expires_at is None else expires_at - sent
        return read_lifetime(STEP, value, self.default_lifetime)


def _text_of(body: bytes) -> object:
    """Read the whole body as a token: a JSON string without its quotes, else the text."""
    try:
        text = body.decode("utf-8-sig").strip(" \t\r\n")
        value = parse_json(text)
    except UnicodeDecodeError:
        return None
    except ValueError:
        # An error page or broken JSON is not a token.
        return None if text[:1] in ("<", "{", "[", '"') else text
    return text if isinstance(value, int | float) and not isinstance(value, bool) else value


def parse_time(value: object) -> float | None:
    """Parse Unix seconds, Unix milliseconds or RFC 3339 into seconds since the epoch. Return None for anything else."""
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
    return seconds / 1000 if seconds >= _MIN_MILLISECONDS else seconds


@dataclass(frozen=True, slots=True, repr=False)
class LoginRequest(SecretHolder):
    """The login request without its authentication."""

    url: str
    method: str
    headers: Pairs
    body: bytes

    def __repr__(self) -> str:
        return f"LoginRequest({self.method}, REDACTED)"


LoginAuth = Pairs | JwtCredential | OAuth2Credential
"""The headers that authenticate every login, or the credential that signs or fetches a token for each login."""


@dataclass(frozen=True, slots=True, repr=False)
class SessionCredential(SecretHolder):
    """Logs in to obtain a token. Upstream responses with a status in `rejected` reject it."""

    request: LoginRequest
    auth: LoginAuth
    response: LoginResponse
    placement: Placement
    rejected: frozenset[int]
    calls_a_minute: int
    lineage: Lineage

    def __repr__(self) -> str:
        return f"SessionCredential({self.request!r})"

    def obtain(self, attempt: Attempt) -> Generator[Call, Reply, Issued]:
        """Log in. Raises CallError."""
        request, auth = self.request, self.auth
        auth_headers = auth if isinstance(auth, tuple) else (yield from auth.obtain(attempt)).grant.headers
        headers = (*auth_headers, *request.headers)
        reply = yield Call(STEP, request.method, request.url, headers, request.body)
        token, lifetime = self.response.read(reply, attempt.now)
        return Issued(self.placement.build_grant(token), lifetime)

    def verdict(self, status: int, body: bytes | None) -> Verdict:
        """Decide by the status alone, because each platform has its own body."""
        del body
        return Verdict.REJECTED if status in self.rejected else Verdict.GOOD


@dataclass(frozen=True, slots=True, repr=False)
class Identity(SecretHolder):
    """The user of a login, and the secrets that prove it, for the `Lineage` of its tokens.

    A secret that may name the user belongs to `subject`.
    """

    subject: tuple[Hashable, ...]
    proof: tuple[Hashable, ...]

    def __repr__(self) -> str:
        return "Identity(REDACTED)"


class NoAuthentication(Section):
    """No authentication here: the body, the query or `login.headers` authenticate the login."""

    type: Literal["none"]

    @property
    def names(self) -> tuple[str, ...]:
        """Return no header."""
        return ()

    def inputs(self) -> Iterator[SecretInput]:
        """Yield no input."""
        yield from ()

    def build(self, values: Mapping[Keys, str]) -> LoginAuth:
        """Return no header."""
        del values
        return ()

    def identity(self, values: Mapping[Keys, str]) -> Identity:
        """Return an empty identity."""
        del values
        return Identity((), ())


class BasicAuthentication(Section):
    """HTTP Basic (RFC 7617)."""

    type: Literal["basic"]
    username: Annotated[SecretOrText, literal_check(check_user_name)] = Field(
        description="User name, without a colon: a secret, or in a file also plain text."
    )
    password: Secret = Field(description="Password, as a reference.")

    @property
    def names(self) -> tuple[str, ...]:
        """Return the header that it sets."""
        return ("Authorization",)

    def inputs(self) -> Iterator[SecretInput]:
        """Yield user name and password."""
        yield SecretInput(("username",), self.username, check_user_name)
        yield SecretInput(("password",), self.password)

    def build(self, values: Mapping[Keys, str]) -> LoginAuth:
        """Build the header."""
        return (("Authorization", build_basic(values["username",], values["password",])),)

    def identity(self, values: Mapping[Keys, str]) -> Identity:
        """Return the user name as the subject, and the password as its proof."""
        return Identity((values["username",],), (values["password",],))


class HeadersAuthentication(Section):
    """Headers, some of them secret."""

    type: Literal["headers"]
    headers: CallHeaders = Field(min_length=1, description="As `login.headers`.")

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the headers."""
        return tuple(self.headers)

    def inputs(self) -> Iterator[SecretInput]:
        """Yield the inputs of the headers."""
        yield from inputs_of(self.headers, "headers")

    def build(self, values: Mapping[Keys, str]) -> LoginAuth:
        """Build the headers."""
        return build_headers(self.headers, values, "headers")

    def identity(self, values: Mapping[Keys, str]) -> Identity:
        """Return all headers as the subject, because a key may be the only name of the user."""
        return Identity(comparable_headers(self.headers, values, "headers"), ())


_FORBIDDEN_JWT_KEYS = ("provider", "renewal_interval")
"""Keys of the kind `jwt` that have no meaning in a login."""


def _remove_from_schema(schema: dict[str, Any]) -> None:
    for key in _FORBIDDEN_JWT_KEYS:
        del schema["properties"][key]


class JwtAuthentication(JwtSettings):
    """A token that is signed for each login, as a GitHub App does."""

    model_config = ConfigDict(json_schema_extra=_remove_from_schema)

    @field_validator("token_placement")
    @classmethod
    def _check_placement(cls, placement: Placement) -> Placement:
        if placement.part != "header":
            raise ValueError("must be in a header: write the token of a login there")
        return placement

    @field_validator(*_FORBIDDEN_JWT_KEYS)
    @classmethod
    def _check_forbidden(cls, value: object) -> object:
        del value
        raise ValueError("may not be set here: each login has a token of its own, and no profile")

    @property
    def names(self) -> tuple[str, ...]:
        """Return the header of the token."""
        return self.token_placement.injection_points().headers

    def build(self, values: Mapping[Keys, str]) -> LoginAuth:
        """Return the credential that signs a token for each login."""
        return self.credential(values)

    def identity(self, values: Mapping[Keys, str]) -> Identity:
        """Return the claims as the subject, because any claim may name the user, and the key as the proof."""
        lineage = self.credential(values).lineage
        # For the kind `jwt`, the key is the client, and the claims distinguish its tokens.
        return Identity(subject=lineage.token, proof=lineage.client)


class TokenExchangeAuthentication(TokenExchangeSettings):
    """A token that is exchanged before each login (RFC 8693), as for a service account of Google."""

    KEY: ClassVar[Keys] = ("subject_token",)

    token_endpoint: Annotated[Text, literal_check(check_endpoint), ComparedAs(canonical_endpoint), ONLY_WITH_TOKEN] = (
        Field(description="The https URL that exchanges the token. It is never a target.")
    )
    parameters: Annotated[FurtherParameters, ONLY_WITH_TOKEN] = Field(
        default={}, description="Further parameters of the exchange, such as `audience` and `scope`."
    )

    @property
    def names(self) -> tuple[str, ...]:
        """Return the header that it sets."""
        return ("Authorization",)

    def inputs(self) -> Iterator[SecretInput]:
        """Yield the endpoint, the file and the parameters."""
        yield SecretInput(("token_endpoint",), self.token_endpoint, check_endpoint)
        yield from super().inputs()
        for key, reference in parameter_references(self.parameters, "parameters"):
            yield SecretInput(key, reference)

    def build(self, values: Mapping[Keys, str]) -> LoginAuth:
        """Return the credential that exchanges the token. The token alone identifies the client."""
        identity = self.identity(values)
        return OAuth2Credential(
            request=TokenRequest(
                values["token_endpoint",], body=fill_parameters(self.parameters, values, "parameters")
            ),
            grant_type=self.build_grant_type(values),
            client=Client("none", ""),
            response=ResponseShape(),
            placement=Placement(),
            lineage=Lineage(("oauth2", *identity.subject), (), identity.proof),
        )

    def identity(self, values: Mapping[Keys, str]) -> Identity:
        """Return the request as the subject, and the identity of the token as the proof."""
        parameters = comparable(fill_parameters(self.parameters, values, "parameters"))
        return Identity((values["token_endpoint",], self.subject_token_type, parameters), self.token(values).identity)


Authentication = Annotated[
    NoAuthentication | BasicAuthentication | HeadersAuthentication | JwtAuthentication | TokenExchangeAuthentication,
    Field(discriminator="type"),
]


class LoginSettings(Section):
    """The keys of `login`: the request that obtains a token."""

    url: Annotated[Text, literal_check(check_endpoint), ComparedAs(canonical_endpoint)] = Field(
        description="The https URL of the login. Its base URL is an allowed domain, except with `token_exchange`; the "
        "login itself is never a target."
    )
    method: Literal["POST", "PUT", "GET"] = Field(default="POST", description="Method; `GET` has no body.")
    format: Format = Field(default="json", description="How the body is encoded; a form is flat.")
    headers: CallHeaders = Field(
        default={},
        description="Headers: a public text, or `{prefix: TEXT, secret: REFERENCE}`. Sidekey adds `Accept` if you do "
        "not set it.",
    )
    query: JsonDocument = Field(default={}, description="Query parameters, written like `body`, but flat.")
    body: JsonDocument = Field(
        default={},
        description="The body: text, numbers, booleans, lists and mappings, with secrets as references. Without it, "
        "Sidekey sends no body.",
    )
    auth: Authentication = Field(
        default=NoAuthentication(type="none"),
        description="How the login authenticates besides its body: `{type: basic, username: ..., password: ...}`, "
        "`{type: headers, headers: {...}}`, `{type: jwt, ...}` with the keys of that kind, `{type: token_exchange, "
        "token_endpoint: ..., subject_token: ...}`, or `{type: none}`.",
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
        """Yield every text and secret of the login."""
        yield SecretInput(("login", "url"), self.url, check_endpoint)
        yield from inputs_of(self.headers, "login", "headers")
        for name, tree in (("query", self.query), ("body", self.body)):
            for key, reference in references(tree, "login", name):
                yield SecretInput(key, reference)
        yield from (auth_input._replace(key=(*_AUTH, *auth_input.key)) for auth_input in self.auth.inputs())

    def request(self, values: Mapping[Keys, str], accept: str) -> LoginRequest:
        """Build the login request from the values of `inputs`."""
        headers = with_accept(build_headers(self.headers, values, "login", "headers"), accept)
        body = b""
        if self.body:
            tree = fill_secrets(self.body, values, "login", "body")
            text = json.dumps(tree) if self.format == "json" else encode_form(_flat(tree))
            body = text.encode("ascii")
            headers = (*headers, ("Content-Type", MEDIA_TYPES[self.format]))
        url = with_query(values["login", "url"], _flat(fill_secrets(self.query, values, "login", "query")))
        return LoginRequest(url, self.method, headers, body)

    def comparable(self, values: Mapping[Keys, str]) -> tuple[Hashable, ...]:
        """Return method, format, headers, query and body, with their secrets: any secret may name the user."""
        content = {
            name: fill_secrets(tree, values, "login", name)
            for name, tree in (("query", self.query), ("body", self.body))
        }
        headers = comparable_headers(self.headers, values, "login", "headers")
        return (self.method, self.format, headers, json.dumps(content, sort_keys=True))


def _refuse_nested(tree: Mapping[str, Any], format_name: str) -> None:
    nested = [(name,) for name, node in tree.items() if isinstance(node, dict | list)]
    refuse_locations(
        nested, f"must be a text, a number, true, false or a secret: {format_name} has no lists and mappings"
    )


def _flat(tree: Mapping[str, Any]) -> list[tuple[str, Scalar]]:
    """Return the items of a tree that passed `_refuse_nested`."""
    return [*tree.items()]


class SessionTokenSettings(Section):
    """Where the login's response contains the token and its lifetime."""

    source: Annotated[str, AfterValidator(_check_token_field), ComparedAs(_canonical_field)] = Field(
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
    lifetime: Annotated[Duration, AfterValidator(check_lifetime), SAFE_TO_CHANGE] = Field(
        default=DEFAULT_LIFETIME,
        description="How long Sidekey uses a token if the response has no lifetime; at least `1s`.",
    )

    @field_validator("expires_at")
    @classmethod
    def _check_one(cls, path: str | None, info: ValidationInfo) -> str | None:
        if path is not None and info.data.get("expires_in") is not None:
            raise ValueError("may not be used with expires_in: remove one")
        return path


def _check_rejected(statuses: list[int]) -> list[int]:
    if not statuses or len({*statuses}) < len(statuses) or not _REJECTION_STATUSES.issuperset(statuses):
        known = ", ".join(map(str, sorted(_REJECTION_STATUSES)))
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
    mistaken_types: ClassVar[frozenset[str]] = frozenset({"cookie", "login"})
    needs_prefix = False
    placeholder_profile: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"login": {"url": "https://provider.invalid/login"}, "token": {"from": "token"}}
    )

    filled_later: ClassVar[frozenset[str]] = JwtAuthentication.filled_later

    type: Literal["session"] = Field(description="The kind: a login that returns a token.")
    provider: Provider = None
    login: LoginSettings = Field(description="The login.")
    token: SessionTokenSettings = Field(description="Where the login's response contains the token.")
    placement: Annotated[TokenPlacement, ComparedAs(Placement.canonical)] = Field(
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
        default=5,
        ge=1,
        le=60,
        description="Maximum number of calls for a login in a minute: one for each, or two with `token_exchange`.",
    )
    renewal_interval: RenewalInterval = RENEWAL_INTERVAL
    single_live_token: SingleLiveToken = False

    @classmethod
    def find_warnings(cls, integration: Mapping[str, Any]) -> Findings:
        """Yield a warning for a token placement with disadvantages."""
        yield from placement_warnings(integration, "placement")

    @classmethod
    def find_errors(cls, integration: Mapping[str, Any]) -> Findings:
        """Require targets if the login exchanges a token, because its host is none then."""
        login = mapping(mapping(integration.get("auth")).get("login"))
        has_targets = not integration.keys().isdisjoint(("endpoint_prefix", "allowed_domains"))
        if mapping(login.get("auth")).get("type") == "token_exchange" and not has_targets:
            text = "this key is missing: with token_exchange, the hosts of login and token_endpoint are no targets"
            yield ("endpoint_prefix",), text

    @classmethod
    def find_single_process(cls, integration: Mapping[str, Any]) -> Findings:
        """Yield `single_live_token` if it is set."""
        if mapping(integration.get("auth")).get("single_live_token") is True:
            yield ("auth", "single_live_token"), ONE_PROCESS

    def traits(self) -> CredentialTraits:
        """Return the token's placement, and the statuses that reject a token."""
        return CredentialTraits(
            self.placement.injection_points(),
            calls=True,
            watched=frozenset(self.rejected),
            renewal_interval=self.renewal_interval,
            single_live_token=self.single_live_token,
        )

    def inputs(self) -> Iterator[SecretInput]:
        """Yield the inputs of the login."""
        yield from self.login.inputs()

    def destinations(self, values: Mapping[Keys, str]) -> Destinations | None:
        """Allow the origin of the login, but not the login itself.

        With an exchanged token, forbid the hosts of both endpoints: a caller could obtain tokens at other paths.
        """
        text = values.get(("login", "url"))
        if text is None:
            return None
        login = parse_endpoint(text)
        if isinstance(self.login.auth, TokenExchangeAuthentication):
            exchange = values.get((*_AUTH, "token_endpoint"))
            if exchange is None:
                return None
            origins = (login.origin, parse_endpoint(exchange).origin)
            return Destinations(forbidden=tuple(Forbidden(origin, "/", below=True) for origin in origins))
        return Destinations(
            domains=(Domain(login.origin),),
            forbidden=(Forbidden(login.origin, login.path),),
            base=Prefix(login.origin, ""),
        )

    def credential(self, values: Mapping[Keys, str]) -> Credential:
        """Build the credential."""
        token = self.token
        auth_values = {key[len(_AUTH) :]: value for key, value in values.items() if key[: len(_AUTH)] == _AUTH}
        field = parse_token_field(token.source)
        return SessionCredential(
            request=self.login.request(values, "application/json" if field.part == "json" else "*/*"),
            auth=self.login.auth.build(auth_values),
            response=LoginResponse(field, token.expires_in, token.expires_at, token.lifetime),
            placement=self.placement,
            rejected=frozenset(self.rejected),
            calls_a_minute=self.logins_a_minute,
            lineage=self._lineage(values, self.login.auth.identity(auth_values), field),
        )

    def _lineage(self, values: Mapping[Keys, str], identity: Identity, field: TokenField) -> Lineage:
        return Lineage(
            client=("session", values["login", "url"], self.login.auth.type, *identity.subject),
            token=(self.login.comparable(values), (field.part, field.name), self.placement),
            proof=identity.proof,
        )
