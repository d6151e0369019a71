"""Signed requests at a raw upstream, verified by the libraries of receivers."""

from __future__ import annotations

import asyncio
import dataclasses
import hmac
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest
from http_message_signatures import (
    HTTPMessageVerifier,
    HTTPSignatureComponentResolver,
    HTTPSignatureKeyResolver,
    InvalidSignature,
)
from http_message_signatures.algorithms import ECDSA_P256_SHA256, ED25519, HMAC_SHA256, RSA_PSS_SHA512
from slack_sdk.signature import SignatureVerifier
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from stripe import SignatureVerificationError, WebhookSignature
from svix.webhooks import Webhook as SvixWebhook

from support.files import replace
from support.outgoing_requests import private_key
from support.plane import eventually
from support.private_ca import Authority
from support.raw_connection import RawConnection, connect
from support.serving import RunningApp, problem, serving
from support.upstream import OK, RawUpstream
from support.wire import Message

NEW: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD: Final = "whsec_a2V5LW9mLXRoZS10ZXN0cy1vbGQtb25lLTI0Yg=="
WRONG: Final = "whsec_d3Jvbmctb25lLXRoYXQtaXMtbm90LXVzZWQtaGVyZQ=="
SHARED: Final = "0123456789abcdef"
BODY: Final = b'{"type": "test", "n": 1}'
REFUSED: Final = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno"

ALGORITHMS: Final[dict[str, Any]] = {
    "ed25519": ED25519,
    "ecdsa-p256-sha256": ECDSA_P256_SHA256,
    "rsa-pss-sha512": RSA_PSS_SHA512,
    "hmac-sha256": HMAC_SHA256,
}

Verify = Callable[[Message, str], bool]
"""Verifies a request with this secret, as a receiver does."""


def config(upstream: RawUpstream, rest: str) -> str:
    return f"  it: {{endpoint_prefix: 'http://127.0.0.1:{upstream.port}', {rest}}}\n"


def fields(message: Message) -> dict[str, str]:
    return {name.decode(): value.decode("latin-1") for name, value in message.headers}


def by_standard_webhooks(message: Message, secret: str) -> bool:
    try:
        Webhook(secret).verify(message.body, fields(message), json_parse=False)
    except WebhookVerificationError:
        return False
    return True


def by_svix(message: Message, secret: str) -> bool:
    assert not message.values(b"webhook-id")
    try:
        SvixWebhook(secret).verify(message.body, fields(message))
    except WebhookVerificationError:
        return False
    return True


def by_stripe(message: Message, secret: str) -> bool:
    (header,) = message.values(b"stripe-signature")
    try:
        return WebhookSignature.verify_header(message.body.decode(), header.decode(), secret, tolerance=300)
    except SignatureVerificationError:
        return False


def by_slack(message: Message, secret: str) -> bool:
    return SignatureVerifier(secret).is_valid_request(message.body, fields(message))


class Receiver(HTTPSignatureKeyResolver, HTTPSignatureComponentResolver):
    """The key resolver of http-message-signatures: one key for any ID."""

    def __init__(self, key: Any) -> None:
        self._key = key

    def resolve_public_key(self, key_id: str) -> Any:
        return self._key


def by_message_signatures(message: Message, algorithm: str, key: Any, *, port: int) -> dict[str, str]:
    """Return the signed components with their values. Raises InvalidSignature."""
    lines = SimpleNamespace(items=lambda: ((name.decode(), value.decode("latin-1")) for name, value in message.headers))
    (host,) = message.values(b"host")
    assert host == f"127.0.0.1:{port}".encode()
    url = f"http://{host.decode()}{message.target.decode()}"
    request = SimpleNamespace(method=message.method.decode(), url=url, headers=lines)
    verifier = HTTPMessageVerifier(signature_algorithm=ALGORITHMS[algorithm], key_resolver=Receiver(key))
    (result,) = verifier.verify(request, body=message.body)
    return dict(result.covered_components)


