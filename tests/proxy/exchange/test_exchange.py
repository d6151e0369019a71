"""One request and its response, as scripted conversations without sockets: flow control and errors."""

from __future__ import annotations

import pytest

from sidekey.snapshot.request_rules import Timeouts
from support import wire
from support.plane import base_url, get, integration, request
from support.scripted import ScriptedPlane, settle
from support.upstream import OK

H = integration("h", base_url(1))


def responses(data: bytes) -> list[wire.Message]:
    """Return every complete response in `data`."""
    result = []
    while (message := wire.first_response(data)) is not None:
        result.append(message)
        data = data[message.length :]
    return result


async def test_head_is_sent_after_its_whole_read_was_parsed() -> None:
    """After an error in the same read, Sidekey sends nothing."""
    sidekey = ScriptedPlane(H)
    caller = sidekey.caller()
    caller.feed(request("POST", "/a", "Transfer-Encoding: chunked") + b"5\r\nhello\r\nzz\r\n")
    await settle()
    assert sidekey.upstreams == []
    assert [message.status for message in responses(caller.read())] == [400]


async def test_request_on_a_reused_connection_is_one_write_each_way() -> None:
    """Head and body together, and the response in the same turn."""
    sidekey = ScriptedPlane(H)
    caller = sidekey.caller()
    caller.feed(request("POST", body=b"hello"))
    upstream = await sidekey.upstream()
    assert upstream.read().endswith(b"\r\n\r\nhello")
    upstream.feed(OK)
    assert caller.read().endswith(b"\r\n\r\nok")
    caller.feed(get("/second"))
    assert upstream.read().startswith(b"GET /api/second HTTP/1.1\r\n")


async def test_an_upload_waits_for_a_full_upstream() -> None:
    """Sidekey does not read the caller while the upstream does not read."""
    sidekey = ScriptedPlane(H)
    caller = sidekey.caller()
    caller.feed(request("POST", "/a", "Content-Length: 15") + b"first")
    assert not caller.reading
    upstream = await sidekey.upstream()
    assert caller.reading
    upstream.block_writes()
    caller.feed(b"two..", b"three")
    assert not caller.reading
    assert upstream.read().endswith(b"firsttwo..")
    upstream.allow_writes()
    await settle()
    assert upstream.read() == b"three"


async def test_upload_waits_if_the_head_fills_the_upstream() -> None:
    sidekey = ScriptedPlane(H)
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    upstream.feed(OK)
    upstream.block_writes()
    caller.feed(request("POST", "/a", "Content-Length: 10") + b"first")
    assert not caller.reading
    caller.feed(b"later")
    assert not upstream.read().endswith(b"later")
    upstream.allow_writes()
    await settle()
    assert upstream.read() == b"later"


@pytest.mark.parametrize("length", ["Content-Length: 10", "Transfer-Encoding: chunked"])
async def test_response_before_the_upstream_has_read_the_body(length: str) -> None:
    """Sidekey does not reuse the connection, because it still contains bytes of this request."""
    body = b"0123456789" if "Length" in length else b"a\r\n0123456789\r\n0\r\n\r\n"
    sidekey = ScriptedPlane(H)
    caller = sidekey.caller()
    caller.feed(request("POST", "/a", length) + body[:3])
    upstream = await sidekey.upstream()
    upstream.block_writes()
    caller.feed(body[3:])
    assert not caller.reading
    upstream.feed(OK)
    await settle()
    assert caller.reading
    assert sidekey.pooled() == []
    caller.feed(get("/second"))
    second = await sidekey.upstream(1)
    second.feed(OK)
    assert [message.body for message in responses(caller.read())] == [b"ok", b"ok"]


async def test_upstream_is_not_read_while_the_caller_is_full() -> None:
    """No time-out applies to the upstream meanwhile."""
    sidekey = ScriptedPlane(H)
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    caller.block_writes()
    upstream.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst", b"later")
    assert not upstream.reading
    assert caller.read().endswith(b"first")
    caller.allow_writes()
    await settle()
    assert caller.read() == b"later"
    assert len(sidekey.pooled()) == 1


async def test_next_request_waits_until_the_caller_has_read_the_response() -> None:
    """The upstream connection is free for other requests."""
    sidekey = ScriptedPlane(H)
    caller, other = sidekey.caller(), sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    caller.block_writes()
    upstream.feed(OK)
    upstream.read()
    caller.feed(get("/second"))
    assert upstream.read() == b""
    other.feed(get("/other"))
    assert upstream.read().startswith(b"GET /api/other")
    upstream.feed(OK)
    assert other.read().endswith(b"ok")
    caller.allow_writes()
    assert upstream.read().startswith(b"GET /api/second")


