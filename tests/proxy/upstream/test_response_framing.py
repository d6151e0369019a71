"""How an upstream's response is framed: in any pieces, within bounds, and in one way only."""

from __future__ import annotations

import pytest

from sidekey.snapshot.request_rules import Limits, Timeouts
from support import wire
from support.plane import base_url, get, integration, problem
from support.scripted import RecordingTransport, Scripted, settle
from support.upstream import OK

H = integration("h", base_url(1))


def head(*fields: str, status: str = "200 OK", version: str = "1.1") -> bytes:
    """A response's head."""
    return "\r\n".join([f"HTTP/{version} {status}", *fields, "", ""]).encode("latin-1")


CHUNKS = b"3;q=1\r\nhel\r\n2\r\nlo\r\n0\r\nX-Trailer: 1\r\nSet-Cookie: evil=1\r\n\r\n"
CHUNKED = head("Transfer-Encoding: chunked") + CHUNKS

ANSWERS = {
    "Content-Length": (head("Content-Length: 5") + b"hello", 200, b"hello", True),
    "spaces around Content-Length": (head("Content-Length:  5\t") + b"hello", 200, b"hello", True),
    "no body": (head("Content-Length: 0"), 200, b"", True),
    "chunked": (CHUNKED, 200, b"hello", True),
    "an unusual spelling of chunked": (head("transfer-encoding:   CHUNKED") + CHUNKS, 200, b"hello", True),
    "204": (head(status="204 No Content"), 204, b"", True),
    "204 with a length": (head("Content-Length: 0", status="204 No Content"), 204, b"", True),
    "204 that announces a body": (head("Content-Length: 5", status="204 No Content"), 204, b"", False),
    "304 with a length": (head("Content-Length: 5", status="304 Not Modified"), 304, b"", True),
    "early hints first": (head("Link: x", status="103 Early Hints") + CHUNKED, 200, b"hello", True),
    "continue first": (head(status="100 Continue") + CHUNKED, 200, b"hello", True),
    "closing": (head("Connection: close", "Content-Length: 5") + b"hello", 200, b"hello", False),
    "HTTP/1.0": (head("Content-Length: 5", version="1.0") + b"hello", 200, b"hello", False),
}


async def asked(sidekey: Scripted, raw: bytes) -> tuple[RecordingTransport, RecordingTransport]:
    """A caller's request on its way: the two ends."""
    caller = sidekey.caller()
    caller.feed(raw)
    return caller, await sidekey.upstream()


@pytest.mark.parametrize("size", [1, 2, 5, 17, 1 << 20])
@pytest.mark.parametrize(("answer", "status", "body", "kept"), ANSWERS.values(), ids=ANSWERS)
async def test_a_response_in_any_pieces(answer: bytes, status: int, body: bytes, kept: bool, size: int) -> None:
    """The caller gets one response, framed in one way, without trailers; the connection is kept if its end is sure."""
    sidekey = Scripted(H)
    caller, upstream = await asked(sidekey, get())
    upstream.feed(*(answer[at : at + size] for at in range(0, len(answer), size)))
    await settle()
    said = wire.first_response(bytes(caller.written))
    assert said is not None
    assert said.length == len(caller.written)
    assert (said.status, said.body, said.trailers) == (status, body, ())
    assert b"evil" not in caller.written
    assert len(sidekey.pooled()) == kept
    if kept:
        caller.take()
        caller.feed(get("/next"))
        upstream.feed(OK)
        assert caller.take().endswith(b"\r\n\r\nok")


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("whole", [True, False])
async def test_a_response_that_ends_with_its_connection(version: str, whole: bool) -> None:
    """Chunked to a caller who knows chunks, else ended by a close; one that was not ended in order is cut."""
    sidekey = Scripted(H)
    caller, upstream = await asked(sidekey, get(version=version))
    upstream.feed(head(), b"hel", b"lo")
    if whole:
        upstream.finish()
    else:
        upstream.lose(ConnectionResetError())
    await settle()
    said = wire.first_response(bytes(caller.written), ended=whole and caller.ended)
    if whole:
        assert said is not None
        assert said.body == b"hello"
        assert not caller.cut
    else:
        assert said is None
        assert caller.cut
    assert sidekey.pooled() == []


