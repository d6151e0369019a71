"""WebSocket: the handshake, and the bytes of both connections after it (RFC 6455 4)."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidekey.config.build.snapshot import build_matching
from sidekey.credentials.base import Grant
from sidekey.observe.access import AccessLog
from sidekey.observe.writer import LineWriter
from sidekey.policy.callers import Caller
from sidekey.proxy.transport import WRITE_BUFFER
from sidekey.snapshot.request_rules import Limits, Timeouts
from support import wire
from support.leaves import IssuedLeaves
from support.plane import (
    UPSTREAM,
    RenewedSource,
    RunningPlane,
    base_url,
    callers_of,
    eventually,
    forwarded,
    get,
    https_integration,
    integration,
    problem,
    request,
    running,
)
from support.private_ca import Authority
from support.raw_connection import DEADLINE, RawConnection
from support.scripted import RecordingTransport, ScriptedPlane, send_request, settle, single_response
from support.tunnels import connect_request, tunnel, tunnel_get
from support.upstream import OK, RawUpstream
from support.websocket import (
    ACCEPT,
    HANDSHAKE,
    KEY,
    SWITCHING,
    accept,
    last_key,
    switching,
    websocket_integration,
)
from support.wire import first_response

H = websocket_integration("h", base_url(1))
RAW = get("/a", *HANDSHAKE)
FRAME = b"\x81\x85\0\0\0\0hello"
"""A frame of a caller: a masked text (RFC 6455 5.7)."""


async def switch(connection: RawConnection) -> None:
    """Complete the handshake as the upstream."""
    await connection.until_contains(b"\r\n\r\n")
    await connection.send(switching(connection.received))


@asynccontextmanager
async def open_socket(
    sidekey: RunningPlane, upstream: RawUpstream
) -> AsyncIterator[tuple[RawConnection, RawConnection]]:
    """Return a caller with an open WebSocket, and the upstream's end."""
    number = len(upstream.connections)
    async with sidekey.connect() as caller:
        await caller.send(RAW)
        assert (await caller.response()).status == 101
        far = await upstream.connection(number)
        far.consumed = len(far.received)
        yield caller, far


async def ends(sidekey: ScriptedPlane) -> tuple[RecordingTransport, RecordingTransport]:
    """Return both transports of an open WebSocket, the caller's first."""
    caller, upstream = await send_request(sidekey, RAW)
    upstream.read()
    upstream.feed(switching(upstream.history))
    assert single_response(caller).status == 101
    return caller, upstream


# The handshake.


async def test_handshake_is_forwarded_with_the_credential() -> None:
    """Byte for byte, with the protocols and extensions of both sides, and nothing else that concerns one connection."""
    fields = ("Sec-WebSocket-Protocol: chat, v2", "Sec-WebSocket-Extensions: permessage-deflate", "X-Own: 1")
    connection = "Connection: keep-alive, Upgrade, X-Hop"
    sidekey = ScriptedPlane(H)
    caller, upstream = await send_request(sidekey, get("/a", connection, "X-Hop: 1", *HANDSHAKE[1:], *fields))
    key = f"Sec-WebSocket-Key: {last_key(upstream.history)}"
    lines = [line.encode() for line in (key, HANDSHAKE[3], *fields, *HANDSHAKE[:2])]
    assert upstream.read() == forwarded(1, b"GET", b"/api/a", *lines, word=sidekey.plane.worker.instance)
    upstream.feed(switching(upstream.history, "Sec-WebSocket-Protocol: v2", "Set-Cookie: a=b", "Keep-Alive: timeout=1"))
    response = single_response(caller)
    assert response.start == b"HTTP/1.1 101 Switching Protocols"
    assert response.fields == (
        (b"sec-websocket-protocol", b"v2"),
        (b"set-cookie", b"a=b"),
        (b"sec-websocket-accept", ACCEPT.encode()),
        (b"connection", b"Upgrade"),
        (b"upgrade", b"websocket"),
        (b"via", b"1.1 sidekey (%b)" % sidekey.plane.worker.instance),
    )


@pytest.mark.parametrize("pieces", ["whole", "dribbled"])
async def test_handshake_may_be_written_in_other_ways(pieces: str) -> None:
    sidekey = ScriptedPlane(H)
    raw = get("/a", "upgrade: WebSocket", "CONNECTION: x,, upgrade ,", *HANDSHAKE[2:])
    caller = sidekey.caller()
    caller.feed(*([raw] if pieces == "whole" else [raw[at : at + 1] for at in range(len(raw))]))
    upstream = await sidekey.upstream()
    raw = switching(upstream.history)
    upstream.feed(raw.replace(b"websocket", b"WebSocket").replace(b": Upgrade", b": keep-alive, uPGRADE"))
    assert single_response(caller).status == 101


WRONG_REQUESTS = {
    "POST": (request("POST", "/a", *HANDSHAKE), "a GET in HTTP/1.1"),
    "HTTP/1.0": (get("/a", *HANDSHAKE, version="1.0"), "a GET in HTTP/1.1"),
    "a body": (request("GET", "/a", *HANDSHAKE, body=b"x"), "neither Content-Length nor"),
    "a length": (get("/a", *HANDSHAKE, "Content-Length: 0"), "neither Content-Length nor"),
    "chunks": (get("/a", *HANDSHAKE, "Transfer-Encoding: chunked") + b"0\r\n\r\n", "neither Content-Length nor"),
    "no Connection": (get("/a", *HANDSHAKE[1:]), "list Upgrade in Connection"),
    "another Connection": (get("/a", "Connection: upgraded", *HANDSHAKE[1:]), "list Upgrade in Connection"),
    "no version": (get("/a", *HANDSHAKE[:3]), "one Sec-WebSocket-Version"),
    "version 8": (get("/a", *HANDSHAKE[:3], "Sec-WebSocket-Version: 8"), "one Sec-WebSocket-Version"),
    "two versions": (get("/a", *HANDSHAKE, "Sec-WebSocket-Version: 13"), "one Sec-WebSocket-Version"),
    "no key": (get("/a", *HANDSHAKE[:2], HANDSHAKE[3]), "one Sec-WebSocket-Key"),
    "two keys": (get("/a", *HANDSHAKE, f"Sec_WebSocket_Key: {KEY}"), "one Sec-WebSocket-Key"),
    "a short key": (get("/a", *HANDSHAKE[:2], "Sec-WebSocket-Key: YQ==", HANDSHAKE[3]), "one Sec-WebSocket-Key"),
    "a key for one hop": (
        get("/a", "Connection: upgrade, sec_websocket_key", *HANDSHAKE[1:]),
        "no header of the handshake",
    ),
    "17 bytes": (get("/a", *HANDSHAKE[:2], f"Sec-WebSocket-Key: {KEY[:-2]}A=", HANDSHAKE[3]), "one Sec-WebSocket-Key"),
}


