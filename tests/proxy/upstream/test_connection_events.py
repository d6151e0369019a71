"""What a connection to an upstream makes of single events: when something is due, what is cut, what is used again."""

from __future__ import annotations

import socket
import ssl

import pytest

from sidekey.proxy.connection import BULK, BYPASS
from sidekey.snapshot.request_rules import Timeouts
from support import wire
from support.plane import base_url, get, integration, problem, request
from support.scripted import Certificate, RecordingTransport, Scripted, settle
from support.upstream import OK

H = integration("h", base_url(1))
LONG = 3 * BYPASS
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LONG


async def asked(sidekey: Scripted, raw: bytes) -> tuple[RecordingTransport, RecordingTransport]:
    """A caller that has sent `raw`, and the upstream connection that it went to."""
    caller = sidekey.caller()
    caller.feed(raw)
    return caller, await sidekey.upstream()


def answer(caller: RecordingTransport) -> wire.Message:
    """The one response that the caller got."""
    data = caller.take()
    message = wire.first_response(data)
    assert message is not None
    assert message.length == len(data)
    return message


@pytest.mark.parametrize("extra", [b"", b"x", OK, b"\r\n"])
async def test_what_follows_a_long_body_is_neither_part_of_it_nor_of_the_next(extra: bytes) -> None:
    """It passed the parser by; a connection that brought more than was announced is not used again."""
    body = bytes(range(256)) * (LONG // 256)
    sidekey = Scripted(H)
    caller, upstream = await asked(sidekey, get())
    upstream.feed(HEAD, body[:BYPASS], body[BYPASS:] + extra)
    assert answer(caller).body == body
    assert len(sidekey.pooled()) == (not extra)
    caller.feed(get("/next"))
    (await sidekey.upstream(-1)).feed(OK)
    assert answer(caller).body == b"ok"
    assert len(sidekey.upstreams) == 1 + bool(extra)


async def test_after_a_long_read_a_body_is_read_past_the_loop_until_little_is_there() -> None:
    """Then the loop reads on."""
    body = bytes(range(256)) * (3 * BULK // 256)
    sidekey = Scripted(H)
    caller, upstream = await asked(sidekey, get())
    upstream.sock, other = socket.socketpair()
    with upstream.sock, other:
        upstream.feed(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), body[:BULK])
        upstream.feed(body[BULK:-BULK], body[-BULK:])
        assert not upstream.reading
        await settle()
        assert upstream.reading
        assert answer(caller).body == body


async def test_a_piece_that_breaks_in_the_middle_is_not_delivered() -> None:
    """The caller sees that something is missing, and no more."""
    sidekey = Scripted(H)
    caller, upstream = await asked(sidekey, get())
    upstream.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
    assert caller.take().endswith(b"5\r\nfirst\r\n")
    upstream.feed(b"6\r\nsecond\r\nzz\r\n")
    assert (caller.take(), caller.cut, upstream.aborted) == (b"", True, True)
    assert sidekey.metrics.stats("h").outcomes == {"upstream_protocol_error": 1}


@pytest.mark.parametrize("pieces", [1, 3])
async def test_a_response_is_due_from_the_last_byte_of_the_request(pieces: int) -> None:
    """Not before: a long upload may take its time. Once it has begun, timeouts.idle counts."""
    sidekey = Scripted(H, timeouts=Timeouts(response=5, idle=20))
    deadlines = sidekey.plane.worker.deadlines
    body = [b"0123456789"] * pieces
    caller = sidekey.caller()
    caller.feed(request("POST", "/a", f"Content-Length: {10 * pieces}") + body[0])
    upstream = await sidekey.upstream()
    for number, piece in enumerate(body[1:], 1):
        deadlines.look(15.0 * number)
        caller.feed(piece)
    start = 15.0 * (pieces - 1)
    deadlines.look(start + 4.9)
    assert caller.take() == b""
    deadlines.look(start + 5.0)
    said = problem(answer(caller))
    assert (said["code"], said["detail"]) == ("upstream_timeout", "the upstream did not respond in time")
    assert upstream.aborted


async def test_an_early_response_is_due_like_any_body_once_the_request_is_whole() -> None:
    """timeouts.response is for its head, which has come."""
    sidekey = Scripted(H, timeouts=Timeouts(response=5, idle=20))
    deadlines = sidekey.plane.worker.deadlines
    caller, upstream = await asked(sidekey, request("POST", "/a", "Content-Length: 10") + b"01234")
    upstream.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
    caller.feed(b"56789")
    deadlines.look(19.0)
    assert not caller.cut
    deadlines.look(20.0)
    assert (caller.cut, upstream.aborted) == (True, True)


async def test_a_response_is_due_from_when_a_full_upstream_has_taken_the_request() -> None:
    """Until then timeouts.write counts; between the pieces of an upload, nothing does here."""
    sidekey = Scripted(H, timeouts=Timeouts(response=5, write=30, idle=600))
    deadlines = sidekey.plane.worker.deadlines
    caller, upstream = await asked(sidekey, request("POST", "/a", "Content-Length: 10") + b"01234")
    upstream.choke()
    caller.feed(b"5")
    deadlines.look(29.0)
    upstream.relieve()
    deadlines.look(100.0)
    assert caller.take() == b""
    upstream.choke()
    caller.feed(b"6789")
    deadlines.look(129.0)
    upstream.relieve()
    deadlines.look(133.9)
    assert caller.take() == b""
    deadlines.look(134.0)
    assert problem(answer(caller))["detail"] == "the upstream did not respond in time"


async def test_no_response_is_due_while_its_caller_takes_nothing() -> None:
    """The upstream is not read then. It is due again when the caller takes some."""
    sidekey = Scripted(H, timeouts=Timeouts(idle=5, write=600))
    deadlines = sidekey.plane.worker.deadlines
    caller, upstream = await asked(sidekey, get())
    caller.choke()
    upstream.feed(HEAD + b"first")
    assert not upstream.reading
    deadlines.look(100.0)
    assert not caller.cut
    caller.relieve()
    assert upstream.reading
    deadlines.look(104.9)
    assert not caller.cut
    deadlines.look(105.0)
    assert caller.cut


async def test_what_comes_unasked_ends_an_idle_connection() -> None:
    """It could only be taken for the response to the next request."""
    sidekey = Scripted(H)
    caller, upstream = await asked(sidekey, get())
    upstream.feed(OK)
    caller.take()
    upstream.feed(OK)
    assert upstream.aborted
    caller.feed(get("/next"))
    again = await sidekey.upstream(1)
    again.feed(OK)
    assert answer(caller).body == b"ok"


async def test_an_idle_connection_that_does_not_close_is_cut() -> None:
    """After timeouts.write; no exchange has it from when it was to close."""
    sidekey = Scripted(H, timeouts=Timeouts(idle=5, write=10))
    deadlines = sidekey.plane.worker.deadlines
    _, upstream = await asked(sidekey, get())
    upstream.feed(OK)
    upstream.choke()
    upstream.write(b"?")
    deadlines.look(4.9)
    # What fills a connection keeps it out of the pool; here it was filled only afterwards.
    assert len(sidekey.pooled()) == 1
    deadlines.look(5.0)
    assert (sidekey.pooled(), upstream.ended, upstream.aborted) == ([], True, False)
    deadlines.look(14.9)
    assert not upstream.aborted
    deadlines.look(15.0)
    assert upstream.aborted


@pytest.mark.parametrize("clean", [True, False])
async def test_only_an_orderly_end_completes_a_response_that_ends_with_its_connection(clean: bool) -> None:
    """And only one without an error."""
    sidekey = Scripted(H)
    caller, upstream = await asked(sidekey, get())
    upstream.feed(b"HTTP/1.1 200 OK\r\n\r\nhello")
    if clean:
        upstream.finish()
    else:
        upstream.protocol.eof_received()
        upstream.lose(ConnectionResetError())
    await settle()
    assert caller.cut is not clean
    assert caller.take().endswith(b"0\r\n\r\n") is clean


async def test_100_is_passed_on_once_to_a_caller_that_waits_for_it() -> None:
    """However often the upstream says so in one read; what follows it in that read as well."""
    sidekey = Scripted(H)
    caller, upstream = await asked(sidekey, request("POST", "/a", "Expect: 100-continue", "Content-Length: 2"))
    upstream.feed(b"HTTP/1.1 100 Continue\r\n\r\n" * 2)
    assert caller.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
    caller.feed(b"ok")
    upstream.feed(OK)
    assert answer(caller).status == 200


async def test_a_connection_that_is_full_is_not_used_again() -> None:
    """Bytes of the old request are still in it; it closes in order, as its response was whole."""
    sidekey = Scripted(H, timeouts=Timeouts(write=5))
    caller, upstream = await asked(sidekey, get("/warm"))
    upstream.feed(OK)
    upstream.choke()
    caller.take()
    caller.feed(request("POST", body=b"order"))
    upstream.feed(OK)
    assert answer(caller).body == b"ok"
    assert (sidekey.pooled(), upstream.ended, upstream.aborted) == ([], True, False)
    sidekey.plane.worker.deadlines.look(4.9)
    assert not upstream.aborted
    sidekey.plane.worker.deadlines.look(5.0)
    assert upstream.aborted


def broken_tls() -> ssl.SSLError:
    """What the loop tells where TLS itself failed; `test_faults_tls.py` has real alerts."""
    return ssl.SSLError(1, "a record that is none")


@pytest.mark.parametrize(
    ("begun", "error", "bearing", "told"),
    [
        (False, ConnectionResetError(), False, ("upstream_protocol_error", "connection_terminated")),
        (False, None, False, ("upstream_protocol_error", "connection_terminated")),
        (True, ConnectionResetError(), False, ("upstream_protocol_error", "http_response_incomplete")),
        (True, broken_tls(), True, ("upstream_protocol_error", "http_response_incomplete")),
        (False, broken_tls(), False, ("upstream_tls_failed", "tls_protocol_error")),
        (False, broken_tls(), True, ("upstream_tls_failed", "tls_protocol_error")),
        (False, ConnectionResetError(), True, ("upstream_tls_failed", "tls_protocol_error")),
        (False, None, True, ("upstream_protocol_error", "connection_terminated")),
    ],
)
async def test_what_the_end_of_a_connection_means(
    begun: bool, error: Exception | None, bearing: bool, told: tuple[str, str]
) -> None:
    """A server that refuses a client certificate may say so by a reset, before it has responded; never asked again."""
    held = {"h": Certificate("ours")} if bearing else None
    sidekey = Scripted(H, identities=held)
    caller, upstream = await asked(sidekey, get())
    if begun:
        upstream.feed(b"HTTP/1.1 2")
    if error is None:
        upstream.finish()
    else:
        upstream.lose(error)
    await settle()
    said = problem(answer(caller))
    assert ((said["code"], said["error"]), said["sent"]) == (told, "maybe")
    assert len(sidekey.upstreams) == 1


@pytest.mark.parametrize("bearing", [True, False])
async def test_an_error_of_tls_on_a_used_connection_is_no_reason_to_send_again(bearing: bool) -> None:
    """A reset of one is, and says nothing of a certificate that was accepted before."""
    sidekey = Scripted(H, identities={"h": Certificate("ours")} if bearing else None)
    caller, upstream = await asked(sidekey, get())
    upstream.feed(OK)
    caller.take()
    caller.feed(get("/again"))
    upstream.lose(broken_tls())
    await settle()
    assert problem(answer(caller))["code"] == "upstream_tls_failed"
    assert len(sidekey.upstreams) == 1
    caller.feed(request("POST", body=b"order"))
    other = await sidekey.upstream(1)
    other.feed(OK)
    caller.take()
    caller.feed(request("POST", body=b"order"))
    other.lose(ConnectionResetError())
    await settle()
    assert problem(answer(caller))["error"] == "connection_terminated"
