"""Caches that callers can fill are bounded in number and length. Evicted entries still work."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from contextlib import AsyncExitStack

import pytest

from sidekey.policy.headers import FieldName, FieldNames
from sidekey.policy.listener import MAX_HOST_LENGTH
from sidekey.policy.urls import Origin
from sidekey.proxy.downstream import request_parser
from sidekey.proxy.routing.compiled import CompiledIntegration
from sidekey.proxy.routing.router import HOSTS_LIMIT
from sidekey.proxy.upstream import response_parser
from sidekey.proxy.upstream.pools import POOLS_LIMIT
from support.memory import MemoryUpstream, running
from support.plane import CREDENTIAL, base_url, eventually, get, integration, problem, request
from support.plane import running as running_on_sockets
from support.scripted import GatedGrantSource
from support.upstream import OK, respond_with

SHORT = b"X-%b" % (b"s" * (FieldNames.MAX_LENGTH - 2))
LONG = b"X-%b" % (b"l" * (FieldNames.MAX_LENGTH - 1))


async def test_long_field_names_of_a_request_are_not_cached() -> None:
    """Names over FieldNames.MAX_LENGTH bytes. Sidekey forwards them unchanged."""
    async with MemoryUpstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        huge = b"X-" + b"h" * 60_000
        assert (await sidekey.send(get("/a", *(f"{name.decode()}: 1" for name in (SHORT, LONG, huge))))).status == 200
        for name in (SHORT, LONG, huge):
            assert b"\r\n" + name + b": 1\r\n" in upstream.received[0]
    assert SHORT in request_parser.NAMES.known
    assert max(map(len, request_parser.NAMES.known)) <= FieldNames.MAX_LENGTH


async def test_long_field_names_of_a_response_are_not_cached() -> None:
    response = OK.replace(b"\r\n\r\n", b"\r\n%b: 1\r\n%b: 1\r\n\r\n" % (SHORT, LONG))
    async with (
        MemoryUpstream(respond_with(response)) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
    ):
        reply = await sidekey.send(get())
        assert [reply.values(name.lower()) for name in (SHORT, LONG)] == [[b"1"], [b"1"]]
    assert SHORT in response_parser.NAMES.known
    assert max(map(len, response_parser.NAMES.known)) <= FieldNames.MAX_LENGTH


async def test_an_idle_connection_keeps_no_long_name() -> None:
    """On both sides: ten thousand idle callers would hold a gigabyte."""
    response = OK.replace(b"\r\n\r\n", b"\r\n%b: 1\r\n\r\n" % LONG)
    async with (
        MemoryUpstream(respond_with(response)) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(get("/a", f"{LONG.decode()}: 1"))
        assert (await caller.response()).status == 200
        held = [item.raw for item in gc.get_objects() if isinstance(item, FieldName)]
    assert max(map(len, held)) <= FieldNames.MAX_LENGTH


async def test_cached_field_names_are_bounded_in_number() -> None:
    """An evicted name is cached again."""
    async with (
        MemoryUpstream() as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        fields = [f"X-{number}: {number}" for number in range(FieldNames.LIMIT + 150)]
        for at in range(0, len(fields), 150):
            await caller.send(get("/a", *fields[at : at + 150]))
            assert (await caller.response()).status == 200
            assert len(request_parser.NAMES.known) <= FieldNames.LIMIT
        sent = [header for message in upstream.requests for header in message.headers if header[0].startswith(b"x-")]
        assert sent == [(b"x-%d" % number, b"%d" % number) for number in range(len(fields))]


async def test_long_hosts_are_not_cached() -> None:
    """No name is that long (RFC 1035 2.3.4). The response is that of any foreign host."""
    async with running(integration("h", base_url(1))) as sidekey:
        for length in (MAX_HOST_LENGTH, MAX_HOST_LENGTH + 1, 60_000):
            response = await sidekey.send(b"GET /i/h/a HTTP/1.1\r\nHost: %b\r\n\r\n" % (b"a" * length))
            assert problem(response)["code"] == "door_denied"
        assert [len(host or b"") for host in sidekey.plane.router._hosts] == [MAX_HOST_LENGTH]


async def test_cached_hosts_are_bounded_in_number() -> None:
    """An evicted host of Sidekey is cached again."""
    async with MemoryUpstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        assert (await sidekey.send(get())).status == 200
        for number in range(HOSTS_LIMIT):
            assert not sidekey.plane.router.is_listener_host(b"%d.example" % number)
            assert len(sidekey.plane.router._hosts) <= HOSTS_LIMIT
        assert b"h.test" not in sidekey.plane.router._hosts
        assert (await sidekey.send(get())).status == 200


def elsewhere(number: int) -> Origin:
    """Return one of the many origins of a wildcard domain."""
    return Origin("https", f"h{number}.a.test", 443)


async def test_pools_without_connections_are_pruned() -> None:
    """Others stay, and their connections are reused."""
    configured = integration("h", base_url(1), domains=("https://*.a.test",))
    async with MemoryUpstream() as upstream, running(integration("o", base_url(upstream.port)), configured) as sidekey:
        plane = sidekey.plane
        assert (await sidekey.send(get(name="o"))).status == 200
        (used,) = plane.pools.known()
        for number in range(2 * POOLS_LIMIT):
            plane.pools.find(elsewhere(number), configured, None)
            assert len(plane.pools._by_key) <= POOLS_LIMIT
        assert used in plane.pools.known()
        assert plane.worker.metrics.upstream_idle == 1
        assert (await sidekey.send(get(name="o"))).status == 200
        assert len(upstream.connections) == 1


async def test_a_pool_in_which_a_request_waits_is_not_pruned() -> None:
    """Even without a connection."""
    configured = integration("h", base_url(1), domains=("https://*.a.test",))
    async with MemoryUpstream() as upstream, running(integration("o", base_url(upstream.port)), configured) as sidekey:
        plane = sidekey.plane
        sidekey.dialer.go.clear()
        async with sidekey.connect() as caller:
            await caller.send(get(name="o"))
            await eventually(lambda: plane.worker.metrics.in_flight == 1)
            (used,) = plane.pools.known()
            for number in range(2 * POOLS_LIMIT):
                plane.pools.find(elsewhere(number), configured, None)
            sidekey.dialer.go.set()
            assert (await caller.response()).status == 200
        assert plane.pools._by_key[used.key] is used
        assert plane.worker.metrics.upstream_idle == 1


async def test_route_with_a_pruned_pool_gets_a_new_one() -> None:
    """Its connections are counted and closed."""
    configured = integration("h", base_url(1), domains=("https://*.a.test",))
    async with MemoryUpstream() as upstream, running(integration("o", base_url(upstream.port)), configured) as sidekey:
        plane = sidekey.plane
        assert plane.router.find(b"o") is not None
        for number in range(2 * POOLS_LIMIT):
            plane.pools.find(elsewhere(number), configured, None)
        assert (await sidekey.send(get(name="o"))).status == 200
        assert plane.worker.metrics.upstream_idle == 1
        await plane.close()
        await (await upstream.connection()).until_ended()


async def test_route_evicted_while_its_request_waits_injects_the_new_grant() -> None:
    """Once, with the right Host. The next request uses a new route."""
    source = GatedGrantSource()
    async with MemoryUpstream() as upstream:
        second = base_url(upstream.port, "/second")
        # The fast parser does not know the forbidden path, so only the route of the base is compiled.
        forbidden = ((second, "/elsewhere/*"),)
        configured = integration(
            "h", base_url(1), second, domains=("https://*.a.test", second[:-7]), forbidden=forbidden
        )
        raw = f"GET {second}/a HTTP/1.1\r\nHost: x\r\nX-Integration-Id: h\r\nAuthorization: mine\r\n\r\n".encode()
        async with running(configured, sources={"h": source}) as sidekey, sidekey.connect() as caller:
            await caller.send(raw)
            await eventually(lambda: source.calls)
            compiled = sidekey.plane.router.find(b"h")
            assert compiled is not None
            (waiting,) = [route for route in compiled.routes if route.origin.port == upstream.port]
            for number in range(CompiledIntegration.ROUTES):
                compiled.route(elsewhere(number))
            assert waiting not in compiled.routes
            source.go.set()
            assert (await caller.response()).status == 200
            await caller.send(raw)
            assert (await caller.response()).status == 200
        assert [message.values(b"authorization") for message in upstream.requests] == [[CREDENTIAL]] * 2
        assert [message.values(b"host") for message in upstream.requests] == [[b"up.test:%d" % upstream.port]] * 2


BODY = 60_000
"""Less than `limits.replay_body`."""

EARLY = {
    "fresh": b"",
    "reused": b"",
    "continued": b"HTTP/1.1 100 Continue\r\n\r\n",
    "responding": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no",
}


@pytest.mark.parametrize("connection", EARLY)
async def test_a_body_in_short_chunks_is_kept_only_for_a_retry_and_takes_about_its_length(connection: str) -> None:
    """A retry is possible only on a reused connection before the first byte (RFC 9112 9.3.1)."""
    received = 0
    ended = asyncio.Event()

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Respond to a first request without a body, and store nothing of the second."""
        nonlocal received
        if connection != "fresh":
            await reader.readuntil(b"\r\n\r\n")
            writer.write(OK)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(EARLY[connection])
        while data := await reader.read(1 << 16):
            received += data.count(b"x")
        writer.close()
        await writer.wait_closed()
        ended.set()

    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(await asyncio.start_server(receive, "127.0.0.1", 0))
        # Last of all but the server, which does not wait for its handlers.
        stack.push_async_callback(ended.wait)
        upstream = base_url(server.sockets[0].getsockname()[1])
        sidekey = await stack.enter_async_context(running_on_sockets(integration("h", upstream)))
        caller = await stack.enter_async_context(sidekey.connect())
        if connection != "fresh":
            await caller.send(request("PUT"))
            assert (await caller.response()).status == 200
        await caller.send(request("PUT", "/a", "Transfer-Encoding: chunked", "Expect: 100-continue") + b"1\r\nx\r\n")
        await eventually(lambda: received == 1)
        if EARLY[connection]:
            await caller.until_contains(EARLY[connection][:12])
        tracemalloc.start()
        try:
            for count in range(1000, BODY // 2 + 1, 1000):
                await caller.send(b"2\r\nxx\r\n" * 1000)
                await eventually(lambda count=count: received == 2 * count + 1)
            grown = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
    assert grown < (2 * BODY if connection == "reused" else BODY // 2)
