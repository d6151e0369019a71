"""One request and its response: who waits for whom, and how it ends; conversations without sockets."""

from __future__ import annotations

import pytest

from sidekey.snapshot.request_rules import Timeouts
from support import wire
from support.plane import base_url, get, integration, request
from support.scripted import Scripted, settle
from support.upstream import OK

H = integration("h", base_url(1))


def answers(data: bytes) -> list[wire.Message]:
    """Every complete answer in `data`."""
    found = []
    while (message := wire.first_response(data)) is not None:
        found.append(message)
        data = data[message.length :]
    return found


async def test_the_head_goes_out_once_the_read_that_completed_it_was_parsed() -> None:
    """An error in the same read keeps the whole request here."""
    sidekey = Scripted(H)
    caller = sidekey.caller()
    caller.feed(request("POST", "/a", "Transfer-Encoding: chunked") + b"5\r\nhello\r\nzz\r\n")
    await settle()
    assert sidekey.upstreams == []
    assert [message.status for message in answers(caller.take())] == [400]


async def test_a_request_on_a_kept_connection_is_one_write_each_way() -> None:
    """Head and body together, and the response within the same turn."""
    sidekey = Scripted(H)
    caller = sidekey.caller()
    caller.feed(request("POST", body=b"hello"))
    upstream = await sidekey.upstream()
    assert upstream.take().endswith(b"\r\n\r\nhello")
    upstream.feed(OK)
    assert caller.take().endswith(b"\r\n\r\nok")
    caller.feed(get("/second"))
    assert upstream.take().startswith(b"GET /api/second HTTP/1.1\r\n")


async def test_an_upload_waits_for_a_full_upstream() -> None:
    """The caller is not read while the upstream takes nothing, from the first write on."""
    sidekey = Scripted(H)
    caller = sidekey.caller()
    caller.feed(request("POST", "/a", "Content-Length: 15") + b"first")
    assert not caller.reading
    upstream = await sidekey.upstream()
    assert caller.reading
    upstream.choke()
    caller.feed(b"two..", b"three")
    assert not caller.reading
    assert upstream.take().endswith(b"firsttwo..")
    upstream.relieve()
    await settle()
    assert upstream.take() == b"three"


async def test_an_upstream_that_is_full_with_the_head_holds_the_rest() -> None:
    """The write of the head itself may fill a connection; what follows must not pile up behind it."""
    sidekey = Scripted(H)
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    upstream.feed(OK)
    upstream.choke()
    caller.feed(request("POST", "/a", "Content-Length: 10") + b"first")
    assert not caller.reading
    caller.feed(b"later")
    assert not upstream.take().endswith(b"later")
    upstream.relieve()
    await settle()
    assert upstream.take() == b"later"


@pytest.mark.parametrize("length", ["Content-Length: 10", "Transfer-Encoding: chunked"])
async def test_a_response_before_the_upstream_took_the_body(length: str) -> None:
    """The caller goes on; that connection, with bytes of the old request still in it, carries no other."""
    body = b"0123456789" if "Length" in length else b"a\r\n0123456789\r\n0\r\n\r\n"
    sidekey = Scripted(H)
    caller = sidekey.caller()
    caller.feed(request("POST", "/a", length) + body[:3])
    upstream = await sidekey.upstream()
    upstream.choke()
    caller.feed(body[3:])
    assert not caller.reading
    upstream.feed(OK)
    await settle()
    assert caller.reading
    assert sidekey.pooled() == []
    caller.feed(get("/second"))
    second = await sidekey.upstream(1)
    second.feed(OK)
    assert [message.body for message in answers(caller.take())] == [b"ok", b"ok"]


async def test_a_caller_that_is_full_holds_the_upstream() -> None:
    """And neither bound is reached by time: nothing is read until it takes what waits."""
    sidekey = Scripted(H)
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    caller.choke()
    upstream.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst", b"later")
    assert not upstream.reading
    assert caller.take().endswith(b"first")
    caller.relieve()
    await settle()
    assert caller.take() == b"later"
    assert len(sidekey.pooled()) == 1


async def test_the_next_request_waits_until_the_caller_took_the_response() -> None:
    """The upstream's connection does not: it is free for others, and reads."""
    sidekey = Scripted(H)
    caller, other = sidekey.caller(), sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    caller.choke()
    upstream.feed(OK)
    upstream.take()
    caller.feed(get("/second"))
    assert upstream.take() == b""
    other.feed(get("/other"))
    assert upstream.take().startswith(b"GET /api/other")
    upstream.feed(OK)
    assert other.take().endswith(b"ok")
    caller.relieve()
    assert upstream.take().startswith(b"GET /api/second")


