"""Listrak: token and API on different host names, ID and secret in the form body, and an integration can be paused.

https://api.listrak.com/email#section/Authentication
"""

from __future__ import annotations

from fakes import oauth2
from fakes.oauth2 import CLIENT_ID, CLIENT_SECRET
from fakes.server import FakeResponse, Host, Platform, ReceivedRequest, RefusedError
from support.private_ca import Authority

TOKEN_PATH = "/OAuth2/Token"


class Listrak(Platform):
    """`async with Listrak(ca) as listrak`: anything below `/email/v1/` is the API."""

    def __init__(self, ca: Authority) -> None:
        self.tokens = oauth2.Tokens(expires_in=3600)
        self.paused = False
        """Somebody paused the integration in Listrak's console."""
        self.auth = Host("auth.listrak.com", self._token)
        self.api = Host("api.listrak.com", self._call)
        super().__init__(ca, self.auth, self.api)

    def _token(self, received: ReceivedRequest) -> FakeResponse:
        oauth2.expect_post(received, TOKEN_PATH)
        fields = oauth2.form(received)
        oauth2.expect_grant(fields)
        if received.values("authorization"):
            raise oauth2.error(400, "invalid_request", "more than one way of client authentication")
        known = (fields.get("client_id"), fields.get("client_secret")) == (CLIENT_ID, CLIENT_SECRET)
        # While an integration is paused, issuing tokens fails too.
        if not known or self.paused:
            raise oauth2.error(400, "invalid_client")
        return oauth2.bearer_response(self.tokens.issue())

    def _call(self, received: ReceivedRequest) -> FakeResponse:
        if self.tokens.find(oauth2.bearer(received)) is None:
            # Listrak's errors hold status, error and message; its challenge is a bare `Bearer`.
            error = {"status": 401, "error": "ERROR_UNAUTHORIZED", "message": "Access token is missing or invalid."}
            raise RefusedError(FakeResponse.json(401, error, {"WWW-Authenticate": "Bearer"}))
        if not received.path.startswith("/email/v1/"):
            raise RefusedError(
                FakeResponse.json(404, {"status": 404, "error": "ERROR_NOT_FOUND", "message": "Not found."})
            )
        return FakeResponse.json(200, {"status": 200, "data": [{"listId": 346, "listName": "Weekly"}]})
