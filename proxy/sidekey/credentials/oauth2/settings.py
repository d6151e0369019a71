"""The config of the OAuth 2.0 kind, and the credential that it builds."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import AfterValidator, ConfigDict, Field, field_validator
from pydantic_core.core_schema import ValidationInfo

from sidekey.credentials.base import (
    Credential,
    CredentialTraits,
    Destinations,
    Findings,
    KindSettings,
    Lineage,
    Provider,
    ReadReference,
    Reasons,
    SecretInput,
)
from sidekey.credentials.calls import DEFAULT_LIFETIME, check_lifetime
from sidekey.credentials.destination import SAFE_TO_CHANGE, ComparedAs
from sidekey.credentials.endpoint import canonical_endpoint, parse_endpoint, token_services
from sidekey.credentials.fields import (
    HIDDEN_FROM_VIEWERS,
    MAX_NAMES,
    Keys,
    Secret,
    Text,
    check_not_empty,
    expand_tag,
    literal_check,
    mapping,
    normal_name,
    refuse_locations,
)
from sidekey.credentials.header_values import build_headers, comparable_headers, inputs_of
from sidekey.credentials.oauth2.assertion import AssertionSettings
from sidekey.credentials.oauth2.client_authentication import (
    AssertionFileSettings,
    Client,
    ClientAuthenticationSettings,
    ClientSecretJwtSettings,
    HeaderSettings,
    PrivateKeyJwtSettings,
)
from sidekey.credentials.oauth2.grant_types import (
    ClientCredentialsSettings,
    CustomGrantSettings,
    GrantSettings,
    JwtBearerSettings,
    PasswordSettings,
    RefreshTokenSettings,
    TokenExchangeSettings,
)
from sidekey.credentials.oauth2.parameters import check_query, comparable, fill_parameters, query_names, references
from sidekey.credentials.oauth2.token_request import OAuth2Credential, TokenRequest, TokenRequestSettings
from sidekey.credentials.oauth2.token_response import ResponseShape, TokenResponseSettings
from sidekey.credentials.placement import Placement, TokenPlacement, placement_warnings
from sidekey.credentials.refresh_settings import ONE_PROCESS, RENEWAL_INTERVAL, RenewalInterval, SingleLiveToken
from sidekey.credentials.units import Duration
from sidekey.policy.parameters import ParameterNames
from sidekey.policy.targets import Domain, Forbidden, Prefix

_OWNER_PARAMETERS = ("username", "password")
"""The parameters of `grant: password` (RFC 6749 4.3.2)."""

_GRANT_NAMES: Final[Mapping[str, tuple[ParameterNames, str]]] = MappingProxyType(
    {
        "password": (ParameterNames(_OWNER_PARAMETERS), "username and password"),
        "token_exchange": (ParameterNames(("subject_token", "subject_token_type")), "the same key of grant"),
    }
)
"""The parameters that Sidekey sends from keys of a grant, and these keys (RFC 6749 4.3.2, RFC 8693 2.1)."""

_REQUEST_PARAMETERS = frozenset({"audience", "requested_token_type", "resource", "scope"})
"""Parameters (RFC 6749 4.4.2, RFC 8693 2.1, RFC 8707 2) that many clients configure next to the client's ID."""

_OWNER_HINT: Final = "this key belongs to the grant: write grant: {type: password, username: ..., password: ...}"
_HINTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "assertion": "write these keys under grant, type jwt_bearer, or under client_authentication, type "
        "assertion, private_key_jwt or client_secret_jwt",
        "grant_type": "this key belongs to the grant: write grant: {type: custom, grant_type: ...}",
        "password": _OWNER_HINT,
        "refresh_token": "this key belongs to the grant: write grant: {type: refresh_token, refresh_token: ...}",
        "subject_token": "this key belongs to the grant: write grant: {type: token_exchange, subject_token: ...}",
        "username": _OWNER_HINT,
    }
)
"""Hints for keys of grant and client authentication that operators write directly under `auth`."""

_TOKEN_ENDPOINT_SYNONYMS = frozenset({"access_token_uri", "access_token_url", "token_uri", "token_url"})
"""Names of the token endpoint in other products' configs."""


def _check_token_endpoint(text: str, other_names: Iterable[str] = (), *, allow_loopback_http: bool = True) -> None:
    parse_endpoint(text, allow_loopback_http=allow_loopback_http)
    check_query(text.partition("?")[2], other_names)