@pytest.mark.parametrize(("raw", "detail"), WRONG_REQUESTS.values(), ids=WRONG_REQUESTS)
async def test_invalid_handshake_is_400(raw: bytes, detail: str) -> None:
    """The reason says what is wrong, the connection closes, and nothing reaches an upstream."""
    sidekey = ScriptedPlane(H)
    caller = sidekey.caller()
    caller.feed(raw)
    response = single_response(caller)
    assert problem(response)["code"] == "request_invalid"
    assert detail in problem(response)["detail"]
    assert caller.ended
    assert sidekey.upstreams == []


@pytest.mark.parametrize("door", ["reverse proxy", "forward proxy", "by host", "tunnel"])
async def test_handshake_with_expect_is_417(door: str, ca: Authority) -> None:
    """It has no body that 100 could ask for (RFC 9110 10.1.1)."""
    async with RawUpstream(switch, ssl_context=ca.server_context(UPSTREAM)) as upstream:
        h = replace(https_integration(upstream.port, ca), websocket=True)
        raw = get("/a", *HANDSHAKE, "Expect: 100-continue", name="h")
        plain = f"http://{UPSTREAM}:{upstream.port}/api/a".encode()
        async with running(h, leaves=IssuedLeaves(ca), matching=True) as sidekey, AsyncExitStack() as stack:
            if door == "tunnel":
                caller: Any = await stack.enter_async_context(tunnel(sidekey, ca, f"{UPSTREAM}:{upstream.port}"))
                raw = tunnel_get(upstream.port, "/api/a", *HANDSHAKE, "Expect: 100-continue")
            else:
                caller = await stack.enter_async_context(sidekey.connect())
                if door != "reverse proxy":
                    raw = raw.replace(b"/i/h/a", plain)
                if door == "forward proxy":
                    raw = raw.replace(b"\r\n\r\n", b"\r\nX-Integration-Id: h\r\n\r\n")
            await caller.send(raw)
            response = await caller.response()
            assert (response.status, problem(response)["code"]) == (417, "request_invalid")
            assert "must not have Expect" in problem(response)["detail"]
            await (caller.until_closed() if door == "tunnel" else caller.until_ended())
        assert upstream.connections == []


RIGHT = "Sec-WebSocket-Accept: {right}"
WRONG_RESPONSES = {
    "no Accept": ("HTTP/1.1", *SWITCHING),
    "another Accept": ("HTTP/1.1", *SWITCHING, f"Sec-WebSocket-Accept: {KEY}"),
    "the Accept of the caller's key": ("HTTP/1.1", *SWITCHING, f"Sec-WebSocket-Accept: {ACCEPT}"),
    "an Accept in lower case": ("HTTP/1.1", *SWITCHING, "Sec-WebSocket-Accept: {lower}"),
    "two Accepts": ("HTTP/1.1", *SWITCHING, RIGHT, RIGHT),
    "no Upgrade": ("HTTP/1.1", SWITCHING[0], RIGHT),
    "another Upgrade": ("HTTP/1.1", SWITCHING[0], "Upgrade: h2c", RIGHT),
    "two Upgrades": ("HTTP/1.1", *SWITCHING, RIGHT, "Upgrade: h2c"),
    "no Connection": ("HTTP/1.1", SWITCHING[1], RIGHT),
    "a length": ("HTTP/1.1", *SWITCHING, RIGHT, "Content-Length: 0"),
    "chunks": ("HTTP/1.1", *SWITCHING, RIGHT, "Transfer-Encoding: chunked"),
    "HTTP/1.0": ("HTTP/1.0", *SWITCHING, RIGHT),
    "many fields": ("HTTP/1.1", *SWITCHING, RIGHT, *["X: 1"] * 300),
}


@pytest.mark.parametrize("fields", WRONG_RESPONSES.values(), ids=WRONG_RESPONSES)
async def test_invalid_101_is_502(fields: tuple[str, ...]) -> None:
    """Both connections close, and the bytes behind the response do not reach the caller."""
    sidekey = ScriptedPlane(H)
    caller, upstream = await send_request(sidekey, RAW)
    version, *lines = fields
    right = accept(last_key(upstream.history))
    raw = "\r\n".join((f"{version} 101 Switching", *lines, "", "")).format(right=right, lower=right.lower())
    upstream.feed(raw.encode() + FRAME)
    response = single_response(caller)
    assert (response.status, problem(response)["code"]) == (502, "upstream_protocol_error")
    assert (caller.ended, upstream.aborted) == (True, True)
    assert sidekey.metrics.tunnels["websocket"] == sidekey.metrics.in_flight == 0