async def test_early_response_closes_the_connection() -> None:
    """Sidekey drops further bytes of the caller, and the upstream sees an incomplete request."""
    sidekey = ScriptedPlane(H)
    caller = sidekey.caller()
    caller.feed(request("POST", "/a", "Content-Length: 10") + b"first")
    upstream = await sidekey.upstream()
    upstream.feed(OK)
    await settle()
    assert caller.ended
    assert not caller.truncated
    caller.feed(b"later", get("/second"))
    (response,) = responses(caller.read())
    assert response.values(b"connection") == [b"close"]
    assert wire.first_request(upstream.read()) is None


@pytest.mark.parametrize("moment", ["head", "body"])
async def test_an_error_in_a_later_piece_of_a_body_cuts_the_upstream(moment: str) -> None:
    """If the response has started, Sidekey truncates it."""
    sidekey = ScriptedPlane(H)
    caller = sidekey.caller()
    caller.feed(request("POST", "/a", "Transfer-Encoding: chunked") + b"5\r\nfirst\r\n")
    upstream = await sidekey.upstream()
    if moment == "body":
        upstream.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
    caller.feed(b"5;\x00\r\n")
    await settle()
    assert upstream.aborted
    assert wire.first_request(upstream.read()) is None
    if moment == "head":
        (response,) = responses(caller.read())
        assert (response.status, b'"sent": "maybe"' in response.body) == (400, True)
        assert caller.ended
    else:
        assert caller.truncated
        assert responses(caller.read()) == []


async def test_idempotent_request_is_retried_byte_for_byte() -> None:
    """On a new connection, although another one is idle: it may have failed in the same way."""
    sidekey = ScriptedPlane(H)
    callers = [sidekey.caller(), sidekey.caller()]
    for caller in callers:
        caller.feed(get("/warm"))
    for upstream in (await sidekey.upstream(0), await sidekey.upstream(1)):
        upstream.feed(OK)
        upstream.read()
    callers[0].feed(request("PUT", body=b"whole"))
    used = next(upstream for upstream in sidekey.upstreams if upstream.written)
    sent = used.read()
    used.fail(ConnectionResetError())
    third = await sidekey.upstream(2)
    assert third.read() == sent
    third.feed(OK)
    assert callers[0].read().count(b"HTTP/1.1 200") == 2


async def test_request_with_an_incomplete_body_is_not_retried() -> None:
    sidekey = ScriptedPlane(H)
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    upstream.feed(OK)
    caller.read()
    caller.feed(request("PUT", "/a", "Content-Length: 10") + b"first")
    upstream.fail(ConnectionResetError())
    await settle()
    assert len(sidekey.upstreams) == 1
    (response,) = responses(caller.read())
    assert (response.status, b"connection_terminated" in response.values(b"proxy-status")[0]) == (502, True)


async def test_defect_in_a_retry_is_500() -> None:
    sidekey = ScriptedPlane(H)
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    upstream.feed(OK)
    caller.read()
    caller.feed(get("/second"))

    sidekey.dialer.error = LookupError()
    upstream.fail(ConnectionResetError())
    await settle()
    assert [message.status for message in responses(caller.read())] == [500]
    assert [type(defect) for defect in sidekey.defects] == [LookupError]


async def test_stalled_upload_is_an_error_of_the_caller_only_while_sidekey_reads() -> None:
    """While the upstream is full, no time-out applies to the caller."""
    sidekey = ScriptedPlane(H, timeouts=Timeouts(idle=5, write=60))
    deadlines = sidekey.plane.worker.deadlines
    caller = sidekey.caller()
    caller.feed(request("POST", "/a", "Content-Length: 15") + b"first")
    upstream = await sidekey.upstream()
    upstream.block_writes()
    caller.feed(b"two..")
    deadlines.look(30.0)
    assert caller.read() == b""
    upstream.allow_writes()
    deadlines.look(36.0)
    assert [message.status for message in responses(caller.read())] == [408]
    assert upstream.aborted


async def test_a_full_upstream_ends_at_the_write_timeout() -> None:
    """504, sent: maybe."""
    sidekey = ScriptedPlane(H, timeouts=Timeouts(write=5))
    caller = sidekey.caller()
    caller.feed(request("POST", "/a", "Content-Length: 15") + b"first")
    upstream = await sidekey.upstream()
    upstream.block_writes()
    caller.feed(b"two..")
    sidekey.plane.worker.deadlines.look(6.0)
    (response,) = responses(caller.read())
    assert (response.status, b'"sent": "maybe"' in response.body) == (504, True)


async def test_empty_read_has_no_effect() -> None:
    """The upstream gets complete chunks for any split of a chunked upload."""
    sidekey = ScriptedPlane(H)
    caller = sidekey.caller()
    raw = request("POST", "/a", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n"
    caller.feed(*(raw[at : at + 1] for at in range(len(raw))))
    upstream = await sidekey.upstream()
    await settle()
    (message,) = wire.requests(upstream.read())
    assert message.body == b"hello"
