"""Microsoft Entra ID: a token host for every tenant, in two versions, and APIs that take only tokens made for them.

https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow
"""

from __future__ import annotations

import time
from base64 import urlsafe_b64encode
from functools import partial

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from fakes import oauth2
from fakes.oauth2 import CLIENT_ID, CLIENT_SECRET
from fakes.server import FakeResponse, Host, Platform, ReceivedRequest, RefusedError
from support.private_ca import Authority

LOGIN = "login.microsoftonline.com"
TENANT = "contoso.onmicrosoft.com"
GRAPH = "https://graph.microsoft.com"
MANAGEMENT = "https://management.azure.com"
VAULT = "https://vault.azure.net"
"""A resource that is no host: each customer's vaults have their own."""

VAULT_HOST = "acme.vault.azure.net"
FEDERATED_AUDIENCE = "api://AzureADTokenExchange"
"""The audience of tokens of other issuers.

https://learn.microsoft.com/entra/workload-id/workload-identity-federation-create-trust
"""

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Entra(Platform):
    """`async with Entra(ca) as entra`. With a certificate, a client may authenticate with a signed JWT as well.

    With `federated`, it may authenticate with a JWT of another issuer, which that key verifies.
    """

    def __init__(
        self,
        ca: Authority,
        *,
        certificate: x509.Certificate | None = None,
        federated: RSAKey | ECKey | None = None,
    ) -> None:
        self._federated = federated
        self.tokens = oauth2.Tokens(expires_in=3599)
        self._certificate = certificate
        self._seen: set[str] = set()
        self.auth = Host(LOGIN, self._token)
        self.graph = Host("graph.microsoft.com", partial(self._call, GRAPH))
        self.management = Host("management.azure.com", partial(self._call, MANAGEMENT))
        self.vault = Host(VAULT_HOST, partial(self._call, VAULT))
        super().__init__(ca, self.auth, self.graph, self.management, self.vault)

    def _token(self, received: ReceivedRequest) -> FakeResponse:
        tenant, _, rest = received.path.removeprefix("/").partition("/")
        if rest not in ("oauth2/v2.0/token", "oauth2/token"):
            raise RefusedError(FakeResponse(404))
        oauth2.expect_post(received, received.path)
        if tenant != TENANT:
            raise _error_reply(400, "invalid_request", 90002, f"Tenant '{tenant}' not found.")
        if received.media_type != "application/x-www-form-urlencoded":
            # A JSON body is read as a form without parameters.
            message = "The request body must contain the following parameter: 'grant_type'."
            raise _error_reply(400, "invalid_request", 900144, message)
        fields = oauth2.form(received)
        oauth2.expect_grant(fields)
        self._authenticate(received, fields)
        return self._version_2(fields) if rest == "oauth2/v2.0/token" else self._version_1(fields)

    def _authenticate(self, received: ReceivedRequest, fields: dict[str, str]) -> None:
        # The metadata document names client_secret_post, client_secret_basic and private_key_jwt; one at a time.
        header = oauth2.basic(received)
        methods = [header is not None, "client_secret" in fields, "client_assertion" in fields]
        client_id = fields.get("client_id", header[0] if header else "")
        if sum(methods) > 1:
            raise oauth2.error(400, "invalid_request", "more than one way of client authentication")
        if client_id != CLIENT_ID:
            message = f"Application with identifier '{client_id}' was not found in the directory '{TENANT}'."
            raise _error_reply(400, "unauthorized_client", 700016, message)
        if "client_assertion" in fields and self._federated is not None:
            self._check_federated(self._federated, fields)
        elif "client_assertion" in fields:
            self._check_assertion(received, fields)
        elif (header[1] if header else fields.get("client_secret")) != CLIENT_SECRET:
            raise _error_reply(401, "invalid_client", 7000215, "Invalid client secret provided.")

    def _check_federated(self, public: RSAKey | ECKey, fields: dict[str, str]) -> None:
        """A federated identity credential: the issuer's signature, the audience and the lifetime.

        https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow, third case.
        azure-identity 1.27 sends the same fields.
        """
        if fields.get("client_assertion_type") != ASSERTION_TYPE:
            raise _error_reply(400, "invalid_request", 900144, "client_assertion_type")
        try:
            claims = jwt.decode(fields["client_assertion"], public, algorithms=["RS256"]).claims
        except (JoseError, ValueError):
            raise _error_reply(401, "invalid_client", 50013, "Assertion failed signature validation.") from None
        if claims.get("aud") != FEDERATED_AUDIENCE:
            message = "No matching federated identity record found for presented assertion audience."
            raise _error_reply(401, "invalid_client", 700212, message)
        if not claims["iat"] <= time.time() < claims["exp"]:
            raise _error_reply(401, "invalid_client", 700024, "Client assertion is not within its valid time range.")

    def _check_assertion(self, received: ReceivedRequest, fields: dict[str, str]) -> None:
        """Certificate credentials: signed with the certificate's key, named by `x5t#S256`, used once, soon over.

        https://learn.microsoft.com/entra/identity-platform/certificate-credentials: with PS256. Microsoft's libraries
        send RS256 only with `x5t`, the SHA-1 thumbprint.
        """
        refusal = _error_reply(401, "invalid_client", 700027, "Client assertion failed signature validation.")
        certificate = self._certificate
        if certificate is None or fields.get("client_assertion_type") != ASSERTION_TYPE:
            raise refusal
        key = certificate.public_key()
        assert isinstance(key, RSAPublicKey)
        try:
            token = jwt.decode(fields["client_assertion"], RSAKey.import_key(key), algorithms=["PS256"])
        except (JoseError, ValueError):
            raise refusal from None
        thumbprint = urlsafe_b64encode(certificate.fingerprint(SHA256())).decode().rstrip("=")
        claims, now = token.claims, time.time()
        right = {"iss": CLIENT_ID, "sub": CLIENT_ID, "aud": f"https://{LOGIN}{received.path}"}
        identifier = str(claims.get("jti", ""))
        if (
            token.header.get("x5t#S256") != thumbprint
            or any(claims.get(name) != value for name, value in right.items())
            or not identifier
            or identifier in self._seen
            or not claims.get("nbf", now) <= now < claims.get("exp", 0) <= now + 600
        ):
            raise refusal
        self._seen.add(identifier)

    def _version_2(self, fields: dict[str, str]) -> FakeResponse:
        scope = fields.get("scope")
        if scope is None:
            raise _error_reply(
                400, "invalid_request", 90014, "The required field 'scope' is missing from the credential."
            )
        resource = scope.removesuffix("/.default")
        if resource == scope or resource not in (GRAPH, MANAGEMENT, VAULT):
            message = (
                f"The provided value for scope {scope} is not valid. Client credential flows must have a scope value "
                "with /.default suffixed to the resource identifier (application ID URI)."
            )
            raise _error_reply(400, "invalid_scope", 1002012, message)
        token = self.tokens.issue(resource)
        # There is no refresh token with client credentials.
        return oauth2.bearer_response(token, ext_expires_in=self.tokens.expires_in)

    def _version_1(self, fields: dict[str, str]) -> FakeResponse:
        resource = fields.get("resource", "").removesuffix("/")
        if resource not in (GRAPH, MANAGEMENT, VAULT):
            raise _error_reply(
                400, "invalid_resource", 500011, f"The resource principal named {resource} was not found."
            )
        token, life, now = self.tokens.issue(resource), self.tokens.expires_in, int(time.time())
        times = {"expires_in": life, "ext_expires_in": life, "expires_on": now + life, "not_before": now}
        # Version 1 says every number as a string.
        numbers = {name: str(value) for name, value in times.items()}
        return FakeResponse.json(
            200, {"token_type": "Bearer", "resource": resource, "access_token": token.value, **numbers}
        )

    def _call(self, resource: str, received: ReceivedRequest) -> FakeResponse:
        token = self.tokens.find(oauth2.bearer(received))
        if token is None or token.scope != resource:
            raise _not_authenticated(resource)
        return FakeResponse.json(200, {"value": [{"id": "1", "displayName": "Contoso"}]})