@pytest.mark.parametrize(
    "answer",
    [
        head("Content-Length: 5", "Content-Length: 5") + b"hello",
        head("Content-Length: 1" + "0" * 30) + b"hello",
        head("Content-Length: 0x5") + b"hello",
        head("Content-Length:") + b"hello",
        head("Transfer-Encoding: identity") + b"hello",
        head("Transfer-Encoding: chunked, chunked") + CHUNKS,
        head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked") + CHUNKS,
        head("Transfer-Encoding: chunked", "Content-Length: 5") + CHUNKS,
        head("Transfer-Encoding:", "Content-Length: 5") + b"hello",
        head("Content-Length: 0", status="102 Processing") + head("Content-Length: x"),
        head(status="199 What"),
    ],
)
async def test_what_cannot_be_read_in_one_way_is_502(answer: bytes) -> None:
    """And the upstream's connection ends; the caller's goes on."""
    sidekey = Scripted(H)
    caller, upstream = await asked(sidekey, get())
    upstream.feed(answer)
    await settle()
    said = wire.first_response(caller.take())
    assert said is not None
    assert (said.status, problem(said)["code"]) == (502, "upstream_protocol_error")
    assert upstream.aborted
    caller.feed(get("/next"))
    (await sidekey.upstream(1)).feed(OK)
    assert caller.take().endswith(b"\r\n\r\nok")


LIMITS = Limits(response_head=4000, headers=20)
OVER = {
    "a field": head("X: " + "a" * 5000, "Content-Length: 0"),
    "a field without end": head()[:-2] + b"X: " + b"a" * 9000,
    "fields that add up": head(*(f"X-{number}: {'a' * 300}" for number in range(19)), "Content-Length: 0"),
    "many small fields": head(*(f"X-{number}: 1" for number in range(25)), "Content-Length: 0"),
}


@pytest.mark.parametrize("size", [100, 1000, 1 << 20])
@pytest.mark.parametrize("answer", OVER.values(), ids=OVER)
async def test_a_head_is_bounded_in_any_pieces(answer: bytes, size: int) -> None:
    """502, before more than the bound and a read was gathered."""
    sidekey = Scripted(H, limits=LIMITS)
    caller, upstream = await asked(sidekey, get())
    fed = 0
    while not caller.written and fed < len(answer):
        upstream.feed(answer[fed : fed + size])
        fed += size
    assert fed <= LIMITS.response_head + 2 * size
    said = wire.first_response(caller.take())
    assert said is not None
    assert problem(said)["code"] == "upstream_protocol_error"
    await settle()
    assert upstream.aborted


@pytest.mark.parametrize("size", [100, 1 << 20])
@pytest.mark.parametrize("fields", [("X: " + "a" * 3800,), tuple(f"X-{number}: 1" for number in range(20))])
async def test_a_head_within_the_bounds_passes(fields: tuple[str, ...], size: int) -> None:
    """Also one whose body comes in the same read, and that of the next response on the same connection."""
    answer = head(*fields, "Content-Length: 5000") + b"x" * 5000
    sidekey = Scripted(H, limits=LIMITS)
    caller, upstream = await asked(sidekey, get())
    for _ in range(2):
        upstream.feed(*(answer[at : at + size] for at in range(0, len(answer), size)))
        said = wire.first_response(caller.take())
        assert said is not None
        assert (said.status, len(said.body)) == (200, 5000)
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
async def test_an_announced_keep_alive_is_read_leniently(value: str, kept: int) -> None:
    """timeout, in seconds, less one, and never more than timeouts.idle; what is no number says nothing."""
    sidekey = Scripted(H, timeouts=Timeouts(idle=60))
    _, upstream = await asked(sidekey, get())
    upstream.feed(head(f"Keep-Alive: {value}", "Content-Length: 0"))
    if kept:
        sidekey.plane.worker.deadlines.look(kept - 0.5)
        assert (len(sidekey.pooled()), upstream.ended) == (1, False)
    sidekey.plane.worker.deadlines.look(kept + 0.5)
    assert (len(sidekey.pooled()), upstream.ended) == (0, True)


async def test_what_connection_names_does_not_pass() -> None:
    """RFC 9110 7.6.1: in any case and with `_` for `-`; what frames the response stays."""
    fields = [
        "X-One: 1",
        "x_two: 2",
        "X-Three: 3",
        "Keep-Alive: timeout=5",
        "Proxy-Authenticate: Basic",
        "Upgrade: h2c",
    ]
    connection = ["Connection: keep-alive, X-ONE", "Connection: X-Two, content-length"]
    sidekey = Scripted(H)
    caller, upstream = await asked(sidekey, get())
    upstream.feed(head(*fields, *connection, "Content-Length: 5") + b"hello")
    said = wire.first_response(caller.take())
    assert said is not None
    assert [name for name, _ in said.fields] == [b"x-three", b"content-length", b"via"]
    assert said.body == b"hello"


@pytest.mark.parametrize(("length", "fits"), [(10**18 - 1, True), (10**18, False)])
async def test_a_length_that_may_not_fit_into_64_bits_is_refused(length: int, fits: bool) -> None:
    """One of 18 digits always does; the response is passed on as long as its caller stays."""
    sidekey = Scripted(H)
    caller, upstream = await asked(sidekey, get())
    upstream.feed(head(f"Content-Length: {length}") + b"hello")
    assert caller.take().startswith(b"HTTP/1.1 %d " % (200 if fits else 502))
    assert upstream.aborted is not fits
