"""A response that rejects the grant: Sidekey holds it, evaluates it, and replays the request with a newer grant."""

from __future__ import annotations

import asyncio

import pytest

from sidekey.credentials.base import CredentialTraits, Grant, InjectionPoints
from sidekey.snapshot.request_rules import Limits, Timeouts
from support import wire
from support.memory import MemoryUpstream, running
from support.plane import RenewedSource, base_url, eventually, get, integration, problem, request
from support.raw_connection import RawConnection
from support.scripted import ScriptedPlane, settle
from support.upstream import OK, Script, respond_with

MOST = 64 << 10
"""Bytes of a body that are kept back (docs/decisions/0017)."""

TRAITS = CredentialTraits(InjectionPoints(headers=("Authorization",)), calls=True, watched=frozenset({401, 500}))
OLD, NEW = (Grant(headers=(("Authorization", f"Bearer {word}"),)) for word in ("old", "new"))
REFUSED = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nContent-Length: 4\r\n\r\nstop"


def requiring_good_credential(good: bytes = b"Bearer new", refusal: bytes = REFUSED) -> Script:
    """Refuse every request without the good credential."""

    async def script(connection: RawConnection) -> None:
        while True:
            message = await connection.request()
            await connection.send(OK if message.values(b"authorization") == [good] else refusal)

    return script


def plane(upstream: MemoryUpstream, source: RenewedSource, **options: object) -> object:
    """Build a plane whose integration `h` has this source."""
    configured = integration("h", base_url(upstream.port), traits=TRAITS)
    return running(configured, sources={"h": source}, **options)  # type: ignore[arg-type]


def tokens(upstream: MemoryUpstream) -> list[bytes]:
    """Return the credential of each received request, by connection."""
    return [value for message in upstream.requests for value in message.values(b"authorization")]


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PATCH"])
async def test_refused_request_is_replayed_with_the_newer_grant(method: str) -> None:
    """Byte for byte. The caller sees only the second response."""
    body = b"x" * 2000 if method in ("POST", "PATCH") else None
    async with (
        MemoryUpstream(requiring_good_credential()) as upstream,
        plane(upstream, RenewedSource(OLD, NEW)) as sidekey,
    ):
        response = await sidekey.send(request(method, "/a?b=1", "X-Mine: 1", body=body))
        assert (response.status, response.body) == (200, b"ok")
        first, second = upstream.requests
        assert tokens(upstream) == [b"Bearer old", b"Bearer new"]
        assert (first.method, first.target, first.body) == (second.method, second.target, second.body)
        assert first.body == (body or b"")
        assert [name for name, _ in first.headers] == [name for name, _ in second.headers]
        await sidekey.wait_for_outcomes("h", c2xx=1)


