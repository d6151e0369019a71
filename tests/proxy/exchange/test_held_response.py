"""A response that refuses the grant: held back, judged, and the request sent once more with a newer one."""

from __future__ import annotations

import asyncio

import pytest

from sidekey.credentials.base import CredentialTraits, Grant, InjectionPoints
from sidekey.snapshot.request_rules import Limits, Timeouts
from support import wire
from support.memory import Upstream, running
from support.plane import RenewedSource, base_url, eventually, get, integration, problem, request
from support.raw_connection import RawConnection
from support.scripted import Scripted, settle
from support.upstream import OK, Script, answering

MOST = 64 << 10
"""Bytes of a body that are kept back (docs/decisions/0017)."""

TRAITS = CredentialTraits(InjectionPoints(headers=("Authorization",)), calls=True, watched=frozenset({401, 500}))
OLD, NEW = (Grant(headers=(("Authorization", f"Bearer {word}"),)) for word in ("old", "new"))
REFUSED = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nContent-Length: 4\r\n\r\nstop"


def judging(good: bytes = b"Bearer new", refusal: bytes = REFUSED) -> Script:
    """An upstream that refuses every request without the good credential."""

    async def script(connection: RawConnection) -> None:
        while True:
            message = await connection.request()
            await connection.send(OK if message.values(b"authorization") == [good] else refusal)

    return script


def plane(upstream: Upstream, source: RenewedSource, **options: object) -> object:
    """A plane whose integration `h` has this source."""
    made = integration("h", base_url(upstream.port), traits=TRAITS)
    return running(made, sources={"h": source}, **options)  # type: ignore[arg-type]


def tokens(upstream: Upstream) -> list[bytes]:
    """The credential of each request that arrived, in order of arrival on each connection."""
    return [value for message in upstream.requests for value in message.values(b"authorization")]


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PATCH"])
async def test_a_refused_request_is_sent_once_more_with_the_newer_grant(method: str) -> None:
    """Body and fields are the same, byte for byte; the caller sees the second response alone."""
    body = b"x" * 2000 if method in ("POST", "PATCH") else None
    async with Upstream(judging()) as upstream, plane(upstream, RenewedSource(OLD, NEW)) as sidekey:
        answer = await sidekey.ask(request(method, "/a?b=1", "X-Mine: 1", body=body))
        assert (answer.status, answer.body) == (200, b"ok")
        first, second = upstream.requests
        assert tokens(upstream) == [b"Bearer old", b"Bearer new"]
        assert (first.method, first.target, first.body) == (second.method, second.target, second.body)
        assert first.body == (body or b"")
        assert [name for name, _ in first.headers] == [name for name, _ in second.headers]
        await sidekey.outcomes("h", c2xx=1)


