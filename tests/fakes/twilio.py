"""Twilio: a token host, and one API host for each product.

https://www.twilio.com/docs/iam/oauth-apps/oauth-access-token
"""

from __future__ import annotations

from fakes import oauth2
from fakes.oauth2 import CLIENT_ID, CLIENT_SECRET
from fakes.server import Answer, Arrived, Host, Platform, Refused
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

    def _token(self, arrived: Arrived) -> Answer:
        oauth2.expect_post(arrived, TOKEN_PATH)
        fields = oauth2.form(arrived)
        oauth2.expect_grant(fields)
        if (fields.get("client_id"), fields.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET):
            raise _fault(401)
        return oauth2.bearer_answer(self.tokens.issue(), id_token=None, refresh_token=None)

    def _call(self, arrived: Arrived) -> Answer:
        if self.tokens.find(oauth2.bearer(arrived)) is None:
            raise _fault(401)
        return Answer.json(200, {"messages": [], "page": 0})


def _fault(status: int) -> Refused:
    """Twilio's own form, without a code of RFC 6749."""
    body = {"code": 20003, "message": "Authenticate", "more_info": "https://www.twilio.com/docs/errors/20003"}
    return Refused(Answer.json(status, body | {"status": status}))
