"""Redaction: an upstream repeats the credential. Sidekey redacts it in heads, and in bodies if configured."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from base64 import b64encode
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from urllib.parse import quote

import pytest

from sidekey.credentials.base import Attempt, CredentialTraits, FixedCredential, Grant, InjectionPoints, Reply
from sidekey.credentials.basic import BasicSettings
from sidekey.credentials.context import Context
from sidekey.credentials.headers import HeadersSettings
from sidekey.credentials.placement import Placement
from sidekey.credentials.responsys import ResponsysCredential
from sidekey.policy.redaction import MARK
from sidekey.proxy.content_coding import STEP
from sidekey.proxy.exchange.response_body import MAX_HELD
from sidekey.snapshot.request_rules import Timeouts
from support.memory import MemoryUpstream, running
from support.plane import (
    FixedSource,
    RenewedSource,
    RunningPlane,
    base_url,
    eventually,
    get,
    integration,
    problem,
    request,
)
from support.raw_connection import RawConnection
from support.scripted import RecordingTransport, ScriptedPlane, settle
from support.upstream import respond_with

SECRET = "s3cr3t/of+crm=="
TOKEN = SECRET.encode()


def basic() -> Grant:
    auth = {"type": "basic", "username": "svc", "password": {"env": "P"}}
    credential = BasicSettings.model_validate(auth, context=Context("file")).credential(
        {("username",): "svc", ("password",): SECRET}
    )
    assert isinstance(credential, FixedCredential)
    return credential.grant


def headers() -> Grant:
    auth = {
        "type": "headers",
        "headers": {"X-Key": {"prefix": "Key ", "secret": {"env": "P"}}, "X-Tenant": "acme-corp"},
    }
    values = {
        ("headers", "X-Key", "prefix"): "Key ",
        ("headers", "X-Key", "secret"): SECRET,
        ("headers", "X-Tenant"): "acme-corp",
    }
    credential = HeadersSettings.model_validate(auth, context=Context("file")).credential(values)
    assert isinstance(credential, FixedCredential)
    return credential.grant


def responsys() -> Grant:
    login = ResponsysCredential("https://login.test/token", "/rest/api/v1.3", "api", "password").obtain(Attempt(0))
    next(login)
    with pytest.raises(StopIteration) as ended:
        login.send(Reply(200, {}, json.dumps({"authToken": SECRET, "endPoint": "https://api.test"}).encode()))
    # The upstream of these tests is elsewhere.
    return replace(ended.value.value.grant, base_url=None)


BEARER = Placement().build_grant(SECRET, None)
KINDS = {
    "basic": basic(),
    "headers": headers(),
    "oauth2 in a header": BEARER,
    "oauth2 in the query": Placement("query", "access_token", "").build_grant(SECRET, None),
    "oauth2 in the body": Placement("body", "access_token", "").build_grant(SECRET, None),
    "responsys": responsys(),
}
kinds = pytest.mark.parametrize("kind", KINDS)


def names(pairs: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    return tuple(name for name, _ in pairs)


def plane(
    upstream: MemoryUpstream,
    grant: Grant = BEARER,
    *,
    bodies: bool = True,
    source: FixedSource | None = None,
    watched: frozenset[int] = frozenset(),
    **options: object,
) -> AbstractAsyncContextManager[RunningPlane]:
    """Build a plane whose integration `h` has this grant. `bodies` enables redaction of bodies."""
    places = InjectionPoints(names(grant.headers), names(grant.query), names(grant.body))
    configured = integration("h", base_url(upstream.port), headers=(), traits=CredentialTraits(places, watched=watched))
    configured = replace(configured, redact_response=bodies)
    return running(configured, sources={"h": source or FixedSource(grant)}, **options)  # type: ignore[arg-type]


def chunked(*pieces: bytes, fields: bytes = b"", status: bytes = b"200 OK") -> bytes:
    """Build a response with these chunks."""
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece)
    return b"HTTP/1.1 " + status + b"\r\n" + fields + b"Transfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n"


def sized(body: bytes, fields: bytes = b"", status: bytes = b"200 OK") -> bytes:
    """Build a response with a Content-Length."""
    return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, fields, len(body), body)


async def echo(connection: RawConnection) -> None:
    """Repeat the request in the body, and each field and the target in fields."""
    while True:
        before = len(connection.received)
        message = await connection.request()
        raw = bytes(connection.received[before:])
        fields = b"".join(b"X-Echo: %b\r\n" % value for _, value in message.headers)
        fields += b"X-Target: %b\r\n" % message.target
        await connection.send(sized(raw, fields))


FORM = request("POST", "/a", "Content-Type: application/x-www-form-urlencoded", body=b"a=b")


@kinds
@pytest.mark.parametrize("bodies", [True, False])
async def test_every_kind_of_secret_is_redacted(kind: str, bodies: bool) -> None:
    """In heads always. Without `redact_response`, bodies pass byte for byte."""
    grant = KINDS[kind]
    async with MemoryUpstream(echo) as upstream, plane(upstream, grant, bodies=bodies) as sidekey:
        for _ in range(2):
            response = await sidekey.send(FORM)
            (received,) = {bytes(item) for item in upstream.received[-1:]}
            assert response.status == 200
            seen = b"\n".join(value for name, value in response.headers)
            spelled = [TOKEN, quote(SECRET, safe="").encode(), *grant.secrets]
            assert any(text in received for text in spelled)
            assert not any(text in seen for text in spelled)
            assert any(text in response.body for text in spelled) is not bodies
            assert (MARK in response.body) is bodies
            if grant.headers or grant.query:
                assert MARK in seen
            assert b"acme-corp" in seen or kind != "headers"


@pytest.mark.parametrize(
    "spelled",
    [
        TOKEN,
        quote(SECRET, safe="").encode(),
        quote(SECRET, safe="").lower().encode(),
        json.dumps(SECRET).replace("/", "\\/").strip('"').encode(),
        b64encode(TOKEN)[:20],
    ],
    ids=["exact", "percent", "percent in lower case", "json", "base64"],
)
async def test_the_value_of_any_field_is_redacted(spelled: bytes) -> None:
    """The position and the rest of the value stay."""
    fields = b"".join(
        b"%b: a %b b\r\n" % (name, spelled)
        for name in (b"Set-Cookie", b"X-Any", b"Server", b"WWW-Authenticate", b"via")
    )
    async with MemoryUpstream(respond_with(sized(b"", fields))) as upstream, plane(upstream, bodies=False) as sidekey:
        response = await sidekey.send(get())
    expected = [b"a [redacted] b"] * 5
    assert [value for name, value in response.fields if name not in (b"content-length", b"via")] == expected[:4]
    assert response.values(b"via")[0] == expected[4]


async def test_a_field_named_by_the_secret_is_left_out() -> None:
    token = Grant(headers=(("X-Key", "abcdefgh"),), secrets=(b"abcdefgh",))
    script = respond_with(sized(b"ok", b"X-abcdefgh: 1\r\nabcdefgh: 2\r\nX-B: 3\r\n"))
    async with MemoryUpstream(script) as upstream, plane(upstream, token) as sidekey:
        response = await sidekey.send(get())
    assert [name for name, _ in response.fields] == [b"x-b", b"transfer-encoding", b"via"]


async def test_framing_is_never_redacted() -> None:
    """Even a Content-Length equal to the secret stays."""
    token = Grant(headers=(("X-Key", "00000002"),), secrets=(b"00000002",))
    script = respond_with(b"HTTP/1.1 200 OK\r\nContent-Length: 00000002\r\nConnection: keep-alive, 00000002\r\n\r\nok")
    async with MemoryUpstream(script) as upstream, plane(upstream, token, bodies=False) as sidekey:
        response = await sidekey.send(get())
    assert (response.values(b"content-length"), response.body) == ([b"2"], b"ok")


@pytest.mark.parametrize("bodies", [True, False])
async def test_trailers_interim_responses_and_phrases_are_dropped(bodies: bool) -> None:
    """So they need no redaction."""
    raw = (
        b"HTTP/1.1 102 %b\r\nX: %b\r\n\r\nHTTP/1.1 103 a\r\nLink: <%b>\r\n\r\nHTTP/1.1 100 %b\r\nX: %b\r\n\r\n"
        b'HTTP/1.1 200 %b\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n2;x="%b"\r\nok\r\n0\r\nX-T: %b\r\n\r\n'
    ) % ((TOKEN,) * 8)
    async with (
        MemoryUpstream(respond_with(raw)) as upstream,
        plane(upstream, bodies=bodies) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(get("/a", "Expect: 100-continue"))
        await caller.until_contains(b"0\r\n\r\n")
        received = bytes(caller.received)
    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert received.endswith(b"2\r\nok\r\n0\r\n\r\n")
    assert TOKEN not in received
    assert MARK not in received


async def test_redaction_uses_the_grant_of_the_request() -> None:
    """Not a grant that was renewed meanwhile."""
    old, new = (Placement().build_grant(f"token-{word}", None) for word in ("before", "later!"))
    source = FixedSource(old)
    body = b"token-before token-later!"
    fields = b"X-A: token-before token-later!\r\n"
    async with (
        MemoryUpstream(respond_with()) as upstream,
        plane(upstream, old, source=source) as sidekey,
        sidekey.connect() as first,
        sidekey.connect() as second,
    ):
        await first.send(get())
        one = await upstream.connection(0)
        await one.request()
        source.grant = new
        await second.send(get())
        two = await upstream.connection(1)
        await two.request()
        await two.send(sized(body, fields))
        await one.send(sized(body, fields))
        responses = [await first.response(), await second.response()]
    assert [response.values(b"x-a") for response in responses] == [
        [b"[redacted] token-later!"],
        [b"token-before [redacted]"],
    ]
    assert [response.body for response in responses] == [b"[redacted] token-later!", b"token-before [redacted]"]


# Bodies: what is asked of the upstream, and how the response is framed.


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ((), b"identity"),
        (("Accept-Encoding: gzip, deflate, br, zstd",), b"gzip"),
        (("accept-encoding: br", "Accept_Encoding: *"), b"identity"),
    ],
)
async def test_sidekey_requests_only_codings_it_can_decode(fields: tuple[str, ...], asked: bytes) -> None:
    """And no ranges, because a part could start within a secret."""
    async with MemoryUpstream() as upstream, plane(upstream) as sidekey:
        ranges = ("Range: bytes=0-9", "if_range: x", "If-Range: x", "X-Mine: 1", "If-None-Match: a")
        assert (await sidekey.send(get("/a", *fields, *ranges))).status == 200
        (message,) = upstream.requests
    assert message.values(b"accept-encoding") == [asked]
    assert [name for name, _ in message.headers] == [
        b"host",
        b"authorization",
        b"accept-encoding",
        b"x-mine",
        b"if-none-match",
        b"via",
    ]


async def test_without_redaction_bodies_pass_unchanged() -> None:
    fields = b"ETag: 1\r\nContent-Encoding: br\r\nContent-Digest: a\r\nAccept-Ranges: bytes\r\n"
    async with MemoryUpstream(respond_with(sized(TOKEN, fields))) as upstream, plane(upstream, bodies=False) as sidekey:
        response = await sidekey.send(get("/a", "Accept-Encoding: br", "Range: bytes=0-9"))
        (message,) = upstream.requests
    assert (message.values(b"accept-encoding"), message.values(b"range")) == ([b"br"], [b"bytes=0-9"])
    assert response.body == TOKEN
    assert [name for name, _ in response.fields] == [
        b"etag",
        b"content-encoding",
        b"content-digest",
        b"accept-ranges",
        b"content-length",
        b"via",
    ]


GZIPPED = gzip.compress(b"a " + TOKEN + b" b", mtime=0)
DIGESTS = b"ETag: 1\r\nContent-MD5: a\r\nDigest: a\r\nRepr-Digest: a\r\nContent-Digest: a\r\nAccept-Ranges: bytes\r\n"
FRAMED = {
    "length": (sized(b"a " + TOKEN + b" b", DIGESTS), False),
    "chunked": (chunked(b"a ", TOKEN[:3], TOKEN[3:], b" b", fields=DIGESTS), False),
    "until close": (b"HTTP/1.1 200 OK\r\n" + DIGESTS + b"\r\na " + TOKEN + b" b", True),
    "gzip": (sized(GZIPPED, DIGESTS + b"Content-Encoding: gzip\r\n"), False),
    "gzip, chunked": (chunked(GZIPPED[:9], GZIPPED[9:], fields=DIGESTS + b"Content-Encoding: x-gzip\r\n"), False),
    "gzip, until close": (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n" + DIGESTS + b"\r\n" + GZIPPED, True),
}


@pytest.mark.parametrize("name", FRAMED)
@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("bytewise", [True, False])
async def test_redacted_body_is_decoded_and_chunked(name: str, version: str, bytewise: bool) -> None:
    """To HTTP/1.0 it ends with the connection. Fields that describe the original body are removed."""
    raw, closes = FRAMED[name]

    async def script(connection: RawConnection) -> None:
        await connection.request()
        for piece in [raw[at : at + 1] for at in range(len(raw))] if bytewise else [raw]:
            await connection.send(piece)
            await asyncio.sleep(0)
        if closes:
            connection.transport.close()

    async with MemoryUpstream(script) as upstream, plane(upstream) as sidekey, sidekey.connect() as caller:
        await caller.send(get(version=version))
        response = await caller.response()
        if version == "1.0":
            await caller.until_ended()
    assert (response.status, response.body) == (200, b"a [redacted] b")
    framing = [(b"transfer-encoding", b"chunked")] if version == "1.1" else []
    assert [field for field in response.fields if field[0] not in (b"via", b"connection")] == framing


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", [b"200 OK", b"204 No Content", b"304 Not Modified"])
async def test_responses_without_a_body_stay_empty(method: str, status: bytes) -> None:
    """With any coding. The response to HEAD has the fields of GET, without a length."""
    length = (
        b"" if status.startswith(b"204") else b"Content-Length: 0\r\n" if method == "GET" else b"Content-Length: 9\r\n"
    )
    fields = b"Content-Encoding: br\r\n" + DIGESTS + b"X-A: " + TOKEN + b"\r\n"
    raw = b"HTTP/1.1 " + status + b"\r\n" + fields + length + b"\r\n"
    async with (
        MemoryUpstream(respond_with(raw, raw)) as upstream,
        plane(upstream) as sidekey,
        sidekey.connect() as caller,
    ):
        for _ in range(2):
            await caller.send(request(method))
            response = await caller.response(to_head=method == "HEAD")
            assert (response.status, response.body, response.values(b"x-a")) == (int(status[:3]), b"", [MARK])
            left = {name for name, _ in response.fields} - {b"x-a", b"via"}
            assert left == ({b"content-length"} if method == "GET" and response.status == 200 else set())
        assert len(upstream.connections) == 1


async def test_redacted_events_are_delivered_immediately() -> None:
    """Each server-sent event reaches the caller before the upstream sends the next one."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with MemoryUpstream(respond_with(head)) as upstream, plane(upstream) as sidekey, sidekey.connect() as caller:
        await caller.send(get())
        await caller.until_contains(b"\r\n\r\n")
        connection = await upstream.connection()
        for number in range(20):
            event = b"data: %d %b\n\n" % (number, TOKEN if number % 2 else TOKEN[:number])
            await connection.send(b"%x\r\n%b\r\n" % (len(event), event))
            seen = event.replace(TOKEN, MARK)
            await caller.until_contains(b"%x\r\n%b\r\n" % (len(seen), seen))
        await connection.send(b"0\r\n\r\n")
        assert TOKEN not in (await caller.response()).body


