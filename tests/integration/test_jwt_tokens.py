"""Tokens that Sidekey signs, verified at a raw upstream by PyJWT as platforms do."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from jwt.algorithms import OKPAlgorithm

from sidekey.credentials.jws_algorithms import KEY_PAIR_ALGORITHMS, SECRET_ALGORITHMS
from support.files import replace
from support.keys import private_key
from support.plane import eventually
from support.private_ca import Authority
from support.raw_connection import RawConnection
from support.serving import RunningApp, serving
from support.upstream import OK, RawUpstream
from support.wire import Message

SECRET = "0123456789abcdef" * 4
"""A secret of 64 characters, the minimum for HS512."""
REFUSED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno"


def written(key: Any, folder: Path, form: PrivateFormat = PrivateFormat.PKCS8) -> Path:
    path = folder / "key.pem"
    replace(path, key.private_bytes(Encoding.PEM, form, NoEncryption()).decode())
    return path


def config(upstream: RawUpstream, auth: str) -> str:
    return f"  it: {{endpoint_prefix: 'http://127.0.0.1:{upstream.port}', auth: {{type: jwt, {auth}}}}}\n"


def token_in(message: Message, scheme: str = "Bearer") -> str:
    (value,) = message.values(b"authorization")
    result, _, token = value.decode("ascii").partition(" ")
    assert result == scheme
    return token


def verifier() -> jwt.PyJWT:
    """Build a PyJWT decoder that accepts RFC 9864's name of EdDSA with Ed25519."""
    decoder = jwt.PyJWT()
    decoder._jws.register_algorithm("Ed25519", OKPAlgorithm())
    return decoder


@pytest.mark.parametrize(
    "algorithm",
    [*KEY_PAIR_ALGORITHMS, *SECRET_ALGORITHMS],
)
async def test_token_of_each_algorithm_is_verified(algorithm: str, ca: Authority, tmp_path: Path) -> None:
    """Its times start 30 s ago, and the claims are those of the config."""
    if algorithm[:2] == "HS":
        auth, key = f"secret: {{env: KEY}}, algorithm: {algorithm}", SECRET
    else:
        private = private_key(algorithm)
        auth = f"private_key: {{file: {written(private, tmp_path)}}}, algorithm: {algorithm}"
        key = private.public_key()
    claims = "claims: {iss: me, aud: [a, b], n: 1, f: 1.5, yes: true, deep: {list: [1, x, {env: KEY}]}}"
    before = int(time.time())
    async with (
        RawUpstream() as upstream,
        serving(config(upstream, f"{auth}, key_id: k/1, {claims}"), tmp_path, ca, environ={"KEY": SECRET}) as sidekey,
    ):
        assert (await sidekey.reverse("/x")).status == 200
        assert (await sidekey.reverse("/y")).status == 200
        first, second = (token_in(request) for request in upstream.requests)
        assert [sidekey.app.metrics.calls, sidekey.calls("ok")] == [{}, 0]
        expiry = await sidekey.metric(
            'sidekey_credential_expiry_timestamp_seconds{integration="it",credential="token"}'
        )
    assert first == second
    header = jwt.get_unverified_header(first)
    assert header == {"alg": algorithm, "typ": "JWT", "kid": "k/1"}
    result = verifier().decode(first, key, algorithms=[algorithm], audience="b", issuer="me")
    issued, expires = result.pop("iat"), result.pop("exp")
    assert before - 30 <= issued <= time.time() - 30
    assert expires == issued + 300
    assert abs(expiry - expires) < 1.5
    text = json.dumps(result)
    assert text == json.dumps(
        {"iss": "me", "aud": ["a", "b"], "n": 1, "f": 1.5, "yes": True, "deep": {"list": [1, "x", SECRET]}}
    )


async def test_token_for_ghost(ca: Authority, tmp_path: Path) -> None:
    """With a hex secret, the scheme `Ghost`, and a lifetime of at most five minutes."""
    secret = SECRET
    auth = (
        "algorithm: HS256, secret: {env: KEY}, secret_encoding: hex, key_id: 6489d2, claims: {aud: /admin/}, "
        "token_placement: {in: header, scheme: Ghost}"
    )
    async with (
        RawUpstream() as upstream,
        serving(config(upstream, auth), tmp_path, ca, environ={"KEY": secret}) as sidekey,
    ):
        await sidekey.reverse("/ghost/api/admin/posts/")
        token = token_in(upstream.requests[0], "Ghost")
    result = jwt.decode(token, bytes.fromhex(secret), algorithms=["HS256"], audience="/admin/")
    assert result["exp"] - result["iat"] == 300
    assert jwt.get_unverified_header(token)["kid"] == "6489d2"


