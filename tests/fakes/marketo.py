"""Adobe Marketo Engage: one token at a time, returned with its remaining lifetime, and API errors with status 200.

https://experienceleague.adobe.com/en/docs/marketo-developer/marketo/rest/authentication
"""

from __future__ import annotations

import time
from urllib.parse import parse_qsl

from fakes import oauth2
from fakes.oauth2 import CLIENT_ID, CLIENT_SECRET
from fakes.server import FakeResponse, Host, Platform, ReceivedRequest, RefusedError
from support.private_ca import Authority

TOKEN_PATH = "/identity/oauth/token"
MUNCHKIN_ID = "123-ABC-456"
HOST = f"{MUNCHKIN_ID.lower()}.mktorest.com"


class Marketo(Platform):
    """`async with Marketo(ca) as marketo`: anything below `/rest/v1/` is the API."""

    def __init__(self, ca: Authority) -> None:
        self.tokens = oauth2.Tokens(expires_in=3600)
        self.api = Host(HOST, self._respond, switched=TOKEN_PATH)
        super().__init__(ca, self.api)

    def _respond(self, received: ReceivedRequest) -> FakeResponse:
        return self._token(received) if received.path == TOKEN_PATH else self._call(received)

    def _token(self, received: ReceivedRequest) -> FakeResponse:
        # "Create an access token with an HTTP GET or POST request": the parameters in the query, or in a form.
        if received.method == "GET":
            fields = dict(parse_qsl(received.query))
        else:
            oauth2.expect_post(received, TOKEN_PATH)
            fields = oauth2.form(received)
        oauth2.expect_grant(fields)
        if (fields.get("client_id"), fields.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET):
            raise oauth2.error(401, "invalid_client", "Bad client credentials")
        # "expires_in: the remaining lifespan of the current token": there is another one only once it has died.
        token = self.tokens.issued[-1] if self.tokens.issued else None
        if token is None or self.tokens.find(token.value) is None:
            token = self.tokens.issue()
        life = int(token.expires_at - time.monotonic())
        return FakeResponse.json(
            200,
            {"access_token": token.value, "token_type": "bearer", "expires_in": life, "scope": "apis@acme.example"},
        )

    def _call(self, received: ReceivedRequest) -> FakeResponse:
        if self.tokens.find(oauth2.bearer(received)) is None:
            known = oauth2.bearer(received) in [token.value for token in self.tokens.issued]
            code, message = ("602", "Access token expired") if known else ("601", "Access token invalid")
            return FakeResponse.json(
                200, {"requestId": "1", "success": False, "errors": [{"code": code, "message": message}]}
            )
        if not received.path.startswith("/rest/v1/"):
            raise RefusedError(FakeResponse.json(404, {"error": "not_found"}))
        return FakeResponse.json(200, {"requestId": "1", "success": True, "result": []})
