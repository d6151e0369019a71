"""An upstream that repeats the credential: what the caller sees of it, in heads always and in bodies where asked."""

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
from sidekey.proxy.exchange.response_body import MAX_BUFFERED
from sidekey.snapshot.request_rules import Timeouts
from support.memory import Upstream, running
from support.plane import FixedSource, RenewedSource, Running, base_url, eventually, get, integration, problem, request
from support.raw_connection import RawConnection
from support.scripted import RecordingTransport, Scripted, settle
from support.upstream import answering

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


BEARER = Placement().grant(SECRET, None)
KINDS = {
    "basic": basic(),
    "headers": headers(),
    "oauth2 in a header": BEARER,
    "oauth2 in the query": Placement("query", "access_token", "").grant(SECRET, None),
    "oauth2 in the body": Placement("body", "access_token", "").grant(SECRET, None),
    "responsys": responsys(),
}
kinds = pytest.mark.parametrize("kind", KINDS)


def names(pairs: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    return tuple(name for name, _ in pairs)


def plane(
    upstream: Upstream,
    grant: Grant = BEARER,
    *,
    bodies: bool = True,
    source: FixedSource | None = None,
    watched: frozenset[int] = frozenset(),
    **options: object,
) -> AbstractAsyncContextManager[Running]:
    """A plane whose integration `h` injects this grant, and redacts `bodies` or not."""
    places = InjectionPoints(names(grant.headers), names(grant.query), names(grant.body))
    made = integration("h", base_url(upstream.port), headers=(), traits=CredentialTraits(places, watched=watched))
    made = replace(made, redact_response=bodies)
    return running(made, sources={"h": source or FixedSource(grant)}, **options)  # type: ignore[arg-type]


def chunked(*pieces: bytes, fields: bytes = b"", status: bytes = b"200 OK") -> bytes:
    """A response whose body comes in these chunks."""
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece)
    return b"HTTP/1.1 " + status + b"\r\n" + fields + b"Transfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n"


def sized(body: bytes, fields: bytes = b"", status: bytes = b"200 OK") -> bytes:
    """A response whose body has this length."""
    return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, fields, len(body), body)


async def echo(connection: RawConnection) -> None:
    """Repeat the request as it came: in the body, each field in a field, its target in another."""
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
async def test_no_kind_of_secret_comes_back(kind: str, bodies: bool) -> None:
    """In the head never, in the body where it is not asked for byte for byte; the upstream gets what it must."""
    grant = KINDS[kind]
    async with Upstream(echo) as upstream, plane(upstream, grant, bodies=bodies) as sidekey:
        for _ in range(2):
            answer = await sidekey.ask(FORM)
            (received,) = {bytes(each) for each in upstream.received[-1:]}
            assert answer.status == 200
            seen = b"\n".join(value for name, value in answer.headers)
            spelled = [TOKEN, quote(SECRET, safe="").encode(), *grant.secrets]
            assert any(text in received for text in spelled)
            assert not any(text in seen for text in spelled)
            assert any(text in answer.body for text in spelled) is not bodies
            assert (MARK in answer.body) is bodies
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
    """Whatever its name; its place and the rest of it stay."""
    fields = b"".join(
        b"%b: a %b b\r\n" % (name, spelled)
        for name in (b"Set-Cookie", b"X-Any", b"Server", b"WWW-Authenticate", b"via")
    )
    async with Upstream(answering(sized(b"", fields))) as upstream, plane(upstream, bodies=False) as sidekey:
        answer = await sidekey.ask(get())
    expected = [b"a [redacted] b"] * 5
    assert [value for name, value in answer.fields if name not in (b"content-length", b"via")] == expected[:4]
    assert answer.values(b"via")[0] == expected[4]


async def test_a_field_named_by_the_secret_is_left_out() -> None:
    token = Grant(headers=(("X-Key", "abcdefgh"),), secrets=(b"abcdefgh",))
    script = answering(sized(b"ok", b"X-abcdefgh: 1\r\nabcdefgh: 2\r\nX-B: 3\r\n"))
    async with Upstream(script) as upstream, plane(upstream, token) as sidekey:
        answer = await sidekey.ask(get())
    assert [name for name, _ in answer.fields] == [b"x-b", b"transfer-encoding", b"via"]


