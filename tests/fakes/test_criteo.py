"""The fake Criteo takes what Criteo's page shows, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from fakes.client import Client
from fakes.criteo import Criteo
from fakes.oauth2 import CLIENT_ID, CLIENT_SECRET
from support.ca import Authority
from support.oauth import basic

TOKEN = "https://api.criteo.com/oauth2/token"
API = "https://api.criteo.com/2026-01/advertisers/me"
RIGHT = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}


@pytest.fixture
async def criteo(ca: Authority) -> AsyncIterator[Criteo]:
    """It runs."""
    async with Criteo(ca) as fake:
        yield fake


@pytest.fixture
async def client(criteo: Criteo, ca: Authority) -> AsyncIterator[Client]:
    """It finds Criteo."""
    async with Client(ca, criteo.api) as client:
        yield client


async def test_a_token_of_900_seconds_opens_the_api_of_the_same_host(client: Client) -> None:
    """The documented request and answer."""
    reply = await client.form(TOKEN, RIGHT)
    assert reply.status == 200
    assert (reply.body["token_type"], reply.body["expires_in"]) == ("Bearer", 900)
    assert (await client.get(API, f"Bearer {reply.body['access_token']}")).status == 200


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"client_secret": "wrong"}, "invalid_client"),
        ({"client_secret": ""}, "invalid_client"),
        ({"client_id": "wrong"}, "invalid_client"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
    ],
)
async def test_a_wrong_parameter_is_refused(client: Client, change: dict[str, str], code: str) -> None:
    """With RFC 6749 5.2's code, and no token is issued."""
    reply = await client.form(TOKEN, RIGHT | change)
    assert (reply.status, reply.body["error"]) == (400, code)


async def test_other_ways_to_say_the_same_are_refused(criteo: Criteo, client: Client) -> None:
    """A JSON body, HTTP Basic alone or besides, and parameters in the query."""
    header = basic(CLIENT_ID, CLIENT_SECRET)
    replies = [
        await client.json(TOKEN, RIGHT),
        await client.form(TOKEN, {"grant_type": "client_credentials"}, header),
        await client.form(TOKEN, RIGHT, header),
        await client.form(f"{TOKEN}?grant_type=client_credentials", RIGHT),
    ]
    assert [(reply.status, reply.body["error"]) for reply in replies] == [(400, "invalid_request")] * 4
    assert criteo.tokens.issued == []


@pytest.mark.parametrize("authorization", [None, "Bearer unknown", "Basic YTpi", "bearer {}", "{}"])
async def test_the_api_refuses_whatever_is_no_bearer_token(client: Client, authorization: str | None) -> None:
    """401 as RFC 6750 3.1 says it."""
    body: dict[str, Any] = (await client.form(TOKEN, RIGHT)).body
    reply = await client.get(API, authorization and authorization.format(body["access_token"]))
    assert (reply.status, reply.headers["WWW-Authenticate"]) == (401, 'Bearer error="invalid_token"')


async def test_expired_and_revoked_tokens_are_refused(criteo: Criteo, client: Client) -> None:
    """401 on expiry."""
    value = f"Bearer {(await client.form(TOKEN, RIGHT)).body['access_token']}"
    criteo.tokens.revoke()
    assert (await client.get(API, value)).status == 401
    criteo.tokens.expires_in = 0
    value = f"Bearer {(await client.form(TOKEN, RIGHT)).body['access_token']}"
    assert (await client.get(API, value)).status == 401


async def test_other_paths_do_not_exist(client: Client) -> None:
    """Only the token endpoint and the API do."""
    value = f"Bearer {(await client.form(TOKEN, RIGHT)).body['access_token']}"
    assert (await client.get("https://api.criteo.com/other", value)).status == 404
    assert (await client.get(TOKEN, value)).status == 405
