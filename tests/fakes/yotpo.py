"""Yotpo's Core API: the secret of a store is exchanged for a token without a lifetime.

https://core-api.yotpo.com/reference/yotpo-authentication
"""

from __future__ import annotations

from fakes import oauth2
from fakes.server import FakeResponse, Host, Platform, ReceivedRequest, RefusedError, read_json
from support.private_ca import Authority

STORE_ID = "rvR3359XuCuuuEgCgcHNrQ9TE8zwC5dMzWMULHZm"
API_SECRET = "yvT2kQ0m8b/+&=Zc"
STORE = f"/core/v3/stores/{STORE_ID}"
LOGIN = f"{STORE}/access_tokens"


class Yotpo(Platform):
    """`async with Yotpo(ca) as yotpo`: the API is below the store."""

    def __init__(self, ca: Authority) -> None:
        self.tokens = oauth2.Tokens(expires_in=14 * 86_400)
        self.host = Host("api.yotpo.com", self._respond, switched=LOGIN)
        super().__init__(ca, self.host)

    def _respond(self, received: ReceivedRequest) -> FakeResponse:
        if received.path == LOGIN:
            if received.method != "POST" or read_json(received) != {"secret": API_SECRET}:
                raise _error(401, "Unauthorized")
            return FakeResponse.json(200, {"access_token": self.tokens.issue().value})
        if self.tokens.find(received.value("x-yotpo-token") or "") is None:
            raise _error(401, "Invalid access token")
        if not received.path.startswith(f"{STORE}/"):
            raise _error(404, "Not found")
        return FakeResponse.json(200, {"orders": []})


def _error(status: int, message: str) -> RefusedError:
    return RefusedError(FakeResponse.json(status, {"errors": [{"message": message, "code": status}]}))