def _error_reply(status: int, code: str, number: int, message: str) -> RefusedError:
    """Build Entra's form of RFC 6749 5.2. Every message starts with AADSTS and the number."""
    body = {
        "error": code,
        "error_description": f"AADSTS{number}: {message} Trace ID: 0 Correlation ID: 0 Timestamp: 2026-01-01 00:00:00Z",
        "error_codes": [number],
        "timestamp": "2026-01-01 00:00:00Z",
        "trace_id": "00000000-0000-0000-0000-000000000000",
        "correlation_id": "00000000-0000-0000-0000-000000000000",
        "error_uri": f"https://{LOGIN}/error?code={number}",
    }
    return RefusedError(FakeResponse.json(status, body))


def _not_authenticated(resource: str) -> RefusedError:
    """Build the recorded challenge: Graph's names no error, that of Azure Resource Manager does."""
    if resource == GRAPH:
        code, parameters = "InvalidAuthenticationToken", 'client_id="00000003-0000-0000-c000-000000000000"'
        challenge = f'Bearer realm="", authorization_uri="https://{LOGIN}/common/oauth2/authorize", {parameters}'
    else:
        code, parameters = "ExpiredAuthenticationToken", 'error="invalid_token", error_description="The token is over."'
        challenge = f'Bearer authorization_uri="https://{LOGIN}/{TENANT}", {parameters}'
    error = {"code": code, "message": "Access token has expired or is not yet valid."}
    return RefusedError(FakeResponse.json(401, {"error": error}, {"WWW-Authenticate": challenge}))