def _is_loopback_http(url: object) -> bool:
    """Return True if a token endpoint is valid without TLS."""
    try:
        return isinstance(url, str) and parse_endpoint(url, allow_loopback_http=True).origin.scheme == "http"
    except ValueError:
        return False


_COLON_ERROR: Final = "must not contain a colon with form_encoded: false (RFC 7617 2)"


def _check_unencoded_id(text: str) -> None:
    """Raise ValueError for an unencoded colon: the server would read the rest as the secret (RFC 7617 2)."""
    check_not_empty(text)
    if ":" in text:
        raise ValueError(_COLON_ERROR)


def _union_member(raw: Any, default: str) -> Mapping[str, Any]:
    """Return a union's member as a mapping of plain values. A string is the member's `type`."""
    return mapping(expand_tag(default if raw is None else raw))


def _names_in(raw: Any) -> Iterable[str]:
    """Return the names of a section, or none if there are more than the model allows."""
    return mapping(raw) if MAX_NAMES.admits(raw) else ()


def _require_client(schema: dict[str, Any]) -> None:
    """Require `client_id` in the schema, except with the grant `token_exchange` (see `find_errors`)."""
    required = schema.pop("required")
    exchange = {"type": "object", "properties": {"type": {"const": "token_exchange"}}, "required": ["type"]}
    schema["anyOf"] = [
        {"required": [*required, "client_id"]},
        {"required": [*required, "grant"], "properties": {"grant": exchange}},
    ]


