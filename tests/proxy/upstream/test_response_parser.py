"""Parsing of upstream responses: in any reads, within limits, and unambiguous."""

from __future__ import annotations

import pytest

from sidekey.credentials.base import CredentialTraits, InjectionPoints
from sidekey.snapshot.request_rules import Limits, Timeouts
from support import wire
from support.framing import response_head
from support.plane import base_url, get, integration, problem, request
from support.scripted import ScriptedPlane, send_request, settle, single_response
from support.upstream import OK

H = integration("h", base_url(1))


CHUNKS = b"3;q=1\r\nhel\r\n2\r\nlo\r\n0\r\nX-Trailer: 1\r\nSet-Cookie: evil=1\r\n\r\n"
CHUNKED = response_head("Transfer-Encoding: chunked") + CHUNKS

ANSWERS = {
    "Content-Length": (response_head("Content-Length: 5") + b"hello", 200, b"hello", True),
    "spaces around Content-Length": (response_head("Content-Length:  5\t") + b"hello", 200, b"hello", True),
    "no body": (response_head("Content-Length: 0"), 200, b"", True),
    "chunked": (CHUNKED, 200, b"hello", True),
    "an unusual spelling of chunked": (response_head("transfer-encoding:   CHUNKED") + CHUNKS, 200, b"hello", True),
    "204": (response_head(status="204 No Content"), 204, b"", True),
    "204 with a length": (response_head("Content-Length: 0", status="204 No Content"), 204, b"", True),
    "204 that announces a body": (response_head("Content-Length: 5", status="204 No Content"), 204, b"", False),
    "304 with a length": (response_head("Content-Length: 5", status="304 Not Modified"), 304, b"", True),
    "early hints first": (response_head("Link: x", status="103 Early Hints") + CHUNKED, 200, b"hello", True),
    "continue first": (response_head(status="100 Continue") + CHUNKED, 200, b"hello", True),
    "closing": (response_head("Connection: close", "Content-Length: 5") + b"hello", 200, b"hello", False),
    "HTTP/1.0": (response_head("Content-Length: 5", version="1.0") + b"hello", 200, b"hello", False),
}


@pytest.mark.parametrize("size", [1, 2, 5, 17, 1 << 20])
@pytest.mark.parametrize(("response", "status", "body", "kept"), ANSWERS.values(), ids=ANSWERS)
async def test_a_response_in_any_pieces(response: bytes, status: int, body: bytes, kept: bool, size: int) -> None:
    """The caller gets one response without trailers. Sidekey reuses the connection if the end is certain."""
    sidekey = ScriptedPlane(H)
    caller, upstream = await send_request(sidekey, get())
    upstream.feed(*(response[at : at + size] for at in range(0, len(response), size)))
    await settle()
    reply = wire.first_response(bytes(caller.written))
    assert reply is not None
    assert reply.length == len(caller.written)
    assert (reply.status, reply.body, reply.trailers) == (status, body, ())
    assert b"evil" not in caller.written
    assert len(sidekey.pooled()) == kept
    if kept:
        caller.read()
        caller.feed(get("/next"))
        upstream.feed(OK)
        assert caller.read().endswith(b"\r\n\r\nok")


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("whole", [True, False])
async def test_close_delimited_response(version: str, whole: bool) -> None:
    """In chunks to HTTP/1.1, else up to the close. Without FIN it is truncated."""
    sidekey = ScriptedPlane(H)
    caller, upstream = await send_request(sidekey, get(version=version))
    upstream.feed(response_head(), b"hel", b"lo")
    if whole:
        upstream.finish()
    else:
        upstream.fail(ConnectionResetError())
    await settle()
    response = wire.first_response(bytes(caller.written), ended=whole and caller.ended)
    if whole:
        assert response is not None
        assert response.body == b"hello"
        assert not caller.truncated
    else:
        assert response is None
        assert caller.truncated
    assert sidekey.pooled() == []