LIBRARIES: Final[dict[str, tuple[str, Verify]]] = {
    "standard-webhooks": ("[{env: NEW}, {env: OLD}]", by_standard_webhooks),
    "svix": ("[{env: NEW}, {env: OLD}]", by_svix),
    "stripe": ("[{env: NEW}, {env: OLD}]", by_stripe),
    "slack": ("{env: NEW}", by_slack),
}
ENVIRON: Final = {"NEW": NEW, "OLD": OLD, "SHARED": SHARED}


def bodies() -> Iterator[tuple[str, bytes, list[bytes]]]:
    """Build requests: a name, the body, and the pieces to write."""
    head = b"%b /i/it/hooks?a=b HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n%b\r\n"
    sized = head % (b"POST", b"Content-Length: %d\r\n" % len(BODY))
    chunked = head % (b"POST", b"Transfer-Encoding: chunked\r\n")
    chunks = b"5\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (BODY[:5], len(BODY) - 5, BODY[5:])
    yield "whole", BODY, [sized + BODY]
    yield "get", b"", [b"GET /i/it/hooks?a=b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"]
    yield "empty", b"", [head % (b"POST", b"Content-Length: 0\r\n")]
    yield "chunked", BODY, [chunked + chunks]
    yield "empty, chunked", b"", [chunked + b"0\r\n\r\n"]
    yield "bytes", BODY, [sized, *(BODY[at : at + 1] for at in range(len(BODY)))]
    yield "chunks of bytes", BODY, [chunked, *(chunks[at : at + 1] for at in range(len(chunks)))]
    yield "expected", BODY, [sized.removesuffix(b"\r\n") + b"Expect: 100-continue\r\n\r\n", BODY]
    yield "large", BODY * 20_000, [head % (b"POST", b"Content-Length: %d\r\n" % (len(BODY) * 20_000)), BODY * 20_000]


async def send(sidekey: RunningApp, parts: list[bytes]) -> Message:
    async with connect(sidekey.port) as caller:
        for part in parts:
            await caller.send(part)
            if b"Expect: 100-continue" in part:
                assert (await caller.response()).status == 100
            await asyncio.sleep(0)
        return await caller.response()


@pytest.mark.parametrize("scheme", LIBRARIES)
async def test_receivers_accept_every_framing_of_a_body(scheme: str, ca: Authority, tmp_path: Path) -> None:
    """With each of two secrets, over the unchanged bytes."""
    secret, verify = LIBRARIES[scheme]
    auth = f"auth: {{type: signature, scheme: {scheme}, secret: {secret}}}, add: {{query: {{tenant: acme}}}}"
    async with (
        RawUpstream() as upstream,
        serving(config(upstream, auth), tmp_path, ca, environ=ENVIRON) as sidekey,
    ):
        sent = [(body, (await send(sidekey, parts)).status) for _, body, parts in bodies()]
        received = upstream.requests
    assert [status for _, status in sent] == [200] * len(sent)
    assert [message.body for message in received] == [body for body, _ in sent]
    for message in received:
        assert message.target == b"/hooks?a=b&tenant=acme"
        assert not message.values(b"expect")
        assert verify(message, NEW)
        assert verify(message, OLD) is ("OLD" in secret)
        assert not verify(message, WRONG)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_receiver_accepts_message_signatures(algorithm: str, ca: Authority, tmp_path: Path) -> None:
    """RFC 9421, with the digest of the received body. Sidekey replaces the caller's digest."""
    if algorithm == "hmac-sha256":
        key, verified_by = "key: {env: SHARED}, key_id: shared", SHARED.encode()
    else:
        pem, verified_by = private_key(algorithm)
        (tmp_path / "key.pem").write_text(pem)
        key = f"key: {{file: {tmp_path / 'key.pem'}}}"
    more = "expires: 5m, nonce: true, tag: tests"
    auth = f"auth: {{type: signature, scheme: rfc9421, algorithm: {algorithm}, {key}, {more}}}"
    forged = (
        "Content-Type: a/b",
        "Signature: sig1=:AA==:",
        "Signature-Input: sig1=()",
        "Content-Digest: sha-256=:AA==:",
    )
    async with (
        RawUpstream() as upstream,
        serving(config(upstream, auth), tmp_path, ca, environ=ENVIRON) as sidekey,
    ):
        for _, _, parts in bodies():
            assert (await send(sidekey, parts)).status == 200
        assert (await sidekey.reverse("/forged", "Content-Type: a/b", *forged, method="POST", body=b"x")).status == 200
        refused = await sidekey.reverse("/x", method="POST", body=b"x")
        assert (refused.status, problem(refused)["code"]) == (400, "request_invalid")
        received, port = upstream.requests, upstream.port
    for (_, body, _), message in zip((*bodies(), ("forged", b"x", [])), received, strict=True):
        assert message.body == body
        assert len(message.values(b"content-digest")) == bool(body)
        covered = by_message_signatures(message, algorithm, verified_by, port=port)
        assert ('"content-digest"' in covered) is ('"content-type"' in covered) is bool(body)
    for other in (
        dataclasses.replace(received[0], body=BODY + b" "),
        dataclasses.replace(received[0], start=b"GET /x 1"),
    ):
        with pytest.raises(InvalidSignature):
            by_message_signatures(other, algorithm, verified_by, port=port)


