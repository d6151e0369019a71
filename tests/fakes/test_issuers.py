"""The fakes of platforms whose token endpoints say less, or otherwise, take what their pages show."""

from __future__ import annotations

from typing import Any

import pytest

from fakes.client import Client
from fakes.issuers import (
    AKENEO,
    ARIBA,
    CROWDSTRIKE,
    EBAY,
    INFOBIP,
    SHOPIFY,
    TRUSTPILOT,
    UPS,
    ZOOM,
    Issuer,
    Issuing,
)
from fakes.oauth2 import CLIENT_ID, CLIENT_SECRET
from support.ca import Authority
from support.oauth import basic

ISSUERS = {
    "akeneo": AKENEO,
    "crowdstrike": CROWDSTRIKE,
    "ebay": EBAY,
    "infobip": INFOBIP,
    "sap-ariba": ARIBA,
    "shopify": SHOPIFY,
    "trustpilot": TRUSTPILOT,
    "ups": UPS,
    "zoom": ZOOM,
}


async def asked(client: Client, issuer: Issuer, secret: str = CLIENT_SECRET, **more: str) -> tuple[int, Any]:
    """Status and body of a token request, as the platform's page has it, but for `more`."""
    url = f"https://{issuer.host}{issuer.token_path}"
    fields = {**issuer.asked, **more}
    if issuer.in_body:
        reply = await client.form(url, {**fields, "client_id": CLIENT_ID, "client_secret": secret})
    else:
        ask = client.json if issuer.is_json else client.form
        reply = await ask(url, fields, basic(CLIENT_ID, secret))
    return reply.status, reply.body


@pytest.mark.parametrize("name", ISSUERS)
async def test_a_token_opens_the_api(name: str, ca: Authority) -> None:
    """In its own header; what the endpoint returns is as short as its page has it."""
    issuer = ISSUERS[name]
    async with Issuing(ca, issuer) as fake, Client(ca, fake.host, fake.api) as client:
        status, body = await asked(client, issuer)
        assert (status, body.keys()) == (issuer.status, {"access_token", *issuer.said})
        url = f"https://{fake.api.name}{issuer.api}x"
        header, before = issuer.placement
        if header == "authorization":
            token = f"{before}{body['access_token']}"
            assert (await client.get(url, token, **issuer.further)).status == 200
            assert (await client.get(url, token)).status == (401 if issuer.further else 200)
        assert (await client.get(url, "Bearer unknown", **issuer.further)).status == 401
        assert (await client.get(f"https://{fake.api.name}/other")).status == 401


@pytest.mark.parametrize("name", ISSUERS)
async def test_a_wrong_secret_gets_no_token(name: str, ca: Authority) -> None:
    """And the platform's own error."""
    issuer = ISSUERS[name]
    async with Issuing(ca, issuer) as fake, Client(ca, fake.host) as client:
        assert await asked(client, issuer, "wrong") == issuer.refusal
        assert fake.tokens.issued == []


@pytest.mark.parametrize("name", ["akeneo", "ebay", "sap-ariba", "zoom"])
async def test_whoever_asks_otherwise_gets_no_token(name: str, ca: Authority) -> None:
    """By another grant, or with a parameter of another value, or too many."""
    issuer = ISSUERS[name]
    async with Issuing(ca, issuer) as fake, Client(ca, fake.host) as client:
        wrong = [{key: "wrong"} for key in issuer.asked]
        for more in (*wrong, {"further": "x"}):
            status, body = await asked(client, issuer, **more)
            assert (status, body.get("access_token")) == (400, None)
        assert fake.tokens.issued == []