async def test_redacted_gzip_events_are_delivered_immediately() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    compress = zlib.compressobj(wbits=31)
    async with MemoryUpstream(respond_with(head)) as upstream, plane(upstream) as sidekey, sidekey.connect() as caller:
        await caller.send(get())
        await caller.until_contains(b"\r\n\r\n")
        connection = await upstream.connection()
        for number in range(5):
            event = compress.compress(b"data: %d\n\n" % number) + compress.flush(zlib.Z_SYNC_FLUSH)
            await connection.send(b"%x\r\n%b\r\n" % (len(event), event))
            await caller.until_contains(b"data: %d\n\n\r\n" % number)
        end = compress.flush()
        await connection.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(end), end))
        assert (await caller.response()).body == b"".join(b"data: %d\n\n" % number for number in range(5))


async def test_secret_in_any_pieces_is_redacted() -> None:
    text = b"x" + TOKEN + b"y"
    for at in range(1, len(text)):
        first, rest = text[:at], text[at:]
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        async with (
            MemoryUpstream(respond_with(head)) as upstream,
            plane(upstream) as sidekey,
            sidekey.connect() as caller,
        ):
            await caller.send(get())
            await caller.until_contains(b"\r\n\r\n")
            connection = await upstream.connection()
            await connection.send(b"%x\r\n%b\r\n" % (len(first), first))
            await settle()
            await connection.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(rest), rest))
            assert (await caller.response()).body == b"x[redacted]y"


