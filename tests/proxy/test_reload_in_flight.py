"""Reloads during requests: a request keeps the rules from its start, and the next one uses the new rules.

A second request shows each time-out: it starts after the reload and times out while the first one still waits.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from ipaddress import ip_address

import pytest

from sidekey.credentials.base import CredentialTraits, Grant, InjectionPoints
from sidekey.policy.addresses import Address
from sidekey.snapshot.request_rules import Limits, Timeouts
from sidekey.snapshot.snapshot import Integration
from support.next_snapshot import publish
from support.plane import RenewedSource, base_url, eventually, get, integration, problem, request, running
from support.raw_connection import RawConnection
from support.scripted import GatedGrantSource, ScriptedPlane, settle
from support.upstream import OK, RawUpstream, respond_with
from support.wire import Message

SIZES = {"short": 40_000, "past the parser": 400_000}
SOON = 0.3
"""Seconds of the time-outs after the reload."""


class Upload:
    """A POST whose body is sent in three parts, with Content-Length or in chunks."""

    def __init__(self, framing: str, size: int, path: str = "/first") -> None:
        self.body = bytes(range(256)) * (size // 256)
        third = len(self.body) // 3
        parts = [self.body[:third], self.body[third : 2 * third], self.body[2 * third :]]
        field = f"Content-Length: {len(self.body)}"
        if framing == "chunked":
            field = "Transfer-Encoding: chunked"
            parts = [b"%x\r\n%b\r\n" % (len(part), part) for part in parts]
            parts[-1] += b"0\r\n\r\n"
        self.head = request("POST", path, field)
        self.parts = parts

    @property
    def whole(self) -> bytes:
        """Return head and body."""
        return self.head + b"".join(self.parts)


framings = pytest.mark.parametrize("framing", ["length", "chunked"])
sizes = pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)


def same_integration(upstream: RawUpstream) -> Integration:
    """Return the integration `h`, the same object before and after the reload."""
    return integration("h", base_url(upstream.port))


async def arrived(upstream: RawUpstream, size: int, number: int = 0) -> RawConnection:
    """Return the upstream connection after this many bytes."""
    connection = await upstream.connection(number)
    await connection.until_received(size)
    return connection


async def code(caller: RawConnection) -> object:
    """Return the status of the next response, or the code of a problem."""
    response = await caller.response()
    return problem(response)["code"] if response.values(b"proxy-status") else response.status


@framings
@sizes
async def test_an_upload_in_flight_keeps_the_limit_of_its_body(framing: str, size: int) -> None:
    """The next upload of that size is refused, on the same connection and on others."""
    upload = Upload(framing, size)
    async with RawUpstream() as upstream:
        same = same_integration(upstream)
        async with running(same) as sidekey, sidekey.connect() as caller:
            await caller.send(upload.head + upload.parts[0])
            await arrived(upstream, size // 3)
            publish(sidekey, same, limits=Limits(request_body=1000))
            for part in upload.parts[1:]:
                await caller.send(part)
            assert await code(caller) == 200
            (received,) = upstream.requests
            assert received.body == upload.body
            await caller.send(Upload(framing, size, "/next").whole)
            error = problem(await caller.response())
            assert (error["status"], error["code"]) == (413, "request_too_large")
            async with sidekey.connect() as other:
                await other.send(Upload(framing, size, "/next").whole)
                assert await code(other) == "request_too_large"


@framings
async def test_new_limit_applies_to_an_open_connection(framing: str) -> None:
    """Raised, and lowered again."""
    upload = Upload(framing, 40_000, "/a")
    async with RawUpstream() as upstream:
        same = same_integration(upstream)
        async with running(same, limits=Limits(request_body=1000)) as sidekey, sidekey.connect() as caller:
            await caller.send(request("POST", "/a", body=b"x" * 1000))
            assert await code(caller) == 200
            for limit in (40_000, 50_000):
                publish(sidekey, same, limits=Limits(request_body=limit))
                await caller.send(upload.whole)
                assert await code(caller) == 200
            publish(sidekey, same, limits=Limits(request_body=30_000))
            await caller.send(upload.whole)
            assert await code(caller) == "request_too_large"


async def test_partial_head_keeps_its_limits() -> None:
    long = get("/a", "X-Long: " + "x" * 5000)
    async with RawUpstream() as upstream:
        same = same_integration(upstream)
        async with running(same) as sidekey, sidekey.connect() as caller:
            await caller.send(long[:100])
            (connection,) = sidekey.plane.worker.connections
            await eventually(lambda: connection._in_head)  # type: ignore[attr-defined]
            publish(sidekey, same, limits=Limits(request_head=1000, headers=1, target=3))
            await caller.send(long[100:])
            assert await code(caller) == 200
            await caller.send(long)
            assert await code(caller) == "request_too_large"


@framings
@sizes
async def test_upload_in_flight_keeps_its_response_time_out(framing: str, size: int) -> None:
    upload = Upload(framing, size)
    async with RawUpstream(respond_with()) as upstream:
        same = same_integration(upstream)
        async with running(same) as sidekey, sidekey.connect() as first, sidekey.connect() as second:
            await first.send(upload.head + upload.parts[0])
            connection = await arrived(upstream, size // 3)
            publish(sidekey, same, timeouts=Timeouts(response=SOON))
            for part in upload.parts[1:]:
                await first.send(part)
            received = await connection.request()
            await second.send(get("/second"))
            assert problem(await second.response())["error"] == "http_response_timeout"
            await connection.send(OK)
            assert await code(first) == 200
            assert received.body == upload.body
            # The same connection of the caller, by the new rules.
            await first.send(get("/third"))
            assert await code(first) == "upstream_timeout"


@framings
@sizes
async def test_upload_in_flight_keeps_its_idle_time_out(framing: str, size: int) -> None:
    upload = Upload(framing, size)
    async with RawUpstream() as upstream:
        same = same_integration(upstream)
        async with running(same) as sidekey, sidekey.connect() as first, sidekey.connect() as second:
            await first.send(upload.head + upload.parts[0])
            await arrived(upstream, size // 3)
            publish(sidekey, same, timeouts=Timeouts(idle=SOON))
            await first.send(upload.parts[1])
            await arrived(upstream, size // 3 * 2)
            other = Upload(framing, size, "/second")
            await second.send(other.head + other.parts[0])
            assert await code(second) == "request_timeout"
            await first.send(upload.parts[2])
            assert await code(first) == 200
        assert upstream.connections[0].received.count(b"/api/first") == 1


async def test_response_in_flight_keeps_its_idle_time_out() -> None:
    """The second response is truncated."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"
    async with RawUpstream(respond_with()) as upstream:
        same = same_integration(upstream)
        async with running(same) as sidekey, sidekey.connect() as first, sidekey.connect() as second:
            await first.send(get("/first"))
            connection = await arrived(upstream, 1)
            await connection.request()
            await connection.send(head + b"ab")
            await first.until_contains(b"ab")
            publish(sidekey, same, timeouts=Timeouts(idle=SOON))
            await connection.send(b"cd")
            await first.until_contains(b"cd")
            await second.send(get("/second"))
            other = await arrived(upstream, 1, 1)
            await other.request()
            await other.send(head + b"ab")
            await second.until_contains(b"ab")
            await second.until_lost()
            await connection.send(b"ef")
            response = await first.response()
            assert (response.status, response.body) == (200, b"abcdef")