@pytest.mark.parametrize("raw", [get(), get("/a", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c")])
async def test_101_without_a_handshake_is_502(raw: bytes) -> None:
    """Even if it fits a key of RFC 6455."""
    sidekey = ScriptedPlane(H)
    caller, upstream = await send_request(sidekey, raw)
    upstream.feed(switching(RAW) + FRAME)
    assert problem(single_response(caller))["code"] == "upstream_protocol_error"
    assert upstream.aborted


@pytest.mark.parametrize("interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nX: 1\r\n\r\n"])
async def test_101_may_follow_an_interim_response(interim: bytes) -> None:
    sidekey = ScriptedPlane(H)
    caller, upstream = await send_request(sidekey, RAW)
    upstream.feed(interim + switching(upstream.history) + FRAME)
    assert caller.read().endswith(b"\r\n\r\n" + FRAME)


@pytest.mark.parametrize("cut", range(0, len(switching(RAW)) + len(FRAME), 7))
async def test_101_may_arrive_in_two_reads(cut: int) -> None:
    """With the first bytes of the WebSocket behind it."""
    sidekey = ScriptedPlane(H)
    caller, upstream = await send_request(sidekey, RAW)
    raw = switching(upstream.history) + FRAME
    upstream.feed(*filter(None, (raw[:cut], raw[cut:])))
    assert caller.read().endswith(b"\r\n\r\n" + FRAME)
    assert not caller.aborted


async def test_each_handshake_has_a_key_that_its_caller_does_not_know() -> None:
    """Otherwise an endpoint that relays the response of the caller's own server would return a valid 101."""
    sidekey = ScriptedPlane(H)
    keys = {KEY}
    for number in range(4):
        sidekey.caller().feed(RAW)
        upstream = await sidekey.upstream(number)
        keys.add(last_key(upstream.history))
    assert len(keys) == 5


async def test_any_other_response_is_ordinary() -> None:
    """The upstream's connection is reused. The caller's closes: nothing behind a handshake is read as a request."""
    sidekey = ScriptedPlane(H)
    caller, upstream = await send_request(sidekey, RAW)
    caller.feed(get("/behind"))
    upstream.read()
    upstream.feed(
        b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nno"
    )
    response = single_response(caller)
    assert (response.status, response.body, response.values(b"connection")) == (426, b"no", [b"close"])
    assert response.values(b"upgrade") == []
    assert caller.ended
    assert upstream.read() == b""
    again = sidekey.caller()
    again.feed(get())
    await settle()
    assert upstream.read().startswith(b"GET /api/a ")
    upstream.feed(OK)
    assert single_response(again).status == 200


async def test_rejected_token_is_renewed_before_the_101() -> None:
    old, new = (Grant(headers=(("Authorization", f"Bearer {name}-token"),)) for name in ("old", "new"))
    sidekey = ScriptedPlane(
        replace(H, traits=H.traits._replace(watched=frozenset({401}))), sources={"h": RenewedSource(old, new)}
    )
    caller, upstream = await send_request(sidekey, RAW)
    upstream.feed(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
    second = await sidekey.upstream(1)
    handshake = second.read()
    assert b"Authorization: Bearer new-token" in handshake
    assert b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" in handshake
    second.feed(switching(second.history))
    assert single_response(caller).status == 101


async def test_secret_in_the_101_is_redacted() -> None:
    """Of the fields; a key that the caller chose cannot be one."""
    secret = "a-secret-of-the-test"
    served = websocket_integration("h", base_url(1), headers=(("Authorization", secret),))
    grant = Grant(headers=(("Authorization", secret),), secrets=(secret.encode(),))
    sidekey = ScriptedPlane(served, sources={"h": RenewedSource(grant)})
    caller, upstream = await send_request(sidekey, RAW)
    upstream.feed(switching(upstream.history, f"X-Echo: {secret}"))
    assert single_response(caller).values(b"x-echo") == [b"[redacted]"]


# Who may upgrade.


async def test_upgrade_that_the_integration_does_not_list_is_501() -> None:
    sidekey = ScriptedPlane(integration("h", base_url(1)))
    caller = sidekey.caller()
    caller.feed(RAW)
    error = problem(single_response(caller))
    assert (error["status"], error["code"], error["sent"]) == (501, "not_implemented", "no")
    assert "upgrade: [websocket]" in error["detail"]
    assert caller.ended


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (get("/a", *HANDSHAKE), 401, "caller_denied"),
        (get("/a", *HANDSHAKE, "Sidekey-Token: of-h", name="other"), 403, "integration_denied"),
        (get("/a", *HANDSHAKE, "Sidekey-Token: of-h", name="posts"), 405, "method_denied"),
        (get("/a", *HANDSHAKE, "Sidekey-Token: of-h", name="plain"), 501, "not_implemented"),
        (get("/%2e%2e/a", *HANDSHAKE, "Sidekey-Token: of-h"), 400, "request_invalid"),
        (get("/a", *HANDSHAKE, "Sidekey-Token: of-h", "Sec-Fetch-Site: cross-site"), 403, "door_denied"),
    ],
)
async def test_handshake_is_judged_like_any_request(raw: bytes, status: int, code: str) -> None:
    sidekey = ScriptedPlane(
        H,
        websocket_integration("other", base_url(1)),
        websocket_integration("posts", base_url(1), methods=["POST"]),
        integration("plain", base_url(1)),
        tokens={"of-h": frozenset({"h", "posts", "plain"})},
    )
    caller = sidekey.caller()
    caller.feed(raw)
    error = problem(single_response(caller))
    assert (error["status"], error["code"]) == (status, code)
    assert sidekey.upstreams == []


@pytest.mark.parametrize("target", [b"/i/h/a", b"http://up.test:1/api/a"], ids=["reverse proxy", "forward proxy"])
async def test_origin_needs_callers(target: bytes) -> None:
    """Through each proxy: a web page could read the WebSocket. Clients that are no browsers can leave Origin out."""
    sidekey = ScriptedPlane(H, matching=True)
    caller = sidekey.caller()
    caller.feed(get("/a", *HANDSHAKE, "Origin: https://app.test").replace(b"/i/h/a", target))
    assert problem(single_response(caller))["code"] == "door_denied"
    assert sidekey.upstreams == []
    sidekey = ScriptedPlane(H, tokens={"t": None})
    caller, upstream = await send_request(
        sidekey, get("/a", *HANDSHAKE, "Origin: https://app.test", "Sidekey-Token: t")
    )
    upstream.feed(switching(upstream.history))
    assert single_response(caller).status == 101


async def test_handshake_without_a_credential_is_501() -> None:
    """`forward.unmatched: pass` upgrades nothing."""
    sidekey = ScriptedPlane(H, passing=True)
    caller = sidekey.caller()
    caller.feed(RAW.replace(b"/i/h/a", b"http://other.test/a"))
    error = problem(single_response(caller))
    assert (error["status"], error["code"]) == (501, "not_implemented")
    assert sidekey.upstreams == []


@pytest.mark.parametrize(
    "raw",
    [
        RAW.replace(b"/i/h/a", b"http://up.test:1/api/a").replace(b"Connection", b"X-Integration-Id: h\r\nConnection"),
        RAW.replace(b"/i/h/a", b"http://up.test:1/api/a"),
    ],
    ids=["forward proxy", "by host"],
)
async def test_handshake_through_the_forward_proxy(raw: bytes) -> None:
    sidekey = ScriptedPlane(H, matching=True)
    caller, upstream = await send_request(sidekey, raw)
    assert upstream.read().startswith(b"GET /api/a HTTP/1.1\r\nHost: up.test:1\r\nAuthorization: ")
    upstream.feed(switching(upstream.history) + FRAME)
    assert caller.read().endswith(FRAME)


# Bytes that come too early.


async def test_bytes_in_the_same_read_as_the_handshake_are_refused() -> None:
    """Nothing of the read reaches an upstream."""
    for behind in (FRAME, b"x", b"\r\n", get("/behind")):
        sidekey = ScriptedPlane(H)
        caller = sidekey.caller()
        caller.feed(RAW + behind)
        await settle()
        error = problem(single_response(caller))
        assert (error["status"], error["code"], error["sent"]) == (400, "request_invalid", "no")
        assert "nothing between a WebSocket handshake and its response" in error["detail"]
        assert (caller.ended, sidekey.upstreams) == (True, [])


EARLY = {
    "a frame": [FRAME],
    "the start of a request": [b"GET /i/h/behi"],
    "a request": [get("/behind")],
    "many requests": [get("/behind") * 40],
    "bytes that are no HTTP": [b"\x00"],
    "an empty line": [b"\r\n"],
    "an empty line, then a frame": [b"\r\n", FRAME],
}


@pytest.mark.parametrize("behind", EARLY.values(), ids=EARLY)
async def test_bytes_before_the_101_close_both_connections(behind: list[bytes]) -> None:
    sidekey = ScriptedPlane(H)
    caller, upstream = await send_request(sidekey, RAW)
    upstream.read()
    caller.feed(*behind)
    await settle()
    upstream.feed(switching(upstream.history) + FRAME)
    response = first_response(caller.read())
    assert response is not None
    assert (response.status, problem(response)["code"], problem(response)["sent"]) == (400, "request_invalid", "maybe")
    assert (caller.ended, upstream.aborted, upstream.read()) == (True, True, b"")
    assert sidekey.metrics.tunnels["websocket"] == 0


async def test_unread_bytes_before_the_101_close_both_connections() -> None:
    """The kernel has them when the 101 arrives."""
    sidekey = ScriptedPlane(H)
    near, far = socket.socketpair()
    with near, far:
        caller, upstream = await send_request(sidekey, RAW)
        caller.sock = near
        far.send(b"x")
        upstream.read()
        upstream.feed(switching(upstream.history))
        assert problem(single_response(caller))["code"] == "request_invalid"
        assert (upstream.aborted, upstream.read()) == (True, b"")


async def test_request_before_the_handshake_is_served_first() -> None:
    sidekey = ScriptedPlane(H)
    caller, upstream = await send_request(sidekey, get("/first") + RAW)
    assert upstream.read().startswith(b"GET /api/first ")
    upstream.feed(OK)
    assert single_response(caller).body == b"ok"
    await settle()
    assert upstream.read().startswith(b"GET /api/a ")
    upstream.feed(switching(upstream.history) + FRAME)
    assert caller.read().endswith(FRAME)


# The bytes.


async def test_bytes_pass_both_ways_and_each_way_ends_by_itself() -> None:
    async with RawUpstream(switch) as upstream:
        served = websocket_integration("h", base_url(upstream.port))
        async with running(served) as sidekey:
            async with open_socket(sidekey, upstream) as (caller, far):
                await caller.send(b"\x81\x80GET / HTTP/1.1\r\n\r\n")
                await far.until_contains(b"\x81\x80GET / HTTP/1.1\r\n\r\n")
                await far.send(b"HTTP/1.1 200 OK\r\n\r\n\xff")
                await caller.until(lambda: caller.received.endswith(b"HTTP/1.1 200 OK\r\n\r\n\xff"))
                assert sidekey.metrics.tunnels["websocket"] == sidekey.metrics.in_flight == 1
                assert sidekey.metrics.upstream_open == 1
                caller.transport.write_eof()
                await eventually(lambda: far.ended)
                await far.send(b"last")
                await caller.until_contains(b"last")
                far.close()
                await caller.until_ended()
            await eventually(lambda: sidekey.metrics.tunnels["websocket"] == 0)
            assert sidekey.metrics.stats("h").outcomes == {"1xx": 1}
            await sidekey.wait_until_idle()
            assert sidekey.metrics.tunnel_outcomes == {}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=40)), max_size=20), st.binary(max_size=5))