async def test_long_body_that_bypasses_the_parser_is_redacted() -> None:
    """The upstream connection is reused."""
    body = (b"x" * 70_000 + TOKEN) * 20
    async with MemoryUpstream(respond_with(sized(body), sized(b"ok"))) as upstream, plane(upstream) as sidekey:
        async with sidekey.connect() as caller:
            await caller.send(get())
            assert (await caller.response()).body == body.replace(TOKEN, MARK)
            await caller.send(get())
            assert (await caller.response()).body == b"ok"
        assert len(upstream.connections) == 1


# What cannot be read.

UNREADABLE = {
    "br": sized(TOKEN, b"Content-Encoding: br\r\n"),
    "deflate": sized(zlib.compress(TOKEN), b"Content-Encoding: deflate\r\n"),
    "zstd": chunked(TOKEN, fields=b"Content-Encoding: zstd\r\n"),
    "unknown": sized(TOKEN, b"Content-Encoding: rot13\r\n"),
    "twice": sized(gzip.compress(GZIPPED), b"Content-Encoding: gzip, gzip\r\n"),
    "in two fields": sized(GZIPPED, b"Content-Encoding: gzip\r\nContent-Encoding: identity\r\n"),
    "hidden by Connection": sized(TOKEN, b"Content-Encoding: br\r\nConnection: Content-Encoding\r\n"),
    "broken": sized(TOKEN, b"Content-Encoding: gzip\r\n"),
    "cut": sized(GZIPPED[:-3], b"Content-Encoding: gzip\r\n"),
}


