"""Consecutive requests must not affect each other, and neither must a defect."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sidekey.credentials.base import CredentialTraits, Grant, InjectionPoints
from sidekey.observe.access import AccessLog
from sidekey.observe.writer import LineWriter
from sidekey.proxy.downstream.connection import SHORT_READ
from sidekey.snapshot.request_rules import Limits
from support import wire
from support.plane import FixedSource, base_url, eventually, get, integration, problem, request
from support.scripted import ScriptedPlane, settle
from support.unresolved import UnresolvedIntegration
from support.upstream import OK

H = integration("h", base_url(1))
BODY = integration("b", base_url(1), traits=CredentialTraits(InjectionPoints(body=("access_token",))))
TOKEN = Grant(body=(("access_token", "t"),))
FORM = "Content-Type: application/x-www-form-urlencoded"
UNWRITABLE = Grant(headers=(("Authorization", "\u2603"),))
"""A defect of whatever granted it: text of a grant is latin-1."""


def responses(data: bytes) -> list[wire.Message]:
    """Parse all responses, none of which is to HEAD."""
    result = []
    while data:
        message = wire.first_response(data)
        assert message is not None
        result.append(message)
        data = data[message.length :]
    return result


async def test_the_end_of_a_chunked_response_stays_out_of_the_next_one() -> None:
    """The last chunk arrives in a read of its own."""
    sidekey = ScriptedPlane(H, via=False)
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    upstream.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"2\r\nok\r\n", b"0\r\n\r\n")
    word = sidekey.plane.worker.instance
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nSidekey-Request-Id: %b-1\r\n\r\n" % word
    assert caller.read() == chunked + b"2\r\nok\r\n0\r\n\r\n"
    for number in (2, 3):
        caller.feed(get())
        upstream.feed(OK)
        head, _, body = OK.partition(b"\r\n\r\n")
        assert caller.read() == head + b"\r\nSidekey-Request-Id: %b-%d\r\n\r\n" % (word, number) + body
    assert len(sidekey.upstreams) == 1


@pytest.mark.parametrize(
    ("expectation", "arrives"), [("100-continue", []), ("other", [b"other"]), ("100-continue, other", [])]
)
async def test_other_expectations_are_forwarded_with_a_buffered_body(expectation: str, arrives: list[bytes]) -> None:
    """RFC 9110 10.1.1: Sidekey fulfills only 100-continue."""
    sidekey = ScriptedPlane(BODY, sources={"b": FixedSource(TOKEN)})
    caller = sidekey.caller()
    caller.feed(request("POST", "/a", FORM, f"Expect: {expectation}", body=b"a=1", name="b"))
    upstream = await sidekey.upstream()
    (message,) = wire.requests(upstream.read())
    assert message.values(b"expect") == arrives
    assert message.body == b"a=1&access_token=t"


@pytest.mark.parametrize(
    ("raw", "door"),
    [
        (b"hidden\r\n\r\n", "reverse"),
        (b"CONNECT up.test:443 HTTP/1.1\r\nHost: x\r\n\r\n", "tunnel"),
        (b"GET http://up.test/ HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", "reverse"),
        (b"GET http://up.test/ HTTP/1.1\r\nHost: x\r\n\r\n", "forward"),
    ],
    ids=["not a request", "CONNECT", "two Hosts", "no ID"],
)
async def test_unreadable_request_is_not_logged_as_a_forward_request(raw: bytes, door: str, tmp_path: Path) -> None:
    """An empty target is not an absolute URL."""
    writer = LineWriter(os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT, 0o600))
    sidekey = ScriptedPlane(H, access=AccessLog(writer, "all", path=False))
    sidekey.caller().feed(raw)
    await settle()
    writer.close()
    (line,) = map(json.loads, (tmp_path / "log").read_text().splitlines())
    assert line["door"] == door


async def test_response_waits_for_a_caller_that_did_not_read_100() -> None:
    """Its buffer was full before there was an upstream connection to pause."""
    sidekey = ScriptedPlane(BODY, sources={"b": FixedSource(TOKEN)})
    caller = sidekey.caller()
    caller.block_writes()
    caller.feed(request("POST", "/a", FORM, "Expect: 100-continue", "Content-Length: 3", name="b"))
    assert caller.read() == b"HTTP/1.1 100 Continue\r\n\r\n"
    caller.feed(b"a=1")
    upstream = await sidekey.upstream()
    assert upstream.read().endswith(b"a=1&access_token=t")
    assert not upstream.reading
    upstream.feed(OK)
    sidekey.plane.worker.deadlines.look(sidekey.snapshot.timeouts.response + 1)
    assert caller.read() == b""
    caller.allow_writes()
    await settle()
    assert caller.read().endswith(b"ok")


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "2xx"),
        (302, "3xx"),
        (400, "400"),
        (401, "401"),
        (403, "403"),
        (404, "4xx"),
        (429, "429"),
        (499, "4xx"),
        (500, "5xx"),
        (599, "5xx"),
    ],
)
async def test_a_response_counts_by_the_class_of_its_status(status: int, outcome: str) -> None:
    """Statuses of credentials and rate limits have labels of their own."""
    sidekey = ScriptedPlane(H)
    sidekey.caller().feed(get())
    (await sidekey.upstream()).feed(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)
    assert sidekey.metrics.stats("h").outcomes == {outcome: 1}


async def test_caller_gets_one_100_for_a_buffered_body() -> None:
    """Sidekey drops the one from the upstream."""
    sidekey = ScriptedPlane(BODY, sources={"b": FixedSource(TOKEN)})
    caller = sidekey.caller()
    caller.feed(request("POST", "/a", FORM, "Expect: 100-continue", "Content-Length: 3", name="b"), b"a=1")
    assert caller.read() == b"HTTP/1.1 100 Continue\r\n\r\n"
    upstream = await sidekey.upstream()
    upstream.feed(b"HTTP/1.1 100 Continue\r\n\r\n" + OK)
    (response,) = responses(caller.read())
    assert response.status == 200


async def test_defect_of_a_pipelined_request_is_500() -> None:
    """The previous exchange started it, and is not affected."""
    bad = integration("bad", base_url(2))
    sidekey = ScriptedPlane(H, bad, sources={"bad": FixedSource(UNWRITABLE)})
    sidekey.caller().feed(get(name="bad"))
    await settle()
    caller = sidekey.caller()
    caller.feed(get() + get(name="bad") + get())
    upstream = await sidekey.upstream(1)
    upstream.feed(OK)
    upstream.feed(OK)
    first, second, third = responses(caller.read())
    assert (first.status, third.status) == (200, 200)
    assert problem(second)["code"] == "internal_error"
    assert sidekey.metrics.in_flight == 0
    assert [type(defect) for defect in sidekey.defects] == [UnicodeEncodeError] * 2
    sidekey.defects.clear()


async def test_defect_of_a_waiting_request_is_500() -> None:
    """Its connection serves the next waiting request."""
    bad = integration("bad", base_url(1))
    sidekey = ScriptedPlane(H, bad, sources={"bad": FixedSource(UNWRITABLE)})
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    waiting, behind = sidekey.caller(), sidekey.caller()
    waiting.feed(get(name="bad"))
    behind.feed(get())
    upstream.feed(OK)
    (response,) = responses(waiting.read())
    assert problem(response)["code"] == "internal_error"
    assert caller.read().endswith(b"ok")
    upstream.read()
    upstream.feed(OK)
    assert behind.read().endswith(b"ok")
    assert sidekey.metrics.in_flight == 0
    assert [type(defect) for defect in sidekey.defects] == [UnicodeEncodeError]
    sidekey.defects.clear()


async def test_request_with_a_malformed_body_is_not_sent_after_resolution() -> None:
    """Sidekey held the rest of the body until the integration was resolved."""
    missing = UnresolvedIntegration(H)
    missing.resolve()
    sidekey = ScriptedPlane(missing.integration(), limits=Limits(pipelined=1))
    caller = sidekey.caller()
    caller.feed(request("POST", "/a", "Transfer-Encoding: chunked") + b"zz\r\n\r\n" + b"x" * SHORT_READ)
    await eventually(lambda: caller.written)
    (response,) = responses(caller.read())
    assert problem(response)["code"] == "request_invalid"
    await settle()
    assert sidekey.upstreams == []
    assert sidekey.defects == []