def test_bytes_arrive_unchanged_and_in_order(pieces: list[tuple[bool, bytes]], first: bytes) -> None:
    async def main() -> None:
        sidekey = ScriptedPlane(H)
        caller, upstream = await send_request(sidekey, RAW)
        upstream.read()
        upstream.feed(switching(upstream.history) + first)
        head, end, received = caller.read().partition(b"\r\n\r\n")
        assert (head.split(b"\r\n")[0], end) == (b"HTTP/1.1 101 Switching Protocols", b"\r\n\r\n")
        caller.feed(*(FRAME[:1], FRAME[1:]) if first else (FRAME,))
        for up, piece in pieces:
            (caller if up else upstream).feed(piece)
        assert upstream.read() == FRAME + b"".join(piece for up, piece in pieces if up)
        assert received + caller.read() == first + b"".join(piece for up, piece in pieces if not up)
        assert sidekey.defects == []

    asyncio.run(main())


FIELDS = st.sampled_from(
    [
        *HANDSHAKE,
        "Upgrade: h2c",
        "Upgrade: websocket, h2c",
        "Upgrade: WebSocket",
        "Connection: keep-alive, upgrade",
        "Connection: Sec-WebSocket-Key",
        "Connection: upgraded",
        "Connection: close",
        "Content-Length: 0",
        "Transfer-Encoding: chunked",
        "Sec-WebSocket-Version: 8",
        "Sec-WebSocket-Key: YQ==",
        "Sec_WebSocket_Key: YQ==",
        "Expect: 100-continue",
    ]
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(FIELDS, max_size=5).flatmap(lambda extra: st.permutations([*extra, *HANDSHAKE])),
    st.sampled_from(["GET", "POST"]),
    st.sampled_from(["1.0", "1.1"]),
)
def test_only_a_valid_handshake_is_forwarded_with_upgrade(fields: list[str], method: str, version: str) -> None:
    """It has each field of RFC 6455 4.2.1 once, and no other request carries Upgrade."""

    async def main() -> None:
        sidekey = ScriptedPlane(H)
        caller = sidekey.caller()
        caller.feed(request(method, "/a", *fields, version=version))
        await settle()
        for upstream in sidekey.upstreams:
            head = upstream.read().lower()
            count = head.count(b"\r\nupgrade: websocket\r\n")
            assert head.count(b"\r\nupgrade:") == head.count(b"\r\nconnection: upgrade\r\n") == count <= 1
            if count:
                assert (method, version) == ("GET", "1.1")
                assert b"\r\ncontent-length:" not in head
                assert b"\r\ntransfer-encoding:" not in head
                assert head.count(b"\r\nsec-websocket-version: 13\r\n") == head.count(b"websocket-version:") == 1
                assert head.count(b"websocket-key:") + head.count(b"websocket_key:") == 1
        assert sidekey.upstreams or caller.read().split(b" ", 2)[1] in (b"400", b"417", b"501")

    asyncio.run(main())