async def test_chunked_upload_is_replayed() -> None:
    async with (
        MemoryUpstream(requiring_good_credential()) as upstream,
        plane(upstream, RenewedSource(OLD, NEW)) as sidekey,
    ):
        async with sidekey.connect() as caller:
            await caller.send(request("POST", "/a", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n")
            connection = await upstream.connection()
            await connection.until_contains(b"hello")
            await caller.send(b"6\r\n world\r\n0\r\n\r\n")
            assert (await caller.response()).status == 200
        assert [message.body for message in upstream.requests] == [b"hello world"] * 2
        assert tokens(upstream) == [b"Bearer old", b"Bearer new"]


async def test_request_is_replayed_only_once() -> None:
    """The caller gets the second refusal."""
    third = Grant(headers=(("Authorization", "Bearer third"),))
    source = RenewedSource(OLD, NEW, third)
    async with (
        MemoryUpstream(requiring_good_credential(b"Bearer other")) as upstream,
        plane(upstream, source) as sidekey,
    ):
        response = await sidekey.send(get())
        assert (response.status, response.body) == (401, b"stop")
        assert response.values(b"www-authenticate") == [b"Bearer"]
        assert tokens(upstream) == [b"Bearer old", b"Bearer new"]
        await sidekey.wait_for_outcomes("h", c401=1)


async def test_body_over_the_replay_limit_is_not_replayed() -> None:
    """The caller gets the refusal. The newer grant serves the next request."""
    source = RenewedSource(OLD, NEW)
    async with (
        MemoryUpstream(requiring_good_credential()) as upstream,
        plane(upstream, source, limits=Limits(replay_body=1000)) as sidekey,
    ):
        assert (await sidekey.send(request("POST", body=b"x" * 1001))).status == 401
        assert (await sidekey.send(request("POST", body=b"x" * 1000))).status == 200
        assert [len(message.body) for message in upstream.requests] == [1001, 1000, 1000]


async def test_early_refusal_is_forwarded() -> None:
    """The body is incomplete, so Sidekey cannot replay the request."""
    source = RenewedSource(OLD, NEW)
    async with MemoryUpstream(respond_with()) as upstream, plane(upstream, source) as sidekey:
        async with sidekey.connect() as caller:
            await caller.send(request("POST", "/a", "Content-Length: 100") + b"half")
            connection = await upstream.connection()
            await connection.until_contains(b"half")
            await connection.send(REFUSED)
            response = await caller.response()
            assert (response.status, response.body) == (401, b"stop")
        assert source.judged == [(401, b"stop")]


async def test_refusal_is_forwarded_without_a_newer_grant() -> None:
    """Unchanged, and the connection stays open."""
    source = RenewedSource(OLD)
    async with (
        MemoryUpstream(requiring_good_credential()) as upstream,
        plane(upstream, source) as sidekey,
        sidekey.connect() as caller,
    ):
        for _ in range(2):
            await caller.send(get())
            response = await caller.response()
            assert (response.status, response.body) == (401, b"stop")
        assert len(upstream.connections) == 1


CHUNKED = b"HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nst\r\n2\r\nop\r\n0\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 401 Unauthorized\r\n\r\nstop"
GZIPPED = b"HTTP/1.1 401 Unauthorized\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nstop"
EMPTY = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("refusal", "seen"),
    [(REFUSED, b"stop"), (CHUNKED, b"stop"), (UNTIL_CLOSE, b"stop"), (GZIPPED, None), (EMPTY, b"")],
    ids=["length", "chunked", "until close", "coded", "empty"],
)
@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_body_of_a_refusal_is_evaluated_before_it_is_forwarded(
    refusal: bytes, seen: bytes | None, version: str
) -> None:
    """With any framing. An encoded body is not evaluated, and passes byte for byte."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(refusal)
        if refusal is UNTIL_CLOSE:
            connection.transport.close()

    source = RenewedSource(OLD)
    async with MemoryUpstream(script) as upstream, plane(upstream, source) as sidekey:
        response = await sidekey.send(get(version=version))
        assert (response.status, response.body) == (401, b"" if refusal is EMPTY else b"stop")
        assert source.judged == [(401, seen)]


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("size", [MOST, MOST + 1, 5 * MOST])
async def test_long_refusal_is_evaluated_by_its_status(framing: str, size: int) -> None:
    """Sidekey holds up to 64 KiB, and forwards longer bodies."""
    body = b"y" * size
    head = b"HTTP/1.1 401 Unauthorized\r\n"
    if framing == "length":
        refusal = head + b"Content-Length: %d\r\n\r\n" % size + body
    else:
        refusal = head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % size + body + b"\r\n0\r\n\r\n"
    source = RenewedSource(OLD)
    async with (
        MemoryUpstream(requiring_good_credential(refusal=refusal)) as upstream,
        plane(upstream, source) as sidekey,
    ):
        response = await sidekey.send(get())
        assert (response.status, response.body == body) == (401, True)
        assert source.judged == [(401, body if size <= MOST else None)]


@pytest.mark.parametrize("comes", [True, False])
async def test_long_refusal_waits_for_the_newer_grant(comes: bool) -> None:
    """With it, Sidekey closes that connection. Without it, everything passes."""
    body = b"y" * (6 * MOST)
    refusal = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    source = RenewedSource(OLD, NEW)
    source.go.clear()
    async with (
        MemoryUpstream(requiring_good_credential(refusal=refusal)) as upstream,
        plane(upstream, source) as sidekey,
    ):
        asking = asyncio.create_task(sidekey.send(get()))
        await eventually(lambda: source.judged)
        if not comes:
            source._next.clear()
        source.go.set()
        response = await asking
        assert (response.status, response.body == body) == ((200, False) if comes else (401, True))


async def test_nothing_is_replayed_for_a_caller_that_left() -> None:
    source = RenewedSource(OLD, NEW)
    source.go.clear()
    async with MemoryUpstream(requiring_good_credential()) as upstream, plane(upstream, source) as sidekey:
        async with sidekey.connect() as caller:
            await caller.send(get("/left"))
            await eventually(lambda: source.judged)
        await sidekey.wait_for_outcomes("h", caller_gone=1)
        source.go.set()
        assert (await sidekey.send(get("/next"))).status == 200
        targets = [message.target for connection in upstream.received for message in wire.requests(connection)]
        assert targets.count(b"/api/left") == 1


async def test_held_response_that_is_truncated_is_502() -> None:
    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(REFUSED[:-2])
        connection.transport.close()

    source = RenewedSource(OLD, NEW)
    async with MemoryUpstream(script) as upstream, plane(upstream, source) as sidekey:
        error = problem(await sidekey.send(get()))
        assert (error["code"], error["sent"]) == ("upstream_protocol_error", "maybe")
        assert source.judged == []


async def test_pipelined_requests_keep_their_order_during_a_replay() -> None:
    source = RenewedSource(OLD, NEW)
    source.go.clear()
    async with (
        MemoryUpstream(requiring_good_credential()) as upstream,
        plane(upstream, source) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(get("/first") + get("/second"))
        await eventually(lambda: source.judged)
        source.go.set()
        assert [(await caller.response()).status for _ in range(2)] == [200, 200]
        assert [message.target for message in upstream.requests] == [b"/api/first", b"/api/first", b"/api/second"]


async def test_watched_status_that_accepts_the_grant_is_forwarded() -> None:
    """Sidekey evaluates a 500. It does not hold other statuses."""
    broken = b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\nno"
    source = RenewedSource(OLD, NEW)
    async with MemoryUpstream(respond_with(broken, OK)) as upstream, plane(upstream, source) as sidekey:
        async with sidekey.connect() as caller:
            await caller.send(get())
            assert (await caller.response()).body == b"no"
            await caller.send(get())
            assert (await caller.response()).body == b"ok"
        assert source.judged == [(500, b"no")]


async def test_head_request_is_replayed() -> None:
    refusal = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 4\r\n\r\n"
    good = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(refusal)

    async def again(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(good)

    async def either(connection: RawConnection) -> None:
        await (script if len(upstream.connections) == 1 else again)(connection)
        await again(connection)

    source = RenewedSource(OLD, NEW)
    async with MemoryUpstream(either) as upstream, plane(upstream, source) as sidekey:
        assert (await sidekey.send(request("HEAD"))).status == 200
        assert source.judged == [(401, b"")]
        assert tokens(upstream) == [b"Bearer old", b"Bearer new"]


async def test_idle_time_out_applies_to_a_held_response() -> None:
    """After its head, timeouts.response no longer applies."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(REFUSED[:-2])
        (held,) = sidekey.plane.worker.connections
        await eventually(lambda: held.exchange is not None and held.exchange._held_response is not None)
        sidekey.advance(0.5)
        await connection.send(REFUSED[-2:])

    source = RenewedSource(OLD)
    async with MemoryUpstream(script) as upstream, plane(upstream, source, timeouts=Timeouts(response=0.2)) as sidekey:
        assert (await sidekey.send(get())).status == 401


async def test_trailers_of_a_held_response_are_bounded() -> None:
    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(CHUNKED[:-2])
        while True:
            await connection.send(b"X-Trailer: " + b"y" * 8000 + b"\r\n")

    source = RenewedSource(OLD, NEW)
    async with MemoryUpstream(script) as upstream, plane(upstream, source) as sidekey:
        error = problem(await sidekey.send(get()))
        assert (error["code"], source.judged) == ("upstream_protocol_error", [])


async def test_replay_uses_another_connection() -> None:
    """An upstream may close after a refusal without announcing it."""

    async def script(connection: RawConnection) -> None:
        message = await connection.request()
        good = message.values(b"authorization") == [b"Bearer new"]
        await connection.send(OK if good else REFUSED)
        connection.transport.close()

    async with MemoryUpstream(script) as upstream, plane(upstream, RenewedSource(OLD, NEW)) as sidekey:
        assert (await sidekey.send(request("POST", body=b"x"))).status == 200
        assert len(upstream.connections) == 2


async def test_request_is_retried_once_even_with_a_replay() -> None:
    """Closed connection, refusal, closed connection: Sidekey reports the second close."""
    opened = 0

    async def script(connection: RawConnection) -> None:
        nonlocal opened
        opened += 1
        number = opened
        await connection.request()
        if number == 1:
            await connection.send(OK)
            await connection.request()
            connection.transport.close()
        elif number == 2:
            await connection.send(REFUSED)
        else:
            connection.transport.close()

    async with MemoryUpstream(script) as upstream, plane(upstream, RenewedSource(OLD, NEW)) as sidekey:
        async with sidekey.connect() as caller:
            await caller.send(get("/first"))
            assert (await caller.response()).status == 200
            await caller.send(request("DELETE", "/second"))
            assert problem(await caller.response())["error"] == "connection_terminated"
        assert len(upstream.requests) == 4


async def test_response_is_read_again_when_the_caller_reads() -> None:
    """The interim response filled the caller's buffer, and the refusal follows."""
    configured = integration("h", base_url(1), traits=TRAITS)
    sidekey = ScriptedPlane(configured, sources={"h": RenewedSource(OLD)})
    caller = sidekey.caller()
    caller.feed(request("POST", "/a", "Expect: 100-continue", "Content-Length: 5"))
    upstream = await sidekey.upstream()
    caller.block_writes()
    upstream.feed(b"HTTP/1.1 100 Continue\r\n\r\n" + REFUSED[:-4])
    assert not upstream.reading
    caller.allow_writes()
    assert upstream.reading


@pytest.mark.parametrize("over", [0, 1])
@pytest.mark.parametrize("framing", ["Content-Length", "chunked"])
async def test_upload_in_pieces_is_buffered_up_to_the_replay_limit(framing: str, over: int) -> None:
    """With one more byte, Sidekey cannot replay it."""
    source = RenewedSource(OLD, NEW)
    configured = integration("h", base_url(1), traits=TRAITS)
    sidekey = ScriptedPlane(configured, sources={"h": source}, limits=Limits(replay_body=10))
    pieces = [b"0123", b"456", b"789" + b"x" * over]
    field = f"Content-Length: {10 + over}"
    if framing == "chunked":
        field = "Transfer-Encoding: chunked"
        pieces = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces] + [b"0\r\n\r\n"]
    caller = sidekey.caller()
    caller.feed(request("POST", "/a", field))
    upstream = await sidekey.upstream()
    caller.feed(*pieces)
    (sent,) = wire.requests(upstream.read())
    upstream.feed(REFUSED)
    await settle()
    if over:
        assert caller.read().startswith(b"HTTP/1.1 401 ")
        assert len(sidekey.upstreams) == 1
        return
    (again,) = wire.requests(sidekey.upstreams[1].read())
    assert (sent.body, again.body, again.headers[1:2]) == (
        b"0123456789",
        sent.body,
        ((b"authorization", b"Bearer new"),),
    )


