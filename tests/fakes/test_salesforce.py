"""The fake Salesforce: a token without a life, which opens the API of the same host."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from fakes.client import Client
from fakes.oauth2 import CLIENT_ID, CLIENT_SECRET
from fakes.salesforce import HOST, TOKEN_PATH, Salesforce
from support.ca import Authority

TOKEN = f"https://{HOST}{TOKEN_PATH}"
API = f"https://{HOST}/services/data/v66.0/query"
RIGHT = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}


@pytest.fixture
async def salesforce(ca: Authority) -> AsyncIterator[Salesforce]:
    """It runs."""
    async with Salesforce(ca) as fake:
        yield fake


@pytest.fixture
async def client(salesforce: Salesforce, ca: Authority) -> AsyncIterator[Client]:
    """It finds the org."""
    async with Client(ca, salesforce.api) as client:
        yield client


async def test_a_token_opens_the_api_until_its_session_ends(salesforce: Salesforce, client: Client) -> None:
    """The answer does not say when that is."""
    reply = await client.form(TOKEN, RIGHT)
    assert (reply.status, "expires_in" in reply.body) == (200, False)
    value = f"Bearer {reply.body['access_token']}"
    assert (await client.get(API, value)).status == 200
    assert (await client.get(f"https://{HOST}/other", value)).status == 404
    salesforce.tokens.revoke()
    refused = await client.get(API, value)
    assert (refused.status, refused.body[0]["errorCode"]) == (401, "INVALID_SESSION_ID")


@pytest.mark.parametrize("change", [{"client_secret": "wrong"}, {"client_id": "wrong"}])
async def test_a_wrong_client_is_refused(client: Client, change: dict[str, str]) -> None:
    """With RFC 6749 5.2's code."""
    reply = await client.form(TOKEN, RIGHT | change)
    assert (reply.status, reply.body["error"]) == (400, "invalid_client")
