"""Platforms whose token endpoints require more than RFC 6749 4.4, or deviate from the response of 5.1.

What each takes and returns is on its page: https://shopify.dev (no `token_type`), https://www.infobip.com/docs
(likewise), https://developers.trustpilot.com (`expires_in` is text), https://developer.ups.com (likewise), falconpy's
samples (CrowdStrike answers 201), https://developer.ebay.com/api-docs/static/oauth-client-credentials-grant.html (the
`token_type` is of its own), https://developers.zoom.us/docs/internal-apps/s2s-oauth/ and
https://api.akeneo.com/documentation/authentication.html. SAP Ariba's is as its clients have it (`openapi_2lo`), and as
https://support.ariba.com/item/view/185172 has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fakes import oauth2
from fakes.oauth2 import CLIENT_ID, CLIENT_SECRET
from fakes.server import FakeResponse, Host, Platform, ReceivedRequest, RefusedError, read_json
from support.private_ca import Authority

ACCOUNT_ID = "AbCdEfGhIjKlMnOpQrStUv"
USER, PASSWORD = "connection_4711", "5e1f4a37d/+&"
APPLICATION_KEY = "Vp3Qz8Lw1Xk9Rb6Ty2Nd"


@dataclass(frozen=True, slots=True)
class Issuer:
    """The data of one platform. Without `api_host`, its API is on the host of its token endpoint.

    A token request must have `request_fields`. Its response has `response_fields` besides the token.
    `placement` is the header of the token, with its prefix; `required_headers` has other required headers. `denied` is
    the body of the API's 401.
    """

    host: str
    token_path: str
    api: str
    in_body: bool
    response_fields: Mapping[str, object]
    refusal: tuple[int, object]
    denied: object
    status: int = 200
    placement: tuple[str, str] = ("authorization", "Bearer ")
    api_host: str = ""
    request_fields: Mapping[str, str] = field(default_factory=lambda: {"grant_type": "client_credentials"})
    is_json: bool = False
    required_headers: Mapping[str, str] = field(default_factory=dict)


SHOPIFY = Issuer(
    "my-store.myshopify.com",
    "/admin/oauth/access_token",
    "/admin/api/",
    in_body=True,
    response_fields={"scope": "write_products", "expires_in": 86399},
    refusal=(400, {"error": "invalid_client", "error_description": "Client authentication failed"}),
    denied={"errors": "[API] Invalid API key or access token (unrecognized login or wrong password)"},
    placement=("x-shopify-access-token", ""),
)
INFOBIP = Issuer(
    "4ktdq1.api.infobip.com",
    "/auth/1/oauth2/token",
    "/sms/3/",
    in_body=True,
    response_fields={"expires_in": 3600},
    refusal=(401, {"requestError": {"serviceException": {"messageId": "UNAUTHORIZED"}}}),
    denied={"requestError": {"serviceException": {"messageId": "UNAUTHORIZED"}}},
)
TRUSTPILOT = Issuer(
    "api.trustpilot.com",
    "/v1/oauth/oauth-business-users-for-applications/accesstoken",
    "/v1/private/",
    in_body=False,
    response_fields={"expires_in": "359999"},
    refusal=(401, {"fault": {"faultstring": "Invalid client", "detail": {"errorcode": "oauth.v2.InvalidClientId"}}}),
    denied={"fault": {"faultstring": "Invalid token", "detail": {"errorcode": "oauth.v2.InvalidAccessToken"}}},
)
UPS = Issuer(
    "onlinetools.ups.com",
    "/security/v1/oauth/token",
    "/api/",
    in_body=False,
    response_fields={"token_type": "Bearer", "issued_at": "1685543654230", "expires_in": "14399", "status": "approved"},
    refusal=(401, {"response": {"errors": [{"code": "10401", "message": "ClientId is Invalid"}]}}),
    denied={"response": {"errors": [{"code": "250002", "message": "Invalid Authentication Information."}]}},
)
CROWDSTRIKE = Issuer(
    "api.eu-1.crowdstrike.com",
    "/oauth2/token",
    "/devices/",
    in_body=True,
    status=201,
    response_fields={"token_type": "bearer", "expires_in": 1799},
    refusal=(403, {"errors": [{"code": 403, "message": "access denied, authorization failed"}]}),
    denied={"errors": [{"code": 401, "message": "access denied, invalid bearer token"}]},
)
EBAY = Issuer(
    "api.ebay.com",
    "/identity/v1/oauth2/token",
    "/buy/",
    in_body=False,
    response_fields={"expires_in": 7200, "token_type": "Application Access Token"},
    refusal=(401, {"error": "invalid_client", "error_description": "client authentication failed"}),
    denied={"errors": [{"errorId": 1001, "domain": "OAuth", "message": "Invalid access token"}]},
    request_fields={"grant_type": "client_credentials", "scope": "https://api.ebay.com/oauth/api_scope"},
)
ZOOM = Issuer(
    "zoom.us",
    "/oauth/token",
    "/v2/",
    in_body=False,
    response_fields={
        "token_type": "bearer",
        "expires_in": 3600,
        "scope": "user:read:admin",
        "api_url": "https://api.zoom.us",
    },
    refusal=(400, {"reason": "Invalid client_id or client_secret", "error": "invalid_client"}),
    denied={"code": 124, "message": "Invalid access token."},
    api_host="api.zoom.us",
    request_fields={"grant_type": "account_credentials", "account_id": ACCOUNT_ID},
)
ARIBA = Issuer(
    "api-eu.ariba.com",
    "/v2/oauth/token",
    "/api/",
    in_body=False,
    response_fields={
        "timeUpdated": 1552342800000,
        "refresh_token": "8b1c3b7e-2f1d-4f4e-8a34-9d1f4c1c2b7a",
        "token_type": "bearer",
        "scope": None,
        "expires_in": 1440,
    },
    refusal=(401, {"error": "invalid_client", "error_description": "Bad client credentials"}),
    denied={"error": "invalid_token", "error_description": "Invalid access token"},
    api_host="openapi-eu.ariba.com",
    request_fields={"grant_type": "openapi_2lo"},
    required_headers={"apikey": APPLICATION_KEY},
)
AKENEO = Issuer(
    "acme.cloud.akeneo.com",
    "/api/oauth/v1/token",
    "/api/rest/v1/",
    in_body=False,
    response_fields={
        "expires_in": 3600,
        "token_type": "bearer",
        "scope": None,
        "refresh_token": "OTNlZGE5OTJjNWQ1YzU4ZDdhNGM0ZDQ3ZDU2ZjA4",
    },
    refusal=(
        422,
        {
            "code": 422,
            "message": 'Parameter "client_id" is missing or does not match any client, or secret is invalid',
        },
    ),
    denied={"code": 401, "message": "The access token provided is invalid."},
    request_fields={"grant_type": "password", "username": USER, "password": PASSWORD},
    is_json=True,
)


class IssuerPlatform(Platform):
    """`async with IssuerPlatform(ca, SHOPIFY) as shopify`: the platform's token endpoint, and its API below `api`."""

    def __init__(self, ca: Authority, issuer: Issuer) -> None:
        self.issuer = issuer
        self.tokens = oauth2.Tokens(expires_in=3600)
        self.host = Host(issuer.host, self._respond, switched=issuer.token_path)
        api_hosts = (Host(issuer.api_host, self._call),) if issuer.api_host else ()
        self.api = (*api_hosts, self.host)[0]
        super().__init__(ca, self.host, *api_hosts)

    def _respond(self, received: ReceivedRequest) -> FakeResponse:
        return self._token(received) if received.path == self.issuer.token_path else self._call(received)

    def _token(self, received: ReceivedRequest) -> FakeResponse:
        issuer = self.issuer
        oauth2.expect_post(received, issuer.token_path)
        fields = (read_json(received) or {}) if issuer.is_json else oauth2.form(received)
        oauth2.expect_grant(fields, issuer.request_fields["grant_type"])
        credentials = (fields.pop("client_id", ""), fields.pop("client_secret", "")) if issuer.in_body else None
        if (credentials or oauth2.basic(received)) != (CLIENT_ID, CLIENT_SECRET):
            status, body = issuer.refusal
            raise RefusedError(FakeResponse.json(status, body))
        if fields != issuer.request_fields:
            raise oauth2.error(400, "invalid_request")
        token = self.tokens.issue()
        return FakeResponse.json(issuer.status, {"access_token": token.value, **issuer.response_fields})

    def _call(self, received: ReceivedRequest) -> FakeResponse:
        name, before = self.issuer.placement
        value = received.value(name) or ""
        if not value.startswith(before) or self.tokens.find(value.removeprefix(before)) is None:
            raise RefusedError(FakeResponse.json(401, self.issuer.denied))
        if any(received.value(name) != value for name, value in self.issuer.required_headers.items()):
            raise RefusedError(FakeResponse.json(401, self.issuer.denied))
        if not received.path.startswith(self.issuer.api):
            raise RefusedError(FakeResponse.json(404, {"errors": "Not Found"}))
        return FakeResponse.json(200, {"data": []})


def issuing(issuer: Issuer) -> Callable[[Authority], IssuerPlatform]:
    """Build the fake of a platform."""
    return lambda ca: IssuerPlatform(ca, issuer)