async def test_long_refusal_is_not_read_while_a_newer_grant_is_fetched() -> None:
    source = RenewedSource(OLD, NEW)
    source.go.clear()
    sidekey = ScriptedPlane(integration("h", base_url(1), traits=TRAITS), sources={"h": source})
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    upstream.feed(b"HTTP/1.1 401 No\r\nContent-Length: %d\r\n\r\n" % (9 * MOST), b"x" * (MOST + 1), b"more")
    assert not upstream.reading
    caller.block_writes()
    caller.write(b"")
    caller.allow_writes()
    assert not upstream.reading
    assert caller.read() == b""
    source._next.clear()
    source.go.set()
    await settle()
    assert upstream.reading
    assert caller.read().endswith(b"xmore")


async def test_upstream_is_not_read_if_the_held_response_fills_the_caller() -> None:
    source = RenewedSource(OLD, NEW)
    source.go.clear()
    sidekey = ScriptedPlane(integration("h", base_url(1), traits=TRAITS), sources={"h": source})
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    upstream.feed(b"HTTP/1.1 401 No\r\nContent-Length: %d\r\n\r\n" % (9 * MOST), b"x" * (MOST + 1))
    caller.block_writes()
    source._next.clear()
    source.go.set()
    await settle()
    assert caller.read().endswith(b"x" * (MOST + 1))
    assert not upstream.reading
    caller.allow_writes()
    assert upstream.reading