async def test_token_for_snowflake(ca: Authority, tmp_path: Path) -> None:
    """The issuer contains the fingerprint of the public key."""
    private = private_key("RS256")
    der = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    fingerprint = f"SHA256:{base64.b64encode(hashlib.sha256(der).digest()).decode()}"
    auth = (
        f"algorithm: RS256, private_key: {{file: {written(private, tmp_path)}}}, lifetime: 1h, "
        'claims: {iss: "ACME-ORG.SVC.SHA256:{public_key_sha256}", sub: ACME-ORG.SVC}'
    )
    async with RawUpstream() as upstream, serving(config(upstream, auth), tmp_path, ca) as sidekey:
        await sidekey.reverse("/api/v2/statements")
        token = token_in(upstream.requests[0])
    result = jwt.decode(token, private.public_key(), algorithms=["RS256"], issuer=f"ACME-ORG.SVC.{fingerprint}")
    assert (result["sub"], result["exp"] - result["iat"]) == ("ACME-ORG.SVC", 3600)


async def test_token_for_app_store_connect(ca: Authority, tmp_path: Path) -> None:
    """With a .p8 file from Apple, and a lifetime of at most twenty minutes."""
    private = private_key("ES256")
    auth = (
        f"algorithm: ES256, private_key: {{file: {written(private, tmp_path)}}}, key_id: 2X9R4HXF34, lifetime: 20m, "
        "claims: {iss: 57246542-96fe-1a63, aud: appstoreconnect-v1, scope: [GET /v1/apps]}"
    )
    async with RawUpstream() as upstream, serving(config(upstream, auth), tmp_path, ca) as sidekey:
        await sidekey.reverse("/v1/apps")
        token = token_in(upstream.requests[0])
    result = jwt.decode(token, private.public_key(), algorithms=["ES256"], audience="appstoreconnect-v1")
    assert result["exp"] - time.time() <= 1200
    assert result["scope"] == ["GET /v1/apps"]
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "typ": "JWT", "kid": "2X9R4HXF34"}


async def test_token_for_github(ca: Authority, tmp_path: Path) -> None:
    """With a PKCS #1 file from GitHub in an environment variable."""
    private = private_key("RS256")
    pem = written(private, tmp_path, PrivateFormat.TraditionalOpenSSL).read_text()
    auth = "algorithm: RS256, private_key: {env: KEY}, lifetime: 10m, claims: {iss: Iv1.8a61f9b3a7aba766}"
    async with RawUpstream() as upstream, serving(config(upstream, auth), tmp_path, ca, environ={"KEY": pem}) as it:
        await it.reverse("/app")
        token = token_in(upstream.requests[0])
    result = jwt.decode(token, private.public_key(), algorithms=["RS256"], issuer="Iv1.8a61f9b3a7aba766")
    assert result["exp"] - time.time() < 600


async def test_rejected_token_is_replaced_once(ca: Authority, tmp_path: Path) -> None:
    """Sidekey retries the request once. Within the renewal interval it forwards a 401. No token call is counted."""
    auth = "algorithm: HS256, secret: {env: KEY}, jti: true"

    responses = iter((REFUSED, OK, REFUSED))

    async def refuse_twice(connection: RawConnection) -> None:
        while True:
            await connection.request()
            await connection.send(next(responses))

    async with (
        RawUpstream(refuse_twice) as upstream,
        serving(config(upstream, auth), tmp_path, ca, environ={"KEY": SECRET}) as sidekey,
    ):
        assert (await sidekey.reverse("/x", method="POST", body=b"once")).status == 200
        assert (await sidekey.reverse("/x")).status == 401
        tokens = [token_in(request) for request in upstream.requests]
        assert [request.body for request in upstream.requests] == [b"once", b"once", b""]
        assert sidekey.app.metrics.calls == {}
        await sidekey.logged("the upstream rejected the token; it is refreshed")
    assert tokens[0] != tokens[1] == tokens[2]
    ids = [jwt.decode(token, SECRET, algorithms=["HS256"])["jti"] for token in tokens]
    assert len(set(ids)) == 2


