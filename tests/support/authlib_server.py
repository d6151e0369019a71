"""Authlib's AuthorizationServer as a real token endpoint: strict about the client's method, with four grants."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from secrets import token_urlsafe
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl

from authlib.oauth2.rfc6749 import (
    AuthorizationServer,
    BaseGrant,
    ClientMixin,
    InvalidGrantError,
    InvalidRequestError,
    OAuth2Payload,
    OAuth2Request,
    TokenEndpointMixin,
    TokenMixin,
    grants,
)
from authlib.oauth2.rfc6750 import BearerTokenGenerator
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion, JWTBearerGrant
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OctKey, RSAKey

from fakes import oauth2
from fakes.server import FakeResponse, Host, ReceivedRequest
from support import oauth
from support.private_ca import Authority

SECRET = "s3cret/+ &=%:~"
"""Secret of the clients `basic` and `post`. In a Basic header, Authlib decodes only `%20` as a space, not `+`."""

SIGNING_SECRET = "a secret of 64 characters, which signs by any of the algorithms!"
"""Secret of the client `hmac`, which signs its assertions."""

SCOPE = "orders"
PRIVATE_KEY_JWT = JWTBearerClientAssertion.CLIENT_AUTH_METHOD
TLS_CLIENT_AUTH = "tls_client_auth"
METHODS = ["client_secret_basic", "client_secret_post", PRIVATE_KEY_JWT, TLS_CLIENT_AUTH]
CLIENTS = {
    **dict(zip(("basic", "post", "jwt", "tls"), METHODS, strict=True)),
    "hmac": PRIVATE_KEY_JWT,
    "workload": PRIVATE_KEY_JWT,
}
"""Authentication method of each client. Authlib has one method for assertions with any key."""
SEEN = "X-Seen-Certificate"
"""Header in which a TLS server in front passes the verified client certificate."""


@dataclass(frozen=True, slots=True)
class Client(ClientMixin):
    """A registered client with one method of authentication."""

    client_id: str
    method: str
    certificate: str | None = None
    """Client certificate for tls_client_auth, as in the header SEEN."""
    secret: str = SECRET

    def get_allowed_scope(self, scope: Collection[str] | str) -> str:
        return SCOPE if scope in (None, "", SCOPE) else ""

    def check_client_secret(self, client_secret: str) -> bool:
        return client_secret == self.secret

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == self.method

    def check_grant_type(self, grant_type: str) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class _RefreshToken(TokenMixin):
    client_id: str

    def check_client(self, client: Client) -> bool:
        return client.client_id == self.client_id

    def get_scope(self) -> str:
        return SCOPE


class _Payload(OAuth2Payload):
    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = pairs

    @property
    def data(self) -> dict[str, str]:
        return dict(self._pairs)

    @property
    def datalist(self) -> dict[str, list[Any]]:
        return {name: [value for other, value in self._pairs if other == name] for name, _ in self._pairs}


class _Request(OAuth2Request):
    def __init__(self, received: ReceivedRequest) -> None:
        headers = {name.decode().title(): value.decode("latin-1") for name, value in received.headers}
        super().__init__(received.method, f"https://{headers['Host']}{received.path}", headers=headers)
        is_form = received.media_type == "application/x-www-form-urlencoded"
        self._form = _Payload(parse_qsl(received.body.decode()) if is_form else [])
        self.payload = self._form

    @property
    def form(self) -> dict[str, str]:
        return self._form.data


@dataclass
class _State:
    """The state that parts of Authlib's server share."""

    audiences: list[str] = field(default_factory=list)
    refresh_tokens: dict[str, _RefreshToken] = field(default_factory=dict)
    rotates: bool = False
    used: set[str] = field(default_factory=set)
    workload_key: RSAKey | ECKey = field(default_factory=lambda: RSAKey.import_key(oauth.signer().public_jwk))
    clients: dict[str, Client] = field(
        default_factory=lambda: {name: Client(name, method) for name, method in CLIENTS.items()}
    )