@framings
@pytest.mark.parametrize("before", [0.0, 60.0])
async def test_upload_in_flight_keeps_its_total_time_out(framing: str, before: float) -> None:
    """Or none."""
    upload = Upload(framing, 40_000)
    async with RawUpstream(respond_with()) as upstream:
        same = same_integration(upstream)
        async with (
            running(same, timeouts=Timeouts(total=before)) as sidekey,
            sidekey.connect() as first,
            sidekey.connect() as second,
        ):
            await first.send(upload.head + upload.parts[0])
            connection = await arrived(upstream, 10_000)
            publish(sidekey, same, timeouts=Timeouts(total=SOON))
            await second.send(get("/second"))
            assert problem(await second.response())["detail"] == "the exchange took longer than timeouts.total"
            await first.send(upload.parts[1] + upload.parts[2])
            assert (await connection.request()).body == upload.body
            await connection.send(OK)
            assert await code(first) == 200


@pytest.mark.parametrize(
    ("limits", "fields"),
    [(Limits(response_head=1000), ["X-Long: " + "x" * 2000]), (Limits(headers=10), [f"X-{n}: 1" for n in range(20)])],
)
async def test_a_request_in_flight_keeps_the_limits_of_its_response(limits: Limits, fields: list[str]) -> None:
    """Length and number of fields."""
    response = OK.replace(b"\r\n\r\n", "\r\n".join(["", *fields, "", ""]).encode())
    async with RawUpstream(respond_with()) as upstream:
        same = same_integration(upstream)
        async with running(same) as sidekey, sidekey.connect() as caller:
            for number, expected in enumerate((200, "upstream_protocol_error")):
                await caller.send(get())
                connection = upstream.connections[0] if number else await upstream.connection()
                await connection.request()
                publish(sidekey, same, limits=limits)
                await connection.send(response)
                assert await code(caller) == expected


async def test_request_that_waited_for_its_grant_keeps_its_response_time_out() -> None:
    """Sidekey sends it after the reload."""
    source = GatedGrantSource(Grant())
    async with RawUpstream(respond_with()) as upstream:
        same = same_integration(upstream)
        async with (
            running(same, sources={"h": source}) as sidekey,
            sidekey.connect() as first,
            sidekey.connect() as second,
        ):
            await first.send(get("/first"))
            await eventually(lambda: source.calls)
            publish(sidekey, same, timeouts=Timeouts(response=SOON))
            source.go.set()
            connection = await upstream.connection()
            await connection.request()
            await second.send(get("/second"))
            assert problem(await second.response())["error"] == "http_response_timeout"
            await connection.send(OK)
            assert await code(first) == 200


def via(message: Message) -> bool:
    """Return True if Sidekey is in Via."""
    return any(b"sidekey" in value for value in message.values(b"via"))


