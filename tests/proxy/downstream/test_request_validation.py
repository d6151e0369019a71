"""Rules for the head of a request beyond those of llhttp."""

from __future__ import annotations

import asyncio

import pytest

from sidekey.snapshot.request_rules import Limits
from support import wire
from support.memory import MemoryUpstream, running
from support.plane import base_url, get, integration, problem, request
from support.scripted import ScriptedPlane

REST = b"\r\nHost: h.test\r\n\r\n"
REFUSED = {
    "HTTP/2.0": (b"GET /i/h/a HTTP/2.0" + REST, 505),
    "HTTP/0.9 with a version": (b"GET /i/h/a HTTP/0.9" + REST, 505),
    "HTTP/0.9 without one": (b"GET /i/h/a\r\n\r\n", None),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/3.0": (b"GET /i/h/a HTTP/3.0" + REST, None),
    "GET over RTSP/1.0": (b"GET /i/h/a RTSP/1.0" + REST, None),
    "POST over RTSP/1.1": (b"POST /i/h/a RTSP/1.1" + REST, None),
    "lower case": (b"GET /i/h/a http/1.1" + REST, 400),
    "an unknown method": (b"FOO /i/h/a HTTP/1.1" + REST, 400),
    "a method in lower case": (b"get /i/h/a HTTP/1.1" + REST, 400),
    "no Host": (b"GET /i/h/a HTTP/1.1\r\nX: 1\r\n\r\n", 400),
    "two Hosts": (get("/a", "host: other.test"), 400),
    "a coding in HTTP/1.0": (
        b"POST /i/h/a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "a coding twice": (get("/a", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    "gzip, chunked": (get("/a", "Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n", 501),
    "an empty coding": (get("/a", "Transfer-Encoding: ") + b"0\r\n\r\n", 400),
    "an empty length": (get("/a", "Content-Length: "), 400),
    "a length of 30 digits": (get("/a", "Content-Length: " + "9" * 30), None),
    "a websocket without a key": (get("/a", "Upgrade: websocket"), 400),
    "h2c or a websocket": (get("/a", "Connection: Upgrade", "Upgrade: h2c, websocket"), 501),
    "an upgrade in two lines": (get("/a", "Connection: Upgrade", "Upgrade: h2c", "Upgrade: websocket"), 501),
    "NUL in a value": (get("/a", "X: a\0b"), 400),
    "a control in a value": (get("/a", "X: a\x01b"), 400),
    "bare CR in a value": (get("/a", "X: a\rb"), 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
}


@pytest.mark.parametrize("pieces", ["whole", "dribbled"])
@pytest.mark.parametrize(("raw", "status"), REFUSED.values(), ids=REFUSED)
async def test_invalid_head_is_refused(raw: bytes, status: int | None, pieces: str) -> None:
    """4xx, 501 or 505 and a closed connection. Nothing reaches an upstream."""
    async with MemoryUpstream() as upstream:
        async with running(integration("h", base_url(upstream.port))) as sidekey, sidekey.connect() as caller:
            for at in range(0, len(raw), 1 if pieces == "dribbled" else len(raw)):
                if caller.received:
                    break
                caller.transport.write(raw[at : at + 1] if pieces == "dribbled" else raw)
                await asyncio.sleep(0)
            response = await caller.response()
            error = problem(response)
            assert error["code"] in {"request_invalid", "not_implemented", "request_too_large"}
            assert response.status in ({400, 413, 501, 505} if status is None else {status})
            await caller.until_ended()
        assert upstream.connections == []


LIMITS = Limits(target=100, headers=20, request_head=1000, request_body=100)
TOO_LONG = "the head is over limits.request_head"
DETAILS = {
    "no Host": (b"GET /i/h/a HTTP/1.1\r\n\r\n", 400, "Host is missing"),
    "two Hosts": (get("/a", "Host: h.test"), 400, "Host must not be given twice"),
    "another version": (b"GET /i/h/a HTTP/2.0" + REST, 505, "the HTTP version must be 1.1 or 1.0"),
    "another protocol": (b"GET /i/h/a RTSP/1.1" + REST, 505, "the protocol must be HTTP/1.1 or HTTP/1.0"),
    "malformed": (b"GET /i/h/a HTTP/1.1\r\nHost h.test\r\n\r\n", 400, "the request is malformed"),
    "an upgrade": (
        get("/a", "Connection: upgrade", "Upgrade: websocket, h3"),
        501,
        "Upgrade must be websocket alone: Sidekey supports no other protocol",
    ),
    "a long target": (get("/" + "a" * 100), 414, "the target is over limits.target"),
    "a long target that goes on": (b"GET /i/h/" + b"a" * 2000, 414, "the target is over limits.target"),
    "many fields": (get("/a", *["X: 1"] * 21), 431, "the head has more fields than limits.headers"),
    "a long head": (get("/a", "X: " + "1" * 1000), 431, TOO_LONG),
    "a long head that goes on": (b"GET /i/h/a HTTP/1.1\r\nX: " + b"1" * 2000, 431, TOO_LONG),
    "a long body": (request("POST", body=b"1" * 101), 413, "the body is over limits.request_body"),
    "no number": (get("/a", "Content-Length: 1" + "0" * 18), 400, "Content-Length must be a number of bytes"),
    "two framings": (
        get("/a", "Transfer-Encoding: chunked", "Content-Length: 0"),
        400,
        None,  # llhttp refuses it first
    ),
    "a coding in HTTP/1.0": (
        b"POST /i/h/a HTTP/1.0\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "Transfer-Encoding must not be given in an HTTP/1.0 request",
    ),
    "another coding": (
        get("/a", "Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n",
        501,
        "Transfer-Encoding must not have a coding other than chunked",
    ),
    "CONNECT with a length": (
        b"CONNECT up.test:443 HTTP/1.1\r\nContent-Length: 0" + REST,
        400,
        "CONNECT must have neither Content-Length nor Transfer-Encoding",
    ),
    "CONNECT with chunks": (
        b"CONNECT up.test:443 HTTP/1.1\r\nTransfer-Encoding: chunked" + REST,
        400,
        "CONNECT must have neither Content-Length nor Transfer-Encoding",
    ),
} | {
    name: (get("/a", f"{name}: 1", f"{name.lower()}: 1"), 400, f"{name} must not be given twice")
    for name in (
        "X-Integration-Id",
        "Proxy-Authorization",
        "Sidekey-Token",
        "Origin",
        "Sec-Fetch-Site",
        "Max-Forwards",
    )
}
"""Invalid heads, with status and detail of the response."""


@pytest.mark.parametrize(("raw", "status", "detail"), DETAILS.values(), ids=DETAILS)
async def test_error_states_the_requirement(raw: bytes, status: int, detail: str | None) -> None:
    sidekey = ScriptedPlane(integration("h", base_url(1)), limits=LIMITS)
    caller = sidekey.caller()
    # A head that goes on is measured from its second read on.
    caller.feed(*filter(None, (raw[:900], raw[900:])))
    response = wire.first_response(caller.read())
    assert response is not None
    error = problem(response)
    assert response.status == status
    assert detail in (None, error["detail"])
    assert sidekey.upstreams == []
