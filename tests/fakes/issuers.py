"""Platforms whose token endpoints say less than RFC 6749 5.1 asks for, or say it otherwise.

What each returns is on its page: https://shopify.dev (no `token_type`), https://www.infobip.com/docs (likewise),
https://developers.trustpilot.com (`expires_in` is text), https://developer.ups.com (likewise), and falconpy's samples
(CrowdStrike answers 201).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fakes import oauth2
from fakes.oauth2 import CLIENT_ID, CLIENT_SECRET
from fakes.server import Answer, Arrived, Host, Platform, Refused
from support.ca import Authority


@dataclass(frozen=True, slots=True)
class Issuer:
    """What is special to one platform, whose API is on the host of its token endpoint.

    `said` is what the token endpoint returns beside the token. `placement` is the header that takes the token, with
    what stands before it. `denied` is the body of the API's 401.
    """

    host: str
    token_path: str
    api: str
    in_body: bool
    said: Mapping[str, object]
    refusal: tuple[int, object]
    denied: object
    status: int = 200
    placement: tuple[str, str] = ("authorization", "Bearer ")


SHOPIFY = Issuer(
    "my-store.myshopify.com",
    "/admin/oauth/access_token",
    "/admin/api/",
    in_body=True,
    said={"scope": "write_products", "expires_in": 86399},
    refusal=(400, {"error": "invalid_client", "error_description": "Client authentication failed"}),
    denied={"errors": "[API] Invalid API key or access token (unrecognized login or wrong password)"},
    placement=("x-shopify-access-token", ""),
)
INFOBIP = Issuer(
    "4ktdq1.api.infobip.com",
    "/auth/1/oauth2/token",
    "/sms/3/",
    in_body=True,
    said={"expires_in": 3600},
    refusal=(401, {"requestError": {"serviceException": {"messageId": "UNAUTHORIZED"}}}),
    denied={"requestError": {"serviceException": {"messageId": "UNAUTHORIZED"}}},
)
TRUSTPILOT = Issuer(
    "api.trustpilot.com",
    "/v1/oauth/oauth-business-users-for-applications/accesstoken",
    "/v1/private/",
    in_body=False,
    said={"expires_in": "359999"},
    refusal=(401, {"fault": {"faultstring": "Invalid client", "detail": {"errorcode": "oauth.v2.InvalidClientId"}}}),
    denied={"fault": {"faultstring": "Invalid token", "detail": {"errorcode": "oauth.v2.InvalidAccessToken"}}},
)
UPS = Issuer(
    "onlinetools.ups.com",
    "/security/v1/oauth/token",
    "/api/",
    in_body=False,
    said={"token_type": "Bearer", "issued_at": "1685543654230", "expires_in": "14399", "status": "approved"},
    refusal=(401, {"response": {"errors": [{"code": "10401", "message": "ClientId is Invalid"}]}}),
    denied={"response": {"errors": [{"code": "250002", "message": "Invalid Authentication Information."}]}},
)
CROWDSTRIKE = Issuer(
    "api.eu-1.crowdstrike.com",
    "/oauth2/token",
    "/devices/",
    in_body=True,
    status=201,
    said={"token_type": "bearer", "expires_in": 1799},
    refusal=(403, {"errors": [{"code": 403, "message": "access denied, authorization failed"}]}),
    denied={"errors": [{"code": 401, "message": "access denied, invalid bearer token"}]},
)


class Issuing(Platform):
    """`async with Issuing(ca, SHOPIFY) as shopify`: its token endpoint, and its API below `api`."""

    def __init__(self, ca: Authority, issuer: Issuer) -> None:
        self.issuer = issuer
        self.tokens = oauth2.Tokens(expires_in=3600)
        self.host = Host(issuer.host, self._respond, switched=issuer.token_path)
        super().__init__(ca, self.host)

    def _respond(self, arrived: Arrived) -> Answer:
        return self._token(arrived) if arrived.path == self.issuer.token_path else self._call(arrived)

    def _token(self, arrived: Arrived) -> Answer:
        issuer = self.issuer
        oauth2.expect_post(arrived, issuer.token_path)
        fields = oauth2.form(arrived)
        oauth2.expect_grant(fields)
        said = (fields.get("client_id", ""), fields.get("client_secret", "")) if issuer.in_body else None
        if (said or oauth2.basic(arrived)) != (CLIENT_ID, CLIENT_SECRET):
            status, body = issuer.refusal
            raise Refused(Answer.json(status, body))
        token = self.tokens.issue()
        return Answer.json(issuer.status, {"access_token": token.value, **issuer.said})

    def _call(self, arrived: Arrived) -> Answer:
        name, before = self.issuer.placement
        value = arrived.value(name) or ""
        if not value.startswith(before) or self.tokens.find(value.removeprefix(before)) is None:
            raise Refused(Answer.json(401, self.issuer.denied))
        if not arrived.path.startswith(self.issuer.api):
            raise Refused(Answer.json(404, {"errors": "Not Found"}))
        return Answer.json(200, {"data": []})


def issuing(issuer: Issuer) -> Callable[[Authority], Issuing]:
    """Makes the fake of a platform."""
    return lambda ca: Issuing(ca, issuer)