async def test_signature_covers_additions_and_credential(ca: Authority, tmp_path: Path) -> None:
    """In their order. Sidekey removes the caller's signature header."""
    rest = (
        "auth: {type: basic, username: svc, password: {env: SHARED}}, "
        "add: {headers: {X-Tenant: acme}, query: {key: {secret: {env: OLD}}}}, "
        'signature: {scheme: custom, secret: {env: SHARED}, headers: {X-Signature: "{signature}"}, '
        'signed: "{header:Authorization}|{header:X-Tenant}|{url}|{body}"}'
    )
    async with (
        RawUpstream() as upstream,
        serving(config(upstream, rest), tmp_path, ca, environ=ENVIRON) as sidekey,
    ):
        more = ("X_Signature: forged", "x-signature: forged", "X-Tenant: forged", "Authorization: forged")
        assert (await sidekey.reverse("/x?a=b", *more, method="POST", body=BODY)).status == 200
        (message,), port = upstream.requests, upstream.port
    assert message.target == b"/x?a=b&key=" + OLD.replace("=", "%3D").encode()
    (authorization,) = message.values(b"authorization")
    text = b"%b|acme|http://127.0.0.1:%d%b|%b" % (authorization, port, message.target, BODY)
    assert message.values(b"x-signature") == [hmac.new(SHARED.encode(), text, "sha256").hexdigest().encode()]
    assert not message.values(b"x_signature")


async def test_retried_request_keeps_only_its_message_id(ca: Authority, tmp_path: Path) -> None:
    """After a 401, with a new token, a new nonce and a new signature."""
    rest = (
        "auth: {type: jwt, algorithm: HS256, secret: {env: NEW}, jti: true}, "
        'signature: {scheme: custom, secret: {env: SHARED}, signed: "{id}.{nonce}.{header:authorization}.{body}", '
        'headers: {X-Id: "{id}", X-Nonce: "{nonce}", X-Signature: "{signature}"}}'
    )
    responses = iter((REFUSED, OK))

    async def refuse_once(connection: RawConnection) -> None:
        while True:
            await connection.request()
            await connection.send(next(responses))

    async with (
        RawUpstream(refuse_once) as upstream,
        serving(config(upstream, rest), tmp_path, ca, environ=ENVIRON) as sidekey,
    ):
        assert (await sidekey.reverse("/x", method="POST", body=BODY)).status == 200
        first, second = (fields(message) for message in upstream.requests)
    assert first["x-id"] == second["x-id"]
    for name in ("x-nonce", "authorization", "x-signature"):
        assert first[name] != second[name]
    for result in (first, second):
        text = f"{result['x-id']}.{result['x-nonce']}.{result['authorization']}.".encode() + BODY
        assert result["x-signature"] == hmac.new(SHARED.encode(), text, "sha256").hexdigest()


