"""AWS Signature Version 4 requests, byte for byte at the upstream, and refused requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.http_strategies import soup
from support.private_ca import Authority
from support.raw_connection import connect
from support.serving import RunningApp, problem, serving
from support.upstream import RawUpstream, respond_with
from support.wire import Message

KEY_ID, SECRET, TOKEN = "AKIAEXAMPLE", "wJalrXUtnFEMI/K7MDENG", "canary-session-token"
THEIRS = (
    "Authorization: AWS4-HMAC-SHA256 Credential=dummy/20200101/eu-west-1/sqs/aws4_request, Signature=0",
    "Date: Wed, 01 Jan 2020 00:00:00 GMT",
    "X-Amz-Date: 20200101T000000Z",
    "x_amz_security-token: theirs",
    "X-Amz-Content-SHA256: 0000",
)


def auth(service: str, more: str = "") -> str:
    keys = f"access_key_id: {KEY_ID}, secret_access_key: {{insecure_value: {SECRET}}}"
    return f"{{type: aws_sigv4, region: eu-west-1, service: {service}, {keys}{more}}}"


def verify(received: Message, scheme: str, service: str, *, payload: str = "") -> None:
    """Verify a received request with botocore, over its signed headers."""
    fields = {name.decode(): value.decode("latin-1") for name, value in received.headers}
    assert len(fields) == len(received.headers)
    signature = fields.pop("authorization")
    signed = signature.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    assert signed == sorted(name for name in fields if name in ("host", "content-type") or name.startswith("x-amz-"))
    request = AWSRequest(received.method.decode(), f"{scheme}://{fields['host']}{received.target.decode()}")
    request.data = received.body
    for name in signed:
        request.headers[name] = fields[name]
    if payload == "STREAMING-UNSIGNED-PAYLOAD-TRAILER":
        request.context["checksum"] = {"request_algorithm": {"in": "trailer"}}
    elif payload:
        request.context["payload_signing_enabled"] = False
        request.context["has_streaming_input"] = True
        request.headers["Content-MD5"] = "unsigned payloads need one in botocore"
    now = datetime.strptime(fields["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert abs((datetime.now(UTC) - now).total_seconds()) < 300
    signer = (S3SigV4Auth if service == "s3" else SigV4Auth)(
        Credentials(KEY_ID, SECRET, fields.get("x-amz-security-token")), service, "eu-west-1"
    )
    if payload == "UNSIGNED-PAYLOAD":
        signer.headers_to_sign = lambda of, headers=signer.headers_to_sign: _without(headers(of), "content-md5")
    with patch("botocore.auth.get_current_datetime", return_value=now):
        signer.add_auth(request)
    assert request.headers["Authorization"] == signature


def _without(headers: object, name: str) -> object:
    del headers[name]  # type: ignore[attr-defined]
    return headers


@asynccontextmanager
async def front(
    folder: Path, ca: Authority, service: str, more: str = "", *, tls: bool = False, prefix: str = "", beside: str = ""
) -> AsyncIterator[tuple[RunningApp, RawUpstream]]:
    """A Sidekey and a recording upstream, at a host with the bucket in the path."""
    names = ("s3.aws.test", "mine.s3.aws.test")
    async with RawUpstream(ssl_context=ca.server_context(*names) if tls else None) as upstream:
        origin = f"http{'s' if tls else ''}://s3.aws.test:{upstream.port}"
        text = f"  it: {{endpoint_prefix: '{origin}{prefix}', auth: {auth(service, more)}{beside}}}\n"
        hosts = {name: ["127.0.0.1"] for name in names}
        async with serving(text, folder, ca, hosts=hosts) as sidekey:
            yield sidekey, upstream


async def test_signature_of_the_callers_key_is_replaced(ca: Authority, tmp_path: Path) -> None:
    """The rest is unchanged. Sidekey adds the session token of the config."""
    async with front(tmp_path, ca, "sqs", f", session_token: {{insecure_value: {TOKEN}}}") as (sidekey, upstream):
        fields = ("X-Amz-Target: AmazonSQS.SendMessage", "Content-Type: application/x-amz-json-1.0", "X-Own:  a  b")
        response = await sidekey.reverse("/q", *THEIRS, *fields, method="POST", body=b'{"a": 1}')
        assert response.status == 200
        (received,) = upstream.requests
        verify(received, "http", "sqs")
        assert received.body == b'{"a": 1}'
        assert received.values(b"x-amz-security-token") == [TOKEN.encode()]
        assert received.values(b"x-amz-target") == [b"AmazonSQS.SendMessage"]
        assert received.values(b"x-own") == [b"a  b"]
        names = [name for name, _ in received.headers]
        assert not {b"date", b"x-amz-content-sha256", b"x_amz_security-token"} & set(names)


async def test_session_token_of_the_caller_is_removed(ca: Authority, tmp_path: Path) -> None:
    """AWS would use it with Sidekey's key."""
    async with front(tmp_path, ca, "s3") as (sidekey, upstream):
        assert (await sidekey.reverse("/a", *THEIRS)).status == 200
        (received,) = upstream.requests
        verify(received, "http", "s3")
        assert not received.values(b"x-amz-security-token")
        assert received.values(b"x-amz-content-sha256") == [
            b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        ]