async def test_framing_is_never_touched() -> None:
    """A length that happens to be the secret is still the length."""
    token = Grant(headers=(("X-Key", "00000002"),), secrets=(b"00000002",))
    script = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 00000002\r\nConnection: keep-alive, 00000002\r\n\r\nok")
    async with Upstream(script) as upstream, plane(upstream, token, bodies=False) as sidekey:
        answer = await sidekey.ask(get())
    assert (answer.values(b"content-length"), answer.body) == ([b"2"], b"ok")


@pytest.mark.parametrize("bodies", [True, False])
async def test_trailers_interim_responses_and_phrases_tell_nothing(bodies: bool) -> None:
    """None of them is passed on: there is nothing to search."""
    raw = (
        b"HTTP/1.1 102 %b\r\nX: %b\r\n\r\nHTTP/1.1 103 a\r\nLink: <%b>\r\n\r\nHTTP/1.1 100 %b\r\nX: %b\r\n\r\n"
        b'HTTP/1.1 200 %b\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n2;x="%b"\r\nok\r\n0\r\nX-T: %b\r\n\r\n'
    ) % ((TOKEN,) * 8)
    async with (
        Upstream(answering(raw)) as upstream,
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


async def test_what_is_searched_is_what_this_request_was_sent_with() -> None:
    """A grant that is renewed meanwhile is the next request's."""
    old, new = (Placement().grant(f"token-{word}", None) for word in ("before", "later!"))
    source = FixedSource(old)
    body = b"token-before token-later!"
    fields = b"X-A: token-before token-later!\r\n"
    async with (
        Upstream(answering()) as upstream,
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
        answers = [await first.response(), await second.response()]
    assert [answer.values(b"x-a") for answer in answers] == [[b"[redacted] token-later!"], [b"token-before [redacted]"]]
    assert [answer.body for answer in answers] == [b"[redacted] token-later!", b"token-before [redacted]"]


# Bodies: what is asked of the upstream, and how the response is framed.


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ((), b"identity"),
        (("Accept-Encoding: gzip, deflate, br, zstd",), b"gzip"),
        (("accept-encoding: br", "Accept_Encoding: *"), b"identity"),
    ],
)
async def test_nothing_is_asked_for_that_cannot_be_read(fields: tuple[str, ...], asked: bytes) -> None:
    """Nor a part of a body, which may end within a secret; the rest of the request stays as it is."""
    async with Upstream() as upstream, plane(upstream) as sidekey:
        ranges = ("Range: bytes=0-9", "if_range: x", "If-Range: x", "X-Mine: 1", "If-None-Match: a")
        assert (await sidekey.ask(get("/a", *fields, *ranges))).status == 200
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