async def test_changed_key_signs_after_the_reload(ca: Authority, tmp_path: Path) -> None:
    """A rotated key replaces the token at once. An unrelated change keeps it."""
    old, new = private_key("PS256"), rsa.generate_private_key(65537, 2048)
    auth = f"algorithm: PS256, private_key: {{file: {written(old, tmp_path)}}}, jti: true"
    async with RawUpstream() as upstream, serving(config(upstream, auth), tmp_path, ca) as sidekey:
        await sidekey.reverse("/1")
        path = tmp_path / "sidekey.yaml"
        replace(path, path.read_text().replace("  it: {", "  it: {description: other words, "))
        await reloaded(sidekey, 1)
        await sidekey.reverse("/2")
        written(new, tmp_path)
        await reloaded(sidekey, 2)
        await sidekey.reverse("/3")
        tokens = [token_in(request) for request in upstream.requests]
    assert tokens[0] == tokens[1] != tokens[2]
    assert jwt.decode(tokens[0], old.public_key(), algorithms=["PS256"])
    assert jwt.decode(tokens[2], new.public_key(), algorithms=["PS256"])


async def reloaded(sidekey: RunningApp, times: int) -> None:
    await eventually(lambda: [line["event"] for line in sidekey.lines()].count("config reloaded") >= times)


async def test_placement_of_the_token(ca: Authority, tmp_path: Path) -> None:
    """In any header after any text, or in the query."""
    placements = {
        "{in: header, name: X-Session, prefix: 'Token token='}": (b"x-session", b"Token token="),
        "{in: header, name: X-Session, scheme: ''}": (b"x-session", b""),
    }
    for placement, (name, prefix) in placements.items():
        auth = f"algorithm: HS256, secret: {{env: KEY}}, token_placement: {placement}"
        async with (
            RawUpstream() as upstream,
            serving(config(upstream, auth), tmp_path, ca, environ={"KEY": SECRET}) as sidekey,
        ):
            await sidekey.reverse("/x", "X-Session: the caller's")
            (value,) = upstream.requests[0].values(name)
            assert value.startswith(prefix)
            assert jwt.decode(value.removeprefix(prefix), SECRET, algorithms=["HS256"])
    auth = "algorithm: HS256, secret: {env: KEY}, token_placement: query"
    async with (
        RawUpstream() as upstream,
        serving(config(upstream, auth), tmp_path, ca, environ={"KEY": SECRET}) as sidekey,
    ):
        await sidekey.reverse("/x?a=b")
        target = upstream.requests[0].start.split(b" ")[1]
        assert jwt.decode(target.removeprefix(b"/x?a=b&access_token=").decode(), SECRET, algorithms=["HS256"])


async def test_repeated_secret_claim_is_redacted(ca: Authority, tmp_path: Path) -> None:
    """As plain text and as base64: always in headers, and in bodies if the integration redacts them."""
    auth = "algorithm: HS256, secret: {env: KEY}, claims: {iss: public-issuer, team: {env: TEAM}}"
    team = "team-of-4711/zoë"
    echoed = team.encode() + b" " + base64.b64encode(b"a" + team.encode()) + b" public-issuer"

    async def repeat(connection: RawConnection) -> None:
        while True:
            await connection.request()
            head = f"HTTP/1.1 200 OK\r\nX-Team: {echoed.decode('latin-1')}\r\nContent-Length: {len(echoed)}\r\n\r\n"
            await connection.send(head.encode("latin-1") + echoed)

    async with RawUpstream(repeat) as upstream:
        text = config(upstream, auth).replace("{endpoint", "{redact_response: true, endpoint")
        async with serving(text, tmp_path, ca, environ={"KEY": SECRET, "TEAM": team}) as sidekey:
            response = await sidekey.reverse("/x")
    (field,) = response.values(b"x-team")
    for shown in (field, response.body):
        assert shown.startswith(b"[redacted] ")
        assert shown.endswith(b" public-issuer")
        assert shown.count(b"[redacted]") == 2
