"""The fake Twilio: one token opens the products' hosts."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from fakes.client import Client
from fakes.oauth2 import CLIENT_ID, CLIENT_SECRET
from fakes.twilio import TOKEN_PATH, Twilio
from support.ca import Authority

TOKEN = f"https://oauth.twilio.com{TOKEN_PATH}"
RIGHT = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}


@pytest.fixture
async def twilio(ca: Authority) -> AsyncIterator[Twilio]:
    """It runs."""
    async with Twilio(ca) as fake:
        yield fake


@pytest.fixture
async def client(twilio: Twilio, ca: Authority) -> AsyncIterator[Client]:
    """It finds every host."""
    async with Client(ca, twilio.auth, twilio.api, twilio.messaging) as client:
        yield client


async def test_one_token_opens_every_product(twilio: Twilio, client: Client) -> None:
    """Until it is over."""
    reply = await client.form(TOKEN, RIGHT)
    assert (reply.status, reply.body["expires_in"], reply.body["refresh_token"]) == (200, 3600, None)
    value = f"Bearer {reply.body['access_token']}"
    for url in ("https://api.twilio.com/2010-04-01/Accounts.json", "https://messaging.twilio.com/v1/Services"):
        assert (await client.get(url, value)).status == 200
        assert (await client.get(url)).status == 401
    twilio.tokens.revoke()
    assert (await client.get("https://api.twilio.com/2010-04-01/Accounts.json", value)).body["code"] == 20003


async def test_a_wrong_client_is_refused_by_twilios_own_number(client: Client) -> None:
    """Without a code of RFC 6749."""
    reply = await client.form(TOKEN, RIGHT | {"client_secret": "wrong"})
    assert (reply.status, reply.body["code"], "error" in reply.body) == (401, 20003, False)
