"""Responses of Sidekey on the wire (RFC 9457, RFC 9209)."""

from __future__ import annotations

import json
from http import HTTPStatus

import pytest

from sidekey.credentials.base import CredentialTraits, Grant, InjectionPoints
from sidekey.errors import RESPONSE_KINDS, Problem
from sidekey.proxy.downstream import response_writer
from support import wire
from support.denials import denial_of
from support.memory import MemoryUpstream, running
from support.plane import FixedSource, base_url, denied, get, integration, problem
from support.upstream import respond_with

VIA = b"\r\nVia: 1.1 sidekey (word)"
PROBLEMS = [
    pytest.param(
        Problem(kind.code, "why", status=status, error=error, denial=denial_of(kind.code)),
        id=f"{kind.code} {status} {error}",
    )
    for kind in RESPONSE_KINDS.values()
    for status in kind.statuses
    for error in kind.errors
]


def serialized(refusal: Problem, *, integration: str | None = None, close: bool = False, head: bool = False) -> bytes:
    """Serialize a problem."""
    return response_writer.serialize_problem(
        refusal,
        request_id=b"w-1f",
        integration=integration,
        sent=refusal.sent,
        close=close,
        to_head=head,
        via=VIA,
    )


@pytest.mark.parametrize("refusal", PROBLEMS)
def test_every_response_has_its_code_status_and_proxy_status(refusal: Problem) -> None:
    """Every row of the table of errors."""
    written = serialized(refusal)
    phrase = HTTPStatus(refusal.status).phrase.encode()
    assert written.startswith(b"HTTP/1.1 %d %b\r\nContent-Type: " % (refusal.status, phrase))
    message = wire.first_response(written)
    assert message is not None
    assert message.status == refusal.status
    assert problem(message)["code"] == refusal.code
    assert problem(message)["error"] == refusal.error
    assert problem(message)["detail"] == "why"
    assert message.values(b"cache-control") == [b"no-store"]
    assert message.values(b"via") == [b"1.1 sidekey (word)"]


def test_response_names_the_integration_if_the_caller_knows_it() -> None:
    refusal = Problem("target_denied", "why", denial="outside_prefix")
    assert b'"integration": "crm"' in serialized(refusal, integration="crm")
    assert b"integration" not in serialized(refusal).partition(b"\r\n\r\n")[2].replace(refusal.title.encode(), b"")


def test_response_to_head_has_no_body() -> None:
    """RFC 9110 9.3.2: the fields are those of GET."""
    refusal = Problem("target_denied", "why", denial="outside_prefix")
    head, _, body = serialized(refusal).partition(b"\r\n\r\n")
    assert serialized(refusal, head=True) == head + b"\r\n\r\n"
    assert json.loads(body)["status"] == 403


def test_the_end_of_the_connection_is_announced() -> None:
    """RFC 9112 9.6"""
    message = wire.first_response(serialized(Problem("request_invalid", "why"), close=True))
    assert message is not None
    assert message.values(b"connection") == [b"close"]


def test_headers_of_the_problem_are_sent() -> None:
    """Allow, a challenge or Retry-After."""
    message = wire.first_response(serialized(Problem("overloaded", "why", headers=(("Retry-After", "1"),))))
    assert message is not None
    assert message.values(b"retry-after") == [b"1"]


