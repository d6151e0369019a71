"""The fake Listrak: token and API on different hosts, and a pause that stops tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from fakes.client import Client
from fakes.listrak import Listrak
from fakes.oauth2 import CLIENT_ID, CLIENT_SECRET
from support.ca import Authority
from support.oauth import basic

TOKEN = "https://auth.listrak.com/OAuth2/Token"
API = "https://api.listrak.com/email/v1/List"
RIGHT = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}


@pytest.fixture
async def listrak(ca: Authority) -> AsyncIterator[Listrak]:
    """It runs."""
    async with Listrak(ca) as fake:
        yield fake


@pytest.fixture
async def client(listrak: Listrak, ca: Authority) -> AsyncIterator[Client]:
    """It finds both hosts."""
    async with Client(ca, listrak.auth, listrak.api) as client:
        yield client


async def test_a_token_of_one_host_opens_the_other(listrak: Listrak, client: Client) -> None:
    """The documented request; each host recorded its own part."""
    reply = await client.form(TOKEN, RIGHT)
    assert (reply.status, reply.body["token_type"]) == (200, "Bearer")
    assert (await client.get(API, f"Bearer {reply.body['access_token']}")).status == 200
    assert [len(listrak.auth.received), len(listrak.api.received)] == [1, 1]


async def test_a_paused_integration_gets_no_token(listrak: Listrak, client: Client) -> None:
    """Until it goes on. What was issued before stays valid."""
    before = (await client.form(TOKEN, RIGHT)).body["access_token"]
    listrak.paused = True
    reply = await client.form(TOKEN, RIGHT)
    assert (reply.status, reply.body["error"]) == (400, "invalid_client")
    assert (await client.get(API, f"Bearer {before}")).status == 200
    listrak.paused = False
    assert (await client.form(TOKEN, RIGHT)).status == 200


async def test_other_requests_for_a_token_are_refused(client: Client) -> None:
    """JSON, HTTP Basic, wrong credentials; and each host serves its own paths only."""
    header = basic(CLIENT_ID, CLIENT_SECRET)
    replies = [
        await client.json(TOKEN, RIGHT),
        await client.form(TOKEN, RIGHT, header),
        await client.form(TOKEN, {"grant_type": "client_credentials"}, header),
        await client.form(TOKEN, RIGHT | {"client_secret": "wrong"}),
        await client.form(TOKEN, RIGHT | {"client_id": "wrong"}),
    ]
    assert [reply.status for reply in replies] == [400] * 5
    assert (await client.form("https://auth.listrak.com/email/v1/List", RIGHT)).status == 404


async def test_a_bad_token_is_refused(listrak: Listrak, client: Client) -> None:
    """Unknown or revoked: 401 with a challenge."""
    token = (await client.form(TOKEN, RIGHT)).body["access_token"]
    listrak.tokens.revoke()
    for value in (None, "Bearer unknown", f"Bearer {token}"):
        reply = await client.get(API, value)
        assert (reply.status, reply.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert reply.body["error"] == "ERROR_UNAUTHORIZED"


async def test_what_is_no_api_path_does_not_exist(client: Client) -> None:
    """Even with a token."""
    token = (await client.form(TOKEN, RIGHT)).body["access_token"]
    assert (await client.get("https://api.listrak.com/OAuth2/Token", f"Bearer {token}")).status == 404