async def test_an_early_response_ends_the_connection_after_it() -> None:
    """What the caller still sends is dropped, and the upstream sees a request that is not whole."""
    sidekey = Scripted(H)
    caller = sidekey.caller()
    caller.feed(request("POST", "/a", "Content-Length: 10") + b"first")
    upstream = await sidekey.upstream()
    upstream.feed(OK)
    await settle()
    assert caller.ended
    assert not caller.cut
    caller.feed(b"later", get("/second"))
    (answer,) = answers(caller.take())
    assert answer.values(b"connection") == [b"close"]
    assert wire.first_request(upstream.take()) is None


@pytest.mark.parametrize("moment", ["head", "body"])
async def test_an_error_in_a_later_piece_of_a_body_cuts_the_upstream(moment: str) -> None:
    """The response is ours where none has begun, else it is cut."""
    sidekey = Scripted(H)
    caller = sidekey.caller()
    caller.feed(request("POST", "/a", "Transfer-Encoding: chunked") + b"5\r\nfirst\r\n")
    upstream = await sidekey.upstream()
    if moment == "body":
        upstream.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
    caller.feed(b"5;\x00\r\n")
    await settle()
    assert upstream.aborted
    assert wire.first_request(upstream.take()) is None
    if moment == "head":
        (answer,) = answers(caller.take())
        assert (answer.status, b'"sent": "maybe"' in answer.body) == (400, True)
        assert caller.ended
    else:
        assert caller.cut
        assert answers(caller.take()) == []


async def test_an_idempotent_request_is_sent_again_byte_for_byte() -> None:
    """On a new connection, though an idle one is there: that may have died the same way."""
    sidekey = Scripted(H)
    callers = [sidekey.caller(), sidekey.caller()]
    for caller in callers:
        caller.feed(get("/warm"))
    for upstream in (await sidekey.upstream(0), await sidekey.upstream(1)):
        upstream.feed(OK)
        upstream.take()
    callers[0].feed(request("PUT", body=b"whole"))
    used = next(upstream for upstream in sidekey.upstreams if upstream.written)
    sent = used.take()
    used.lose(ConnectionResetError())
    third = await sidekey.upstream(2)
    assert third.take() == sent
    third.feed(OK)
    assert callers[0].take().count(b"HTTP/1.1 200") == 2


async def test_a_request_whose_body_was_not_whole_is_not_sent_again() -> None:
    """Its bytes are gone."""
    sidekey = Scripted(H)
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    upstream.feed(OK)
    caller.take()
    caller.feed(request("PUT", "/a", "Content-Length: 10") + b"first")
    upstream.lose(ConnectionResetError())
    await settle()
    assert len(sidekey.upstreams) == 1
    (answer,) = answers(caller.take())
    assert (answer.status, b"connection_terminated" in answer.values(b"proxy-status")[0]) == (502, True)


async def test_a_defect_of_the_second_attempt_is_answered() -> None:
    """No exchange is left waiting by a task that ended."""
    sidekey = Scripted(H)
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    upstream.feed(OK)
    caller.take()
    caller.feed(get("/second"))

    sidekey.dialer.error = LookupError()
    upstream.lose(ConnectionResetError())
    await settle()
    assert [message.status for message in answers(caller.take())] == [500]
    assert [type(defect) for defect in sidekey.defects] == [LookupError]


async def test_a_stalled_upload_is_the_callers_error_only_while_it_is_read() -> None:
    """While the upstream is full no deadline of the caller runs; once it takes more, it does."""
    sidekey = Scripted(H, timeouts=Timeouts(idle=5, write=60))
    deadlines = sidekey.plane.worker.deadlines
    caller = sidekey.caller()
    caller.feed(request("POST", "/a", "Content-Length: 15") + b"first")
    upstream = await sidekey.upstream()
    upstream.choke()
    caller.feed(b"two..")
    deadlines.look(30.0)
    assert caller.take() == b""
    upstream.relieve()
    deadlines.look(36.0)
    assert [message.status for message in answers(caller.take())] == [408]
    assert upstream.aborted


async def test_a_full_upstream_ends_at_the_write_timeout() -> None:
    """504, sent: maybe."""
    sidekey = Scripted(H, timeouts=Timeouts(write=5))
    caller = sidekey.caller()
    caller.feed(request("POST", "/a", "Content-Length: 15") + b"first")
    upstream = await sidekey.upstream()
    upstream.choke()
    caller.feed(b"two..")
    sidekey.plane.worker.deadlines.look(6.0)
    (answer,) = answers(caller.take())
    assert (answer.status, b'"sent": "maybe"' in answer.body) == (504, True)


async def test_an_empty_read_changes_nothing() -> None:
    """Every cut of a chunked upload gives the upstream whole chunks of what was read."""
    sidekey = Scripted(H)
    caller = sidekey.caller()
    raw = request("POST", "/a", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n"
    caller.feed(*(raw[at : at + 1] for at in range(len(raw))))
    upstream = await sidekey.upstream()
    await settle()
    (message,) = wire.requests(upstream.take())
    assert message.body == b"hello"