@pytest.mark.parametrize("status", [b"200 OK", b"401 Unauthorized"])
@pytest.mark.parametrize("name", UNREADABLE)
async def test_undecodable_body_is_502(name: str, status: bytes) -> None:
    """The upstream may have processed the request. A 401 still rejects the grant."""
    raw = UNREADABLE[name].replace(b"200 OK", status)
    later = Placement().build_grant("another-token", None)
    source = RenewedSource(BEARER, later)
    options = {"source": source, "watched": frozenset({401})}
    async with MemoryUpstream(respond_with(raw)) as upstream, plane(upstream, **options) as sidekey:  # type: ignore[arg-type]
        response = await sidekey.send(get())
        assert response.status == 502
        error = problem(response)
        assert (error["code"], error["error"], error["sent"]) == (
            "upstream_protocol_error",
            "http_protocol_error",
            "maybe",
        )
        assert TOKEN not in response.body
        assert [judged[0] for judged in source.judged] == ([401] if status.startswith(b"401") else [])
        await sidekey.wait_for_outcomes("h", upstream_protocol_error=1)


@pytest.mark.parametrize("end", [b"garbage", b""])
async def test_body_with_a_corrupt_coding_is_truncated(end: bytes) -> None:
    """It must not look complete, although the framing is."""
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    compress = zlib.compressobj(wbits=31)
    begun = compress.compress(b"hello") + compress.flush(zlib.Z_SYNC_FLUSH)
    async with MemoryUpstream(respond_with(head)) as upstream, plane(upstream) as sidekey, sidekey.connect() as caller:
        await caller.send(get())
        await caller.until_contains(b"\r\n\r\n")
        connection = await upstream.connection()
        await connection.send(b"%x\r\n%b\r\n" % (len(begun), begun))
        await caller.until_contains(b"5\r\nhello\r\n")
        chunk = b"%x\r\n%b\r\n" % (len(end), end) if end else b""
        await connection.send(chunk + b"0\r\n\r\n")
        await caller.until_lost()
        assert not bytes(caller.received).endswith(b"0\r\n\r\n")
        await sidekey.wait_for_outcomes("h", upstream_protocol_error=1)