@pytest.mark.parametrize(
    "response",
    [
        response_head("Content-Length: 5", "Content-Length: 5") + b"hello",
        response_head("Content-Length: 1" + "0" * 30) + b"hello",
        response_head("Content-Length: 0x5") + b"hello",
        response_head("Content-Length:") + b"hello",
        response_head("Transfer-Encoding: identity") + b"hello",
        response_head("Transfer-Encoding: chunked, chunked") + CHUNKS,
        response_head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked") + CHUNKS,
        response_head("Transfer-Encoding: chunked", "Content-Length: 5") + CHUNKS,
        response_head("Transfer-Encoding:", "Content-Length: 5") + b"hello",
        response_head("Content-Length: 0", status="102 Processing") + response_head("Content-Length: x"),
        response_head(status="199 What"),
    ],
)
async def test_ambiguous_response_is_502(response: bytes) -> None:
    """The upstream connection closes, the caller's stays open."""
    sidekey = ScriptedPlane(H)
    caller, upstream = await send_request(sidekey, get())
    upstream.feed(response)
    await settle()
    reply = wire.first_response(caller.read())
    assert reply is not None
    assert (reply.status, problem(reply)["code"]) == (502, "upstream_protocol_error")
    assert upstream.aborted
    caller.feed(get("/next"))
    (await sidekey.upstream(1)).feed(OK)
    assert caller.read().endswith(b"\r\n\r\nok")


LIMITS = Limits(response_head=4000, headers=20)
OVER = {
    "a long name": response_head("a" * 5000 + ": 1", "Content-Length: 0"),
    "a field": response_head("X: " + "a" * 5000, "Content-Length: 0"),
    "a field without end": response_head()[:-2] + b"X: " + b"a" * 9000,
    "fields that add up": response_head(*(f"X-{number}: {'a' * 300}" for number in range(19)), "Content-Length: 0"),
    "many small fields": response_head(*(f"X-{number}: 1" for number in range(25)), "Content-Length: 0"),
}


@pytest.mark.parametrize("size", [100, 1000, 1 << 20])
@pytest.mark.parametrize("response", OVER.values(), ids=OVER)
async def test_long_head_is_502_in_any_reads(response: bytes, size: int) -> None:
    """Sidekey buffers at most the limit and one read."""
    sidekey = ScriptedPlane(H, limits=LIMITS)
    caller, upstream = await send_request(sidekey, get())
    fed = 0
    while not caller.written and fed < len(response):
        upstream.feed(response[fed : fed + size])
        fed += size
    assert fed <= LIMITS.response_head + 2 * size
    reply = wire.first_response(caller.read())
    assert reply is not None
    assert problem(reply)["code"] == "upstream_protocol_error"
    await settle()
    assert upstream.aborted


@pytest.mark.parametrize("size", [100, 1 << 20])
@pytest.mark.parametrize("fields", [("X: " + "a" * 3800,), tuple(f"X-{number}: 1" for number in range(20))])
async def test_head_within_the_limit_passes(fields: tuple[str, ...], size: int) -> None:
    """Also with a body in the same read, and for the next response."""
    response = response_head(*fields, "Content-Length: 5000") + b"x" * 5000
    sidekey = ScriptedPlane(H, limits=LIMITS)
    caller, upstream = await send_request(sidekey, get())
    for _ in range(2):
        upstream.feed(*(response[at : at + size] for at in range(0, len(response), size)))
        reply = wire.first_response(caller.read())
        assert reply is not None
        assert (reply.status, len(reply.body)) == (200, 5000)
        caller.feed(get())


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("timeout=5", 4),
        ("timeout=1", 0),
        ("timeout=0", 0),
        ("max=100, TIMEOUT=5", 4),
        ("timeout=999999999999", 60),
        ("timeout=x", 60),
        ("timeout", 60),
        ("max=5", 60),
    ],
)
async def test_keep_alive_is_parsed_leniently(value: str, kept: int) -> None:
    """`timeout` in seconds minus one, at most timeouts.idle. Other values are ignored."""
    sidekey = ScriptedPlane(H, timeouts=Timeouts(idle=60))
    _, upstream = await send_request(sidekey, get())
    upstream.feed(response_head(f"Keep-Alive: {value}", "Content-Length: 0"))
    if kept:
        sidekey.plane.worker.deadlines.look(kept - 0.5)
        assert (len(sidekey.pooled()), upstream.ended) == (1, False)
    sidekey.plane.worker.deadlines.look(kept + 0.5)
    assert (len(sidekey.pooled()), upstream.ended) == (0, True)


async def test_response_fields_named_by_connection_are_removed() -> None:
    """RFC 9110 7.6.1: in any case, and with `_` for `-`. The framing stays."""
    fields = [
        "X-One: 1",
        "x_two: 2",
        "X-Three: 3",
        "Keep-Alive: timeout=5",
        "Proxy-Authenticate: Basic",
        "Upgrade: h2c",
    ]
    connection = ["Connection: keep-alive, X-ONE", "Connection: X-Two, content-length"]
    sidekey = ScriptedPlane(H)
    caller, upstream = await send_request(sidekey, get())
    upstream.feed(response_head(*fields, *connection, "Content-Length: 5") + b"hello")
    response = wire.first_response(caller.read())
    assert response is not None
    assert [name for name, _ in response.fields] == [b"x-three", b"content-length", b"via"]
    assert response.body == b"hello"


