"""The config of the OAuth 2.0 kind, and the credential made of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import AfterValidator, Field, field_validator
from pydantic_core.core_schema import ValidationInfo

from sidekey.core.parameters import Names
from sidekey.core.policy import Domain, Forbidden, Prefix
from sidekey.credentials.algorithms import check_library
from sidekey.credentials.base import (
    Credential,
    Destinations,
    Findings,
    KindSettings,
    Lineage,
    Provider,
    ReadReference,
    Reasons,
    SecretInput,
    Traits,
)
from sidekey.credentials.destination import HARMLESS, CountsAs
from sidekey.credentials.endpoint import parse_endpoint, spelled_endpoint
from sidekey.credentials.endpoint_reply import DEFAULT_LIFE, check_life
from sidekey.credentials.fields import (
    HIDDEN_FROM_VIEWERS,
    Keys,
    Reference,
    Secret,
    SecretOrText,
    Text,
    check_both_ways,
    check_not_empty,
    literally,
    mapping,
    missing,
    normal_name,
    refuse_places,
)
from sidekey.credentials.header_values import compared_headers, filled_headers, inputs_of
from sidekey.credentials.oauth2.clients import Client, Sign
from sidekey.credentials.oauth2.credential import OAuth2Credential
from sidekey.credentials.oauth2.grants import (
    JWT_BEARER,
    ClientCredentials,
    GrantType,
    JwtBearer,
    Password,
    RefreshToken,
)
from sidekey.credentials.oauth2.parameters import check_query, compared, filled, names_in, references
from sidekey.credentials.oauth2.request import TokenRequest
from sidekey.credentials.oauth2.sections import (
    AssertionSettings,
    TokenRequestSettings,
    TokenResponseSettings,
    refuse_keys,
)
from sidekey.credentials.oauth2.token_response import ResponseShape
from sidekey.credentials.placement import Placement, TokenPlacement, placement_warnings
from sidekey.credentials.quantities import Duration
from sidekey.credentials.renewal import ONE_PROCESS, RENEWAL_INTERVAL, RenewalInterval, SingleLiveToken

# joserfc comes with the extra `jwt`. Without it `check_library` refuses every key that needs it.
with suppress(ImportError):
    from sidekey.credentials import jose

Grants = Literal["client_credentials", "refresh_token", "password", "jwt_bearer"]

_KNOWN_TYPES = MappingProxyType({name: name for name in get_args(Grants)} | {JWT_BEARER: "jwt_bearer"})
"""What `grant_type` may not be: each has a value of `grant`, which knows what else the request must have."""

_GRANT_TYPE = re.compile(r"[!-~]([ -~]*[!-~])?")

_SIGNED = ("private_key_jwt", "client_secret_jwt")
"""The methods by which an assertion authenticates the client (RFC 7523 2.2)."""

_OF_THE_OWNER = ("username", "password")
"""The parameters of `grant: password` (RFC 6749 4.3.2)."""

_OWNER_NAMES = Names(_OF_THE_OWNER)

_OF_TOKEN_REQUESTS = frozenset({"audience", "resource", "scope"})
"""RFC 6749 4.4.2, RFC 8693 2.1 and RFC 8707 2: what many clients take beside the client's ID."""

_TOKEN_ENDPOINT_SYNONYMS = frozenset({"access_token_uri", "access_token_url", "token_uri", "token_url"})
"""Names of the token endpoint in other products' configs."""


def _check_token_endpoint(text: str, further: Iterable[str] = (), *, allow_loopback_http: bool = True) -> None:
    parse_endpoint(text, allow_loopback_http=allow_loopback_http)
    check_query(text.partition("?")[2], further)


def _is_loopback_http(url: object) -> bool:
    """Return True if a token endpoint is valid without TLS."""
    try:
        return isinstance(url, str) and parse_endpoint(url, allow_loopback_http=True).origin.scheme == "http"
    except ValueError:
        return False


