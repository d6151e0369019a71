"""The fake commercetools: HTTP Basic alone, scopes of a project, tokens that may end before their time."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator

import pytest

from fakes.client import Client
from fakes.commercetools import PROJECT, Commercetools
from fakes.oauth2 import CLIENT_ID, CLIENT_SECRET
from support.ca import Authority
from support.oauth import basic

TOKEN = "https://auth.europe-west1.gcp.commercetools.com/oauth/token"
API = f"https://api.europe-west1.gcp.commercetools.com/{PROJECT}/orders"
GRANT = {"grant_type": "client_credentials"}
HEADER = basic(CLIENT_ID, CLIENT_SECRET)


@pytest.fixture
async def shop(ca: Authority) -> AsyncIterator[Commercetools]:
    """It runs, with one more scope than the API needs."""
    async with Commercetools(ca, scopes=f"manage_project:{PROJECT} view_orders:{PROJECT}") as fake:
        yield fake


@pytest.fixture
async def client(shop: Commercetools, ca: Authority) -> AsyncIterator[Client]:
    """It finds every host."""
    async with Client(ca, shop.auth, shop.api, shop.imports) as client:
        yield client


@pytest.mark.parametrize("scope", [None, f"manage_project:{PROJECT}"])
async def test_basic_gets_a_token_of_two_days(client: Client, scope: str | None) -> None:
    """With every scope, or with the one that was asked for."""
    reply = await client.form(TOKEN, GRANT | ({"scope": scope} if scope else {}), HEADER)
    assert (reply.status, reply.body["expires_in"]) == (200, 172_800)
    assert reply.body["scope"] == (scope or f"manage_project:{PROJECT} view_orders:{PROJECT}")
    assert (await client.get(API, f"Bearer {reply.body['access_token']}")).status == 200


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        basic(CLIENT_ID, "wrong"),
        basic("wrong", CLIENT_SECRET),
        f"Basic {b64encode(f'{CLIENT_ID}:{CLIENT_SECRET}'.encode()).decode()}",
    ],
)
async def test_without_the_right_basic_header_the_client_is_invalid(client: Client, authorization: str | None) -> None:
    """401 invalid_client with a Basic challenge; the last one lacks the form-encoding."""
    body = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    reply = await client.form(TOKEN, GRANT | body, authorization)
    assert (reply.status, reply.body["error"]) == (401, "invalid_client")
    assert reply.headers["WWW-Authenticate"].startswith("Basic ")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        (GRANT | {"client_secret": CLIENT_SECRET}, "invalid_request"),
        (GRANT | {"scope": "manage_project:other"}, "invalid_scope"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({}, "invalid_request"),
    ],
)
async def test_a_wrong_request_is_refused(client: Client, fields: dict[str, str], code: str) -> None:
    """Two methods of authentication, a scope that the client has not, another grant."""
    reply = await client.form(TOKEN, fields, HEADER)
    assert (reply.status, reply.body["error"]) == (400, code)


async def test_json_is_refused(client: Client) -> None:
    """The body is a form."""
    assert (await client.json(TOKEN, GRANT, HEADER)).status == 400


async def test_a_token_can_be_revoked_before_its_time(shop: Commercetools, client: Client) -> None:
    """401 with RFC 6750's challenge and commercetools' body."""
    token = (await client.form(TOKEN, GRANT, HEADER)).body["access_token"]
    shop.tokens.revoke()
    reply = await client.get(API, f"Bearer {token}")
    assert (reply.status, reply.body["errors"][0]["code"]) == (401, "invalid_token")
    assert 'error="invalid_token"' in reply.headers["WWW-Authenticate"]


async def test_a_token_without_the_scope_is_not_enough(client: Client) -> None:
    """403 insufficient_scope: in another project, or with a lesser scope."""
    lesser = await client.form(TOKEN, GRANT | {"scope": f"view_orders:{PROJECT}"}, HEADER)
    full = await client.form(TOKEN, GRANT, HEADER)
    for url, token in ((API, lesser), (API.replace(PROJECT, "other"), full)):
        reply = await client.get(url, f"Bearer {token.body['access_token']}")
        assert (reply.status, reply.body["error"]) == (403, "insufficient_scope")
