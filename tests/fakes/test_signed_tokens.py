"""The fakes that verify JWTs take one as the platform's page has it, and no other."""

from __future__ import annotations

import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from fakes import signed_tokens
from fakes.client import Client
from fakes.signed_tokens import AppStoreConnect, Ghost, Snowflake
from support.ca import Authority
from support.oauth import signer, stranger


@pytest.mark.parametrize(
    ("claims", "header", "secret", "status"),
    [
        ({}, {}, signed_tokens.GHOST_SECRET, 200),
        ({}, {"kid": "other"}, signed_tokens.GHOST_SECRET, 401),
        ({}, {}, "00" * 32, 401),
        ({"aud": "/content/"}, {}, signed_tokens.GHOST_SECRET, 401),
        ({"iat": -301, "exp": 60}, {}, signed_tokens.GHOST_SECRET, 401),
    ],
)
async def test_ghost(claims: dict[str, Any], header: dict[str, str], secret: str, status: int, ca: Authority) -> None:
    """By its secret, its ID, its audience, and how old it is."""
    now = int(time.time())
    times = {"iat": now + claims.get("iat", 0), "exp": now + claims.get("exp", 300)}
    token = jwt.encode(
        {"aud": "/admin/", **claims, **times}, bytes.fromhex(secret), "HS256", {"kid": signed_tokens.GHOST_ID, **header}
    )
    async with Ghost(ca) as fake, Client(ca, fake.host) as client:
        url = f"https://{fake.host.name}{fake.api}"
        assert (await client.get(url, f"Ghost {token}")).status == status
        assert (await client.get(url, f"Bearer {token}")).status == 401
        assert (await client.get(url, "Ghost none")).status == 400


APPLE = {"iss": signed_tokens.ISSUER_ID, "aud": "appstoreconnect-v1"}


@pytest.mark.parametrize(
    ("claims", "key_id", "life", "status"),
    [
        ({}, signed_tokens.KEY_ID, 1190, 200),
        ({}, signed_tokens.KEY_ID, 1300, 401),
        ({}, "other", 600, 401),
        ({"iss": "other"}, signed_tokens.KEY_ID, 600, 401),
        ({"aud": "other"}, signed_tokens.KEY_ID, 600, 401),
    ],
)
async def test_app_store_connect(claims: dict[str, str], key_id: str, life: int, status: int, ca: Authority) -> None:
    """By the team, its key, its audience, and the end of the token."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = int(time.time())
    token = jwt.encode({**APPLE, **claims, "iat": now, "exp": now + life}, key, "ES256", {"kid": key_id})
    async with AppStoreConnect(ca, key.public_key()) as fake, Client(ca, fake.host) as client:
        assert (await client.get(f"https://{fake.host.name}{fake.api}", f"Bearer {token}")).status == status


async def test_snowflake(ca: Authority) -> None:
    """By the fingerprint of the user's key, and an hour of life."""
    public = signer().certificate.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    now = int(time.time())
    async with Snowflake(ca, public) as fake, Client(ca, fake.host) as client:
        url = f"https://{fake.host.name}{fake.api}"
        right = {"iss": fake.issuer, "sub": f"{signed_tokens.ACCOUNT}.{signed_tokens.USER}", "iat": now}
        for life, sign, claims, status in (
            (3600, signer(), right, 200),
            (3601, signer(), right, 401),
            (600, stranger(), right, 401),
            (600, signer(), {**right, "iss": fake.issuer.lower()}, 401),
            (600, signer(), {**right, "sub": "OTHER"}, 401),
        ):
            token = f"Bearer {sign.sign({**claims, 'exp': now + life})}"
            assert (await client.get(url, token)).status == status
        kept = f"Bearer {signer().sign({**right, 'exp': now + 600})}"
        for said, status in (("KEYPAIR_JWT", 200), ("OAUTH", 401)):
            fields = {"X-Snowflake-Authorization-Token-Type": said}
            assert (await client.get(url, kept, **fields)).status == status
