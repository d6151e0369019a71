"""Oracle Responsys, REST API v1.3: a login server whose response contains the host of the API, and that host.

https://docs.oracle.com/en/cloud/saas/marketing/responsys-rest-api/Authentication.html
https://docs.oracle.com/en/cloud/saas/marketing/responsys-develop/API/GetStarted/FAQs/faqs-error-status-codes.htm
"""

from __future__ import annotations

import itertools
import time

from fakes import oauth2
from fakes.server import FakeResponse, Host, MinuteLimit, Platform, ReceivedRequest, RefusedError
from support.private_ca import Authority

USERNAME = "api_user"
PASSWORD = "pa ss&w+rd%=é"
LOGIN_PATH = "/rest/api/v1.3/auth/token"
PREFIX = "/rest/api/v1.3/"
UNVERSIONED = "/rest/api/ratelimit"

_TITLES = {
    "ACCOUNT_SUSPENDED": "Account suspended",
    "API_DISABLED_FOR_USER": "API disabled for user",
    "API_LIMIT_EXCEEDED": "Request limit exceeded",
    "INSUFFICIENT_ACCESS": "Insufficient access",
    "INVALID_PARAMETER": "Invalid request parameters",
    "INVALID_TOKEN": "Authentication token is not valid",
    "INVALID_USER_NAME_PASSWORD": "Invalid username or password",
    "RESOURCE_NOT_FOUND": "Resource not found",
    "UNEXPECTED_EXCEPTION": "Unexpected exception",
}


class Responsys(Platform):
    """`async with Responsys(ca) as responsys`: `api` serves what lies below PREFIX, and UNVERSIONED."""

    def __init__(
        self, ca: Authority, *, login: str = "login2.responsys.net", api: str = "api2-009.responsys.net"
    ) -> None:
        self.lifetime = 2 * 3600.0
        """Seconds; Oracle's pages say both two and three hours, and the response says nothing."""
        self.logins = MinuteLimit(10)
        """Right and wrong ones count."""
        self.refreshes = True
        """Switch off to have `auth_type=token` refused although the old token is valid."""
        self.complains_with_500 = False
        """Switch on for the recorded 500 to a call with a bad token, in place of 401 INVALID_TOKEN."""
        self.refuses_calls_with = ""
        """The errorCode of a 401 for each call with a valid token, such as API_LIMIT_EXCEEDED."""
        self.end_point = f"https://{api}"
        """`endPoint` in the response of the next login."""
        self.issued: list[str] = []
        """Every authToken, in order."""
        self._ends: dict[str, float] = {}
        """When each valid token is over, on the clock of time.monotonic."""
        self._numbers = itertools.count(1)
        self.login = Host(login, self._login)
        self.api = Host(api, self._call)
        super().__init__(ca, self.login, self.api)

    def revoke(self) -> None:
        """End every token issued so far."""
        self._ends.clear()

    def _login(self, received: ReceivedRequest) -> FakeResponse:
        if received.path != LOGIN_PATH or received.method != "POST":
            # "Every later call must go to endPoint": the login host knows no other resource.
            raise _fault(404, "RESOURCE_NOT_FOUND")
        # The credentials are never in the URL, and the body is a form.
        if received.query:
            raise _fault(400, "INVALID_PARAMETER", "Parameters are not accepted in the URL")
        try:
            fields = oauth2.form(received)
        except RefusedError:
            raise _fault(400, "INVALID_PARAMETER", "The body must be a form") from None
        if fields.get("auth_type") == "password":
            return self._with_password(received, fields)
        if fields.get("auth_type") == "token":
            return self._with_token(received, fields)
        raise _fault(400, "INVALID_PARAMETER", "auth_type is not valid")

    def _with_password(self, received: ReceivedRequest, fields: dict[str, str]) -> FakeResponse:
        if not self.logins.admits():
            raise _fault(401, "API_LIMIT_EXCEEDED", "The login limit of this account is reached")
        if set(fields) != {"auth_type", "user_name", "password"} or received.values("authorization"):
            raise _fault(400, "INVALID_PARAMETER", "A login has user_name, password and auth_type, and nothing else")
        if (fields["user_name"], fields["password"]) != (USERNAME, PASSWORD):
            raise _fault(400, "INVALID_USER_NAME_PASSWORD")
        return self._issue()

    def _with_token(self, received: ReceivedRequest, fields: dict[str, str]) -> FakeResponse:
        if set(fields) != {"auth_type"}:
            raise _fault(400, "INVALID_PARAMETER", "A refresh has auth_type alone in its body")
        if not self.refreshes or not self._is_valid(received):
            raise _fault(401, "INVALID_TOKEN", "The token cannot be refreshed")
        # The old token stays valid until its own end: calls with it may be under way.
        return self._issue()

    def _issue(self) -> FakeResponse:
        # Recorded tokens are of base64 with its signs.
        token = f"EWuLzZ+{next(self._numbers)}/Kx9Jf=="
        self._ends[token] = time.monotonic() + self.lifetime
        self.issued.append(token)
        body = {"authToken": token, "issuedAt": int(time.time() * 1000), "endPoint": self.end_point}
        return FakeResponse.json(200, body)

    def _is_valid(self, received: ReceivedRequest) -> bool:
        # The token is the whole value of Authorization: with a scheme word in front it is another one, and unknown.
        return time.monotonic() < self._ends.get(received.value("authorization") or "", 0)

    def _call(self, received: ReceivedRequest) -> FakeResponse:
        if not self._is_valid(received):
            if self.complains_with_500:
                raise _fault(500, "UNEXPECTED_EXCEPTION", "Not a valid authentication token")
            raise _fault(401, "INVALID_TOKEN", "Authentication token is not valid or has expired")
        if self.refuses_calls_with:
            # 401 is overloaded: these have nothing to do with the token.
            raise _fault(401, self.refuses_calls_with)
        if not (received.path.startswith(PREFIX) or received.path == UNVERSIONED):
            raise _fault(404, "RESOURCE_NOT_FOUND")
        return FakeResponse.json(200, {"campaigns": [], "links": []})


def _fault(status: int, code: str, detail: str = "") -> RefusedError:
    """Build an error of Responsys. `type` and `errorDetails` are reserved and empty."""
    title = _TITLES[code]
    body = {"type": "", "title": title, "errorCode": code, "detail": detail or title, "errorDetails": []}
    return RefusedError(FakeResponse.json(status, body))
