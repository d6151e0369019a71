"""GitHub Apps: a JWT of the app is exchanged for an installation's access token, in a 201 with its expiry.

https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-json-web-token-jwt-for-a-github-app
https://docs.github.com/en/rest/apps/apps#create-an-installation-access-token-for-an-app
"""

from __future__ import annotations

import itertools
import time
from datetime import UTC, datetime

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from fakes import oauth2
from fakes.server import FakeResponse, Host, Platform, ReceivedRequest, RefusedError
from support.private_ca import Authority

CLIENT_ID = "Iv23liABCDEFGHIJKLMN"
INSTALLATION = 41234567
LOGIN = f"/app/installations/{INSTALLATION}/access_tokens"
LONGEST = 600
"""Seconds: "the expiration time must be no more than 10 minutes into the future"."""


class GitHubApp(Platform):
    """`async with GitHubApp(ca, public) as github`: `/installation/repositories` is the API."""

    def __init__(self, ca: Authority, public: RSAKey) -> None:
        self.lifetime = 3600
        self.tokens = oauth2.Tokens(expires_in=self.lifetime)
        self._public = public
        self._numbers = itertools.count(1)
        self.api = Host("api.github.com", self._respond, switched=LOGIN)
        super().__init__(ca, self.api)

    def _respond(self, received: ReceivedRequest) -> FakeResponse:
        if not received.values("user-agent"):
            raise _error(
                403, "Request forbidden by administrative rules. Please make sure your request has a User-Agent"
            )
        return self._login(received) if received.path == LOGIN else self._call(received)

    def _login(self, received: ReceivedRequest) -> FakeResponse:
        if received.method != "POST" or received.body:
            raise _error(400, "Problems parsing JSON")
        try:
            token = jwt.decode(oauth2.bearer(received), self._public, algorithms=["RS256"])
        except (JoseError, ValueError):
            raise _error(401, "A JSON web token could not be decoded") from None
        claims, now = token.claims, time.time()
        if claims.get("iss") != CLIENT_ID or not claims["iat"] <= now < claims["exp"] <= now + LONGEST:
            raise _error(401, "'Expiration time' claim ('exp') is too far in the future")
        issued = self.tokens.issue()
        ends = datetime.fromtimestamp(int(now) + self.lifetime, UTC)
        document = {"token": issued.value, "expires_at": f"{ends:%Y-%m-%dT%H:%M:%SZ}", "repository_selection": "all"}
        return FakeResponse.json(201, {**document, "permissions": {"contents": "read"}})

    def _call(self, received: ReceivedRequest) -> FakeResponse:
        if self.tokens.find(oauth2.bearer(received)) is None:
            raise _error(401, "Bad credentials")
        if received.path != "/installation/repositories":
            raise _error(404, "Not Found")
        return FakeResponse.json(200, {"total_count": 0, "repositories": []})


def _error(status: int, message: str) -> RefusedError:
    return RefusedError(FakeResponse.json(status, {"message": message, "status": str(status)}))