async def test_full_end_pauses_only_the_other_end() -> None:
    near, far = await ends(ScriptedPlane(H))
    for full, sender in ((far, near), (near, far)):
        full.block_writes()
        sender.feed(FRAME)
        assert (sender.reading, full.reading) == (False, True)
        full.allow_writes()
        assert (sender.reading, full.reading) == (True, True)


async def test_caller_that_is_full_at_the_101_pauses_the_upstream() -> None:
    """Also if the upstream is full: a transport does not report it again to its next protocol."""
    sidekey = ScriptedPlane(H)
    caller, upstream = await send_request(sidekey, RAW)
    upstream.block_writes()
    upstream.protocol.pause_writing()
    caller.block_writes()
    upstream.feed(switching(upstream.history))
    assert (caller.reading, upstream.reading) == (False, False)
    upstream.protocol.resume_writing()
    assert (caller.reading, upstream.reading) == (True, False)
    caller.allow_writes()
    assert upstream.reading


@pytest.mark.parametrize("slow", ["caller", "upstream"])
async def test_slow_receiver_slows_the_sender(slow: str) -> None:
    size = 24 << 20
    async with (
        RawUpstream(switch) as upstream,
        running(websocket_integration("h", base_url(upstream.port))) as sidekey,
        open_socket(sidekey, upstream) as (caller, far),
    ):
        sender, receiver = (far, caller) if slow == "caller" else (caller, far)
        before = len(receiver.received)
        receiver.transport.pause_reading()
        sender.transport.write(FRAME[:2] + bytes(size - 2))
        (held,) = sidekey.plane.worker.connections
        end = held._caller_end if slow == "caller" else held.upstream_end  # type: ignore[attr-defined]
        await eventually(lambda: end.transport.get_write_buffer_size() > WRITE_BUFFER)
        for _ in range(200):
            await asyncio.sleep(0)
        assert end.transport.get_write_buffer_size() <= WRITE_BUFFER + (256 << 10)
        receiver.transport.resume_reading()
        async with asyncio.timeout(DEADLINE * 2):
            while len(receiver.received) < before + size:
                await asyncio.sleep(0.01)


async def test_end_of_stream_closes_both_ends_if_one_has_tls() -> None:
    """A half-closed TLS transport would drop what still arrives."""
    near, far = await ends(ScriptedPlane(H))
    far.get_extra_info = lambda name, default=None: object() if name == "ssl_object" else default  # type: ignore[method-assign]
    near.finish()
    await settle()
    assert far.is_closing()
    assert not far.aborted


@pytest.mark.parametrize("cut", ["caller", "upstream"])
async def test_reset_is_forwarded_as_a_reset(cut: str) -> None:
    async with (
        RawUpstream(switch) as upstream,
        running(websocket_integration("h", base_url(upstream.port))) as sidekey,
        open_socket(sidekey, upstream) as (caller, far),
    ):
        first, second = (caller, far) if cut == "caller" else (far, caller)
        first.reset()
        await second.until_lost()
        assert isinstance(second.error, ConnectionResetError)


# Limits, and the end.


async def test_open_socket_stays_in_flight() -> None:
    """It keeps the slot of its integration until it ends."""
    sidekey = ScriptedPlane(replace(H, in_flight=1))
    caller, _ = await ends(sidekey)
    refused = sidekey.caller()
    refused.feed(get())
    error = problem(single_response(refused))
    assert (error["status"], error["detail"]) == (503, "the integration's own limits.in_flight is reached")
    assert sidekey.metrics.in_flight == 1
    caller.fail(ConnectionResetError())
    await settle()
    again, upstream = await send_request(sidekey, get())
    upstream = sidekey.upstreams[-1]
    upstream.feed(OK)
    assert single_response(again).status == 200
    assert sidekey.metrics.in_flight == 0


