"""Yotpo's Core API: the secret of a store is exchanged for a token without a lifetime.

https://core-api.yotpo.com/reference/yotpo-authentication
"""

from __future__ import annotations

from fakes import oauth2
from fakes.server import Answer, Arrived, Host, Platform, Refused, read_json
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

    def _respond(self, arrived: Arrived) -> Answer:
        if arrived.path == LOGIN:
            if arrived.method != "POST" or read_json(arrived) != {"secret": API_SECRET}:
                raise _error(401, "Unauthorized")
            return Answer.json(200, {"access_token": self.tokens.issue().value})
        if self.tokens.find(arrived.value("x-yotpo-token") or "") is None:
            raise _error(401, "Invalid access token")
        if not arrived.path.startswith(f"{STORE}/"):
            raise _error(404, "Not found")
        return Answer.json(200, {"orders": []})


def _error(status: int, message: str) -> Refused:
    return Refused(Answer.json(status, {"errors": [{"message": message, "code": status}]}))
