"""Connections to upstreams, event by event: time-outs, truncated responses and reuse."""

from __future__ import annotations

import socket
import ssl

import pytest

from sidekey.proxy.connection import MAX_DIRECT_READ, PARSER_BYPASS
from sidekey.snapshot.request_rules import Timeouts
from support.plane import base_url, get, integration, problem, request
from support.scripted import (
    GatedIdentitySource,
    ScriptedPlane,
    send_request,
    settle,
    single_response,
)
from support.upstream import OK

H = integration("h", base_url(1))
LONG = 3 * PARSER_BYPASS
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LONG


@pytest.mark.parametrize("extra", [b"", b"x", OK, b"\r\n"])
async def test_bytes_after_a_long_body_are_dropped_with_the_connection(extra: bytes) -> None:
    """The body bypasses the parser."""
    body = bytes(range(256)) * (LONG // 256)
    sidekey = ScriptedPlane(H)
    caller, upstream = await send_request(sidekey, get())
    upstream.feed(HEAD, body[:PARSER_BYPASS], body[PARSER_BYPASS:] + extra)
    assert single_response(caller).body == body
    assert len(sidekey.pooled()) == (not extra)
    caller.feed(get("/next"))
    (await sidekey.upstream(-1)).feed(OK)
    assert single_response(caller).body == b"ok"
    assert len(sidekey.upstreams) == 1 + bool(extra)


async def test_after_a_long_read_a_body_bypasses_the_loop_until_little_is_left() -> None:
    body = bytes(range(256)) * (3 * MAX_DIRECT_READ // 256)
    sidekey = ScriptedPlane(H)
    caller, upstream = await send_request(sidekey, get())
    upstream.sock, other = socket.socketpair()
    with upstream.sock, other:
        upstream.feed(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), body[:MAX_DIRECT_READ])
        upstream.feed(body[MAX_DIRECT_READ:-MAX_DIRECT_READ], body[-MAX_DIRECT_READ:])
        assert not upstream.reading
        await settle()
        assert upstream.reading
        assert single_response(caller).body == body


async def test_read_with_a_malformed_end_is_not_delivered() -> None:
    """The caller sees a truncated response."""
    sidekey = ScriptedPlane(H)
    caller, upstream = await send_request(sidekey, get())
    upstream.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
    assert caller.read().endswith(b"5\r\nfirst\r\n")
    upstream.feed(b"6\r\nsecond\r\nzz\r\n")
    assert (caller.read(), caller.truncated, upstream.aborted) == (b"", True, True)
    assert sidekey.metrics.stats("h").outcomes == {"upstream_protocol_error": 1}


@pytest.mark.parametrize("pieces", [1, 3])
async def test_response_time_out_starts_with_the_last_byte_of_the_request(pieces: int) -> None:
    """A long upload may take longer. After the first byte of the response, timeouts.idle applies."""
    sidekey = ScriptedPlane(H, timeouts=Timeouts(response=5, idle=20))
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
    assert caller.read() == b""
    deadlines.look(start + 5.0)
    error = problem(single_response(caller))
    assert (error["code"], error["detail"]) == ("upstream_timeout", "the upstream did not respond in time")
    assert upstream.aborted


async def test_idle_time_out_applies_to_an_early_response_after_the_upload() -> None:
    """timeouts.response applies only to the head."""
    sidekey = ScriptedPlane(H, timeouts=Timeouts(response=5, idle=20))
    deadlines = sidekey.plane.worker.deadlines
    caller, upstream = await send_request(sidekey, request("POST", "/a", "Content-Length: 10") + b"01234")
    upstream.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
    caller.feed(b"56789")
    deadlines.look(19.0)
    assert not caller.truncated
    deadlines.look(20.0)
    assert (caller.truncated, upstream.aborted) == (True, True)


async def test_response_time_out_starts_when_a_full_upstream_has_read_the_request() -> None:
    """Until then, timeouts.write applies."""
    sidekey = ScriptedPlane(H, timeouts=Timeouts(response=5, write=30, idle=600))
    deadlines = sidekey.plane.worker.deadlines
    caller, upstream = await send_request(sidekey, request("POST", "/a", "Content-Length: 10") + b"01234")
    upstream.block_writes()
    caller.feed(b"5")
    deadlines.look(29.0)
    upstream.allow_writes()
    deadlines.look(100.0)
    assert caller.read() == b""
    upstream.block_writes()
    caller.feed(b"6789")
    deadlines.look(129.0)
    upstream.allow_writes()
    deadlines.look(133.9)
    assert caller.read() == b""
    deadlines.look(134.0)
    assert problem(single_response(caller))["detail"] == "the upstream did not respond in time"


async def test_response_time_out_pauses_while_the_caller_does_not_read() -> None:
    """Sidekey does not read the upstream then."""
    sidekey = ScriptedPlane(H, timeouts=Timeouts(idle=5, write=600))
    deadlines = sidekey.plane.worker.deadlines
    caller, upstream = await send_request(sidekey, get())
    caller.block_writes()
    upstream.feed(HEAD + b"first")
    assert not upstream.reading
    deadlines.look(100.0)
    assert not caller.truncated
    caller.allow_writes()
    assert upstream.reading
    deadlines.look(104.9)
    assert not caller.truncated
    deadlines.look(105.0)
    assert caller.truncated


async def test_unexpected_bytes_close_an_idle_connection() -> None:
    """They could be mistaken for the next response."""
    sidekey = ScriptedPlane(H)
    caller, upstream = await send_request(sidekey, get())
    upstream.feed(OK)
    caller.read()
    upstream.feed(OK)
    assert upstream.aborted
    caller.feed(get("/next"))
    again = await sidekey.upstream(1)
    again.feed(OK)
    assert single_response(caller).body == b"ok"


async def test_expired_connection_that_does_not_close_is_reset() -> None:
    """After timeouts.write. No exchange can use it meanwhile."""
    sidekey = ScriptedPlane(H, timeouts=Timeouts(idle=5, write=10))
    deadlines = sidekey.plane.worker.deadlines
    _, upstream = await send_request(sidekey, get())
    upstream.feed(OK)
    upstream.block_writes()
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
async def test_only_fin_completes_a_close_delimited_response(clean: bool) -> None:
    sidekey = ScriptedPlane(H)
    caller, upstream = await send_request(sidekey, get())
    upstream.feed(b"HTTP/1.1 200 OK\r\n\r\nhello")
    if clean:
        upstream.finish()
    else:
        upstream.protocol.eof_received()
        upstream.fail(ConnectionResetError())
    await settle()
    assert caller.truncated is not clean
    assert caller.read().endswith(b"0\r\n\r\n") is clean


async def test_100_is_forwarded_once() -> None:
    """Even if the upstream sends several in one read, followed by the response."""
    sidekey = ScriptedPlane(H)
    caller, upstream = await send_request(sidekey, request("POST", "/a", "Expect: 100-continue", "Content-Length: 2"))
    upstream.feed(b"HTTP/1.1 100 Continue\r\n\r\n" * 2)
    assert caller.read() == b"HTTP/1.1 100 Continue\r\n\r\n"
    caller.feed(b"ok")
    upstream.feed(OK)
    assert single_response(caller).status == 200


async def test_connection_with_unsent_bytes_is_not_reused() -> None:
    """It closes with FIN, because its response was complete."""
    sidekey = ScriptedPlane(H, timeouts=Timeouts(write=5))
    caller, upstream = await send_request(sidekey, get("/warm"))
    upstream.feed(OK)
    upstream.block_writes()
    caller.read()
    caller.feed(request("POST", body=b"order"))
    upstream.feed(OK)
    assert single_response(caller).body == b"ok"
    assert (sidekey.pooled(), upstream.ended, upstream.aborted) == ([], True, False)
    sidekey.plane.worker.deadlines.look(4.9)
    assert not upstream.aborted
    sidekey.plane.worker.deadlines.look(5.0)
    assert upstream.aborted


def broken_tls() -> ssl.SSLError:
    """Build the error that the loop reports for TLS. `test_faults_tls.py` has real alerts."""
    return ssl.SSLError(1, "a record that is none")


@pytest.mark.parametrize(
    ("begun", "error", "bearing", "expected"),
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
async def test_error_for_each_end_of_a_connection(
    begun: bool, error: Exception | None, bearing: bool, expected: tuple[str, str]
) -> None:
    """A server may refuse a client certificate with a reset before its response. Sidekey does not retry."""
    held = {"h": GatedIdentitySource("ours")} if bearing else None
    sidekey = ScriptedPlane(H, identities=held)
    caller, upstream = await send_request(sidekey, get())
    if begun:
        upstream.feed(b"HTTP/1.1 2")
    if error is None:
        upstream.finish()
    else:
        upstream.fail(error)
    await settle()
    document = problem(single_response(caller))
    assert ((document["code"], document["error"]), document["sent"]) == (expected, "maybe")
    assert len(sidekey.upstreams) == 1


@pytest.mark.parametrize("bearing", [True, False])
async def test_tls_error_on_a_reused_connection_is_not_retried(bearing: bool) -> None:
    """A reset is retried: the server has accepted the certificate before."""
    sidekey = ScriptedPlane(H, identities={"h": GatedIdentitySource("ours")} if bearing else None)
    caller, upstream = await send_request(sidekey, get())
    upstream.feed(OK)
    caller.read()
    caller.feed(get("/again"))
    upstream.fail(broken_tls())
    await settle()
    assert problem(single_response(caller))["code"] == "upstream_tls_failed"
    assert len(sidekey.upstreams) == 1
    caller.feed(request("POST", body=b"order"))
    other = await sidekey.upstream(1)
    other.feed(OK)
    caller.read()
    caller.feed(request("POST", body=b"order"))
    other.fail(ConnectionResetError())
    await settle()
    assert problem(single_response(caller))["error"] == "connection_terminated"