async def test_reload_that_requires_https_cuts_sockets_without_it() -> None:
    """A new handshake to the same URL would be changed to https."""
    sidekey = ScriptedPlane(websocket_integration("h", "http://up.test/api"))
    caller, upstream = await ends(sidekey)
    served = websocket_integration("h", "https://up.test/api")
    sidekey.plane.prepare(replace(sidekey.snapshot, integrations={"h": served}))()
    assert (caller.aborted, upstream.aborted) == (True, True)


@pytest.mark.parametrize("several_origins", [False, True])
async def test_websockets_of_one_caller_leave_room_for_requests_of_another(several_origins: bool) -> None:
    """They take at most half of the slots of an origin, and give them back."""
    other = [websocket_integration("k", base_url(2))] if several_origins else []
    in_flight = 12 if several_origins else 6
    sidekey = ScriptedPlane(H, *other, limits=Limits(in_flight=in_flight), tokens={"one": None, "two": None})

    async def open_as(token: str) -> tuple[RecordingTransport, wire.Message]:
        number = len(sidekey.upstreams)
        caller = sidekey.caller()
        caller.feed(get("/a", *HANDSHAKE, f"Sidekey-Token: {token}"))
        upstream = await sidekey.upstream(number)
        upstream.feed(switching(upstream.history))
        return caller, single_response(caller)

    opened = [await open_as("one") for _ in range(3)]
    assert [response.status for _, response in opened] == [101] * 3
    refused = problem((await open_as("one"))[1])
    assert (refused["status"], refused["code"]) == (503, "overloaded")
    assert "limits.in_flight" in refused["detail"]
    assert [(await open_as("two"))[1].status for _ in range(3)] == [101] * 3
    opened[0][0].fail(ConnectionResetError())
    await settle()
    assert (await open_as("one"))[1].status == 101


async def test_only_caller_may_open_as_many_websockets_as_may_be_in_flight() -> None:
    sidekey = ScriptedPlane(H, limits=Limits(in_flight=3), tokens={"one": None})
    for number in range(3):
        caller = sidekey.caller()
        caller.feed(get("/a", *HANDSHAKE, "Sidekey-Token: one"))
        upstream = await sidekey.upstream(number)
        upstream.feed(switching(upstream.history))
        assert single_response(caller).status == 101


async def test_caller_has_at_most_half_of_the_tunnels() -> None:
    """WebSockets count like tunnels, and give their slots back."""
    sidekey = ScriptedPlane(H, limits=Limits(tunnels=2), tokens={"one": None, "two": None})

    async def open_as(token: str) -> tuple[RecordingTransport, int]:
        number = len(sidekey.upstreams)
        caller = sidekey.caller()
        caller.feed(get("/a", *HANDSHAKE, f"Sidekey-Token: {token}"))
        upstream = await sidekey.upstream(number)
        upstream.feed(switching(upstream.history))
        return caller, single_response(caller).status

    first, status = await open_as("one")
    assert status == 101
    assert (await open_as("one"))[1] == 503
    assert sidekey.upstreams[1].aborted
    assert (await open_as("two"))[1] == 101
    first.fail(ConnectionResetError())
    await settle()
    assert (await open_as("one"))[1] == 101


REVOKING: dict[str, dict[str, Any]] = {
    "no caller": {"callers": {}},
    "no such token": {"callers": callers_of({"other": None})},
    "no permission": {"callers": callers_of({"t": frozenset({"k"})})},
    "no integration": {"integrations": {}},
    "no upgrade": {"integrations": {"h": integration("h", base_url(1))}},
    "another origin": {"integrations": {"h": websocket_integration("h", base_url(2))}},
    "another prefix": {"integrations": {"h": websocket_integration("h", base_url(1) + "/b")}},
}


RENAMING: dict[str, Any] = {"callers": {key: Caller("other", None) for key in callers_of({"t": None}) or ()}}
HARMLESS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "no callers": {"callers": None},
    "another caller": {"callers": callers_of({"t": None, "u": None})},
    "the same integration": {"integrations": {"h": websocket_integration("h", base_url(1))}},
    "a second prefix": {"integrations": {"h": websocket_integration("h", base_url(1), base_url(2))}},
}


@pytest.mark.parametrize(
    ("config", "cut"),
    [
        *((config, True) for config in (*REVOKING.values(), RENAMING)),
        *((config, False) for config in HARMLESS.values()),
    ],
    ids=[*REVOKING, "another name", *HARMLESS],
)
async def test_reload_cuts_sockets_that_it_no_longer_allows(config: dict[str, Any], cut: bool) -> None:
    sidekey = ScriptedPlane(H, tokens={"t": None})
    caller, upstream = await send_request(sidekey, get("/a", *HANDSHAKE, "Sidekey-Token: t"))
    upstream.feed(switching(upstream.history))
    assert single_response(caller).status == 101
    sidekey.plane.prepare(replace(sidekey.snapshot, **config))()
    assert (caller.aborted, upstream.aborted) == (cut, cut)


@pytest.mark.parametrize("config", REVOKING.values(), ids=REVOKING)
async def test_reload_before_the_101_refuses_the_socket(config: dict[str, Any]) -> None:
    """The upstream took its time, and the config no longer allows the handshake."""
    sidekey = ScriptedPlane(H, tokens={"t": None})
    caller, upstream = await send_request(sidekey, get("/a", *HANDSHAKE, "Sidekey-Token: t"))
    sidekey.plane.prepare(replace(sidekey.snapshot, **config))()
    upstream.feed(switching(upstream.history))
    response = single_response(caller)
    assert response.status >= 400
    assert problem(response)["sent"] == "maybe"
    assert (caller.ended, upstream.aborted) == (True, True)
    assert sidekey.metrics.tunnels["websocket"] == 0


