"""The fake Salesforce Marketing Cloud: JSON, a learnt API host, tokens without permissions, a limit on tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from fakes.client import Client
from fakes.oauth2 import CLIENT_ID, CLIENT_SECRET
from fakes.salesforce_marketing_cloud import ACCOUNT_ID, SUBDOMAIN, SalesforceMarketingCloud
from support.ca import Authority
from support.oauth import basic

TOKEN = f"https://{SUBDOMAIN}.auth.marketingcloudapis.com/v2/token"
RIGHT: dict[str, Any] = {
    "grant_type": "client_credentials",
    "client_id": CLIENT_ID,
    "client_secret": CLIENT_SECRET,
}


@pytest.fixture
async def cloud(ca: Authority) -> AsyncIterator[SalesforceMarketingCloud]:
    """It runs; its API is where only the response says."""
    async with SalesforceMarketingCloud(ca, rest_subdomain="elsewhere") as fake:
        yield fake


@pytest.fixture
async def client(cloud: SalesforceMarketingCloud, ca: Authority) -> AsyncIterator[Client]:
    """It finds both hosts."""
    async with Client(ca, cloud.auth, cloud.rest) as client:
        yield client


@pytest.mark.parametrize("more", [{}, {"account_id": ACCOUNT_ID}, {"account_id": str(ACCOUNT_ID)}])
async def test_a_json_request_gets_a_token_and_the_base_url_of_the_api(client: Client, more: dict[str, Any]) -> None:
    """account_id as a number, as documented, or a string, as public examples have it."""
    reply = await client.json(TOKEN, RIGHT | more)
    assert (reply.status, reply.body["expires_in"]) == (200, 1079)
    assert reply.body["rest_instance_url"] == "https://elsewhere.rest.marketingcloudapis.com/"
    url = f"{reply.body['rest_instance_url']}asset/v1/content/assets"
    assert (await client.get(url, f"Bearer {reply.body['access_token']}")).status == 200


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_id": "wrong"}, 401, "invalid_client"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"account_id": 1}, 400, "invalid_request"),
        ({"account_id": True}, 400, "invalid_request"),
        ({"scope": "journeys_read"}, 400, "invalid_scope"),
        ({"scope": 5}, 400, "invalid_scope"),
    ],
)
async def test_a_wrong_parameter_is_refused(client: Client, change: dict[str, Any], status: int, code: str) -> None:
    """With the codes of RFC 6749 5.2."""
    reply = await client.json(TOKEN, RIGHT | change)
    assert (reply.status, reply.body["error"]) == (status, code)


async def test_other_ways_to_say_the_same_are_refused(client: Client) -> None:
    """A form, or HTTP Basic."""
    form = await client.form(TOKEN, RIGHT)
    header = await client.json(TOKEN, RIGHT, basic(CLIENT_ID, CLIENT_SECRET))
    assert [reply.body["error"] for reply in (form, header)] == ["invalid_request"] * 2


async def test_an_empty_scope_gets_a_token_that_is_good_for_nothing(client: Client) -> None:
    """200 for the token, 403 for the call; a scope that is left out means those of the package."""
    for request, scope, status in (({"scope": ""}, "", 403), ({}, "email_read email_send", 200)):
        body = (await client.json(TOKEN, RIGHT | request)).body
        assert body["scope"] == scope
        assert (await client.get(body["rest_instance_url"], f"Bearer {body['access_token']}")).status == status


async def test_a_bad_token_is_refused(cloud: SalesforceMarketingCloud, client: Client) -> None:
    """401, whether unknown or revoked."""
    body = (await client.json(TOKEN, RIGHT)).body
    cloud.tokens.revoke()
    for value in (None, "Bearer unknown", f"Bearer {body['access_token']}"):
        reply = await client.get(body["rest_instance_url"], value)
        assert (reply.status, reply.body["message"]) == (401, "Not Authorized")


async def test_one_token_request_too_many_is_told_to_wait(cloud: SalesforceMarketingCloud, client: Client) -> None:
    """429 with Retry-After; wrong requests count too."""
    cloud.requests.limit = 2
    replies = [await client.json(TOKEN, request) for request in (RIGHT, {}, RIGHT)]
    assert [reply.status for reply in replies] == [200, 400, 429]
    assert replies[-1].headers["Retry-After"] == "60"
    assert len(cloud.tokens.issued) == 1
