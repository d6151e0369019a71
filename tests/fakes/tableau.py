"""Tableau: a personal access token signs in for a credentials token, which ends when the same one signs in again.

https://help.tableau.com/current/api/rest_api/en-us/REST/rest_api_concepts_auth.htm
https://help.tableau.com/current/api/rest_api/en-us/REST/rest_api_ref_authentication.htm
"""

from __future__ import annotations

import itertools

from fakes.server import FakeResponse, Host, Platform, ReceivedRequest, RefusedError, read_json
from support.private_ca import Authority

VERSION = "3.24"
SIGN_IN = f"/api/{VERSION}/auth/signin"
TOKEN_NAME = "sidekey"
TOKEN_SECRET = "qlE1g9MMh9vbrjjg==:rZTHhPpP2tUW1kfn4tjg8"
CONTENT_URL = "MarketingTeam"
SITE_ID = "9a8b7c6d-5e4f-3a2b-1c0d-9e8f7a6b5c4d"


class Tableau(Platform):
    """`async with Tableau(ca) as tableau`: a site's resources are below `/api/3.24/sites/SITE_ID/`."""

    def __init__(self, ca: Authority) -> None:
        self.issued: list[str] = []
        """Every credentials token, in order; the last is the one that is live."""
        self.live = ""
        self._numbers = itertools.count(1)
        self.server = Host("10ax.online.tableau.com", self._respond, switched=SIGN_IN)
        super().__init__(ca, self.server)

    def revoke(self) -> None:
        """End the session."""
        self.live = ""

    def _respond(self, received: ReceivedRequest) -> FakeResponse:
        return self._sign_in(received) if received.path == SIGN_IN else self._call(received)

    def _sign_in(self, received: ReceivedRequest) -> FakeResponse:
        if received.method != "POST":
            raise _error(405, "405000", "Method Not Allowed", "")
        # The default of request and response is XML.
        if received.value("accept") != "application/json":
            raise _error(406, "406000", "Not Acceptable", "this fake answers in JSON only")
        credentials = read_json(received)
        expected = {
            "personalAccessTokenName": TOKEN_NAME,
            "personalAccessTokenSecret": TOKEN_SECRET,
            "site": {"contentUrl": CONTENT_URL},
        }
        if credentials != {"credentials": expected}:
            raise _error(401, "401001", "Signin Error", "Error signing in to Tableau Server")
        # "You can't request concurrent Tableau sessions with a personal access token": a new one ends the one before.
        self.live = f"HvZMqFFfQQmOM4L-AZNIQA|5fI6T54OPK1Gn1p4w0RtHv6EkojWRTwq|{next(self._numbers)}"
        self.issued.append(self.live)
        credentials = {
            "site": {"id": SITE_ID, "contentUrl": CONTENT_URL},
            "user": {"id": "9f9e9d9c-8b8a-8f8e-7d7c-7b7a6f6d6e6d"},
            "token": self.live,
            "estimatedTimeToExpiration": "364:28:37",
        }
        return FakeResponse.json(200, {"credentials": credentials})

    def _call(self, received: ReceivedRequest) -> FakeResponse:
        if not self.live or received.value("x-tableau-auth") != self.live:
            raise _error(401, "401002", "Unauthorized Access", "Invalid authentication credentials were provided.")
        if not received.path.startswith(f"/api/{VERSION}/sites/{SITE_ID}/"):
            raise _error(404, "404000", "Resource Not Found", "")
        return FakeResponse.json(200, {"pagination": {"totalAvailable": "0"}, "workbooks": {}})


def _error(status: int, code: str, summary: str, detail: str) -> RefusedError:
    return RefusedError(FakeResponse.json(status, {"error": {"summary": summary, "detail": detail, "code": code}}))