async def test_reload_before_the_101_keeps_an_allowed_handshake() -> None:
    sidekey = ScriptedPlane(H, tokens={"t": None})
    caller, upstream = await send_request(sidekey, get("/a", *HANDSHAKE, "Sidekey-Token: t"))
    served = websocket_integration("h", base_url(1))
    sidekey.plane.prepare(replace(sidekey.snapshot, integrations={"h": served}))()
    upstream.feed(switching(upstream.history))
    assert single_response(caller).status == 101


async def test_reload_before_the_101_refuses_the_socket_of_a_replaced_integration() -> None:
    """Another one covers its URL now, but the handshake has the credential of the first."""
    sidekey = ScriptedPlane(H, matching=True)
    caller, upstream = await send_request(sidekey, RAW.replace(b"/i/h/a", b"http://up.test:1/api/a"))
    served = {"k": websocket_integration("k", base_url(1))}
    sidekey.plane.prepare(replace(sidekey.snapshot, integrations=served, matching=build_matching(served)))()
    upstream.feed(switching(upstream.history))
    assert problem(single_response(caller))["code"] == "target_denied"
    assert upstream.aborted
    assert sidekey.metrics.tunnels["websocket"] == 0


@pytest.mark.parametrize("config", [value for name, value in REVOKING.items() if name.startswith("no ")])
async def test_handshake_that_waits_is_judged_when_its_turn_comes(config: dict[str, Any]) -> None:
    """By the config of that moment: it is not sent with the credential of a config from long before."""
    sidekey = ScriptedPlane(H, tokens={"t": None})
    handshake = get("/a", *HANDSHAKE, "Sidekey-Token: t")
    caller, upstream = await send_request(sidekey, get("/first", "Sidekey-Token: t") + handshake)
    sidekey.plane.prepare(replace(sidekey.snapshot, **config))()
    upstream.feed(OK)
    await settle()
    assert b"pgrade" not in upstream.history
    assert len(sidekey.upstreams) == 1
    assert caller.ended


FIRST = {
    "a request": b"GET /api/admin HTTP/1.1\r\n",
    "no mask": b"\x81\x05hello",
    "a continuation": b"\x80\x80",
    "an unknown opcode": b"\x83\x80",
    "an empty line": b"\r\n",
    "a fragment of a ping": b"\x09\x85DELETE /admin HTTP/1.1\r\n",
    "a compressed ping": b"\xc9\x85DELETE /admin HTTP/1.1\r\n",
    "RSV2": b"\xa1\x80",
    "RSV3": b"\x91\x80",
}


@pytest.mark.parametrize("first", FIRST.values(), ids=FIRST)
@pytest.mark.parametrize("dribbled", [False, True])
async def test_first_bytes_must_be_a_masked_frame(first: bytes, dribbled: bool) -> None:
    """An upstream that relays the response of another server may still speak HTTP: it gets no request unjudged."""
    sidekey = ScriptedPlane(H)
    caller, upstream = await ends(sidekey)
    caller.feed(*((first[:1], first[1:]) if dribbled else (first,)))
    assert (caller.aborted, upstream.aborted, upstream.read()) == (True, True, b"")


async def test_idle_socket_is_cut() -> None:
    sidekey = ScriptedPlane(H, timeouts=Timeouts(tunnel_idle=50))
    caller, upstream = await ends(sidekey)
    deadlines = sidekey.plane.worker.deadlines
    deadlines.look(deadlines.now + 40)
    caller.feed(FRAME)
    deadlines.look(deadlines.now + 40)
    assert not caller.aborted
    upstream.feed(b"x")
    deadlines.look(deadlines.now + 51)
    assert (caller.aborted, upstream.aborted) == (True, True)
    await settle()
    assert sidekey.metrics.tunnels["websocket"] == 0


async def test_receiver_of_the_last_bytes_has_timeouts_write_to_read_them(tmp_path: Path) -> None:
    """Once the sender has closed, also if the receiver reads a part of them meanwhile."""
    log = tmp_path / "log"
    access = AccessLog(LineWriter(os.open(log, os.O_WRONLY | os.O_CREAT, 0o600)), "errors", path=False)
    sidekey = ScriptedPlane(H, timeouts=Timeouts(write=5, tunnel_idle=500), access=access)
    caller, upstream = await ends(sidekey)
    caller.block_writes()
    upstream.feed(b"last")
    upstream.finish()
    await settle()
    caller.drain_once()
    deadlines = sidekey.plane.worker.deadlines
    deadlines.look(deadlines.now + 4)
    assert not caller.aborted
    deadlines.look(deadlines.now + 2)
    assert caller.aborted
    await settle()
    assert json.loads(log.read_text())["reason"] == "the last bytes were not read within timeouts.write"


async def test_socket_lives_no_longer_than_timeouts_total() -> None:
    """From the start of its request, however much it is used."""
    sidekey = ScriptedPlane(H, timeouts=Timeouts(total=100))
    caller, upstream = await ends(sidekey)
    deadlines = sidekey.plane.worker.deadlines
    for _ in range(9):
        deadlines.look(deadlines.now + 11)
        caller.feed(FRAME)
    assert not caller.aborted
    deadlines.look(deadlines.now + 2)
    assert (caller.aborted, upstream.aborted) == (True, True)


async def test_drain_waits_for_a_socket_and_then_resets_it() -> None:
    async with (
        RawUpstream(switch) as upstream,
        running(websocket_integration("h", base_url(upstream.port))) as sidekey,
        open_socket(sidekey, upstream) as (caller, far),
    ):
        sidekey.plane.drain()
        end = asyncio.create_task(sidekey.plane.finish(0.5))
        await asyncio.sleep(0)
        await caller.send(FRAME)
        await far.until_contains(FRAME)
        assert not await end
        await caller.until_lost()
        await far.until_lost()
        assert [type(item.error) for item in (caller, far)] == [ConnectionResetError] * 2
        assert sidekey.metrics.tunnels["websocket"] == 0


async def test_drain_ends_with_the_last_socket() -> None:
    async with (
        RawUpstream(switch) as upstream,
        running(websocket_integration("h", base_url(upstream.port))) as sidekey,
        open_socket(sidekey, upstream) as (caller, far),
    ):
        sidekey.plane.drain()
        end = asyncio.create_task(sidekey.plane.finish(DEADLINE))
        await caller.send(b"\x88\x80bye!")
        await far.until_contains(b"bye!")
        far.close()
        await caller.until_ended()
        caller.close()
        assert await end


