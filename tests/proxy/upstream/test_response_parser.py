"""Reading an upstream's response: heads in pieces, versions, and what leaves a connection unfit for the next one."""

from __future__ import annotations

import pytest

from sidekey.credentials.base import CredentialTraits, InjectionPoints
from sidekey.snapshot.request_rules import Limits, Timeouts
from support import wire
from support.plane import base_url, get, integration, problem, request
from support.scripted import RecordingTransport, Scripted, settle
from support.upstream import OK

H = integration("h", base_url(1))
SHORT = b"Content-Length: 2\r\n\r\nok"


async def asked(sidekey: Scripted, raw: bytes) -> tuple[RecordingTransport, RecordingTransport]:
    """A caller that has sent `raw`, and the upstream connection that it went to."""
    caller = sidekey.caller()
    caller.feed(raw)
    upstream = await sidekey.upstream()
    return caller, upstream


def answer(caller: RecordingTransport, *, to_head: bool = False) -> wire.Message:
    """The one response that the caller got."""
    data = caller.take()
    message = wire.first_response(data, to_head=to_head, ended=caller.ended)
    assert message is not None
    assert message.length == len(data)
    return message


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
async def test_a_head_in_pieces_is_the_same_head(raw: bytes, size: int) -> None:
    """Names keep their case, an empty value stays empty, a trailer is dropped, wherever the reads are cut."""
    sidekey = Scripted(H, via=False)
    caller, upstream = await asked(sidekey, get())
    upstream.feed(*(raw[at : at + size] for at in range(0, len(raw), size)))
    data = caller.take()
    assert data.startswith(b"HTTP/1.1 200 OK\r\nX-A: one\r\nX-B: \r\nx-c: a b\r\n")
    message = wire.first_response(data)
    assert message is not None
    assert (message.body, message.trailers) == (b"hello", ())
    assert len(sidekey.pooled()) == 1


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/0.9 200 OK\r\n" + SHORT,
        b"HTTP/1.2 200 OK\r\nConnection: keep-alive\r\n" + SHORT,
        b"HTTP/2.0 200 OK\r\n" + SHORT,
        b"HTTP/3.0 200 OK\r\n" + SHORT,
        b"RTSP/2.0 200 OK\r\n" + SHORT,
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ],
    ids=["HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/3.0", "RTSP/2.0", "1.0 chunked", "1.0 chunked, close"],
)
async def test_a_response_in_no_version_that_fits_it_is_502(raw: bytes) -> None:
    """Nothing of it reaches the caller, and its connection is cut (RFC 9112 6.1)."""
    sidekey = Scripted(H)
    caller, upstream = await asked(sidekey, get())
    upstream.feed(raw)
    message = answer(caller)
    assert (message.status, problem(message)["code"]) == (502, "upstream_protocol_error")
    assert upstream.aborted
    assert sidekey.pooled() == []


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
async def test_a_connection_is_kept_only_where_the_next_response_is_beyond_doubt(first: bytes, kept: bool) -> None:
    """The response goes to the caller either way; the next request takes the same connection or a new one."""
    sidekey = Scripted(H)
    caller, upstream = await asked(sidekey, get())
    upstream.feed(first)
    assert answer(caller).status == int(first[9:12])
    assert len(sidekey.pooled()) == kept
    caller.feed(get("/second"))
    second = await sidekey.upstream(-1)
    assert (second is upstream) is kept
    second.feed(OK)
    assert answer(caller).body == b"ok"