def _check_grant_type(name: str) -> str:
    if name in _KNOWN_TYPES:
        raise ValueError(f"write grant: {_KNOWN_TYPES[name]} in place of this")
    if not _GRANT_TYPE.fullmatch(name):
        raise ValueError("must be visible US-ASCII without spaces at its ends, and not empty (RFC 6749 A.10)")
    return name


def _check_raw_id(text: str) -> None:
    """Refuse a colon where nothing encodes it: the server would take the rest for the secret (RFC 7617 2)."""
    check_not_empty(text)
    if ":" in text:
        raise ValueError("client_id must not contain a colon with raw_basic (RFC 7617 2)")


def _needs_secret(found: Mapping[str, Any]) -> bool:
    """RFC 6749 4.4: only confidential clients use the client credentials grant."""
    return found.get("grant") == "client_credentials" and found.get("grant_type", "") is None


class OAuth2Settings(KindSettings):
    """An access token from an OAuth 2.0 token endpoint. Sidekey fetches and refreshes it."""

    title: ClassVar[str] = "OAuth 2.0"
    also_called: ClassVar[frozenset[str]] = frozenset({"client_credentials", "oauth", "oidc"})

    # The order counts: each check sees the keys above its own.
    needs_prefix = False
    placeholder_profile: ClassVar[Mapping[str, Any]] = {"token_endpoint": "https://provider.invalid/"}

    type: Literal["oauth2"] = Field(description="The kind: OAuth 2.0 (RFC 6749).")
    provider: Provider = None
    token_endpoint: Annotated[Text, literally(_check_token_endpoint), CountsAs(spelled_endpoint)] = Field(
        description="The https URL that issues tokens. Its base URL is an allowed domain; the endpoint itself is "
        "never a target. For a test server at `localhost`, 127.0.0.0/8 or ::1, the URL may be http, as "
        "plain text; it causes a warning."
    )
    grant: Grants = Field(
        default="client_credentials",
        description="The grant: the client's credentials (RFC 6749 4.4), a `refresh_token` (RFC 6749 6), "
        "`username` and `password` (RFC 6749 4.3), or a signed `assertion` (RFC 7523 2.1; Google "
        "service accounts, Salesforce).",
    )
    grant_type: Annotated[str, AfterValidator(_check_grant_type)] | None = Field(
        default=None,
        description="Instead of `grant`: the name of a platform-specific grant (RFC 6749 4.5), such as Zoom's "
        "`account_credentials`. Put its parameters into `token_request`.",
    )
    client_id: Annotated[Text, literally(check_not_empty), HARMLESS, HIDDEN_FROM_VIEWERS] = Field(
        description="The client's identifier."
    )
    client_authentication: Literal[
        "header", "body", "query", "client_secret_jwt", "private_key_jwt", "tls_client_auth"
    ] = Field(
        default="header",
        description="How the client authenticates to the token endpoint: `header` (ID and secret as HTTP Basic), "
        "`body` or `query` (ID and secret there), an `assertion` signed with the secret or a private key "
        "(RFC 7523 2.2), or the integration's `client_certificate` (RFC 8705 2).",
    )
    client_secret: Secret | None = Field(
        default=None,
        validate_default=True,
        description="The client's secret, as a reference. With any grant but `client_credentials`, you may omit it: "
        "the client then sends only its `client_id`.",
    )
    raw_basic: Annotated[bool, HARMLESS] = Field(
        default=False,
        description="With `header`: whether ID and secret are not form-encoded before base64, for servers that "
        "ignore RFC 6749 2.3.1.",
    )
    refresh_token: Secret | None = Field(
        default=None,
        validate_default=True,
        description="With grant `refresh_token`: the refresh token, as a reference. If a response contains a new "
        "one, Sidekey uses the new one, without a store only until the next start. See "
        "`refresh_token_rotates`.",
    )
    refresh_token_rotates: Annotated[bool, HARMLESS] = Field(
        default=True,
        description="Whether a response may replace the refresh token. If `true`, only one process may use the "
        "refresh token, or processes that share a store. If `false`, Sidekey always uses the one in the "
        "config.",
    )
    username: Annotated[SecretOrText, literally(check_not_empty)] | None = Field(
        default=None,
        validate_default=True,
        description="With grant `password`: the user name: a secret, or in a file also plain text.",
    )
    password: Secret | None = Field(
        default=None, validate_default=True, description="With grant `password`: the user's password, as a reference."
    )
    assertion: AssertionSettings | None = Field(
        default=None,
        validate_default=True,
        description="The signed assertion of `private_key_jwt`, `client_secret_jwt` or `jwt_bearer`.",
    )
    token_request: TokenRequestSettings = Field(
        default=TokenRequestSettings(), description="The request to the token endpoint."
    )
    token_placement: Annotated[TokenPlacement, CountsAs(Placement.spelled)] = Field(
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
    token_lifetime: Annotated[Duration, AfterValidator(check_life), HARMLESS] = Field(
        default=DEFAULT_LIFE,
        description="How long Sidekey uses a token if the response has no lifetime; at least `1s`.",
    )
    renewal_interval: RenewalInterval = RENEWAL_INTERVAL
    single_live_token: SingleLiveToken = False

    @field_validator("client_authentication")
    @classmethod
    def _check_method(cls, method: str, info: ValidationInfo) -> str:
        if method in _SIGNED and info.data.get("grant") == "jwt_bearer":
            raise ValueError(f"must not be {method}: with grant jwt_bearer the assertion is the grant")
        if method == "client_secret_jwt":
            check_library("signed assertions")
        endpoint = info.data.get("token_endpoint")
        if method == "tls_client_auth" and endpoint is not None and _is_loopback_http(endpoint.value):
            raise ValueError("tls_client_auth needs an https token_endpoint: without TLS no client certificate is sent")
        return method

    @field_validator("client_secret")
    @classmethod
    def _check_secret(cls, secret: Reference | None, info: ValidationInfo) -> Reference | None:
        method = info.data.get("client_authentication")
        by_key = method in ("private_key_jwt", "tls_client_auth")
        if by_key and secret is not None:
            raise ValueError(f"may not be used with {method}: exactly one method authenticates the client")
        needed = method == "client_secret_jwt" or (method is not None and not by_key and _needs_secret(info.data))
        if secret is None and needed:
            missing()
        return secret

    @field_validator("raw_basic")
    @classmethod
    def _check_raw_basic(cls, raw: bool, info: ValidationInfo) -> bool:
        if raw and info.data.get("client_authentication", "header") != "header":
            raise ValueError("may be used only with client_authentication: header")
        client_id = info.data.get("client_id")
        if raw and client_id is not None and client_id.source == "text":
            _check_raw_id(client_id.value)
        return raw

    @field_validator("refresh_token")
    @classmethod
    def _check_refresh_token(cls, token: Reference | None, info: ValidationInfo) -> Reference | None:
        if "grant" in info.data:
            check_both_ways(token, info.data["grant"] == "refresh_token", "grant refresh_token")
        return token

    @field_validator("refresh_token_rotates")
    @classmethod
    def _check_rotates(cls, rotates: bool, info: ValidationInfo) -> bool:
        if info.data.get("grant", "refresh_token") != "refresh_token":
            raise ValueError("may be used only with grant refresh_token")
        return rotates

    @field_validator("username", "password")
    @classmethod
    def _check_owner(cls, value: Reference | None, info: ValidationInfo) -> Reference | None:
        if "grant" in info.data:
            check_both_ways(value, info.data["grant"] == "password", "grant password")
        return value

    @field_validator("assertion")
    @classmethod
    def _check_assertion(cls, assertion: AssertionSettings | None, info: ValidationInfo) -> AssertionSettings | None:
        if "grant" not in info.data or "client_authentication" not in info.data:
            return assertion
        stands_for_grant, method = info.data["grant"] == "jwt_bearer", info.data["client_authentication"]
        if method != "client_secret_jwt" or assertion is None:
            needed = stands_for_grant or method == "private_key_jwt"
            check_both_ways(assertion, needed, "client_authentication private_key_jwt or grant jwt_bearer")
        if assertion is None:
            return assertion
        if method == "client_secret_jwt":
            assertion.check_by_secret()
        else:
            assertion.check_by_key()
        if not stands_for_grant:
            reason = f"may not be used with {method}: both are the client_id (RFC 7523 3)"
            refuse_keys(assertion, ("issuer", "subject"), reason)
        return assertion

    @field_validator("token_request")
    @classmethod
    def _check_get(cls, request: TokenRequestSettings, info: ValidationInfo) -> TokenRequestSettings:
        if request.method == "GET" and info.data.get("client_authentication") == "body":
            reason = "must not be GET, which has no body: use another method or client_authentication"
            refuse_keys(request, ("method",), reason)
        return request

    @field_validator("token_request")
    @classmethod
    def _check_once(cls, request: TokenRequestSettings, info: ValidationInfo) -> TokenRequestSettings:
        endpoint = info.data.get("token_endpoint")
        if endpoint is not None and endpoint.source == "text":
            names = names_in(endpoint.value.partition("?")[2])
            twice = [place for place in request.places() if names.find(place[-1]) is not None]
            refuse_places(twice, "this parameter is also in the query of token_endpoint: remove one")
        return request

    @field_validator("token_request")
    @classmethod
    def _check_owners(cls, request: TokenRequestSettings, info: ValidationInfo) -> TokenRequestSettings:
        if info.data.get("grant") == "password":
            twice = [place for place in request.places() if _OWNER_NAMES.find(place[-1]) is not None]
            refuse_places(twice, "may not be set with grant password: Sidekey sends it from username and password")
        return request

    @field_validator("token_request")
    @classmethod
    def _check_headers(cls, request: TokenRequestSettings, info: ValidationInfo) -> TokenRequestSettings:
        if info.data.get("client_authentication") == "header" and info.data.get("client_secret") is not None:
            twice = [("headers", name) for name in request.headers if normal_name(name) == "authorization"]
            refuse_places(twice, "may not be set with client_authentication: header, which sends it: remove one")
        return request

    @classmethod
    def find_errors(cls, integration: Mapping[str, Any]) -> Findings:
        """Two grants; and a client that authenticates by the integration's certificate, where there is none."""
        auth = mapping(integration.get("auth"))
        if auth.get("grant") is not None and auth.get("grant_type") is not None:
            yield ("auth", "grant_type"), "takes the place of grant: remove grant or grant_type"
        method = auth.get("client_authentication")
        if method == "tls_client_auth" and integration.get("client_certificate") is None:
            text = "needs a client certificate: add client_certificate beside auth"
            yield ("auth", "client_authentication"), text

    @classmethod
    def find_warnings(cls, integration: Mapping[str, Any]) -> Findings:
        """A placement of the token that has disadvantages, and a token endpoint without TLS."""
        endpoint = mapping(integration.get("auth")).get("token_endpoint")
        if _is_loopback_http(endpoint):
            yield ("auth", "token_endpoint"), "the client's secret and the token travel in the clear: for tests only"
        yield from placement_warnings(integration, "token_placement")

    @classmethod
    def find_single_process(cls, integration: Mapping[str, Any]) -> Findings:
        """A refresh token that ends with its use, and a client of which one token is live."""
        auth = mapping(integration.get("auth"))
        if auth.get("grant") == "refresh_token" and auth.get("refresh_token_rotates") is not False:
            yield (
                ("auth", "refresh_token"),
                "only one process may use this token: the provider may end it with each use, and no other process, nor "
                "this one after a restart, has the next; add store, or write refresh_token_rotates: false if it stays "
                "valid, or run one replica",
            )
        if auth.get("single_live_token") is True:
            yield ("auth", "single_live_token"), ONE_PROCESS

    @classmethod
    def hint(cls, key: str) -> str:
        """A parameter that token requests take, and that many clients take beside the client's ID; or a synonym."""
        if key in _TOKEN_ENDPOINT_SYNONYMS:
            return "unknown key; did you mean token_endpoint?"
        if key not in _OF_TOKEN_REQUESTS:
            return ""
        return f"this is a parameter of the token request: write token_request: {{body: {{{key}: ...}}}}"

    @classmethod
    def learns_base_url(cls, auth: Mapping[str, Any]) -> bool:
        """Where the field of the response is named."""
        return mapping(auth.get("token_response")).get("base_url") is not None

    def traits(self) -> Traits:
        """One place; the base URL where it is mapped."""
        return Traits(
            self.token_placement.places(),
            calls=True,
            learns=self.token_response.base_url is not None,
            watched=frozenset({401}),
            renewal_interval=self.renewal_interval,
            single_live_token=self.single_live_token,
            rotates=self.grant == "refresh_token" and self.refresh_token_rotates,
        )

    def inputs(self) -> Iterator[SecretInput]:
        """Every text and secret that is given."""
        further = [place[-1] for place in self.token_request.places()]
        if self.grant == "password":
            further += _OF_THE_OWNER
        # A value that is read from elsewhere must be https: no warning could name it before it is used.
        literal = self.token_endpoint.source == "text"
        check = partial(_check_token_endpoint, further=further, allow_loopback_http=literal)
        yield SecretInput(("token_endpoint",), self.token_endpoint, check)
        yield SecretInput(("client_id",), self.client_id, _check_raw_id if self.raw_basic else check_not_empty)
        if self.client_secret is not None:
            yield SecretInput(("client_secret",), self.client_secret, self._secret_check())
        if self.refresh_token is not None:
            yield SecretInput(("refresh_token",), self.refresh_token)
        if self.username is not None:
            yield SecretInput(("username",), self.username, check_not_empty)
        if self.password is not None:
            yield SecretInput(("password",), self.password)
        for name, written in (("body", self.token_request.body), ("query", self.token_request.query)):
            for key, reference in references(written, "token_request", name):
                yield SecretInput(key, reference)
        yield from inputs_of(self.token_request.headers, "token_request", "headers")
        if self.assertion is not None:
            yield from self.assertion.inputs()

    def read(self, read: ReadReference, known: Mapping[Keys, str]) -> tuple[dict[Keys, str], Reasons]:
        """As for every kind; and a key and its certificate go together: if they do not, neither counts as read."""
        values, reasons = super().read(read, known)
        reason = None if self.assertion is None else self.assertion.mismatch(values)
        if reason is None:
            return values, reasons
        pair = (("assertion", "private_key"), ("assertion", "certificate"))
        rest = {key: value for key, value in values.items() if key not in pair}
        return rest, (*reasons, (("auth", *pair[1]), reason))

    def destinations(self, values: Mapping[Keys, str]) -> Destinations | None:
        """The token endpoint's base URL, without the token endpoint."""
        text = values.get(("token_endpoint",))
        if text is None:
            return None
        endpoint = parse_endpoint(text, allow_loopback_http=True)
        pinned = self.token_response.pin_base_url
        return Destinations(
            domains=(Domain(endpoint.origin),),
            # Targets at the token endpoint's host move to the learnt one, where the same path may issue tokens too.
            forbidden=(Forbidden(None if pinned else endpoint.origin, endpoint.path),),
            base=Prefix(endpoint.origin, ""),
            placeholder_origin=endpoint.origin if pinned else None,
        )

    def credential(self, values: Mapping[Keys, str]) -> Credential:
        """The credential with everything read."""
        endpoint, client_id = values["token_endpoint",], values["client_id",]
        sign = None
        signed = self._signed()
        if signed is not None:
            # RFC 7523 3: a client that authenticates is the issuer and the subject.
            sign = signed.signer(values, "" if self.grant == "jwt_bearer" else client_id).sign
        request, response = self.token_request, self.token_response
        return OAuth2Credential(
            request=TokenRequest(
                endpoint,
                request.method,
                request.format,
                filled(request.body, values, "token_request", "body"),
                filled(request.query, values, "token_request", "query"),
                filled_headers(request.headers, values, "token_request", "headers"),
            ),
            grant=self._grant(values, sign),
            client=self._client(client_id, values, sign),
            response=ResponseShape(
                response.access_token,
                response.expires_in,
                response.base_url,
                self.token_placement.bearer,
                self.token_lifetime,
            ),
            placement=self.token_placement,
            lineage=self._lineage(values),
        )

    def _signed(self) -> AssertionSettings | None:
        """The assertion; one by the secret need not be written."""
        if self.assertion is None and self.client_authentication == "client_secret_jwt":
            return AssertionSettings(algorithm="HS256")
        return self.assertion

    def _secret_check(self) -> Callable[[str], None] | None:
        """What a secret must be that signs."""
        signed = self._signed()
        if signed is None or self.client_authentication != "client_secret_jwt":
            return None
        algorithm = signed.algorithm

        def check(text: str) -> None:
            jose.load_secret(text, "text", algorithm)

        return check

    def _lineage(self, values: Mapping[Keys, str]) -> Lineage:
        """A refresh token of the config that is another one begins a lineage: it wins over what was returned since."""
        request, response, assertion = self.token_request, self.token_response, self.assertion

        def of(*keys: Keys) -> tuple[Hashable, ...]:
            return tuple(map(values.get, keys))

        whose = of(("token_endpoint",), ("client_id",), ("refresh_token",))
        # Only where there is one: by the spelling of a lineage a store knows the refresh tokens that came of it.
        owner = of(("username",)) if self.grant == "password" else ()
        asked = of(*(("assertion", name) for name in ("issuer", "subject", "audience")))
        signed = of(*(("assertion", name) for name in ("private_key", "key_id", "certificate")))
        return Lineage(
            client=("oauth2", self.grant_type or self.grant, *whose, *asked, *owner),
            token=(
                compared(filled(request.body, values, "token_request", "body")),
                compared(filled(request.query, values, "token_request", "query")),
                () if assertion is None else compared(filled(assertion.claims, values, "assertion", "claims")),
                (response.access_token, response.base_url),
                self.token_placement,
                *compared_headers(request.headers, values, "token_request", "headers"),
            ),
            proof=(
                self.client_authentication,
                self.raw_basic,
                (request.method, request.format),
                of(("client_secret",)),
                signed,
                None if assertion is None else assertion.algorithm,
                *((values.get(("password",)),) if self.grant == "password" else ()),
            ),
        )

    def _grant(self, values: Mapping[Keys, str], sign: Sign | None) -> GrantType:
        if self.grant_type is not None:
            return ClientCredentials(self.grant_type)
        if self.grant == "password":
            return Password(values["username",], values["password",])
        if self.grant == "refresh_token":
            return RefreshToken(values["refresh_token",], self.refresh_token_rotates)
        return JwtBearer(sign) if self.grant == "jwt_bearer" and sign is not None else ClientCredentials()

    def _client(self, client_id: str, values: Mapping[Keys, str], sign: Sign | None) -> Client:
        secret = values.get(("client_secret",))
        if self.client_authentication in ("private_key_jwt", "client_secret_jwt"):
            return Client(self.client_authentication, client_id, sign=sign)
        if self.client_authentication == "tls_client_auth":
            return Client("tls_client_auth", client_id)
        if secret is None:
            # RFC 6749 3.2.1: a client that does not authenticate names itself. An assertion names it already.
            return Client("none" if self.grant == "jwt_bearer" else "public", client_id)
        return Client(self.client_authentication, client_id, secret, self.raw_basic)
