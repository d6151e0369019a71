"""Criteo: token endpoint and API on one host name, ID and secret in the form body, tokens of 15 minutes.

https://developers.criteo.com/marketing-solutions/docs/authentication
"""

from __future__ import annotations

from fakes import oauth2
from fakes.oauth2 import CLIENT_ID, CLIENT_SECRET
from fakes.server import FakeResponse, Host, Platform, ReceivedRequest, RefusedError
from support.private_ca import Authority

TOKEN_PATH = "/oauth2/token"


class Criteo(Platform):
    """`async with Criteo(ca) as criteo`: anything below `/2026-01/` is the API."""

    def __init__(self, ca: Authority) -> None:
        self.tokens = oauth2.Tokens(expires_in=900)
        self.api = Host("api.criteo.com", self._respond, switched=TOKEN_PATH)
        super().__init__(ca, self.api)

    def _respond(self, received: ReceivedRequest) -> FakeResponse:
        return self._token(received) if received.path == TOKEN_PATH else self._call(received)

    def _token(self, received: ReceivedRequest) -> FakeResponse:
        oauth2.expect_post(received, TOKEN_PATH)
        # "To comply with the OAuth2 standards" the body is application/x-www-form-urlencoded.
        fields = oauth2.form(received)
        oauth2.expect_grant(fields)
        # The page's parameters are client_id and client_secret; RFC 6749 2.3 forbids a second method beside them.
        if received.values("authorization"):
            raise oauth2.error(400, "invalid_request", "more than one way of client authentication")
        if (fields.get("client_id"), fields.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET):
            raise oauth2.error(400, "invalid_client", "Invalid client or Invalid client credentials.")
        return oauth2.bearer_response(self.tokens.issue())

    def _call(self, received: ReceivedRequest) -> FakeResponse:
        if self.tokens.find(oauth2.bearer(received)) is None:
            # "If you receive a 401 Unauthorized [...] your access token has expired." The body is JSON:API-like.
            error = {"type": "access-control", "code": "authorization-token-invalid", "title": "Unauthorized"}
            headers = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
            raise RefusedError(FakeResponse.json(401, {"errors": [error], "warnings": []}, headers))
        if not received.path.startswith("/2026-01/"):
            raise RefusedError(
                FakeResponse.json(404, {"errors": [{"type": "not-found", "code": "not-found"}], "warnings": []})
            )
        return FakeResponse.json(200, {"data": [{"type": "Advertiser", "id": "1"}], "errors": [], "warnings": []})