@pytest.mark.parametrize("before", [True, False])
async def test_a_request_in_flight_keeps_its_via_in_both_directions(before: bool) -> None:
    """Even if Sidekey sends its head after the reload."""
    source = GatedGrantSource(Grant())
    async with RawUpstream(respond_with()) as upstream:
        same = same_integration(upstream)
        async with running(same, via=before, sources={"h": source}) as sidekey, sidekey.connect() as caller:
            await caller.send(get())
            await eventually(lambda: source.calls)
            publish(sidekey, same, via=not before)
            source.go.set()
            connection = await upstream.connection()
            for expected in (before, not before):
                assert via(await connection.request()) is expected
                await connection.send(OK)
                assert via(await caller.response()) is expected
                if expected is before:
                    await caller.send(get())


WATCHED = CredentialTraits(InjectionPoints(headers=("Authorization",)), calls=True, watched=frozenset({401}))
OLD, NEW = (Grant(headers=(("Authorization", f"Bearer {word}"),)) for word in ("old", "new"))
REFUSED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"


async def refuse_old(connection: RawConnection) -> None:
    """Refuse the old credential."""
    while True:
        message = await connection.request()
        await connection.send(REFUSED if message.values(b"authorization") == [b"Bearer old"] else OK)


@framings
async def test_upload_in_flight_keeps_its_replay_limit(framing: str) -> None:
    upload = Upload(framing, 30_000)
    async with RawUpstream(refuse_old) as upstream:
        same = integration("h", base_url(upstream.port), traits=WATCHED)
        source = RenewedSource(OLD, NEW)
        async with running(same, sources={"h": source}) as sidekey, sidekey.connect() as caller:
            await caller.send(upload.head + upload.parts[0])
            await arrived(upstream, 10_000)
            publish(sidekey, same, limits=Limits(replay_body=1000))
            await caller.send(upload.parts[1] + upload.parts[2])
            assert await code(caller) == 200
            assert [message.body for message in upstream.requests] == [upload.body] * 2
            source.grant = OLD
            source._next = [NEW]
            await caller.send(Upload(framing, 30_000, "/next").whole)
            assert await code(caller) == 401


async def test_request_in_flight_keeps_its_connect_time_out() -> None:
    """Two requests wait for one origin. The later one has the shorter time-out."""
    result = threading.Event()

    def lookup(name: str) -> tuple[Address, ...]:
        result.wait()
        return (ip_address("127.0.0.1"),)

    async with RawUpstream() as upstream:
        same = integration("h", f"http://slow.test:{upstream.port}/api")
        try:
            async with (
                running(same, lookup=lookup) as sidekey,
                sidekey.connect() as first,
                sidekey.connect() as second,
            ):
                await first.send(get("/first"))
                await eventually(lambda: sidekey.metrics.upstream_connecting == 1)
                publish(sidekey, same, timeouts=Timeouts(connect=SOON))
                await second.send(get("/second"))
                assert problem(await second.response())["error"] == "dns_timeout"
                result.set()
                assert await code(first) == 200
            assert [message.target for message in upstream.requests] == [b"/api/first"]
        finally:
            result.set()


async def test_request_that_connects_after_the_reload_keeps_its_connect_time_out() -> None:
    """It waited for its grant before."""
    result = threading.Event()
    source = GatedGrantSource(Grant())

    def lookup(name: str) -> tuple[Address, ...]:
        result.wait()
        return (ip_address("127.0.0.1"),)

    async with RawUpstream() as upstream:
        same = integration("h", f"http://slow.test:{upstream.port}/api")
        try:
            async with (
                running(same, lookup=lookup, sources={"h": source}) as sidekey,
                sidekey.connect() as first,
                sidekey.connect() as second,
            ):
                await first.send(get("/first"))
                await eventually(lambda: source.calls)
                publish(sidekey, same, timeouts=Timeouts(connect=SOON))
                source.go.set()
                await eventually(lambda: sidekey.metrics.upstream_connecting == 1)
                await second.send(get("/second"))
                assert problem(await second.response())["error"] == "dns_timeout"
                result.set()
                assert await code(first) == 200
        finally:
            result.set()


@pytest.mark.parametrize("keeps", [True, False], ids=["keep-alive", "close"])
async def test_response_in_flight_keeps_its_write_time_out(keeps: bool) -> None:
    """While the caller does not read, and also if the connection closes afterwards."""
    sidekey = ScriptedPlane(integration("h", base_url(1)), timeouts=Timeouts(write=60))
    caller = sidekey.caller()
    fields = () if keeps else ("Connection: close",)
    caller.feed(get("/a", *fields))
    upstream = await sidekey.upstream()
    sidekey.plane.prepare(replace(sidekey.snapshot, timeouts=Timeouts(write=5)))()
    (connection,) = sidekey.plane.worker.connections
    caller.block_writes()
    upstream.feed(OK)
    await settle()
    now = sidekey.plane.worker.deadlines.now
    assert connection.deadline - now > 50  # type: ignore[attr-defined]
    assert sidekey.defects == []
    caller.abort()
    await settle()