async def test_message_id_of_the_caller_is_kept_or_refused(ca: Authority, tmp_path: Path) -> None:
    """Retries of a caller have the same ID. Timestamps are always Sidekey's."""
    auth = "auth: {type: signature, scheme: standard-webhooks, secret: {env: NEW}}"
    async with (
        RawUpstream() as upstream,
        serving(config(upstream, auth), tmp_path, ca, environ=ENVIRON) as sidekey,
    ):
        old = ("webhook-timestamp: 1614265330", "webhook-signature: v1,forged")
        for _ in range(2):
            assert (await sidekey.reverse("/x", "Webhook-Id: msg_1-a", *old, method="POST", body=BODY)).status == 200
        assert (await sidekey.reverse("/x", method="POST", body=BODY)).status == 200
        for wrong in (("webhook-id: a.1700000000",), ("webhook-id: a", "webhook_id: a"), ("webhook-id:",)):
            refused = await sidekey.reverse("/x", *wrong, method="POST", body=BODY)
            assert (refused.status, problem(refused)["code"]) == (400, "request_invalid")
        received = upstream.requests
    assert [message.values(b"webhook-id") for message in received[:2]] == [[b"msg_1-a"]] * 2
    (new,) = received[2].values(b"webhook-id")
    assert new.startswith(b"msg_")
    assert len(new) == 36
    assert len(received) == 3
    assert all(by_standard_webhooks(message, NEW) for message in received)


async def test_changed_secret_signs_after_the_reload(ca: Authority, tmp_path: Path) -> None:
    """Under load: each request is signed with exactly one of the two secrets."""
    path = tmp_path / "secret"
    path.write_text(OLD)
    auth = f"auth: {{type: signature, scheme: standard-webhooks, secret: {{file: {path}}}}}"
    async with (
        RawUpstream() as upstream,
        serving(config(upstream, auth), tmp_path, ca) as sidekey,
    ):
        done, answered = asyncio.Event(), []

        async def load() -> None:
            while not done.is_set():
                answered.append((await sidekey.reverse("/x", method="POST", body=BODY)).status)

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(load())
            await eventually(lambda: len(answered) >= 8)
            replace(path, NEW)
            sidekey.hang_up()
            await eventually(lambda: any(line["event"] == "config reloaded" for line in sidekey.lines()))
            before = len(answered)
            await eventually(lambda: len(answered) >= before + 8)
            done.set()
        assert set(answered) == {200}
        received = upstream.requests
    old, new = ([by_standard_webhooks(message, secret) for message in received] for secret in (OLD, NEW))
    assert old[0]
    assert new[-1]
    assert all(one is not other for one, other in zip(old, new, strict=True))


async def test_signed_text_is_explained_and_no_secret_is_logged(ca: Authority, tmp_path: Path) -> None:
    """At every log level: no key and no signature."""
    auth = "auth: {type: signature, scheme: slack, secret: {env: SHARED}}"
    async with (
        RawUpstream() as upstream,
        serving(config(upstream, auth), tmp_path, ca, environ=ENVIRON) as sidekey,
    ):
        assert (await sidekey.reverse("/x", method="POST", body=BODY)).status == 200
        (message,) = upstream.requests
        (signature,) = message.values(b"x-slack-signature")
        await sidekey.logged("request")
        log = sidekey.log.read_text()
    assert SHARED not in log
    assert signature.decode().removeprefix("v0=") not in log