@pytest.mark.parametrize("service", ["s3", "execute-api"])
async def test_targets_arrive_in_canonical_form(service: str, ca: Authority, tmp_path: Path) -> None:
    """Through both proxies, chunked or not. The query keeps its order."""
    async with front(tmp_path, ca, service, prefix="/v1@x") as (sidekey, upstream):
        rest = "/a@b/c+d;e=1/%7euser/%2f?b=x+y&a=@&uploads&c=%41"
        origin = f"http://s3.aws.test:{upstream.port}"
        await sidekey.reverse(rest, method="PUT", body=b"x")
        await sidekey.forward(f"{origin}/v1%40x{rest}", method="PUT")
        chunked = f"PUT {origin}/v1@x{rest} HTTP/1.1\r\nHost: x\r\nX-Integration-Id: it\r\nTransfer-Encoding: chunked"
        await sidekey.send(f"{chunked}\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n".encode())
        first, *others = upstream.requests
        assert first.target == b"/v1%40x/a%40b/c%2Bd%3Be%3D1/~user/%2F?b=x%20y&a=%40&uploads&c=A"
        for received in (first, *others):
            assert received.target == first.target
            verify(received, "http", service)
        assert others[-1].body == b"abc"


async def test_body_is_signed_for_every_framing(ca: Authority, tmp_path: Path) -> None:
    """In single bytes, after 100 Continue, chunked, empty, and long enough for a signing thread."""
    head = b"PUT /i/it/mine/k HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    large = b"0123456789abcdef" * (20 << 10)
    sent = (
        (b"abc", [head + b"Content-Length: 3\r\n\r\n", b"a", b"b", b"c"]),
        (b"abc", [head + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n", b"2\r\nb", b"c\r\n0\r\n\r\n"]),
        (b"abc", [head + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n", b"abc"]),
        (b"", [head + b"Content-Length: 0\r\n\r\n"]),
        (large, [head + b"Content-Length: %d\r\n\r\n" % len(large), large]),
    )
    async with front(tmp_path, ca, "s3") as (sidekey, upstream):
        for _, parts in sent:
            async with connect(sidekey.port) as caller:
                for part in parts:
                    await caller.send(part)
                    if b"Expect" in part:
                        assert (await caller.response()).status == 100
                    await asyncio.sleep(0)
                assert (await caller.response()).status == 200
        for (body, _), received in zip(sent, upstream.requests, strict=True):
            assert (received.body, received.values(b"content-length")) == (body, [b"%d" % len(body)])
            assert not received.values(b"expect")
            verify(received, "http", "s3")


async def test_added_parameter_is_signed(ca: Authority, tmp_path: Path) -> None:
    """In canonical form."""
    beside = ", add: {query: {k~y: 'a+b@c d'}, headers: {X-Amz-Meta-Own: 'a  b'}}"
    async with front(tmp_path, ca, "s3", beside=beside) as (sidekey, upstream):
        assert (await sidekey.reverse("/a?b=1")).status == 200
        (received,) = upstream.requests
        assert received.target == b"/a?b=1&k~y=a%2Bb%40c%20d"
        assert received.values(b"x-amz-meta-own") == [b"a  b"]
        verify(received, "http", "s3")


TRAILER = ("X-Amz-Content-SHA256: STREAMING-UNSIGNED-PAYLOAD-TRAILER", "X-Amz-Trailer: x-amz-checksum-crc32")
CHUNKED = ("Content-Encoding: aws-chunked", "X-Amz-Decoded-Content-Length: 3")


@pytest.mark.parametrize("payload", ["STREAMING-UNSIGNED-PAYLOAD-TRAILER", "UNSIGNED-PAYLOAD"])
async def test_unsigned_payload_streams(payload: str, ca: Authority, tmp_path: Path) -> None:
    """The upstream gets the start before the caller sends the end."""
    trailer = payload.startswith("STREAMING")
    more = "" if trailer else ", payload: unsigned"
    async with front(tmp_path, ca, "s3", more, tls=True) as (sidekey, upstream):
        fields = (*TRAILER, *CHUNKED) if trailer else ("X-Amz-Content-SHA256: 00",)
        body = b"3\r\nabc\r\n0\r\nx-amz-checksum-crc32:NSRBwg==\r\n\r\n"
        async with connect(sidekey.port) as caller:
            head = [
                "PUT /i/it/mine/k HTTP/1.1",
                "Host: 127.0.0.1",
                *THEIRS[:3],
                *fields,
                f"Content-Length: {len(body)}",
            ]
            await caller.send("\r\n".join((*head, "", "")).encode() + body[:4])
            connection = await upstream.connection()
            await connection.until_contains(b"\r\n\r\n" + body[:4])
            await caller.send(body[4:])
            assert (await caller.response()).status == 200
        (received,) = upstream.requests
        assert received.body == body
        assert received.values(b"x-amz-content-sha256") == [payload.encode()]
        assert received.values(b"x-amz-trailer") == ([b"x-amz-checksum-crc32"] if trailer else [])
        verify(received, "https", "s3", payload=payload)


REFUSED = {
    "trailer by http": ("s3", "/mine/k", TRAILER, 415, "body_unsupported"),
    "trailer to another service": ("sqs", "/mine/k", TRAILER, 415, "body_unsupported"),
    "signed chunks": (
        "s3",
        "/mine/k",
        ("x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD",),
        415,
        "body_unsupported",
    ),
    "a presigned URL": ("s3", "/mine/k?X-Amz-Signature=1", (), 400, "request_invalid"),
    "a reserved name, encoded twice": ("sqs", "/mine/k?a=1&%2578-amz-date=1", (), 400, "request_invalid"),
    "a copy of another bucket": ("s3", "/mine/k", ("x-amz-copy-source: /other/k",), 403, "target_denied"),
    "a copy by a detour": ("s3", "/mine/k", ("x-amz-copy-source: /mine/%2e%2e/other/k",), 400, "request_invalid"),
    "a copy by ARN": ("s3", "/mine/k", ("x-amz-copy-source: arn:aws:s3:::other/k",), 403, "target_denied"),
    "a rename": ("s3", "/mine/k", ("x-amz-rename-source: /mine/j",), 403, "target_denied"),
    "another bucket": ("s3", "/mine/..%2fother/k", (), 400, "request_invalid"),
    "another bucket, encoded": ("s3", "/mine/%2e%2e/other/k", (), 400, "request_invalid"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_refused_request_is_not_sent(case: str, ca: Authority, tmp_path: Path) -> None:
    """Through both proxies."""
    service, path, fields, status, code = REFUSED[case]
    async with front(tmp_path, ca, service, prefix="/mine") as (sidekey, upstream):
        by_reverse = await sidekey.reverse(path.removeprefix("/mine"), *fields, method="PUT", body=b"x")
        url = f"http://s3.aws.test:{upstream.port}{path}"
        by_forward = await sidekey.forward(url, *fields, method="PUT", body=b"x")
        for response in (by_reverse, by_forward):
            assert (response.status, problem(response)["code"], problem(response)["sent"]) == (status, code, "no")
        assert upstream.connections == []


async def test_copy_from_an_allowed_source_is_sent(ca: Authority, tmp_path: Path) -> None:
    """With the field signed as the caller sent it."""
    async with front(tmp_path, ca, "s3", prefix="/mine") as (sidekey, upstream):
        response = await sidekey.reverse("/k", "X-Amz-Copy-Source: mine/a%20b?versionId=1", method="PUT")
        assert response.status == 200
        (received,) = upstream.requests
        assert received.values(b"x-amz-copy-source") == [b"mine/a%20b?versionId=1"]
        verify(received, "http", "s3")


async def test_repeated_session_token_is_redacted(ca: Authority, tmp_path: Path) -> None:
    """When AWS refuses a signature, it repeats the signed text."""
    echo = f"HTTP/1.1 403 Forbidden\r\nX-Echo: {TOKEN}\r\nContent-Length: 0\r\n\r\n".encode()
    async with RawUpstream(respond_with(echo)) as upstream:
        more = f", session_token: {{insecure_value: {TOKEN}}}"
        text = f"  it: {{endpoint_prefix: 'http://127.0.0.1:{upstream.port}', auth: {auth('sqs', more)}}}\n"
        async with serving(text, tmp_path, ca) as sidekey:
            response = await sidekey.reverse("/")
            assert response.status == 403
            assert not any(TOKEN.encode() in value for _, value in response.headers)
        log = (tmp_path / "sidekey.log").read_text()
        assert all(secret not in log for secret in (TOKEN, SECRET, "Signature="))


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["s3", "sqs"]), soup(), st.binary(max_size=64))
def test_any_admitted_request_is_signed_as_it_arrives(
    ca: Authority, tmp_path: Path, service: str, rest: str, body: bytes
) -> None:

    async def main() -> None:
        async with front(tmp_path, ca, service, prefix="/api") as (sidekey, upstream):
            response = await sidekey.reverse(rest, method="POST", body=body)
            assert response.status in (200, 400, 403, 404)
            assert len(upstream.requests) == (response.status == 200)
            for received in upstream.requests:
                assert received.body == body
                verify(received, "http", service)

    asyncio.run(main())