async def test_handshake_that_ends_after_the_drain_has_begun_is_503() -> None:
    sidekey = ScriptedPlane(H)
    caller, upstream = await send_request(sidekey, RAW)
    end = asyncio.create_task(sidekey.plane.finish(DEADLINE))
    await settle()
    upstream.feed(switching(upstream.history))
    error = problem(single_response(caller))
    assert (error["status"], error["code"]) == (503, "overloaded")
    assert upstream.aborted
    end.cancel()


async def test_access_line_is_written_at_the_end(tmp_path: Path) -> None:
    """One line, with the bytes of both ways. The use of the credential is logged with the 101."""
    log = tmp_path / "log"
    async with RawUpstream(switch) as upstream:
        served = websocket_integration("h", base_url(upstream.port))
        async with running(served, log=log, audit="uses") as sidekey:
            async with open_socket(sidekey, upstream) as (caller, far):
                await eventually(log.read_text)
                (used,) = map(json.loads, log.read_text().splitlines())
                assert (used["event"], used["status"]) == ("credential used", 101)
                await caller.send(FRAME)
                await far.until_contains(FRAME)
                await far.send(b"123")
                await caller.until_contains(b"123")
                size = len(caller.received)
                far.close()
            await eventually(lambda: len(log.read_text().splitlines()) == 2)
    line = json.loads(log.read_text().splitlines()[1])
    expected = {"door": "reverse", "method": "GET", "integration": "h", "status": 101, "code": None}
    assert {
        **expected,
        "bytes_in": len(FRAME),
        "bytes_out": size,
        "request_id": used["request_id"],
    }.items() <= line.items()
    assert line["duration"] >= line["first_byte"] > 0


@pytest.mark.parametrize("reason", ["tunnel_idle", "total", "drain", "no longer allows this WebSocket"])
async def test_cut_socket_is_logged_with_the_reason(tmp_path: Path, reason: str) -> None:
    """Also if only errors are logged."""
    log = tmp_path / "log"
    async with RawUpstream(switch) as upstream:
        served = websocket_integration("h", base_url(upstream.port))
        timeouts = Timeouts(tunnel_idle=50, total=40 if reason == "total" else 0)
        async with (
            running(served, log=log, access="errors", timeouts=timeouts) as sidekey,
            open_socket(sidekey, upstream) as (caller, _),
        ):
            if reason == "drain":
                await sidekey.plane.finish(0)
            elif reason.startswith("no longer"):
                sidekey.plane.prepare(replace(sidekey.snapshot, integrations={}))()
            else:
                sidekey.advance(60)
            await caller.until_lost()
            await eventually(log.read_text)
    (line,) = map(json.loads, log.read_text().splitlines())
    assert (line["status"], line["level"], line["integration"]) == (101, "warning", "h")
    assert reason in line["reason"]


# In tunnels, and with TLS.


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize("closing", ["caller", "upstream"])
async def test_socket_in_a_tunnel(ca: Authority, version: ssl.TLSVersion, closing: str) -> None:
    """With TLS on both sides. The tunnel is counted as open until the socket ends."""
    async with RawUpstream(switch, ssl_context=ca.server_context(UPSTREAM)) as upstream:
        served = replace(https_integration(upstream.port, ca), websocket=True)
        async with running(served, leaves=IssuedLeaves(ca)) as sidekey:
            async with tunnel(sidekey, ca, f"{UPSTREAM}:{upstream.port}", version=version) as caller:
                await caller.send(tunnel_get(upstream.port, "/api/a", *HANDSHAKE))
                assert (await caller.response()).status == 101
                (far,) = upstream.connections
                assert sidekey.metrics.tunnels == {"terminated": 1, "plain": 0, "passed": 0, "websocket": 1}
                await caller.send(FRAME + bytes(100_000) + b"up")
                await far.until_contains(b"\0up")
                await far.send(bytes(100_000) + b"down")
                await caller.until_contains(b"\0down")
                if closing == "upstream":
                    await far.send(b"last")
                    far.close()
                    assert await caller.until_closed()
                    assert caller.plain.endswith(b"last")
                else:
                    caller.raw.reset()
                    await far.until_lost()
            await eventually(lambda: not any(sidekey.metrics.tunnels.values()))


async def test_socket_in_a_plain_tunnel(ca: Authority) -> None:
    """As clients open `ws://` URLs through a proxy (RFC 6455 4.1)."""
    async with RawUpstream(switch) as upstream:
        served = websocket_integration("h", base_url(upstream.port))
        async with running(served, leaves=IssuedLeaves(ca)) as sidekey:
            async with sidekey.connect() as raw:
                await raw.send(connect_request(f"{UPSTREAM}:{upstream.port}"))
                assert (await raw.response(to_head=True)).status == 200
                await raw.send(tunnel_get(upstream.port, "/api/a", *HANDSHAKE))
                assert (await raw.response()).status == 101
                assert sidekey.metrics.tunnels == {"terminated": 0, "plain": 1, "passed": 0, "websocket": 1}
                await raw.send(FRAME)
                far = await upstream.connection()
                await far.until_contains(FRAME)
                far.close()
            await eventually(lambda: not any(sidekey.metrics.tunnels.values()))


async def test_http_is_upgraded_to_https() -> None:
    """`ws://` becomes `wss://`, like http, if only https covers the host."""
    served = websocket_integration("h", "https://up.test/api")
    sidekey = ScriptedPlane(served, matching=True)
    caller, upstream = await send_request(sidekey, RAW.replace(b"/i/h/a", b"http://up.test/api/a"))
    assert upstream.read().startswith(b"GET /api/a HTTP/1.1\r\nHost: up.test\r\nAuthorization: ")
    upstream.feed(switching(upstream.history))
    assert single_response(caller).status == 101