async def test_body_passes_unchanged_without_a_searchable_secret() -> None:
    short = Grant(headers=(("X-Key", "short"),), secrets=(b"short",))
    raw = sized(b"short", b"ETag: 1\r\nContent-Encoding: br\r\n")
    async with MemoryUpstream(respond_with(raw)) as upstream, plane(upstream, short) as sidekey:
        response = await sidekey.send(get())
    assert (response.body, response.values(b"etag")) == (b"short", [b"1"])


# Responses that may refuse the grant.


@pytest.mark.parametrize("fields", [b"", b"Content-Encoding: gzip\r\n"])
@pytest.mark.parametrize("size", [10, MAX_HELD, 3 * MAX_HELD])
async def test_forwarded_refusal_is_redacted(fields: bytes, size: int) -> None:
    """Held or too long to hold. Sidekey evaluates its decoded body."""
    body = b"x" * (size - len(TOKEN)) + b" " + TOKEN
    raw = sized(gzip.compress(body) if fields else body, fields, b"401 Unauthorized")
    source = RenewedSource(BEARER)
    options = {"source": source, "watched": frozenset({401})}
    async with MemoryUpstream(respond_with(raw, raw)) as upstream, plane(upstream, **options) as sidekey:  # type: ignore[arg-type]
        async with sidekey.connect() as caller:
            for _ in range(2):
                await caller.send(get())
                response = await caller.response()
                assert (response.status, response.body) == (401, body.replace(TOKEN, MARK))
        assert [judged[1] is None for judged in source.judged] == [size > MAX_HELD] * 2


