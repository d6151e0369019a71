"""The fake Yotpo takes the secret of its store, and the token in its own header alone."""

from __future__ import annotations

from fakes.client import Client
from fakes.yotpo import API_SECRET, LOGIN, STORE, Yotpo
from support.ca import Authority

HOST = "https://api.yotpo.com"


async def test_a_login_brings_a_token_and_nothing_else(ca: Authority) -> None:
    """Which opens the store; a wrong secret is refused."""
    async with Yotpo(ca) as fake, Client(ca, fake.host) as client:
        assert (await client.json(f"{HOST}{LOGIN}", {"secret": "x"})).status == 401
        reply = await client.json(f"{HOST}{LOGIN}", {"secret": API_SECRET})
        assert (reply.status, [*reply.body]) == (200, ["access_token"])
        token = reply.body["access_token"]
        assert (await client.get(f"{HOST}{STORE}/orders", **{"X-Yotpo-Token": token})).status == 200
        assert (await client.get(f"{HOST}{STORE}/orders", f"Bearer {token}")).status == 401
        assert (await client.get(f"{HOST}/core/v3/stores/x/orders", **{"X-Yotpo-Token": token})).status == 404