@pytest.mark.parametrize("framing", [b"Content-Length: 99", b"Transfer-Encoding: chunked", b"X: y"])
async def test_after_a_response_to_head_the_next_one_is_read_again(framing: bytes) -> None:
    """llhttp does not know that the request was HEAD; what it would wait for must not swallow the next response."""
    sidekey = Scripted(H)
    caller, upstream = await asked(sidekey, request("HEAD"))
    upstream.feed(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
    message = answer(caller, to_head=True)
    assert (message.status, message.body) == (200, b"")
    caller.feed(get("/second"))
    (await sidekey.upstream(-1)).feed(OK)
    assert answer(caller).body == b"ok"


async def test_interim_responses_count_towards_the_limit_of_the_head() -> None:
    """However many of them come, and none of them is whole in memory."""
    sidekey = Scripted(H, limits=Limits(response_head=1000))
    caller, upstream = await asked(sidekey, get())
    early = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    upstream.feed(*[early] * (1000 // len(early)))
    assert caller.take() == b""
    upstream.feed(early)
    assert problem(answer(caller))["code"] == "upstream_protocol_error"
    assert upstream.aborted


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize("field", [b"X: " + b"a" * 2000, b"a" * 2000 + b": 1"], ids=["value", "name"])
async def test_a_head_over_the_limit_is_502(field: bytes, size: int) -> None:
    """In one read or in many."""
    sidekey = Scripted(H, limits=Limits(response_head=1000))
    caller, upstream = await asked(sidekey, get())
    raw = b"HTTP/1.1 200 OK\r\n" + field + b"\r\n" + SHORT
    upstream.feed(*(raw[at : at + size] for at in range(0, len(raw), size)))
    assert problem(answer(caller))["code"] == "upstream_protocol_error"
    assert upstream.aborted


@pytest.mark.parametrize("status", [b"407 Proxy Authentication Required", b"600 No", b"101 Switching Protocols"])
async def test_a_status_that_is_no_response_is_502(status: bytes) -> None:
    """407 would make the caller send its proxy credentials; 101 was not asked for."""
    sidekey = Scripted(H)
    caller, upstream = await asked(sidekey, get())
    upstream.feed(b"HTTP/1.1 " + status + b"\r\n" + SHORT)
    assert problem(answer(caller))["code"] == "upstream_protocol_error"
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
    "101": (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", STATUS),
    "600": (b"HTTP/1.1 600 No\r\n" + SHORT, STATUS),
    "407": (b"HTTP/1.1 407 No\r\n" + SHORT, "the upstream asks for proxy authentication"),
    "many fields": (
        START + b"X: 1\r\n" * 11 + SHORT,
        "the upstream's response has more header fields than limits.headers",
    ),
    "a large head": (START + b"X: " + b"1" * 1000 + b"\r\n" + SHORT, LARGE),
    "a large head that goes on": (START + b"X: " + b"1" * 1000, LARGE),
}
"""What is wrong with a response, and what the caller is told."""


@pytest.mark.parametrize(("raw", "detail"), DETAILS.values(), ids=DETAILS)
async def test_a_response_that_cannot_be_read_is_told(raw: bytes, detail: str) -> None:
    """In words of ours, whatever the upstream wrote; it may have acted on the request."""
    sidekey = Scripted(H, limits=Limits(response_head=1000, headers=10))
    caller, upstream = await asked(sidekey, get())
    upstream.feed(raw)
    said = problem(answer(caller))
    assert (said["code"], said["detail"], said["sent"]) == ("upstream_protocol_error", detail, "maybe")
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
async def test_an_upstream_that_closes_too_early_is_told(written: bytes, detail: str, error: str) -> None:
    """Whether anything of a response has come."""
    sidekey = Scripted(H)
    caller, upstream = await asked(sidekey, request("POST", body=b""))
    upstream.feed(written)
    upstream.finish()
    await settle()
    said = problem(answer(caller))
    assert (said["code"], said["detail"], said["error"]) == ("upstream_protocol_error", detail, error)


@pytest.mark.parametrize(
    ("choked", "written", "detail"),
    [
        (True, b"", "the upstream took no more of the request in time"),
        (False, b"", "the upstream did not respond in time"),
        (False, b"HTTP/1.1 200 OK\r\n", "the upstream did not respond in time"),
        (False, b"HTTP/1.1 401 No\r\nContent-Length: 9\r\n\r\n", "the upstream's response stalled"),
    ],
)
async def test_an_upstream_that_is_too_slow_is_told(choked: bool, written: bytes, detail: str) -> None:
    """What it is late with: taking the request, beginning to respond, or going on (of a response that is held back)."""
    held = integration(
        "h", base_url(1), traits=CredentialTraits(InjectionPoints(headers=("Authorization",)), watched=frozenset({401}))
    )
    sidekey = Scripted(held, timeouts=Timeouts(write=5, response=5, idle=5))
    caller = sidekey.caller()
    caller.feed(request("POST", "/a", "Content-Length: 9") + b"first")
    upstream = await sidekey.upstream()
    if choked:
        upstream.choke()
    caller.feed(b"last")
    if written:
        upstream.feed(written)
    sidekey.plane.worker.deadlines.look(5.0)
    said = problem(answer(caller))
    assert (said["code"], said["detail"], said["sent"]) == ("upstream_timeout", detail, "maybe")


@pytest.mark.parametrize("over", [0, 1])
async def test_a_head_that_goes_on_is_measured_by_what_has_come(over: int) -> None:
    """Up to `limits.response_head` it may still turn out to be within it."""
    sidekey = Scripted(H, limits=Limits(response_head=1000))
    caller, upstream = await asked(sidekey, get())
    head = START + b"Content-Length: 2\r\nX: "
    upstream.feed(head + b"1" * (1000 + over - len(head)))
    assert upstream.aborted is bool(over)
    if not over:
        upstream.feed(b"\r\n\r\nok")
        assert (answer(caller).status, len(sidekey.pooled())) == (200, 1)


@pytest.mark.parametrize("over", [0, 1])
async def test_trailers_are_measured_from_the_last_byte_of_the_body(over: int) -> None:
    """Up to `limits.response_head` they are passed over."""
    sidekey = Scripted(H, limits=Limits(response_head=1000))
    caller, upstream = await asked(sidekey, get())
    upstream.feed(START + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
    upstream.feed(b"0\r\nX: " + b"1" * (1000 + over - 6))
    assert upstream.aborted is bool(over)
    assert caller.aborted is bool(over)
