"""Twilio: a token host, and one API host for each product.

https://www.twilio.com/docs/iam/oauth-apps/oauth-access-token
"""

from __future__ import annotations

from fakes import oauth2
from fakes.oauth2 import CLIENT_ID, CLIENT_SECRET
from fakes.server import FakeResponse, Host, Platform, ReceivedRequest, RefusedError
from support.private_ca import Authority

TOKEN_PATH = "/v2/token"


class Twilio(Platform):
    """`async with Twilio(ca) as twilio`: two of the products."""

    def __init__(self, ca: Authority) -> None:
        self.tokens = oauth2.Tokens(expires_in=3600)
        self.auth = Host("oauth.twilio.com", self._token)
        self.api = Host("api.twilio.com", self._call)
        self.messaging = Host("messaging.twilio.com", self._call)
        super().__init__(ca, self.auth, self.api, self.messaging)

    def _token(self, received: ReceivedRequest) -> FakeResponse:
        oauth2.expect_post(received, TOKEN_PATH)
        fields = oauth2.form(received)
        oauth2.expect_grant(fields)
        if (fields.get("client_id"), fields.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET):
            raise _fault(401)
        return oauth2.bearer_response(self.tokens.issue(), id_token=None, refresh_token=None)

    def _call(self, received: ReceivedRequest) -> FakeResponse:
        if self.tokens.find(oauth2.bearer(received)) is None:
            raise _fault(401)
        return FakeResponse.json(200, {"messages": [], "page": 0})


def _fault(status: int) -> RefusedError:
    """Twilio's own form, without a code of RFC 6749."""
    body = {"code": 20003, "message": "Authenticate", "more_info": "https://www.twilio.com/docs/errors/20003"}
    return RefusedError(FakeResponse.json(status, body | {"status": status}))
