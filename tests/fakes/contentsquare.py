"""Contentsquare: JSON token requests, and an API host that only the response names.

https://docs.contentsquare.com/en/api/authentication/
"""

from __future__ import annotations

from fakes import oauth2
from fakes.oauth2 import CLIENT_ID, CLIENT_SECRET
from fakes.server import FakeResponse, Host, Platform, ReceivedRequest, RefusedError, read_json
from support.private_ca import Authority

TOKEN_PATH = "/v1/oauth/token"
SCOPES = ("data-export", "metrics", "surveys")
CLOUD = "api.eu-west-1.production.contentsquare.com"
OTHER = "api.us-east-1.production.contentsquare.com"


class Contentsquare(Platform):
    """`async with Contentsquare(ca) as contentsquare`. `endpoint` is the base URL in the response."""

    def __init__(self, ca: Authority, *, endpoint: str = f"https://{CLOUD}") -> None:
        self.endpoint = endpoint
        self.tokens = oauth2.Tokens(expires_in=3600)
        self.auth = Host("api.contentsquare.com", self._token)
        self.cloud = Host(CLOUD, self._call)
        self.other = Host(OTHER, self._call)
        super().__init__(ca, self.auth, self.cloud, self.other)

    def _token(self, received: ReceivedRequest) -> FakeResponse:
        oauth2.expect_post(received, TOKEN_PATH)
        fields = read_json(received)
        if fields is None:
            raise oauth2.error(400, "invalid_request", "the body must be a JSON object")
        oauth2.expect_grant(fields)
        if (fields.get("client_id"), fields.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET):
            raise oauth2.error(401, "invalid_client", "Client authentication failed")
        scope = fields.get("scope")
        if not isinstance(scope, str) or not {*scope.split()} <= {*SCOPES}:
            raise oauth2.error(400, "invalid_scope")
        return oauth2.bearer_response(self.tokens.issue(scope), endpoint=self.endpoint)

    def _call(self, received: ReceivedRequest) -> FakeResponse:
        if self.tokens.find(oauth2.bearer(received)) is None:
            error = {"success": False, "errorMessage": "Auth token expired", "errorCode": "JWT_EXPIRED"}
            raise RefusedError(FakeResponse.json(401, error))
        return FakeResponse.json(200, {"success": True, "payload": []})
