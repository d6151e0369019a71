"""Toast: a login with the client's ID and secret in JSON returns a bearer token that is valid for a day.

https://doc.toasttab.com/doc/devguide/authentication.html
"""

from __future__ import annotations

import time

from fakes import oauth2
from fakes.oauth2 import CLIENT_ID, CLIENT_SECRET
from fakes.server import FakeResponse, Host, MinuteLimit, Platform, ReceivedRequest, RefusedError, read_json
from support.private_ca import Authority

LOGIN = "/authentication/v1/authentication/login"
RESTAURANT = "d3b5a1e0-0000-4000-8000-000000000001"


class Toast(Platform):
    """`async with Toast(ca) as toast`: anything below `/orders/v2/` is the API, of one restaurant."""

    def __init__(self, ca: Authority) -> None:
        self.tokens = oauth2.Tokens(expires_in=86400)
        self.logins = MinuteLimit(20)
        """Right and wrong ones count."""
        self.host = Host("ws-api.toasttab.com", self._respond, switched=LOGIN)
        super().__init__(ca, self.host)

    def _respond(self, received: ReceivedRequest) -> FakeResponse:
        return self._login(received) if received.path == LOGIN else self._call(received)

    def _login(self, received: ReceivedRequest) -> FakeResponse:
        if not self.logins.admits():
            raise _error(429, 10009, "Too many requests")
        if received.method != "POST" or received.query:
            raise _error(405, 10005, "Method not allowed")
        expected = {"clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET, "userAccessType": "TOAST_MACHINE_CLIENT"}
        if read_json(received) != expected:
            raise _error(401, 10010, "Unauthorized")
        token = self.tokens.issue()
        life = round(token.expires_at - time.monotonic())
        issued = {"tokenType": "Bearer", "scope": None, "expiresIn": life, "accessToken": token.value, "idToken": None}
        return FakeResponse.json(200, {"@class": ".SuccessfulResponse", "token": issued, "status": "SUCCESS"})

    def _call(self, received: ReceivedRequest) -> FakeResponse:
        if self.tokens.find(oauth2.bearer(received)) is None:
            raise _error(401, 10010, "Full authentication is required to access this resource")
        # The restaurant is the caller's to name.
        if received.value("toast-restaurant-external-id") != RESTAURANT:
            raise _error(403, 10019, "Access to this restaurant is not allowed")
        if not received.path.startswith("/orders/v2/"):
            raise _error(404, 10004, "Not found")
        return FakeResponse.json(200, [])


def _error(status: int, code: int, message: str) -> RefusedError:
    return RefusedError(FakeResponse.json(status, {"status": status, "code": code, "message": message}))
