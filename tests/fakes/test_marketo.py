"""The fake Marketo: one token until it dies, by GET or POST, and 200 for every answer of the API."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from fakes.client import Client
from fakes.marketo import HOST, TOKEN_PATH, Marketo
from fakes.oauth2 import CLIENT_ID, CLIENT_SECRET
from support.ca import Authority

ROOT = f"https://{HOST}"
RIGHT = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}


@pytest.fixture
async def marketo(ca: Authority) -> AsyncIterator[Marketo]:
    """It runs."""
    async with Marketo(ca) as fake:
        yield fake


@pytest.fixture
async def client(marketo: Marketo, ca: Authority) -> AsyncIterator[Client]:
    """It finds the instance."""
    async with Client(ca, marketo.api) as client:
        yield client


async def test_the_same_token_comes_until_it_dies(marketo: Marketo, client: Client) -> None:
    """With its remaining life in whole seconds, and by either method."""
    first = await client.form(ROOT + TOKEN_PATH, RIGHT)
    second = await client.get(
        f"{ROOT}{TOKEN_PATH}?grant_type=client_credentials&client_id={CLIENT_ID}&client_secret=s3cret%2F%2B%20%26%3D%25%3A~"
    )
    assert first.body["access_token"] == second.body["access_token"]
    assert first.body["expires_in"] == second.body["expires_in"] == 3599
    marketo.tokens.revoke()
    assert (await client.form(ROOT + TOKEN_PATH, RIGHT)).body["access_token"] != first.body["access_token"]


async def test_a_token_in_its_last_second_lives_for_zero(marketo: Marketo, client: Client) -> None:
    """It is still the one that is answered."""
    marketo.tokens.expires_in = 1
    assert (await client.form(ROOT + TOKEN_PATH, RIGHT)).body["expires_in"] == 0


@pytest.mark.parametrize("change", [{"client_secret": "wrong"}, {"client_id": "wrong"}])
async def test_a_wrong_client_is_refused(client: Client, change: dict[str, str]) -> None:
    """401 with RFC 6749 5.2's code; a grant of another type is refused as well."""
    reply = await client.form(ROOT + TOKEN_PATH, RIGHT | change)
    assert (reply.status, reply.body["error"]) == (401, "invalid_client")
    assert (await client.form(ROOT + TOKEN_PATH, RIGHT | {"grant_type": "password"})).status == 400


async def test_the_api_tells_bad_tokens_under_status_200(marketo: Marketo, client: Client) -> None:
    """601 for an unknown token, 602 for one that has ended."""
    value = f"Bearer {(await client.form(ROOT + TOKEN_PATH, RIGHT)).body['access_token']}"
    assert (await client.get(f"{ROOT}/rest/v1/leads.json", value)).body["success"]
    assert (await client.get(f"{ROOT}/other", value)).status == 404
    marketo.tokens.revoke()
    for token, code in ((value, "602"), ("Bearer unknown", "601"), (None, "601")):
        reply = await client.get(f"{ROOT}/rest/v1/leads.json", token)
        assert (reply.status, reply.body["errors"][0]["code"]) == (200, code)