class _Server(AuthorizationServer):
    def __init__(self, state: _State) -> None:
        super().__init__([SCOPE])
        self.state = state

    def query_client(self, client_id: str) -> Client | None:  # type: ignore[override]  # the stub forgets "unknown"
        return self.state.clients.get(client_id)

    def save_token(self, token: dict[str, str | int], request: OAuth2Request) -> None:
        if "refresh_token" in token:
            assert isinstance(request.client, Client)
            self.state.refresh_tokens[str(token["refresh_token"])] = _RefreshToken(request.client.client_id)

    def send_signal(self, name: str, *args: object, **kwargs: object) -> None:
        """Send nothing."""

    def create_oauth2_request(self, request: ReceivedRequest) -> OAuth2Request:
        return _Request(request)

    # The stub's headers are a mapping, but Authlib passes pairs.
    def handle_response(  # type: ignore[override]
        self, status: int, body: Mapping[str, object], headers: Collection[tuple[str, str]]
    ) -> FakeResponse:
        return FakeResponse.json(status, body, dict(headers))


class _ClientCredentials(grants.ClientCredentialsGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = METHODS


class _Refresh(grants.RefreshTokenGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = METHODS

    def issue_token(self, user: object, refresh_token: TokenMixin) -> dict[str, str | int]:
        return self.generate_token(user=user, scope=SCOPE, include_refresh_token=_state(self).rotates)

    def authenticate_refresh_token(self, refresh_token: str) -> _RefreshToken | None:  # type: ignore[override]  # as above
        return _state(self).refresh_tokens.get(refresh_token)

    def authenticate_user(self, refresh_token: TokenMixin) -> str:
        return "the owner"

    def revoke_old_credential(self, refresh_token: TokenMixin) -> None:
        """RFC 6749 6: a new refresh token may revoke the old one."""
        if _state(self).rotates:
            del _state(self).refresh_tokens[self.request.form["refresh_token"]]


class _JwtBearer(JWTBearerGrant):
    def resolve_issuer_client(self, issuer: str) -> Client | None:
        return _state(self).clients.get(issuer)

    def resolve_client_public_key(self, client: Client) -> RSAKey:
        return RSAKey.import_key(oauth.signer().public_jwk)

    def authenticate_user(self, subject: str) -> str:
        return subject

    def has_granted_permission(self, client: Client, user: str) -> bool:
        return True

    def get_audiences(self) -> list[str]:
        return _state(self).audiences


class _TokenExchange(BaseGrant, TokenEndpointMixin):
    """RFC 8693 2.1, which Authlib leaves to its users: a JWT of `workload_key` for a token of this server."""

    GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
    TOKEN_ENDPOINT_AUTH_METHODS = METHODS

    def validate_token_request(self) -> None:
        fields = self.request.form
        self.request.client = self.authenticate_token_endpoint_client()
        if fields.get("subject_token_type") != "urn:ietf:params:oauth:token-type:jwt":
            raise InvalidRequestError("subject_token_type")
        try:
            token = jwt.decode(fields["subject_token"], _state(self).workload_key, algorithms=["RS256", "ES256"])
        except (JoseError, ValueError):
            raise InvalidGrantError from None
        if token.claims.get("aud") not in _state(self).audiences or token.claims["exp"] <= time.time():
            raise InvalidGrantError

    # The stub's body is a text.
    def create_token_response(  # type: ignore[override]
        self,
    ) -> tuple[int, dict[str, str | int], list[tuple[str, str]]]:
        token = self.generate_token(scope=SCOPE, include_refresh_token=False)
        return 200, {**token, "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"}, []


def _state(grant: BaseGrant) -> _State:
    """Return the state of the server that Authlib passes to each grant."""
    assert isinstance(grant.server, _Server)
    return grant.server.state


class _Assertion(JWTBearerClientAssertion):
    def __init__(self, state: _State) -> None:
        super().__init__()
        self._state = state

    def resolve_client_public_key(self, client: Client) -> RSAKey | ECKey | OctKey:
        if client.client_id == "hmac":
            return OctKey.import_key(SIGNING_SECRET)
        if client.client_id == "workload":
            return self._state.workload_key
        return RSAKey.import_key(oauth.signer().public_jwk)

    def get_audiences(self) -> list[str]:
        return self._state.audiences

    def validate_jti(self, claims: Mapping[str, Any], jti: str) -> bool:
        if jti in self._state.used:
            return False
        self._state.used.add(jti)
        return True


def _by_certificate(query_client: Callable[[str], Client | None], request: OAuth2Request) -> Client | None:
    """RFC 8705 2.1: the request names the client, and the connection has the client's certificate."""
    client = query_client(request.form.get("client_id", ""))
    seen = (request.headers or {}).get(SEEN)
    return None if client is None or seen is None or seen != client.certificate else client


class AuthlibServer:
    """`async with AuthlibServer(ca) as server`: https on `server.port` of 127.0.0.1.

    The clients are `basic` and `post` (with SECRET), `jwt` (with the key of `oauth.signer`), `hmac` (with
    SIGNING_SECRET), `tls` (with the certificate of `register_certificate`) and `workload` (with `workload_key`). Each
    has only that method, and the grants client_credentials, refresh_token, jwt-bearer (signed by `oauth.signer` with
    the client's ID as issuer) and token-exchange (for a JWT of `workload_key`).
    `POST /token` is the token endpoint. Below `/api/`, a valid token gets 200.
    """

    def __init__(self, ca: Authority, *, lifetime: int = 3600, workload_key: RSAKey | ECKey | None = None) -> None:
        self._ca = ca
        self._state = _State() if workload_key is None else _State(workload_key=workload_key)
        self.tokens = oauth2.Tokens(lifetime)
        self.host = Host("127.0.0.1", self._respond, address="127.0.0.1", port=0, switched="/token")
        self._server = _Server(self._state)
        self._server.register_client_auth_method(PRIVATE_KEY_JWT, _Assertion(self._state))
        self._server.register_client_auth_method(TLS_CLIENT_AUTH, _by_certificate)
        for grant in (_ClientCredentials, _Refresh, _JwtBearer, _TokenExchange):
            self._server.register_grant(grant)
        self._server.register_token_generator(
            "default",
            BearerTokenGenerator(
                access_token_generator=lambda client, grant_type, user, scope: self.tokens.issue(scope).value,
                refresh_token_generator=lambda client, grant_type, user, scope: token_urlsafe(),
                expires_generator=lambda client, grant_type: self.tokens.expires_in,
            ),
        )

    @property
    def port(self) -> int:
        """Port of the listener."""
        return self.host.port

    @property
    def received(self) -> list[ReceivedRequest]:
        """Every request that the server received."""
        return self.host.received

    @property
    def token_endpoint(self) -> str:
        """URL of the token endpoint, which is the audience of JWTs, too."""
        return f"https://127.0.0.1:{self.port}/token"

    def refresh_token(self, client_id: str = "basic", *, rotates: bool = False) -> str:
        """Create a refresh token of a client. With `rotates`, each use returns a new one and revokes the old one."""
        value = token_urlsafe()
        self._state.refresh_tokens[value] = _RefreshToken(client_id)
        self._state.rotates = rotates
        return value

    def revoke_secret(self) -> None:
        """Replace the secret of the client `basic`. Its tokens stay valid."""
        client = self._state.clients["basic"]
        self._state.clients["basic"] = replace(client, secret="another")

    def register_certificate(self, name: str) -> None:
        """Register the certificate of the client `tls`, as a server in front writes it to the header SEEN."""
        self._state.clients["tls"] = Client("tls", TLS_CLIENT_AUTH, name)

    async def __aenter__(self) -> Self:
        await self.host.open(self._ca)
        self._state.audiences = [self.token_endpoint]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.host.close()

    def _respond(self, received: ReceivedRequest) -> FakeResponse:
        if received.path == "/token":
            response = self._server.create_token_response(received)
            assert isinstance(response, FakeResponse)
            return response
        if not received.path.startswith("/api/"):
            return FakeResponse(404)
        if self.tokens.find(oauth2.bearer(received)) is None:
            challenge = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
            return FakeResponse.json(401, {"error": "invalid_token"}, challenge)
        return FakeResponse.json(200, {})