async def test_denied_head_request_keeps_its_connection_usable() -> None:
    async with (
        MemoryUpstream() as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(denied(method="HEAD") + get())
        assert (await caller.response(to_head=True)).status == 403
        assert (await caller.response()).body == b"ok"


async def test_denial_keeps_the_connection_only_after_the_whole_body() -> None:
    async with running(integration("h", base_url(1))) as sidekey, sidekey.connect() as caller:
        await caller.send(denied(method="POST", body=b"whole"))
        assert (await caller.response()).values(b"connection") == []
        await caller.send(denied("Content-Length: 10", method="POST") + b"part")
        assert (await caller.response()).values(b"connection") == [b"close"]
        await caller.until_ended()


async def test_only_responses_of_sidekey_have_proxy_status() -> None:
    """Sidekey removes the upstream's field."""

    async with MemoryUpstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        assert (await sidekey.send(get())).values(b"proxy-status") == []


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (b"200 Fine by me", b"HTTP/1.1 200 OK"),
        (b"200", b"HTTP/1.1 200 OK"),
        (b"404 Nicht gef\xfcnden", b"HTTP/1.1 404 Not Found"),
        (b"299 Odd", b"HTTP/1.1 299 "),
        (b"599 Odd", b"HTTP/1.1 599 "),
    ],
)
async def test_the_reason_phrase_is_the_standard_one(status: bytes, line: bytes) -> None:
    """Clients ignore it, and the upstream's phrase may contain anything (RFC 9112 4)."""
    async with (
        MemoryUpstream(respond_with(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
    ):
        assert (await sidekey.send(get())).start == line


async def test_the_head_keeps_its_fields_order_and_bytes() -> None:
    """Except for framing, request ID and Via, which Sidekey writes."""
    head = (
        b"HTTP/1.0 201 Made\r\nServer: a\r\nx-B: 1\r\nX-A:two  words\r\n"
        b"x-B: \xe9\r\nContent-Length: 2\r\nDate: x\r\n\r\n"
    )
    async with (
        MemoryUpstream(respond_with(head + b"ok")) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(get())
        await caller.until_contains(b"\r\n\r\nok")
        assert bytes(caller.received) == (
            b"HTTP/1.1 201 Created\r\nServer: a\r\nx-B: 1\r\nX-A: two  words\r\nx-B: \xe9\r\nDate: x\r\n"
            b"Content-Length: 2\r\nSidekey-Request-Id: %b-1\r\nVia: 1.1 sidekey (%b)\r\n\r\nok"
            % (sidekey.plane.worker.instance, sidekey.plane.worker.instance)
        )


@pytest.mark.parametrize("named", [b"content-length", b"transfer-encoding, via"])
async def test_connection_field_cannot_remove_the_framing(named: bytes) -> None:
    response = b"HTTP/1.1 200 OK\r\nConnection: " + named + b"\r\nVia: 1.1 a\r\nContent-Length: 2\r\n\r\nok"
    async with (
        MemoryUpstream(respond_with(response)) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
    ):
        reply = await sidekey.send(get())
    assert (reply.values(b"content-length"), reply.body) == ([b"2"], b"ok")


async def test_via_false_removes_via() -> None:
    """From requests and responses."""
    async with MemoryUpstream() as upstream, running(integration("h", base_url(upstream.port)), via=False) as sidekey:
        assert (await sidekey.send(get())).values(b"via") == []


async def test_http_1_0_caller_gets_no_chunks() -> None:
    """RFC 9112 6.1: the body ends with the connection."""
    response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    async with (
        MemoryUpstream(respond_with(response)) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(get("/a", "Connection: keep-alive", version="1.0"))
        received = await caller.until_ended()
        assert (received.endswith(b"\r\n\r\nok"), b"chunked" in received) == (True, False)
        message = wire.first_response(received, ended=True)
        assert message is not None
        assert message.values(b"connection") == [b"close"]


async def test_injected_query_is_removed_from_redirects() -> None:
    """The upstream repeats the requested URL. The redirect stays usable."""
    token = Grant(query=(("access_token", "s/e+c="),), secrets=(b"s/e+c=",))
    echoed = b"https://up.test/b?access_token=s%2Fe%2Bc%3D&x=1"
    head = b"".join(
        b"%b: %b\r\n" % (name, value)
        for name, value in (
            (b"Location", echoed),
            (b"content-location", b"/b?access_token=s/e+c="),
            (b"LINK", b"<" + echoed + b'>; rel="next"'),
            (b"Refresh", b"5; url=" + echoed),
            (b"X-Other", b"/b?x=1"),
        )
    )
    response = b"HTTP/1.1 302 Found\r\n" + head + b"Content-Length: 0\r\n\r\n"
    async with MemoryUpstream(respond_with(response)) as upstream:
        configured = integration(
            "h", base_url(upstream.port), headers=(), traits=CredentialTraits(InjectionPoints(query=("access_token",)))
        )
        async with running(configured, sources={"h": FixedSource(token)}) as sidekey:
            message = await sidekey.send(get())
    assert message.values(b"location") == [b"https://up.test/b?x=1"]
    assert message.values(b"content-location") == [b"/b"]
    assert message.values(b"link") == [b'<https://up.test/b?x=1>; rel="next"']
    assert message.values(b"refresh") == [b"5; url=https://up.test/b?x=1"]
    assert message.values(b"x-other") == [b"/b?x=1"]