async def test_response_to_a_replay_is_redacted_with_the_newer_grant() -> None:
    new = Placement().build_grant("another-token", None)
    first = sized(TOKEN, b"X-A: " + TOKEN + b"\r\n", b"401 Unauthorized")
    second = sized(b"another-token", b"X-A: another-token\r\n")
    replies = [first, second]

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(replies.pop(0))

    options = {"source": RenewedSource(BEARER, new), "watched": frozenset({401})}
    async with MemoryUpstream(script) as upstream, plane(upstream, **options) as sidekey:  # type: ignore[arg-type]
        response = await sidekey.send(get())
        assert (response.status, response.body, response.values(b"x-a")) == (200, MARK, [MARK])
        assert [message.values(b"authorization")[0] for message in upstream.requests] == [
            b"Bearer " + TOKEN,
            b"Bearer another-token",
        ]


async def test_compressed_refusal_waits_for_the_newer_grant() -> None:
    """Sidekey decodes no more meanwhile. Without a newer grant, the whole body passes."""
    body = bytes(8 * MAX_HELD)
    raw = sized(gzip.compress(body), b"Content-Encoding: gzip\r\n", b"401 Unauthorized")
    source = RenewedSource(BEARER, Placement().build_grant("another-token", None))
    source.go.clear()
    options = {"source": source, "watched": frozenset({401})}
    async with MemoryUpstream(respond_with(raw)) as upstream, plane(upstream, **options) as sidekey:  # type: ignore[arg-type]
        asking = asyncio.create_task(sidekey.send(get()))
        await eventually(lambda: source.judged)
        source._next.clear()
        source.go.set()
        response = await asking
        assert (response.status, response.body) == (401, body)


