"""The fake Contentsquare takes JSON, answers the cloud's base URL, and serves it there."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from fakes.client import Client
from fakes.contentsquare import CLOUD, TOKEN_PATH, Contentsquare
from fakes.oauth2 import CLIENT_ID, CLIENT_SECRET
from support.ca import Authority

TOKEN = f"https://api.contentsquare.com{TOKEN_PATH}"
RIGHT = {
    "grant_type": "client_credentials",
    "client_id": CLIENT_ID,
    "client_secret": CLIENT_SECRET,
    "scope": "data-export",
}


@pytest.fixture
async def contentsquare(ca: Authority) -> AsyncIterator[Contentsquare]:
    """It runs."""
    async with Contentsquare(ca) as fake:
        yield fake


@pytest.fixture
async def client(contentsquare: Contentsquare, ca: Authority) -> AsyncIterator[Client]:
    """It finds every host."""
    async with Client(ca, contentsquare.auth, contentsquare.cloud, contentsquare.other) as client:
        yield client


async def test_a_token_opens_the_endpoint_that_comes_with_it(contentsquare: Contentsquare, client: Client) -> None:
    """Until it is over."""
    reply = await client.json(TOKEN, RIGHT)
    assert (reply.status, reply.body["expires_in"], reply.body["endpoint"]) == (200, 3600, f"https://{CLOUD}")
    value = f"Bearer {reply.body['access_token']}"
    assert (await client.get(f"https://{CLOUD}/v1/exports", value)).status == 200
    contentsquare.tokens.revoke()
    refused = await client.get(f"https://{CLOUD}/v1/exports", value)
    assert (refused.status, refused.body["errorCode"]) == (401, "JWT_EXPIRED")


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"scope": "everything"}, 400, "invalid_scope"),
        ({"scope": None}, 400, "invalid_scope"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
    ],
)
async def test_a_wrong_parameter_is_refused(client: Client, change: dict[str, str], status: int, code: str) -> None:
    """With RFC 6749 5.2's code; so is a form."""
    reply = await client.json(TOKEN, RIGHT | change)
    assert (reply.status, reply.body["error"]) == (status, code)
    assert (await client.form(TOKEN, RIGHT)).status == 400
