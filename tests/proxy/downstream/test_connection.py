"""Connections of callers: order of requests, pipelining, time-outs and close."""

from __future__ import annotations

import asyncio

import pytest

from sidekey.credentials.base import CredentialTraits, Grant, InjectionPoints
from sidekey.errors import Problem, ProblemError
from sidekey.snapshot.request_rules import Limits, Timeouts
from support import wire
from support.memory import MemoryUpstream, running
from support.plane import FixedSource, RunningPlane, base_url, eventually, get, integration, problem, request
from support.raw_connection import RawConnection
from support.scripted import ScriptedPlane, settle
from support.upstream import OK, respond_with

H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")


async def echo(connection: RawConnection) -> None:
    """Respond to each request with its target and body."""
    while True:
        message = await connection.request()
        body = message.target + b" " + message.body
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


async def bodies(caller: RawConnection, count: int) -> list[bytes]:
    """Return the bodies of the next responses."""
    return [(await caller.response()).body for _ in range(count)]


async def test_pipelined_requests_with_bodies_are_answered_in_order() -> None:
    """More requests arrive in one read than the queue holds."""
    raw = b"".join(request("POST", f"/{n}", body=b"%d" % n * 100) for n in range(100))
    async with (
        MemoryUpstream(echo) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(raw)
        assert await bodies(caller, 100) == [b"/api/%d " % n + b"%d" % n * 100 for n in range(100)]


async def test_a_pipelined_upload_behind_many_requests_is_read_in_pieces() -> None:
    """The upload starts in bytes that the connection held back."""
    long = bytes(range(256)) * 2000
    chunked = request("POST", "/chunked", "Transfer-Encoding: chunked") + b"".join(
        b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (long[:100_000], long[100_000:], b"")
    )
    raw = b"".join(get(f"/{n}") for n in range(60)) + request("POST", "/long", body=long) + chunked + get("/last")
    async with (
        MemoryUpstream(echo) as upstream,
        running(integration("h", base_url(upstream.port)), limits=Limits(pipelined=4)) as sidekey,
        sidekey.connect() as caller,
    ):
        caller.transport.write(raw)
        responses = await bodies(caller, 63)
    assert responses[:60] == [b"/api/%d " % n for n in range(60)]
    assert responses[60:] == [b"/api/long " + long, b"/api/chunked " + long, b"/api/last "]


async def test_an_error_behind_pipelined_requests_is_answered_after_them() -> None:
    """The error response closes the connection."""
    async with (
        MemoryUpstream(echo) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(get("/1"))
        assert await bodies(caller, 1) == [b"/api/1 "]
        await caller.send(get("/2"))
        await eventually(lambda: len(upstream.received[0]) > 200)
        await caller.send(b"GARBAGE\r\n\r\n")
        assert await bodies(caller, 1) == [b"/api/2 "]
        response = await caller.response()
        assert (response.status, response.values(b"connection")) == (400, [b"close"])
        await caller.until_ended()


async def test_empty_lines_between_requests_are_ignored() -> None:
    """RFC 9112 2.2"""
    async with (
        MemoryUpstream(echo) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(b"\r\n" + get("/1") + b"\r\n" + get("/2"))
        assert await bodies(caller, 2) == [b"/api/1 ", b"/api/2 "]


@pytest.mark.parametrize(
    ("version", "field", "stays"),
    [
        ("1.1", (), True),
        ("1.1", ("Connection: close",), False),
        ("1.1", ("Connection: keep-alive",), True),
        ("1.0", (), False),
        ("1.0", ("Connection: keep-alive",), True),
        ("1.0", ("Proxy-Connection: keep-alive",), True),
    ],
)
async def test_request_decides_whether_the_connection_persists(
    version: str, field: tuple[str, ...], stays: bool
) -> None:
    """RFC 9112 9.3. A response to HTTP/1.0 says keep-alive."""
    async with (
        MemoryUpstream(echo) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(get("/1", *field, version=version))
        response = await caller.response()
        expected = [b"close"] if not stays else ([] if version == "1.1" else [b"keep-alive"])
        assert (response.body, response.values(b"connection")) == (b"/api/1 ", expected)
        if stays:
            await caller.send(get("/2"))
            assert await bodies(caller, 1) == [b"/api/2 "]
        else:
            await caller.until_ended()


async def test_http_1_0_request_needs_no_host() -> None:
    """RFC 9112 3.2 requires Host only in HTTP/1.1."""
    async with MemoryUpstream(echo) as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        assert (await sidekey.send(b"GET /i/h/a HTTP/1.0\r\n\r\n")).status == 200
        response = await sidekey.send(b"GET /i/h/a HTTP/1.1\r\n\r\n")
        assert (response.status, problem(response)["code"]) == (400, "request_invalid")


async def test_response_of_sidekey_closes_an_http_1_0_connection() -> None:
    async with running(integration("h", base_url(1))) as sidekey, sidekey.connect() as caller:
        await caller.send(b"GET /nowhere HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        response = await caller.response()
        assert (response.status, response.values(b"connection")) == (404, [b"close"])
        await caller.until_ended()


@pytest.mark.parametrize("first", [b"", get("/first")], ids=["at once", "as a later request"])
@pytest.mark.parametrize("framing", ["none", "length", "chunked"])
@pytest.mark.parametrize("dribbled", [False, True])
async def test_upgrade_to_h2c_is_ignored(first: bytes, framing: str, dribbled: bool) -> None:
    """RFC 9110 7.8: Sidekey forwards the request without Upgrade, with its whole body."""
    body = {"none": b"", "length": b"hello", "chunked": b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"}[framing]
    fields = {"none": (), "length": ("Content-Length: 5",), "chunked": ("Transfer-Encoding: chunked",)}[framing]
    raw = first + request("GET" if framing == "none" else "POST", "/a", *H2C, *fields) + body + get("/next")
    async with MemoryUpstream(echo) as upstream:
        async with running(integration("h", base_url(upstream.port))) as sidekey, sidekey.connect() as caller:
            for at in range(0, len(raw), 1 if dribbled else len(raw)):
                caller.transport.write(raw[at : at + 1] if dribbled else raw)
                await asyncio.sleep(0)
            expected = [b"/api/first "] if first else []
            expected += [b"/api/a " + (b"" if framing == "none" else b"hello"), b"/api/next "]
            assert await bodies(caller, len(expected)) == expected
        for message in upstream.requests:
            assert not {b"upgrade", b"http2-settings", b"connection"} & {name for name, _ in message.headers}


@pytest.mark.parametrize("protocol", ["TLS/1.2", "h2c, TLS/1.0"])
async def test_upgrade_to_tls_is_ignored(protocol: str) -> None:
    """RFC 2817: the upgrade is optional."""
    async with MemoryUpstream(echo) as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        raw = request("POST", "/a", "Connection: upgrade", f"Upgrade: {protocol}", body=b"hello")
        assert (await sidekey.send(raw)).body == b"/api/a hello"


async def test_malformed_body_after_an_upgrade_to_h2c_is_refused() -> None:
    async with MemoryUpstream(echo) as upstream:
        async with running(integration("h", base_url(upstream.port))) as sidekey, sidekey.connect() as caller:
            await caller.send(request("POST", "/a", *H2C, "Transfer-Encoding: chunked") + b"zz\r\n")
            assert (await caller.response()).status == 400
            await caller.until_ended()
        assert upstream.connections == []


@pytest.mark.parametrize("offers", [1, 2])
async def test_read_with_upgrades_to_h2c_and_a_malformed_end_is_refused(offers: int) -> None:
    """Sidekey forwards no request from a read that ends malformed (decision 0008)."""
    async with MemoryUpstream(echo) as upstream:
        async with running(integration("h", base_url(upstream.port))) as sidekey, sidekey.connect() as caller:
            await caller.send(request("POST", "/a", *H2C, body=b"hello") * offers + b"GET /i/h Host: h.test\r\n\r\n")
            assert (await caller.response()).status == 400
            await caller.until_ended()
        assert upstream.connections == []


async def test_uploading_caller_receives_413() -> None:
    """Sidekey reads and drops the upload for a while, because a reset could overtake the response."""
    size = 16 << 20
    limits = Limits(request_body=1000)
    async with running(integration("h", base_url(1)), limits=limits) as sidekey, sidekey.connect() as caller:
        caller.transport.write(request("POST", "/a", f"Content-Length: {size}") + b"x" * size)
        response = await caller.response()
        assert (response.status, response.values(b"connection")) == (413, [b"close"])
        await eventually(lambda: caller.transport.get_write_buffer_size() == 0)
        assert caller.error is None


@pytest.mark.parametrize(
    ("raw", "answered"),
    [(b"", False), (b"GET /i/h", True), (get("/first"), False)],
    ids=["nothing", "a part of a head", "a whole request"],
)
async def test_caller_that_stops_sending_is_disconnected(raw: bytes, answered: bool) -> None:
    """408 for an incomplete head, FIN without a head."""
    timeouts = Timeouts(request_head=0.3, keep_alive=0.3)
    async with (
        MemoryUpstream(echo) as upstream,
        running(integration("h", base_url(upstream.port)), timeouts=timeouts) as sidekey,
        sidekey.connect() as caller,
    ):
        if raw:
            await caller.send(raw)
        await eventually(lambda: sidekey.plane.worker.connections)
        if raw.endswith(b"\r\n\r\n"):
            await caller.until_contains(b"/api/first")
        (connection,) = sidekey.plane.worker.connections
        # The time for a head runs from its first byte.
        await eventually(lambda: bool(raw) == bool(caller.received or connection._open_head))
        sidekey.advance(0.2)
        assert sidekey.plane.worker.connections
        await asyncio.sleep(0)
        sidekey.advance(0.2)
        received = await caller.until_ended()
        assert caller.ended
        if answered:
            error = problem(await caller.response())
            assert (error["code"], error["detail"]) == ("request_timeout", "the head came too slowly")
        else:
            assert received.count(b"HTTP/1.1") == raw.count(b"GET")


async def test_head_time_out_applies_to_a_slow_second_head() -> None:
    """The time-out starts with the first byte of the head."""
    timeouts = Timeouts(request_head=0.4, keep_alive=60)
    async with (
        MemoryUpstream(echo) as upstream,
        running(integration("h", base_url(upstream.port)), timeouts=timeouts) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(get("/1"))
        assert await bodies(caller, 1) == [b"/api/1 "]
        for at in range(10_000):
            if caller.ended:
                break
            caller.transport.write(get("/2")[at : at + 1] if at < 30 else b"")
            await asyncio.sleep(0)
            sidekey.advance(0.02)
        assert problem(await caller.response())["code"] == "request_timeout"


async def blocked(sidekey: RunningPlane, caller: RawConnection, raw: bytes) -> None:
    """Send a request, and never read the response. Wait until all buffers are full."""
    caller.transport.pause_reading()
    await caller.send(raw)
    await eventually(lambda: any(connection.full for connection in sidekey.plane.worker.connections))


@pytest.mark.parametrize("field", ["Connection: close", "Connection: keep-alive"])
async def test_a_caller_that_never_reads_the_end_of_its_response_is_reset(field: str) -> None:
    """timeouts.write ends the connection, although the upstream has sent the whole response."""
    timeouts = Timeouts(write=0.3)
    size = 1 << 20
    response = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
    async with (
        MemoryUpstream(respond_with(*[response] * 9)) as upstream,
        running(integration("h", base_url(upstream.port)), timeouts=timeouts) as sidekey,
        sidekey.connect() as caller,
    ):
        await blocked(sidekey, caller, get() * 8 + get("/a", field))
        sidekey.advance(0.2)
        assert sidekey.plane.worker.connections
        sidekey.advance(0.2)
        await eventually(lambda: not sidekey.plane.worker.connections)
        caller.transport.resume_reading()
        await caller.until_lost()
        assert isinstance(caller.error, ConnectionResetError)


async def test_stalled_upload_is_408_and_cuts_the_upstream() -> None:
    timeouts = Timeouts(idle=0.3)
    async with MemoryUpstream(respond_with()) as upstream:
        async with running(integration("h", base_url(upstream.port)), timeouts=timeouts) as sidekey:
            async with sidekey.connect() as caller:
                await caller.send(request("POST", "/a", "Content-Length: 10") + b"12345")
                await (await upstream.connection()).until_contains(b"12345")
                sidekey.advance(0.2)
                assert sidekey.metrics.in_flight == 1
                sidekey.advance(0.2)
                error = problem(await caller.response())
                assert (error["code"], error["sent"]) == ("request_timeout", "maybe")
                assert error["detail"] == "the body came too slowly"
                await caller.until_ended()
            await (await upstream.connection()).until_ended()
        assert wire.first_request(upstream.received[0]) is None


H = integration("h", base_url(1))
LONG = get("/" + "a" * 5000)
UPGRADE = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")


class FailingSource(FixedSource):
    """A grant source without a grant."""

    def __init__(self) -> None:
        super().__init__()
        self.grant = None

    async def obtain(self) -> Grant:
        raise ProblemError(Problem("credential_unavailable", "there is none"))


async def test_error_behind_an_upgrade_in_the_same_read_has_its_own_reason() -> None:
    """httptools replaces the reason by the exception that is being handled."""
    sidekey = ScriptedPlane(H, limits=Limits(target=1000))
    caller = sidekey.caller()
    caller.feed(get("/a", *UPGRADE) + LONG)
    assert caller.read().startswith(b"HTTP/1.1 414 ")


async def test_error_behind_a_request_without_a_grant_has_its_own_reason() -> None:
    """The previous request ends with an exception."""
    sidekey = ScriptedPlane(H, limits=Limits(target=1000, pipelined=1), sources={"h": FailingSource()})
    caller = sidekey.caller()
    caller.feed(get() + LONG)
    await settle()
    written = caller.read()
    first = wire.first_response(written)
    assert first is not None
    assert first.status == 502
    assert written[first.length :].startswith(b"HTTP/1.1 414 ")


@pytest.mark.parametrize("sound", [True, False])
async def test_request_behind_a_body_that_closed_the_connection_is_not_forwarded(sound: bool) -> None:
    """The body, which bypasses the parser, and the request arrive in one read."""
    source = FixedSource(Grant(body=(("access_token", "t"),)))
    body = integration("b", base_url(2), traits=CredentialTraits(InjectionPoints(body=("access_token",))))
    sidekey = ScriptedPlane(H, body, sources={"b": source}, limits=Limits(replay_body=1 << 20))
    form = b"a=" + b"x" * (200 << 10)
    if not sound:
        form = b"access_token=1&" + form
    raw = request("POST", "/a", "Content-Type: application/x-www-form-urlencoded", body=form, name="b")
    caller = sidekey.caller()
    caller.feed(raw[:1000], raw[1000:] + get())
    await settle()
    if sound:
        (message,) = wire.requests(sidekey.upstreams[0].read())
        assert message.body == form + b"&access_token=t"
        sidekey.upstreams[0].feed(OK)
        await settle()
        assert len(sidekey.upstreams) == 2
        return
    assert caller.read().startswith(b"HTTP/1.1 400 ")
    assert caller.ended
    assert sidekey.upstreams == []
    assert sidekey.metrics.in_flight == 0