class OAuth2Settings(KindSettings):
    """An access token from an OAuth 2.0 token endpoint. Sidekey fetches and refreshes it."""

    title: ClassVar[str] = "OAuth 2.0"
    summary: ClassVar[str] = "Client ID and secret for a token"
    aliases: ClassVar[tuple[str, ...]] = (
        "OAuth2",
        "client credentials",
        "refresh token",
        "access token",
        "OIDC",
        "OpenID Connect",
    )
    mistaken_types: ClassVar[frozenset[str]] = frozenset({"client_credentials", "oauth", "oidc"})

    model_config = ConfigDict(json_schema_extra=_require_client)

    needs_prefix = False
    placeholder_profile: ClassVar[Mapping[str, Any]] = {"token_endpoint": "https://provider.invalid/"}

    # Pydantic validates in this order, and a validator sees only the keys above its own.
    type: Literal["oauth2"] = Field(description="The kind: OAuth 2.0 (RFC 6749).")
    provider: Provider = None
    token_endpoint: Annotated[Text, literal_check(_check_token_endpoint), ComparedAs(canonical_endpoint)] = Field(
        description="The https URL that issues tokens. Its base URL is an allowed domain; the endpoint itself is "
        "never a target. For a test server at `localhost`, 127.0.0.0/8 or ::1, the URL may be http, as "
        "plain text; it causes a warning."
    )
    grant: GrantSettings = Field(
        default=ClientCredentialsSettings(type="client_credentials"),
        description="The grant: `client_credentials` (default), or a mapping with the `type` `refresh_token`, "
        "`password`, `jwt_bearer`, `token_exchange` or `custom`.",
    )
    client_id: Annotated[
        Annotated[Text, literal_check(check_not_empty)] | None, SAFE_TO_CHANGE, HIDDEN_FROM_VIEWERS
    ] = Field(
        default=None,
        description="The client's identifier. Required, except with the grant `token_exchange` if the token alone "
        "identifies the client.",
    )
    client_authentication: ClientAuthenticationSettings = Field(
        default=HeaderSettings(type="header"),
        description="How the client authenticates to the token endpoint: `header` (default; ID and secret as HTTP "
        "Basic), `body` or `query` (ID and secret there), `client_secret_jwt` (an assertion signed with the secret), "
        "`tls_client_auth` (the integration's `client_certificate`, RFC 8705 2), or a mapping with one of these as "
        "its `type`, or with the `type` `private_key_jwt`, or `assertion` (a file that another program replaces).",
    )
    client_secret: Secret | None = Field(
        default=None,
        description="The client's secret, as a reference. With any grant but `client_credentials`, you may omit it: "
        "the client then sends only its `client_id`.",
    )
    token_request: TokenRequestSettings = Field(
        default=TokenRequestSettings(), description="The request to the token endpoint."
    )
    token_placement: Annotated[TokenPlacement, ComparedAs(Placement.canonical)] = Field(
        default=Placement(),
        description="Where the token goes in a request (RFC 6750 2): `header`, `body` or `query`, or `{in: header, "
        "name: Authorization, scheme: Bearer}`. In query and body, the default name is `access_token`. "
        "With an empty scheme, no word precedes the token. `prefix` instead of `scheme` is any text, "
        "such as `Token token=`.",
    )
    token_response: TokenResponseSettings = Field(
        default=TokenResponseSettings(),
        description="Where the token endpoint's response contains the token and its lifetime.",
    )
    token_lifetime: Annotated[Duration, AfterValidator(check_lifetime), SAFE_TO_CHANGE] = Field(
        default=DEFAULT_LIFETIME,
        description="How long Sidekey uses a token if the response has no lifetime; at least `1s`.",
    )
    renewal_interval: RenewalInterval = RENEWAL_INTERVAL
    single_live_token: SingleLiveToken = False

    @field_validator("token_request")
    @classmethod
    def _check_duplicates(cls, request: TokenRequestSettings, info: ValidationInfo) -> TokenRequestSettings:
        endpoint = info.data.get("token_endpoint")
        if endpoint is not None and endpoint.source == "text":
            names = query_names(endpoint.value.partition("?")[2])
            duplicates = [keys for keys in request.parameter_keys() if names.find(keys[-1]) is not None]
            refuse_locations(duplicates, "this parameter is also in the query of token_endpoint: remove one")
        return request

    @classmethod
    def find_errors(cls, integration: Mapping[str, Any]) -> Findings:
        """Yield errors for keys that contradict the grant or the client authentication."""
        auth = mapping(integration.get("auth"))
        grant = _union_member(auth.get("grant"), "client_credentials").get("type")
        authentication = _union_member(auth.get("client_authentication"), "header")
        method, secret, client_id = authentication.get("type"), auth.get("client_secret"), auth.get("client_id")
        place = ("auth", "client_authentication")
        if client_id is None and (grant != "token_exchange" or method != "header" or secret is not None):
            yield ("auth", "client_id"), "this key is missing"
        if grant == "jwt_bearer" and method in ("private_key_jwt", "client_secret_jwt", "assertion"):
            yield place, f"must not be {method}: with grant jwt_bearer the assertion is the grant"
        if method == "tls_client_auth":
            if integration.get("client_certificate") is None:
                yield place, "needs a client certificate: add client_certificate beside auth"
            if _is_loopback_http(auth.get("token_endpoint")):
                text = "tls_client_auth needs an https token_endpoint: without TLS no client certificate is sent"
                yield place, text
        if (method == "assertion" or grant == "token_exchange") and _is_loopback_http(auth.get("token_endpoint")):
            # Any user of the machine may open the port first, and other servers may accept the same token.
            yield ("auth", "token_endpoint"), "must be https: Sidekey sends it a token of a file"
        if method in ("private_key_jwt", "assertion", "tls_client_auth"):
            if secret is not None:
                text = f"may not be used with {method}: exactly one method authenticates the client"
                yield ("auth", "client_secret"), text
        elif secret is None:
            # RFC 6749 4.4: only confidential clients use the client credentials grant.
            requires_secret = method in ("header", "body", "query") and grant == "client_credentials"
            if requires_secret or method == "client_secret_jwt":
                yield ("auth", "client_secret"), "this key is missing"
        is_unencoded = method == "header" and authentication.get("form_encoded") is False
        if is_unencoded and isinstance(client_id, str) and ":" in client_id:
            yield ("auth", "client_id"), _COLON_ERROR
        yield from cls._find_request_errors(mapping(auth.get("token_request")), grant, method, secret)

    @staticmethod
    def _find_request_errors(request: Mapping[str, Any], grant: object, method: object, secret: object) -> Findings:
        place = ("auth", "token_request")
        if request.get("method") == "GET" and method == "body":
            text = "must not be GET, which has no body: use another method or client_authentication"
            yield (*place, "method"), text
        if str(grant) in _GRANT_NAMES:
            names, keys = _GRANT_NAMES[str(grant)]
            text = f"may not be set with grant {grant}: Sidekey sends it from {keys}"
            for section in ("body", "query"):
                for name in _names_in(request.get(section)):
                    if names.find(name) is not None:
                        yield (*place, section, name), text
        if method == "header" and secret is not None:
            text = "may not be set with client_authentication: header, which sends it: remove one"
            for name in _names_in(request.get("headers")):
                if normal_name(name) == "authorization":
                    yield (*place, "headers", name), text

    @classmethod
    def find_warnings(cls, integration: Mapping[str, Any]) -> Findings:
        """Yield warnings for a token endpoint without TLS, and a token placement with disadvantages."""
        endpoint = mapping(integration.get("auth")).get("token_endpoint")
        if _is_loopback_http(endpoint):
            yield ("auth", "token_endpoint"), "the client's secret and the token travel in the clear: for tests only"
        yield from placement_warnings(integration, "token_placement")

    @classmethod
    def find_single_process(cls, integration: Mapping[str, Any]) -> Findings:
        """Yield a rotating refresh token, and `single_live_token` if it is set."""
        auth = mapping(integration.get("auth"))
        grant = _union_member(auth.get("grant"), "client_credentials")
        if grant.get("type") == "refresh_token" and grant.get("rotates") is not False:
            yield (
                ("auth", "grant", "refresh_token"),
                "only one process may use this token: the provider may end it with each use, and no other process, nor "
                "this one after a restart, has the next; add store, or write rotates: false beside it if it stays "
                "valid, or run one replica",
            )
        if auth.get("single_live_token") is True:
            yield ("auth", "single_live_token"), ONE_PROCESS

    @classmethod
    def hint(cls, key: str) -> str:
        """Return a hint for a key that belongs under another key, or for a synonym of `token_endpoint`."""
        if key in _TOKEN_ENDPOINT_SYNONYMS:
            return "unknown key; did you mean token_endpoint?"
        if key not in _REQUEST_PARAMETERS:
            return _HINTS.get(key, "")
        return f"this is a parameter of the token request: write token_request: {{body: {{{key}: ...}}}}"

    @classmethod
    def discovers_base_url(cls, auth: Mapping[str, Any]) -> bool:
        """Return True if `token_response` names the field of the base URL."""
        return mapping(auth.get("token_response")).get("base_url") is not None

    def traits(self) -> CredentialTraits:
        """Return the traits. A refresh token may rotate."""
        return CredentialTraits(
            self.token_placement.injection_points(),
            calls=True,
            discovers_base_url=self.token_response.base_url is not None,
            watched=frozenset({401}),
            renewal_interval=self.renewal_interval,
            single_live_token=self.single_live_token,
            rotates=isinstance(self.grant, RefreshTokenSettings) and self.grant.rotates,
        )

    def inputs(self) -> Iterator[SecretInput]:
        """Yield every text and secret that is set."""
        names = [keys[-1] for keys in self.token_request.parameter_keys()]
        if isinstance(self.grant, PasswordSettings):
            names += _OWNER_PARAMETERS
        # A URL from a file or variable must be https, because no warning could appear before its use.
        in_config = self.token_endpoint.source == "text"
        check = partial(_check_token_endpoint, other_names=names, allow_loopback_http=in_config)
        yield SecretInput(("token_endpoint",), self.token_endpoint, check)
        if self.client_id is not None:
            check_id = check_not_empty if self._form_encoded else _check_unencoded_id
            yield SecretInput(("client_id",), self.client_id, check_id)
        if self.client_secret is not None:
            method = self.client_authentication
            check_secret = method.check_secret if isinstance(method, ClientSecretJwtSettings) else None
            yield SecretInput(("client_secret",), self.client_secret, check_secret)
        yield from self.grant.inputs()
        if isinstance(self.client_authentication, AssertionSettings | AssertionFileSettings):
            yield from self.client_authentication.inputs()
        for name, written in (("body", self.token_request.body), ("query", self.token_request.query)):
            for key, reference in references(written, "token_request", name):
                yield SecretInput(key, reference)
        yield from inputs_of(self.token_request.headers, "token_request", "headers")

    def read(self, read: ReadReference, known: Mapping[Keys, str]) -> tuple[dict[Keys, str], Reasons]:
        """Read every input. If a private key and its certificate do not match, report that and drop both."""
        values, reasons = super().read(read, known)
        assertion = self._assertion
        reason = None if assertion is None else assertion.find_mismatch(values)
        if assertion is None or reason is None:
            return values, reasons
        pair = ((assertion.SECTION, "private_key"), (assertion.SECTION, "certificate"))
        remaining = {key: value for key, value in values.items() if key not in pair}
        return remaining, (*reasons, (("auth", *pair[1]), reason))

    def destinations(self, values: Mapping[Keys, str]) -> Destinations | None:
        """Allow the origin of the token endpoint, but not the endpoint itself."""
        text = values.get(("token_endpoint",))
        if text is None:
            return None
        endpoint = parse_endpoint(text, allow_loopback_http=True)
        pinned = self.token_response.pin_base_url
        return Destinations(
            domains=(Domain(endpoint.origin),),
            # Pinned targets move to the response's base URL, where the same path may issue tokens too.
            forbidden=(Forbidden(None if pinned else endpoint.origin, endpoint.path), *token_services(endpoint.origin)),
            base=Prefix(endpoint.origin, ""),
            placeholder_origin=endpoint.origin if pinned else None,
        )

    def credential(self, values: Mapping[Keys, str]) -> Credential:
        """Build the credential."""
        request, response = self.token_request, self.token_response
        return OAuth2Credential(
            request=TokenRequest(
                values["token_endpoint",],
                request.method,
                request.format,
                fill_parameters(request.body, values, "token_request", "body"),
                fill_parameters(request.query, values, "token_request", "query"),
                build_headers(request.headers, values, "token_request", "headers"),
            ),
            grant_type=self.grant.build_grant_type(values),
            client=self._client(values),
            response=ResponseShape(
                response.access_token,
                response.expires_in,
                response.base_url,
                self.token_placement.requires_bearer,
                self.token_lifetime,
            ),
            placement=self.token_placement,
            lineage=self._lineage(values),
        )

    @property
    def _assertion(self) -> AssertionSettings | None:
        """Return the assertion, if any: `find_errors` refuses two."""
        members = (self.grant, self.client_authentication)
        return next((member for member in members if isinstance(member, AssertionSettings)), None)

    @property
    def _form_encoded(self) -> bool:
        return not isinstance(self.client_authentication, HeaderSettings) or self.client_authentication.form_encoded

    def _lineage(self, values: Mapping[Keys, str]) -> Lineage:
        """Return the token's identity. A new refresh token in the config is a new client."""
        request, response, assertion = self.token_request, self.token_response, self._assertion
        section = "" if assertion is None else assertion.SECTION

        def values_of(section: str, *names: str) -> tuple[Hashable, ...]:
            return tuple(values.get((section, name)) for name in names)

        by_password = isinstance(self.grant, PasswordSettings)
        return Lineage(
            # The store finds the newest refresh token by this tuple: a change of its form would lose stored tokens.
            client=(
                "oauth2",
                self.grant.grant_type if isinstance(self.grant, CustomGrantSettings) else self.grant.type,
                values["token_endpoint",],
                values.get(("client_id",)),
                *values_of("grant", "refresh_token"),
                *values_of(section, "issuer", "subject", "audience"),
                *(values_of("grant", "username") if by_password else ()),
            ),
            token=(
                comparable(fill_parameters(request.body, values, "token_request", "body")),
                comparable(fill_parameters(request.query, values, "token_request", "query")),
                () if assertion is None else comparable(fill_parameters(assertion.claims, values, section, "claims")),
                (response.access_token, response.base_url),
                self.token_placement,
                *comparable_headers(request.headers, values, "token_request", "headers"),
                *((self.grant.subject_token_type,) if isinstance(self.grant, TokenExchangeSettings) else ()),
            ),
            proof=(
                self.client_authentication.type,
                self._form_encoded,
                (request.method, request.format),
                values.get(("client_secret",)),
                values_of(section, "private_key", "key_id", "certificate"),
                None if assertion is None else assertion.algorithm,
                *values_of("grant", "password"),
                *(
                    member.token(values).identity
                    for member in (self.grant, self.client_authentication)
                    if isinstance(member, AssertionFileSettings | TokenExchangeSettings)
                ),
            ),
        )

    def _client(self, values: Mapping[Keys, str]) -> Client:
        method, secret = self.client_authentication, values.get(("client_secret",))
        client_id = values.get(("client_id",), "")
        if isinstance(method, PrivateKeyJwtSettings | ClientSecretJwtSettings):
            # RFC 7523 3: a client that authenticates is the issuer and the subject.
            return Client(method.type, client_id, sign=method.build_assertion(values, client_id).sign)
        if isinstance(method, AssertionFileSettings):
            return Client("assertion", client_id, method.token(values).text)
        if method.type == "tls_client_auth":
            return Client("tls_client_auth", client_id)
        if secret is None:
            # RFC 6749 3.2.1: an unauthenticated client sends its client_id, unless a token identifies the client.
            is_named = isinstance(self.grant, JwtBearerSettings) or not client_id
            return Client("none" if is_named else "public", client_id)
        return Client(method.type, client_id, secret, self._form_encoded)