@pytest.mark.parametrize(("length", "fits"), [(10**18 - 1, True), (10**18, False)])
async def test_content_length_over_18_digits_is_refused(length: int, fits: bool) -> None:
    sidekey = ScriptedPlane(H)
    caller, upstream = await send_request(sidekey, get())
    upstream.feed(response_head(f"Content-Length: {length}") + b"hello")
    assert caller.read().startswith(b"HTTP/1.1 %d " % (200 if fits else 502))
    assert upstream.aborted is not fits


SHORT = b"Content-Length: 2\r\n\r\nok"


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nX-A: one\r\nX-B:\r\nx-c: a b\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX-A: one\r\nX-B:\r\nx-c: a b\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nX-Trailer: 1\r\n\r\n",
    ],
    ids=["Content-Length", "chunked"],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_any_split_into_reads_gives_the_same_head(raw: bytes, size: int) -> None:
    """Names keep their case, empty values stay, and trailers are dropped."""
    sidekey = ScriptedPlane(H, via=False)
    caller, upstream = await send_request(sidekey, get())
    upstream.feed(*(raw[at : at + size] for at in range(0, len(raw), size)))
    data = caller.read()
    assert data.startswith(b"HTTP/1.1 200 OK\r\nX-A: one\r\nX-B: \r\nx-c: a b\r\n")
    message = wire.first_response(data)
    assert message is not None
    assert (message.body, message.trailers) == (b"hello", ())
    assert len(sidekey.pooled()) == 1


