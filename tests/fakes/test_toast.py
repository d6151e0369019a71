"""The fake Toast takes the documented login, and a restaurant beside the token."""

from __future__ import annotations

from fakes.client import Client
from fakes.oauth2 import CLIENT_ID, CLIENT_SECRET
from fakes.toast import LOGIN, RESTAURANT, Toast
from support.ca import Authority

HOST = "https://ws-api.toasttab.com"
RIGHT = {"clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET, "userAccessType": "TOAST_MACHINE_CLIENT"}


async def test_a_login_brings_a_token_of_a_day(ca: Authority) -> None:
    """The documented request and response; a wrong secret is refused, and so is one login too many."""
    async with Toast(ca) as fake, Client(ca, fake.host) as client:
        reply = await client.json(f"{HOST}{LOGIN}", RIGHT)
        assert (reply.status, reply.body["token"]["expiresIn"]) == (200, 86400)
        token = f"Bearer {reply.body['token']['accessToken']}"
        orders = f"{HOST}/orders/v2/ordersBulk"
        restaurant = {"Toast-Restaurant-External-ID": RESTAURANT}
        assert (await client.get(orders, token, **restaurant)).status == 200
        assert (await client.get(orders, token)).status == 403
        assert (await client.get(orders, **restaurant)).status == 401
        assert (await client.json(f"{HOST}{LOGIN}", {**RIGHT, "clientSecret": "x"})).status == 401
        fake.logins.limit = 2
        assert (await client.json(f"{HOST}{LOGIN}", RIGHT)).status == 429