async def test_a_chunked_upload_is_sent_once_more() -> None:
    """However it was framed and in how many pieces it came."""
    async with Upstream(judging()) as upstream, plane(upstream, RenewedSource(OLD, NEW)) as sidekey:
        async with sidekey.connect() as caller:
            await caller.send(request("POST", "/a", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n")
            connection = await upstream.connection()
            await connection.until_contains(b"hello")
            await caller.send(b"6\r\n world\r\n0\r\n\r\n")
            assert (await caller.response()).status == 200
        assert [message.body for message in upstream.requests] == [b"hello world"] * 2
        assert tokens(upstream) == [b"Bearer old", b"Bearer new"]


async def test_it_is_sent_once_more_and_not_twice() -> None:
    """The second refusal goes to the caller as it came."""
    third = Grant(headers=(("Authorization", "Bearer third"),))
    source = RenewedSource(OLD, NEW, third)
    async with Upstream(judging(b"Bearer other")) as upstream, plane(upstream, source) as sidekey:
        answer = await sidekey.ask(get())
        assert (answer.status, answer.body) == (401, b"stop")
        assert answer.values(b"www-authenticate") == [b"Bearer"]
        assert tokens(upstream) == [b"Bearer old", b"Bearer new"]
        await sidekey.outcomes("h", c401=1)


async def test_a_body_that_is_not_kept_is_not_sent_again() -> None:
    """Over limits.replay_body the refusal passes; the newer grant serves the next request."""
    source = RenewedSource(OLD, NEW)
    async with Upstream(judging()) as upstream, plane(upstream, source, limits=Limits(replay_body=1000)) as sidekey:
        assert (await sidekey.ask(request("POST", body=b"x" * 1001))).status == 401
        assert (await sidekey.ask(request("POST", body=b"x" * 1000))).status == 200
        assert [len(message.body) for message in upstream.requests] == [1001, 1000, 1000]


async def test_an_early_refusal_passes() -> None:
    """While the body is still on its way there is nothing whole to send again."""
    source = RenewedSource(OLD, NEW)
    async with Upstream(answering()) as upstream, plane(upstream, source) as sidekey:
        async with sidekey.connect() as caller:
            await caller.send(request("POST", "/a", "Content-Length: 100") + b"half")
            connection = await upstream.connection()
            await connection.until_contains(b"half")
            await connection.send(REFUSED)
            answer = await caller.response()
            assert (answer.status, answer.body) == (401, b"stop")
        assert source.judged == [(401, b"stop")]


async def test_the_refusal_passes_where_no_newer_grant_comes() -> None:
    """Unchanged, with all of its fields, and the connection goes on."""
    source = RenewedSource(OLD)
    async with Upstream(judging()) as upstream, plane(upstream, source) as sidekey, sidekey.connect() as caller:
        for _ in range(2):
            await caller.send(get())
            answer = await caller.response()
            assert (answer.status, answer.body) == (401, b"stop")
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
async def test_the_body_is_read_before_it_passes(refusal: bytes, seen: bytes | None, version: str) -> None:
    """Whatever its framing; one that is coded is not read, and passes byte for byte."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(refusal)
        if refusal is UNTIL_CLOSE:
            connection.transport.close()

    source = RenewedSource(OLD)
    async with Upstream(script) as upstream, plane(upstream, source) as sidekey:
        answer = await sidekey.ask(get(version=version))
        assert (answer.status, answer.body) == (401, b"" if refusal is EMPTY else b"stop")
        assert source.judged == [(401, seen)]


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("size", [MOST, MOST + 1, 5 * MOST])
async def test_a_long_refusal_is_told_by_its_status(framing: str, size: int) -> None:
    """Up to 64 KiB are held; a longer one passes as it comes, whole."""
    body = b"y" * size
    head = b"HTTP/1.1 401 Unauthorized\r\n"
    if framing == "length":
        refusal = head + b"Content-Length: %d\r\n\r\n" % size + body
    else:
        refusal = head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % size + body + b"\r\n0\r\n\r\n"
    source = RenewedSource(OLD)
    async with Upstream(judging(refusal=refusal)) as upstream, plane(upstream, source) as sidekey:
        answer = await sidekey.ask(get())
        assert (answer.status, answer.body == body) == (401, True)
        assert source.judged == [(401, body if size <= MOST else None)]


@pytest.mark.parametrize("comes", [True, False])
async def test_a_long_refusal_waits_for_the_newer_grant_too(comes: bool) -> None:
    """With it the rest of the refusal is dropped with its connection; without it everything passes."""
    body = b"y" * (6 * MOST)
    refusal = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    source = RenewedSource(OLD, NEW)
    source.go.clear()
    async with Upstream(judging(refusal=refusal)) as upstream, plane(upstream, source) as sidekey:
        asking = asyncio.create_task(sidekey.ask(get()))
        await eventually(lambda: source.judged)
        if not comes:
            source._next.clear()
        source.go.set()
        answer = await asking
        assert (answer.status, answer.body == body) == ((200, False) if comes else (401, True))


async def test_a_caller_that_leaves_while_the_grant_is_renewed_is_not_served() -> None:
    """Nothing more is sent for it."""
    source = RenewedSource(OLD, NEW)
    source.go.clear()
    async with Upstream(judging()) as upstream, plane(upstream, source) as sidekey:
        async with sidekey.connect() as caller:
            await caller.send(get("/left"))
            await eventually(lambda: source.judged)
        await sidekey.outcomes("h", caller_gone=1)
        source.go.set()
        assert (await sidekey.ask(get("/next"))).status == 200
        targets = [message.target for connection in upstream.received for message in wire.requests(connection)]
        assert targets.count(b"/api/left") == 1


async def test_a_response_that_breaks_while_it_is_held_is_no_response() -> None:
    """A cut refusal is not shown as one."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(REFUSED[:-2])
        connection.transport.close()

    source = RenewedSource(OLD, NEW)
    async with Upstream(script) as upstream, plane(upstream, source) as sidekey:
        said = problem(await sidekey.ask(get()))
        assert (said["code"], said["sent"]) == ("upstream_protocol_error", "maybe")
        assert source.judged == []


async def test_requests_behind_the_refused_one_keep_their_order() -> None:
    """Pipelined answers come in the order of the requests."""
    source = RenewedSource(OLD, NEW)
    source.go.clear()
    async with Upstream(judging()) as upstream, plane(upstream, source) as sidekey, sidekey.connect() as caller:
        await caller.send(get("/first") + get("/second"))
        await eventually(lambda: source.judged)
        source.go.set()
        assert [(await caller.response()).status for _ in range(2)] == [200, 200]
        assert [message.target for message in upstream.requests] == [b"/api/first", b"/api/first", b"/api/second"]


async def test_a_watched_status_that_says_nothing_of_the_grant_passes() -> None:
    """A 500 is judged and goes on; other statuses are not even held."""
    broken = b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\nno"
    source = RenewedSource(OLD, NEW)
    async with Upstream(answering(broken, OK)) as upstream, plane(upstream, source) as sidekey:
        async with sidekey.connect() as caller:
            await caller.send(get())
            assert (await caller.response()).body == b"no"
            await caller.send(get())
            assert (await caller.response()).body == b"ok"
        assert source.judged == [(500, b"no")]


async def test_a_head_request_is_replayed_as_well() -> None:
    """Its refusal has no body."""
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
    async with Upstream(either) as upstream, plane(upstream, source) as sidekey:
        assert (await sidekey.ask(request("HEAD"))).status == 200
        assert source.judged == [(401, b"")]
        assert tokens(upstream) == [b"Bearer old", b"Bearer new"]


async def test_a_held_response_may_take_as_long_as_any_other() -> None:
    """Once its head has come, `idle` counts and `response` no more."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(REFUSED[:-2])
        (held,) = sidekey.plane.worker.connections
        await eventually(lambda: held.exchange is not None and held.exchange._held_response is not None)
        sidekey.wait(0.5)
        await connection.send(REFUSED[-2:])

    source = RenewedSource(OLD)
    async with Upstream(script) as upstream, plane(upstream, source, timeouts=Timeouts(response=0.2)) as sidekey:
        assert (await sidekey.ask(get())).status == 401


async def test_trailers_of_a_held_response_are_bounded() -> None:
    """As those of any other."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(CHUNKED[:-2])
        while True:
            await connection.send(b"X-Trailer: " + b"y" * 8000 + b"\r\n")

    source = RenewedSource(OLD, NEW)
    async with Upstream(script) as upstream, plane(upstream, source) as sidekey:
        said = problem(await sidekey.ask(get()))
        assert (said["code"], source.judged) == ("upstream_protocol_error", [])


async def test_a_replay_goes_out_by_another_connection() -> None:
    """An upstream that closes after a refusal, without a word, would else take the replay along."""

    async def script(connection: RawConnection) -> None:
        message = await connection.request()
        good = message.values(b"authorization") == [b"Bearer new"]
        await connection.send(OK if good else REFUSED)
        connection.transport.close()

    async with Upstream(script) as upstream, plane(upstream, RenewedSource(OLD, NEW)) as sidekey:
        assert (await sidekey.ask(request("POST", body=b"x"))).status == 200
        assert len(upstream.connections) == 2


async def test_a_request_is_retried_once_whatever_comes_between() -> None:
    """A stale connection, a refusal, another stale connection: the second one is told."""
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

    async with Upstream(script) as upstream, plane(upstream, RenewedSource(OLD, NEW)) as sidekey:
        async with sidekey.connect() as caller:
            await caller.send(get("/first"))
            assert (await caller.response()).status == 200
            await caller.send(request("DELETE", "/second"))
            assert problem(await caller.response())["error"] == "connection_terminated"
        assert len(upstream.requests) == 4


async def test_a_response_is_read_on_when_the_caller_takes_more_again() -> None:
    """The interim response filled the caller; the refusal behind it is still on its way."""
    made = integration("h", base_url(1), traits=TRAITS)
    sidekey = Scripted(made, sources={"h": RenewedSource(OLD)})
    caller = sidekey.caller()
    caller.feed(request("POST", "/a", "Expect: 100-continue", "Content-Length: 5"))
    upstream = await sidekey.upstream()
    caller.choke()
    upstream.feed(b"HTTP/1.1 100 Continue\r\n\r\n" + REFUSED[:-4])
    assert not upstream.reading
    caller.relieve()
    assert upstream.reading


@pytest.mark.parametrize("over", [0, 1])
@pytest.mark.parametrize("framing", ["Content-Length", "chunked"])
async def test_an_upload_in_pieces_is_kept_up_to_its_limit(framing: str, over: int) -> None:
    """One byte more, in whichever piece it comes, and there is nothing to send again."""
    source = RenewedSource(OLD, NEW)
    made = integration("h", base_url(1), traits=TRAITS)
    sidekey = Scripted(made, sources={"h": source}, limits=Limits(replay_body=10))
    pieces = [b"0123", b"456", b"789" + b"x" * over]
    field = f"Content-Length: {10 + over}"
    if framing == "chunked":
        field = "Transfer-Encoding: chunked"
        pieces = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces] + [b"0\r\n\r\n"]
    caller = sidekey.caller()
    caller.feed(request("POST", "/a", field))
    upstream = await sidekey.upstream()
    caller.feed(*pieces)
    (sent,) = wire.requests(upstream.take())
    upstream.feed(REFUSED)
    await settle()
    if over:
        assert caller.take().startswith(b"HTTP/1.1 401 ")
        assert len(sidekey.upstreams) == 1
        return
    (again,) = wire.requests(sidekey.upstreams[1].take())
    assert (sent.body, again.body, again.headers[1:2]) == (
        b"0123456789",
        sent.body,
        ((b"authorization", b"Bearer new"),),
    )


async def test_no_more_of_a_long_refusal_is_read_while_a_newer_grant_is_fetched() -> None:
    """What waits for it is bounded; whether the caller could take it or not."""
    source = RenewedSource(OLD, NEW)
    source.go.clear()
    sidekey = Scripted(integration("h", base_url(1), traits=TRAITS), sources={"h": source})
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    upstream.feed(b"HTTP/1.1 401 No\r\nContent-Length: %d\r\n\r\n" % (9 * MOST), b"x" * (MOST + 1), b"more")
    assert not upstream.reading
    caller.choke()
    caller.write(b"")
    caller.relieve()
    assert not upstream.reading
    assert caller.take() == b""
    source._next.clear()
    source.go.set()
    await settle()
    assert upstream.reading
    assert caller.take().endswith(b"xmore")


async def test_no_more_is_read_for_a_caller_who_is_full_when_no_newer_grant_comes() -> None:
    """What was held back fills the caller; the rest waits at the upstream."""
    source = RenewedSource(OLD, NEW)
    source.go.clear()
    sidekey = Scripted(integration("h", base_url(1), traits=TRAITS), sources={"h": source})
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    upstream.feed(b"HTTP/1.1 401 No\r\nContent-Length: %d\r\n\r\n" % (9 * MOST), b"x" * (MOST + 1))
    caller.choke()
    source._next.clear()
    source.go.set()
    await settle()
    assert caller.take().endswith(b"x" * (MOST + 1))
    assert not upstream.reading
    caller.relieve()
    assert upstream.reading
