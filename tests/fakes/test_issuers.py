"""The fakes of platforms whose token endpoints say less, or otherwise, take what their pages show."""

from __future__ import annotations

from typing import Any

import pytest

from fakes.client import Client
from fakes.issuers import CROWDSTRIKE, INFOBIP, SHOPIFY, TRUSTPILOT, UPS, Issuer, Issuing
from fakes.oauth2 import CLIENT_ID, CLIENT_SECRET
from support.ca import Authority
from support.oauth import basic

ISSUERS = {"shopify": SHOPIFY, "infobip": INFOBIP, "trustpilot": TRUSTPILOT, "ups": UPS, "crowdstrike": CROWDSTRIKE}


async def asked(client: Client, issuer: Issuer, secret: str = CLIENT_SECRET) -> tuple[int, Any]:
    """Status and body of a token request, as the platform's page has it."""
    url = f"https://{issuer.host}{issuer.token_path}"
    fields = {"grant_type": "client_credentials"}
    if issuer.in_body:
        reply = await client.form(url, {**fields, "client_id": CLIENT_ID, "client_secret": secret})
    else:
        reply = await client.form(url, fields, basic(CLIENT_ID, secret))
    return reply.status, reply.body


@pytest.mark.parametrize("name", ISSUERS)
async def test_a_token_opens_the_api(name: str, ca: Authority) -> None:
    """In its own header; what the endpoint returns is as short as its page has it."""
    issuer = ISSUERS[name]
    async with Issuing(ca, issuer) as fake, Client(ca, fake.host) as client:
        status, body = await asked(client, issuer)
        assert (status, body.keys()) == (issuer.status, {"access_token", *issuer.said})
        url = f"https://{issuer.host}{issuer.api}x"
        header, before = issuer.placement
        if header == "authorization":
            assert (await client.get(url, f"{before}{body['access_token']}")).status == 200
        assert (await client.get(url, "Bearer unknown")).status == 401
        assert (await client.get(f"https://{issuer.host}/other")).status == 401


@pytest.mark.parametrize("name", ISSUERS)
async def test_a_wrong_secret_gets_no_token(name: str, ca: Authority) -> None:
    """And the platform's own error."""
    issuer = ISSUERS[name]
    async with Issuing(ca, issuer) as fake, Client(ca, fake.host) as client:
        assert await asked(client, issuer, "wrong") == issuer.refusal
        assert fake.tokens.issued == []
