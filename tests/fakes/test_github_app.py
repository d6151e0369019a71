"""The fake GitHub takes a JWT of the app for a token, and nothing else."""

from __future__ import annotations

import time
from typing import Any

import pytest
from joserfc.jwk import RSAKey

from fakes.client import Client
from fakes.github_app import CLIENT_ID, LOGIN, GitHubApp
from support.ca import Authority
from support.oauth import signer, stranger

HOST = "https://api.github.com"


def bearer(**claims: Any) -> str:
    """A JWT as an app signs it."""
    now = int(time.time())
    return f"Bearer {signer().sign({'iss': CLIENT_ID, 'iat': now - 30, 'exp': now + 300} | claims)}"


async def test_a_jwt_buys_a_token(ca: Authority) -> None:
    """201, with the time of its end."""
    async with GitHubApp(ca, RSAKey.import_key(signer().public_jwk)) as fake, Client(ca, fake.api) as client:
        reply = await client.form(f"{HOST}{LOGIN}", {}, bearer())
        assert (reply.status, reply.body["expires_at"][-1]) == (201, "Z")
        url = f"{HOST}/installation/repositories"
        assert (await client.get(url, f"Bearer {reply.body['token']}")).status == 200
        assert (await client.get(url, bearer())).status == 401


@pytest.mark.parametrize("claims", [{"iss": "other"}, {"exp": 9_999_999_999}, {"iat": 9_999_999_998}])
async def test_other_claims_are_refused(claims: dict[str, Any], ca: Authority) -> None:
    """And a key that is not the app's."""
    async with GitHubApp(ca, RSAKey.import_key(signer().public_jwk)) as fake, Client(ca, fake.api) as client:
        assert (await client.form(f"{HOST}{LOGIN}", {}, bearer(**claims))).status == 401
        assert (await client.form(f"{HOST}{LOGIN}", {}, f"Bearer {stranger().sign({'iss': CLIENT_ID})}")).status == 401
