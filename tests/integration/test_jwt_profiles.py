"""Profiles of signed tokens: only a key and parameters, against fakes that verify each request."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fakes import signed_tokens
from fakes.server import Platform
from support.oauth import signer, stranger
from support.private_ca import Authority
from support.serving import serving


@cache
def apple(name: str) -> ec.EllipticCurvePrivateKey:
    """Return the key with a name."""
    del name
    return ec.generate_private_key(ec.SECP256R1())


def pem(key: ec.EllipticCurvePrivateKey) -> str:
    """Encode a key as in a .p8 file."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def snowflake(ca: Authority) -> Platform:
    public = signer().certificate.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    return signed_tokens.Snowflake(ca, public)


class Case(NamedTuple):
    """A platform: its fake, the `auth` block, the value of its reference, and an API call through each proxy."""

    make: Callable[[Authority], Platform]
    auth: str
    key: str
    wrong: str
    path: str
    url: str
    denied: bytes


CASES = {
    "ghost": Case(
        signed_tokens.Ghost,
        f"host: acme.ghost.io, key_id: {signed_tokens.GHOST_ID}, secret: {{env: KEY}}",
        signed_tokens.GHOST_SECRET,
        "ab" * 32,
        "/posts/",
        f"http://acme.ghost.io{signed_tokens.Ghost.api}",
        b"Invalid token",
    ),
    "app-store-connect": Case(
        lambda ca: signed_tokens.AppStoreConnect(ca, apple("team").public_key()),
        f"issuer_id: {signed_tokens.ISSUER_ID}, key_id: {signed_tokens.KEY_ID}, private_key: {{env: KEY}}",
        pem(apple("team")),
        pem(apple("stranger")),
        signed_tokens.AppStoreConnect.api,
        f"http://api.appstoreconnect.apple.com{signed_tokens.AppStoreConnect.api}",
        b"NOT_AUTHORIZED",
    ),
    "snowflake-key-pair": Case(
        snowflake,
        f"account: {signed_tokens.ACCOUNT}, user: {signed_tokens.USER}, private_key: {{env: KEY}}",
        signer().private_pem.decode(),
        stranger().private_pem.decode(),
        signed_tokens.Snowflake.api,
        f"http://{signed_tokens.ACCOUNT}.snowflakecomputing.com{signed_tokens.Snowflake.api}",
        b"390144",
    ),
}


@pytest.mark.parametrize("name", CASES)
async def test_key_gives_access_to_the_api(name: str, ca: Authority, tmp_path: Path) -> None:
    """Through both proxies, with one token and no token call."""
    case = CASES[name]
    text = f"  it: {{auth: {{type: jwt, provider: {name}, {case.auth}}}}}\n"
    async with (
        case.make(ca) as fake,
        serving(text, tmp_path, ca, hosts=fake.hosts, environ={"KEY": case.key}) as sidekey,
    ):
        responses = [
            await sidekey.reverse(case.path),
            await sidekey.forward(case.url),
            await sidekey.reverse(case.path),
        ]
        assert [response.status for response in responses] == [200] * 3
        assert len({received.value("authorization") for received in fake.received}) == 1
        assert len(fake.received) == 3
    log = (tmp_path / "sidekey.log").read_text()
    assert case.key.splitlines()[-2 if "\n" in case.key else 0] not in log


@pytest.mark.parametrize("name", CASES)
async def test_wrong_key_gets_the_error_of_the_platform(name: str, ca: Authority, tmp_path: Path) -> None:
    """After one retry with a new token."""
    case = CASES[name]
    text = f"  it: {{auth: {{type: jwt, provider: {name}, {case.auth}, jti: true}}}}\n"
    async with (
        case.make(ca) as fake,
        serving(text, tmp_path, ca, hosts=fake.hosts, environ={"KEY": case.wrong}) as sidekey,
    ):
        response = await sidekey.reverse(case.path)
        assert (response.status, case.denied in response.body) == (401, True)
        assert json.loads(response.body)
        assert len({received.value("authorization") for received in fake.received}) == len(fake.received) == 2