# Backpressure.

REDACTING = replace(
    integration("h", base_url(1), headers=(), traits=CredentialTraits(InjectionPoints(headers=("Authorization",)))),
    redact_response=True,
)


async def forwarded_request() -> tuple[ScriptedPlane, RecordingTransport, RecordingTransport]:
    """Return the caller and the upstream of a forwarded request."""
    scripted = ScriptedPlane(REDACTING, sources={"h": FixedSource(BEARER)}, timeouts=Timeouts())
    caller = scripted.caller()
    caller.feed(get())
    upstream = await scripted.upstream()
    assert upstream.read().endswith(b"\r\n\r\n")
    return scripted, caller, upstream


BOMB = gzip.compress(bytes(400 * STEP), mtime=0)


@pytest.mark.parametrize("framing", ["length", "until close"])
async def test_decoding_waits_for_the_caller(framing: str) -> None:
    """At most one step ahead of the caller."""
    scripted, caller, upstream = await forwarded_request()
    caller.block_writes()
    if framing == "length":
        upstream.feed(sized(BOMB, b"Content-Encoding: gzip\r\n"))
    else:
        upstream.feed(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + BOMB)
    await settle()
    assert len(caller.read()) < 2 * STEP
    for _ in range(5):
        caller.drain_once()
        await settle()
        assert 0 < len(caller.read()) < 2 * STEP
    caller.allow_writes()
    received = bytearray()
    while not received.endswith(b"0\r\n\r\n"):
        await settle()
        received += caller.read()
        if framing != "length" and upstream.reading:
            upstream.finish()
            framing = "length"
    assert scripted.metrics.in_flight == 0
    assert scripted.defects == []
    scripted.plane.worker.deadlines.look(0)


async def test_decoding_yields_to_other_work_of_the_loop() -> None:
    """After each mebibyte. Sidekey does not read the upstream meanwhile."""
    scripted, caller, upstream = await forwarded_request()
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    upstream.feed(head + b"%x\r\n%b\r\n" % (len(BOMB), BOMB))
    turns = []
    while not upstream.reading:
        turns.append(len(caller.read()))
        await asyncio.sleep(0)
    turns.append(len(caller.read()))
    assert max(turns) < 18 * STEP
    assert sum(map(bool, turns)) > 20
    upstream.feed(b"0\r\n\r\n")
    await settle()
    assert caller.read() == b"0\r\n\r\n"
    assert scripted.defects == []


@pytest.mark.parametrize("leaves", ["caller", "upstream"])
async def test_either_side_may_disconnect_during_decoding(leaves: str) -> None:
    """The exchange ends once, and a truncated body does not look complete."""
    scripted, caller, upstream = await forwarded_request()
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    upstream.feed(head + b"%x\r\n%b\r\n" % (len(BOMB), BOMB))
    (caller if leaves == "caller" else upstream).fail(ConnectionResetError())
    await settle()
    assert scripted.metrics.in_flight == 0
    assert (upstream if leaves == "caller" else caller).truncated
    assert not bytes(caller.written).endswith(b"0\r\n\r\n")
    assert scripted.defects == []


async def test_early_response_that_waits_for_the_caller_stops_the_upload() -> None:
    """The upstream connection is closed by then."""
    scripted = ScriptedPlane(REDACTING, sources={"h": FixedSource(BEARER)})
    caller = scripted.caller()
    caller.feed(request("POST", "/a", "Content-Length: 100000") + b"x")
    upstream = await scripted.upstream()
    caller.block_writes()
    upstream.feed(sized(BOMB, b"Content-Encoding: gzip\r\n"))
    await settle()
    assert not caller.reading
    caller.allow_writes()
    while bytes(caller.written[-5:]) != b"0\r\n\r\n":
        await settle()
    assert scripted.metrics.in_flight == 0
    assert b"\r\nConnection: close\r\n" in caller.read()[:500]
    assert scripted.defects == []