@pytest.mark.parametrize(
    ("first", "kept"),
    [
        (b"HTTP/1.1 200 OK\r\n" + SHORT, True),
        (b"HTTP/1.0 200 OK\r\n" + SHORT, False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + SHORT, True),
        (b"HTTP/1.1 200 OK\r\nConnection: Close\r\n" + SHORT, False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", False),
        (b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", False),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\n" + SHORT + b"stray", False),
    ],
)
async def test_connection_is_reused_only_if_the_next_response_is_unambiguous(first: bytes, kept: bool) -> None:
    sidekey = ScriptedPlane(H)
    caller, upstream = await send_request(sidekey, get())
    upstream.feed(first)
    assert single_response(caller).status == int(first[9:12])
    assert len(sidekey.pooled()) == kept
    caller.feed(get("/second"))
    second = await sidekey.upstream(-1)
    assert (second is upstream) is kept
    second.feed(OK)
    assert single_response(caller).body == b"ok"


@pytest.mark.parametrize("framing", [b"Content-Length: 99", b"Transfer-Encoding: chunked", b"X: y"])
async def test_response_after_a_response_to_head_is_parsed(framing: bytes) -> None:
    """llhttp does not know that the request was HEAD."""
    sidekey = ScriptedPlane(H)
    caller, upstream = await send_request(sidekey, request("HEAD"))
    upstream.feed(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
    message = single_response(caller, to_head=True)
    assert (message.status, message.body) == (200, b"")
    caller.feed(get("/second"))
    (await sidekey.upstream(-1)).feed(OK)
    assert single_response(caller).body == b"ok"


async def test_interim_responses_count_towards_the_limit_of_the_head() -> None:
    sidekey = ScriptedPlane(H, limits=Limits(response_head=1000))
    caller, upstream = await send_request(sidekey, get())
    early = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    upstream.feed(*[early] * (1000 // len(early)))
    assert caller.read() == b""
    upstream.feed(early)
    assert problem(single_response(caller))["code"] == "upstream_protocol_error"
    assert upstream.aborted


MALFORMED = "the upstream's response is malformed"
VERSION = "the upstream's response must be in HTTP/1.1 or HTTP/1.0"
AMBIGUOUS = "the framing of the upstream's response is ambiguous"
STATUS = "the upstream's status code is not one of HTTP"
LARGE = "the head of the upstream's response is over limits.response_head"
START = b"HTTP/1.1 200 OK\r\n"
DETAILS = {
    "no colon": (START + b"X 1\r\n\r\n", MALFORMED),
    "HTTP/2.0": (b"HTTP/2.0 200 OK\r\n" + SHORT, VERSION),
    "HTTP/1.2": (b"HTTP/1.2 200 OK\r\nConnection: close\r\n" + SHORT, MALFORMED),
    "a length of 19 digits": (START + b"Content-Length: 1000000000000000000\r\n\r\n", AMBIGUOUS),
    "another coding": (START + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", AMBIGUOUS),
    "a coding in HTTP/1.0": (
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "the upstream's response has a transfer coding that its version of HTTP does not know",
    ),
    "199": (b"HTTP/1.1 199 No\r\n\r\n", STATUS),
    "600": (b"HTTP/1.1 600 No\r\n" + SHORT, STATUS),
    "407": (b"HTTP/1.1 407 No\r\n" + SHORT, "the upstream asks for proxy authentication"),
    "many fields": (
        START + b"X: 1\r\n" * 11 + SHORT,
        "the upstream's response has more header fields than limits.headers",
    ),
    "a large head": (START + b"X: " + b"1" * 1000 + b"\r\n" + SHORT, LARGE),
    "a large head that goes on": (START + b"X: " + b"1" * 1000, LARGE),
}
"""Invalid responses, and the detail of the error for the caller."""


@pytest.mark.parametrize(("raw", "detail"), DETAILS.values(), ids=DETAILS)
async def test_unreadable_response_is_reported(raw: bytes, detail: str) -> None:
    """In Sidekey's words. The upstream may have processed the request."""
    sidekey = ScriptedPlane(H, limits=Limits(response_head=1000, headers=10))
    caller, upstream = await send_request(sidekey, get())
    upstream.feed(raw)
    error = problem(single_response(caller))
    assert (error["code"], error["detail"], error["sent"]) == ("upstream_protocol_error", detail, "maybe")
    assert upstream.aborted


@pytest.mark.parametrize(
    ("written", "detail", "error"),
    [
        (b"", "the upstream closed the connection before it responded", "connection_terminated"),
        (
            b"HTTP/1.1 200",
            "the upstream closed the connection in the middle of its response",
            "http_response_incomplete",
        ),
    ],
)
async def test_early_close_is_reported(written: bytes, detail: str, error: str) -> None:
    """The detail tells whether a response had started."""
    sidekey = ScriptedPlane(H)
    caller, upstream = await send_request(sidekey, request("POST", body=b""))
    upstream.feed(written)
    upstream.finish()
    await settle()
    document = problem(single_response(caller))
    assert (document["code"], document["detail"], document["error"]) == ("upstream_protocol_error", detail, error)


@pytest.mark.parametrize(
    ("choked", "written", "detail"),
    [
        (True, b"", "the upstream took no more of the request in time"),
        (False, b"", "the upstream did not respond in time"),
        (False, b"HTTP/1.1 200 OK\r\n", "the upstream did not respond in time"),
        (False, b"HTTP/1.1 401 No\r\nContent-Length: 9\r\n\r\n", "the upstream's response stalled"),
    ],
)
async def test_slow_upstream_is_reported(choked: bool, written: bytes, detail: str) -> None:
    """The detail tells what was late."""
    held = integration(
        "h", base_url(1), traits=CredentialTraits(InjectionPoints(headers=("Authorization",)), watched=frozenset({401}))
    )
    sidekey = ScriptedPlane(held, timeouts=Timeouts(write=5, response=5, idle=5))
    caller = sidekey.caller()
    caller.feed(request("POST", "/a", "Content-Length: 9") + b"first")
    upstream = await sidekey.upstream()
    if choked:
        upstream.block_writes()
    caller.feed(b"last")
    if written:
        upstream.feed(written)
    sidekey.plane.worker.deadlines.look(5.0)
    error = problem(single_response(caller))
    assert (error["code"], error["detail"], error["sent"]) == ("upstream_timeout", detail, "maybe")


@pytest.mark.parametrize("over", [0, 1])
async def test_incomplete_head_counts_towards_the_limit(over: int) -> None:
    sidekey = ScriptedPlane(H, limits=Limits(response_head=1000))
    caller, upstream = await send_request(sidekey, get())
    head = START + b"Content-Length: 2\r\nX: "
    upstream.feed(head + b"1" * (1000 + over - len(head)))
    assert upstream.aborted is bool(over)
    if not over:
        upstream.feed(b"\r\n\r\nok")
        assert (single_response(caller).status, len(sidekey.pooled())) == (200, 1)


@pytest.mark.parametrize("over", [0, 1])
async def test_trailers_up_to_the_limit_are_ignored(over: int) -> None:
    sidekey = ScriptedPlane(H, limits=Limits(response_head=1000))
    caller, upstream = await send_request(sidekey, get())
    upstream.feed(START + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
    upstream.feed(b"0\r\nX: " + b"1" * (1000 + over - 6))
    assert upstream.aborted is bool(over)
    assert caller.aborted is bool(over)
