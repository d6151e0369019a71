"""Salesforce's core platform: token responses without a lifetime, at the host of the API.

https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_client_credentials_flow.htm
"""

from __future__ import annotations

from fakes import oauth2
from fakes.oauth2 import CLIENT_ID, CLIENT_SECRET
from fakes.server import FakeResponse, Host, Platform, ReceivedRequest, RefusedError
from support.private_ca import Authority

TOKEN_PATH = "/services/oauth2/token"
DOMAIN = "acme--uat.sandbox"
HOST = f"{DOMAIN}.my.salesforce.com"


class Salesforce(Platform):
    """`async with Salesforce(ca) as salesforce`: anything below `/services/data/` is the API."""

    def __init__(self, ca: Authority) -> None:
        self.tokens = oauth2.Tokens(expires_in=7200)
        self.api = Host(HOST, self._respond, switched=TOKEN_PATH)
        super().__init__(ca, self.api)

    def _respond(self, received: ReceivedRequest) -> FakeResponse:
        return self._token(received) if received.path == TOKEN_PATH else self._call(received)

    def _token(self, received: ReceivedRequest) -> FakeResponse:
        oauth2.expect_post(received, TOKEN_PATH)
        fields = oauth2.form(received)
        oauth2.expect_grant(fields)
        if (fields.get("client_id"), fields.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET):
            raise oauth2.error(400, "invalid_client", "invalid client credentials")
        # There is no expires_in: the session settings decide.
        return FakeResponse.json(
            200,
            {
                "access_token": self.tokens.issue().value,
                "signature": "c2lnbmF0dXJl",
                "scope": "api",
                "instance_url": f"https://{HOST}",
                "id": "https://test.salesforce.com/id/00D000000000000EAA/005000000000000AAA",
                "token_type": "Bearer",
                "issued_at": "1767225600000",
            },
        )

    def _call(self, received: ReceivedRequest) -> FakeResponse:
        if self.tokens.find(oauth2.bearer(received)) is None:
            error = {"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}
            raise RefusedError(FakeResponse.json(401, [error], {"WWW-Authenticate": "Token"}))
        if not received.path.startswith("/services/data/"):
            raise RefusedError(FakeResponse.json(404, [{"errorCode": "NOT_FOUND", "message": "not found"}]))
        return FakeResponse.json(200, {"totalSize": 0, "done": True, "records": []})