async def test_without_it_nothing_of_this_happens() -> None:
    """The head apart, every byte passes as ever."""
    fields = b"ETag: 1\r\nContent-Encoding: br\r\nContent-Digest: a\r\nAccept-Ranges: bytes\r\n"
    async with Upstream(answering(sized(TOKEN, fields))) as upstream, plane(upstream, bodies=False) as sidekey:
        answer = await sidekey.ask(get("/a", "Accept-Encoding: br", "Range: bytes=0-9"))
        (message,) = upstream.requests
    assert (message.values(b"accept-encoding"), message.values(b"range")) == ([b"br"], [b"bytes=0-9"])
    assert answer.body == TOKEN
    assert [name for name, _ in answer.fields] == [
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
async def test_a_body_comes_decoded_and_of_unknown_length(name: str, version: str, bytewise: bool) -> None:
    """In chunks, or to HTTP/1.0 with the connection's end; nothing that was true of the former body is said."""
    raw, closes = FRAMED[name]

    async def script(connection: RawConnection) -> None:
        await connection.request()
        for piece in [raw[at : at + 1] for at in range(len(raw))] if bytewise else [raw]:
            await connection.send(piece)
            await asyncio.sleep(0)
        if closes:
            connection.transport.close()

    async with Upstream(script) as upstream, plane(upstream) as sidekey, sidekey.connect() as caller:
        await caller.send(get(version=version))
        answer = await caller.response()
        if version == "1.0":
            await caller.until_ended()
    assert (answer.status, answer.body) == (200, b"a [redacted] b")
    framing = [(b"transfer-encoding", b"chunked")] if version == "1.1" else []
    assert [field for field in answer.fields if field[0] not in (b"via", b"connection")] == framing


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", [b"200 OK", b"204 No Content", b"304 Not Modified"])
async def test_responses_without_a_body_have_none(method: str, status: bytes) -> None:
    """Whatever coding they name; a HEAD is answered with the fields of a GET, whose length is not known."""
    length = (
        b"" if status.startswith(b"204") else b"Content-Length: 0\r\n" if method == "GET" else b"Content-Length: 9\r\n"
    )
    fields = b"Content-Encoding: br\r\n" + DIGESTS + b"X-A: " + TOKEN + b"\r\n"
    raw = b"HTTP/1.1 " + status + b"\r\n" + fields + length + b"\r\n"
    async with (
        Upstream(answering(raw, raw)) as upstream,
        plane(upstream) as sidekey,
        sidekey.connect() as caller,
    ):
        for _ in range(2):
            await caller.send(request(method))
            answer = await caller.response(to_head=method == "HEAD")
            assert (answer.status, answer.body, answer.values(b"x-a")) == (int(status[:3]), b"", [MARK])
            left = {name for name, _ in answer.fields} - {b"x-a", b"via"}
            assert left == ({b"content-length"} if method == "GET" and answer.status == 200 else set())
        assert len(upstream.connections) == 1


async def test_events_come_as_they_are_sent() -> None:
    """Server-sent events stay live: each is with the caller before the next one is sent."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with Upstream(answering(head)) as upstream, plane(upstream) as sidekey, sidekey.connect() as caller:
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


async def test_events_in_gzip_come_as_they_are_flushed() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    compress = zlib.compressobj(wbits=31)
    async with Upstream(answering(head)) as upstream, plane(upstream) as sidekey, sidekey.connect() as caller:
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


async def test_a_secret_in_any_pieces_is_found() -> None:
    """Chunks and reads end where they will."""
    text = b"x" + TOKEN + b"y"
    for at in range(1, len(text)):
        first, rest = text[:at], text[at:]
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        async with Upstream(answering(head)) as upstream, plane(upstream) as sidekey, sidekey.connect() as caller:
            await caller.send(get())
            await caller.until_contains(b"\r\n\r\n")
            connection = await upstream.connection()
            await connection.send(b"%x\r\n%b\r\n" % (len(first), first))
            await settle()
            await connection.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(rest), rest))
            assert (await caller.response()).body == b"x[redacted]y"


async def test_a_long_body_that_passes_the_parser_by_is_searched() -> None:
    """What is handed on without llhttp is handed on all the same; and the connection is used again."""
    body = (b"x" * 70_000 + TOKEN) * 20
    async with Upstream(answering(sized(body), sized(b"ok"))) as upstream, plane(upstream) as sidekey:
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
async def test_a_body_that_cannot_be_read_does_not_pass(name: str, status: bytes) -> None:
    """502, and the upstream may have acted on the request; a 401 still says that the grant is refused."""
    raw = UNREADABLE[name].replace(b"200 OK", status)
    later = Placement().grant("another-token", None)
    source = RenewedSource(BEARER, later)
    options = {"source": source, "watched": frozenset({401})}
    async with Upstream(answering(raw)) as upstream, plane(upstream, **options) as sidekey:  # type: ignore[arg-type]
        answer = await sidekey.ask(get())
        assert answer.status == 502
        said = problem(answer)
        assert (said["code"], said["error"], said["sent"]) == (
            "upstream_protocol_error",
            "http_protocol_error",
            "maybe",
        )
        assert TOKEN not in answer.body
        assert [judged[0] for judged in source.judged] == ([401] if status.startswith(b"401") else [])
        await sidekey.outcomes("h", upstream_protocol_error=1)


@pytest.mark.parametrize("end", [b"garbage", b""])
async def test_a_body_that_breaks_in_the_middle_is_cut(end: bytes) -> None:
    """It never looks complete, although the upstream's framing is."""
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    compress = zlib.compressobj(wbits=31)
    begun = compress.compress(b"hello") + compress.flush(zlib.Z_SYNC_FLUSH)
    async with Upstream(answering(head)) as upstream, plane(upstream) as sidekey, sidekey.connect() as caller:
        await caller.send(get())
        await caller.until_contains(b"\r\n\r\n")
        connection = await upstream.connection()
        await connection.send(b"%x\r\n%b\r\n" % (len(begun), begun))
        await caller.until_contains(b"5\r\nhello\r\n")
        chunk = b"%x\r\n%b\r\n" % (len(end), end) if end else b""
        await connection.send(chunk + b"0\r\n\r\n")
        await caller.until_lost()
        assert not bytes(caller.received).endswith(b"0\r\n\r\n")
        await sidekey.outcomes("h", upstream_protocol_error=1)


async def test_where_no_secret_can_be_searched_bodies_pass_as_they_are() -> None:
    """Nothing would be gained."""
    short = Grant(headers=(("X-Key", "short"),), secrets=(b"short",))
    raw = sized(b"short", b"ETag: 1\r\nContent-Encoding: br\r\n")
    async with Upstream(answering(raw)) as upstream, plane(upstream, short) as sidekey:
        answer = await sidekey.ask(get())
    assert (answer.body, answer.values(b"etag")) == (b"short", [b"1"])


# Responses that may refuse the grant.


@pytest.mark.parametrize("fields", [b"", b"Content-Encoding: gzip\r\n"])
@pytest.mark.parametrize("size", [10, MAX_BUFFERED, 3 * MAX_BUFFERED])
async def test_a_refusal_that_passes_is_redacted(fields: bytes, size: int) -> None:
    """Held back or too long for that; it is judged by its decoded body."""
    body = b"x" * (size - len(TOKEN)) + b" " + TOKEN
    raw = sized(gzip.compress(body) if fields else body, fields, b"401 Unauthorized")
    source = RenewedSource(BEARER)
    options = {"source": source, "watched": frozenset({401})}
    async with Upstream(answering(raw, raw)) as upstream, plane(upstream, **options) as sidekey:  # type: ignore[arg-type]
        async with sidekey.connect() as caller:
            for _ in range(2):
                await caller.send(get())
                answer = await caller.response()
                assert (answer.status, answer.body) == (401, body.replace(TOKEN, MARK))
        assert [judged[1] is None for judged in source.judged] == [size > MAX_BUFFERED] * 2


async def test_the_second_response_is_searched_for_the_newer_grant() -> None:
    """The request was sent with it; of the first response nothing is left."""
    new = Placement().grant("another-token", None)
    first = sized(TOKEN, b"X-A: " + TOKEN + b"\r\n", b"401 Unauthorized")
    second = sized(b"another-token", b"X-A: another-token\r\n")
    replies = [first, second]

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(replies.pop(0))

    options = {"source": RenewedSource(BEARER, new), "watched": frozenset({401})}
    async with Upstream(script) as upstream, plane(upstream, **options) as sidekey:  # type: ignore[arg-type]
        answer = await sidekey.ask(get())
        assert (answer.status, answer.body, answer.values(b"x-a")) == (200, MARK, [MARK])
        assert [message.values(b"authorization")[0] for message in upstream.requests] == [
            b"Bearer " + TOKEN,
            b"Bearer another-token",
        ]


async def test_a_refusal_that_inflates_waits_for_the_newer_grant() -> None:
    """Meanwhile no more of it is inflated; without a newer grant all of it comes."""
    body = bytes(8 * MAX_BUFFERED)
    raw = sized(gzip.compress(body), b"Content-Encoding: gzip\r\n", b"401 Unauthorized")
    source = RenewedSource(BEARER, Placement().grant("another-token", None))
    source.go.clear()
    options = {"source": source, "watched": frozenset({401})}
    async with Upstream(answering(raw)) as upstream, plane(upstream, **options) as sidekey:  # type: ignore[arg-type]
        asking = asyncio.create_task(sidekey.ask(get()))
        await eventually(lambda: source.judged)
        source._next.clear()
        source.go.set()
        answer = await asking
        assert (answer.status, answer.body) == (401, body)


# Backpressure.

REDACTING = replace(
    integration("h", base_url(1), headers=(), traits=CredentialTraits(InjectionPoints(headers=("Authorization",)))),
    redact_response=True,
)


async def begun() -> tuple[Scripted, RecordingTransport, RecordingTransport]:
    """A request that has been sent, its caller and its upstream."""
    scripted = Scripted(REDACTING, sources={"h": FixedSource(BEARER)}, timeouts=Timeouts())
    caller = scripted.caller()
    caller.feed(get())
    upstream = await scripted.upstream()
    assert upstream.take().endswith(b"\r\n\r\n")
    return scripted, caller, upstream


BOMB = gzip.compress(bytes(400 * STEP), mtime=0)


@pytest.mark.parametrize("framing", ["length", "until close"])
async def test_what_inflates_waits_for_the_caller(framing: str) -> None:
    """At most a step more than the caller takes; the upstream's connection is free, or read again, when all is out."""
    scripted, caller, upstream = await begun()
    caller.choke()
    if framing == "length":
        upstream.feed(sized(BOMB, b"Content-Encoding: gzip\r\n"))
    else:
        upstream.feed(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + BOMB)
    await settle()
    assert len(caller.take()) < 2 * STEP
    for _ in range(5):
        caller.sip()
        await settle()
        assert 0 < len(caller.take()) < 2 * STEP
    caller.relieve()
    received = bytearray()
    while not received.endswith(b"0\r\n\r\n"):
        await settle()
        received += caller.take()
        if framing != "length" and upstream.reading:
            upstream.finish()
            framing = "length"
    assert scripted.metrics.in_flight == 0
    assert scripted.defects == []
    scripted.plane.worker.deadlines.look(0)


async def test_others_have_their_turn_while_much_is_inflated() -> None:
    """A mebibyte at a time, with the loop's other work in between; the upstream is not read meanwhile."""
    scripted, caller, upstream = await begun()
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    upstream.feed(head + b"%x\r\n%b\r\n" % (len(BOMB), BOMB))
    turns = []
    while not upstream.reading:
        turns.append(len(caller.take()))
        await asyncio.sleep(0)
    turns.append(len(caller.take()))
    assert max(turns) < 18 * STEP
    assert sum(map(bool, turns)) > 20
    upstream.feed(b"0\r\n\r\n")
    await settle()
    assert caller.take() == b"0\r\n\r\n"
    assert scripted.defects == []


@pytest.mark.parametrize("leaves", ["caller", "upstream"])
async def test_either_side_may_leave_while_much_is_inflated(leaves: str) -> None:
    """The exchange ends once; what was inflated in part is no response."""
    scripted, caller, upstream = await begun()
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    upstream.feed(head + b"%x\r\n%b\r\n" % (len(BOMB), BOMB))
    (caller if leaves == "caller" else upstream).lose(ConnectionResetError())
    await settle()
    assert scripted.metrics.in_flight == 0
    assert (upstream if leaves == "caller" else caller).cut
    assert not bytes(caller.written).endswith(b"0\r\n\r\n")
    assert scripted.defects == []


async def test_an_early_response_that_waits_for_the_caller_takes_no_more_of_the_upload() -> None:
    """The upstream's connection is gone by then, so there is nowhere to write it."""
    scripted = Scripted(REDACTING, sources={"h": FixedSource(BEARER)})
    caller = scripted.caller()
    caller.feed(request("POST", "/a", "Content-Length: 100000") + b"x")
    upstream = await scripted.upstream()
    caller.choke()
    upstream.feed(sized(BOMB, b"Content-Encoding: gzip\r\n"))
    await settle()
    assert not caller.reading
    caller.relieve()
    while bytes(caller.written[-5:]) != b"0\r\n\r\n":
        await settle()
    assert scripted.metrics.in_flight == 0
    assert b"\r\nConnection: close\r\n" in caller.take()[:500]
    assert scripted.defects == []
