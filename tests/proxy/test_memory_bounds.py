"""What callers can make the plane remember is bounded, in number and in length; what is forgotten still works."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from contextlib import AsyncExitStack

import pytest

from sidekey.credentials.base import Grant
from sidekey.policy.headers import FieldName, FieldNames
from sidekey.policy.listener import MAX_HOST_LENGTH
from sidekey.policy.urls import Origin
from sidekey.proxy.downstream import request_parser
from sidekey.proxy.routing.compiled import CompiledIntegration
from sidekey.proxy.routing.router import HOSTS_LIMIT
from sidekey.proxy.upstream import response_parser
from sidekey.proxy.upstream.pools import POOLS_LIMIT
from support.memory import Upstream, running
from support.plane import CREDENTIAL, FixedSource, base_url, eventually, get, integration, problem, request
from support.plane import running as running_on_sockets
from support.upstream import OK, answering

SHORT = b"X-%b" % (b"s" * (FieldNames.MAX_LENGTH - 2))
LONG = b"X-%b" % (b"l" * (FieldNames.MAX_LENGTH - 1))


async def test_long_names_of_a_request_are_passed_on_and_not_remembered() -> None:
    """A name of up to Names.LONGEST bytes is; both go to the upstream as they came."""
    async with Upstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        huge = b"X-" + b"h" * 60_000
        assert (await sidekey.ask(get("/a", *(f"{name.decode()}: 1" for name in (SHORT, LONG, huge))))).status == 200
        for name in (SHORT, LONG, huge):
            assert b"\r\n" + name + b": 1\r\n" in upstream.received[0]
    assert SHORT in request_parser.NAMES.known
    assert max(map(len, request_parser.NAMES.known)) <= FieldNames.MAX_LENGTH


async def test_long_names_of_a_response_are_passed_on_and_not_remembered() -> None:
    """The same for what an upstream invents."""
    answer = OK.replace(b"\r\n\r\n", b"\r\n%b: 1\r\n%b: 1\r\n\r\n" % (SHORT, LONG))
    async with (
        Upstream(answering(answer)) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
    ):
        reply = await sidekey.ask(get())
        assert [reply.values(name.lower()) for name in (SHORT, LONG)] == [[b"1"], [b"1"]]
    assert SHORT in response_parser.NAMES.known
    assert max(map(len, response_parser.NAMES.known)) <= FieldNames.MAX_LENGTH


async def test_an_idle_connection_keeps_no_long_name() -> None:
    """Neither side's: ten thousand idle callers would hold a gigabyte."""
    answer = OK.replace(b"\r\n\r\n", b"\r\n%b: 1\r\n\r\n" % LONG)
    async with (
        Upstream(answering(answer)) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(get("/a", f"{LONG.decode()}: 1"))
        assert (await caller.response()).status == 200
        held = [each.raw for each in gc.get_objects() if isinstance(each, FieldName)]
    assert max(map(len, held)) <= FieldNames.MAX_LENGTH


async def test_names_are_bounded_in_number() -> None:
    """However many a caller invents, and a name that was forgotten is learnt again."""
    async with (
        Upstream() as upstream,
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


async def test_long_hosts_are_not_remembered() -> None:
    """No name is that long (RFC 1035 2.3.4); the response is what it is for any host that is not ours."""
    async with running(integration("h", base_url(1))) as sidekey:
        for length in (MAX_HOST_LENGTH, MAX_HOST_LENGTH + 1, 60_000):
            answer = await sidekey.ask(b"GET /i/h/a HTTP/1.1\r\nHost: %b\r\n\r\n" % (b"a" * length))
            assert problem(answer)["code"] == "door_denied"
        assert [len(host or b"") for host in sidekey.plane.router._hosts] == [MAX_HOST_LENGTH]


async def test_hosts_are_bounded_in_number() -> None:
    """And our own is known again after it was forgotten."""
    async with Upstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        assert (await sidekey.ask(get())).status == 200
        for number in range(HOSTS_LIMIT):
            assert not sidekey.plane.router.is_listener_host(b"%d.example" % number)
            assert len(sidekey.plane.router._hosts) <= HOSTS_LIMIT
        assert b"h.test" not in sidekey.plane.router._hosts
        assert (await sidekey.ask(get())).status == 200


def elsewhere(number: int) -> Origin:
    """One of the many origins that a wildcard domain allows."""
    return Origin("https", f"h{number}.a.test", 443)


async def test_pools_without_connections_are_pruned() -> None:
    """Those in use stay, and their connections are used on."""
    made = integration("h", base_url(1), domains=("https://*.a.test",))
    async with Upstream() as upstream, running(integration("o", base_url(upstream.port)), made) as sidekey:
        plane = sidekey.plane
        assert (await sidekey.ask(get(name="o"))).status == 200
        (used,) = plane.pools.known()
        for number in range(2 * POOLS_LIMIT):
            plane.pools.find(elsewhere(number), made, None)
            assert len(plane.pools._by_key) <= POOLS_LIMIT
        assert used in plane.pools.known()
        assert plane.worker.metrics.upstream_idle == 1
        assert (await sidekey.ask(get(name="o"))).status == 200
        assert len(upstream.connections) == 1


async def test_a_pool_in_which_a_request_waits_is_not_pruned() -> None:
    """Though it has no connection yet."""
    made = integration("h", base_url(1), domains=("https://*.a.test",))
    async with Upstream() as upstream, running(integration("o", base_url(upstream.port)), made) as sidekey:
        plane = sidekey.plane
        sidekey.dialer.go.clear()
        async with sidekey.connect() as caller:
            await caller.send(get(name="o"))
            await eventually(lambda: plane.worker.metrics.in_flight == 1)
            (used,) = plane.pools.known()
            for number in range(2 * POOLS_LIMIT):
                plane.pools.find(elsewhere(number), made, None)
            sidekey.dialer.go.set()
            assert (await caller.response()).status == 200
        assert plane.pools._by_key[used.key] is used
        assert plane.worker.metrics.upstream_idle == 1


async def test_a_route_whose_empty_pool_was_pruned_has_its_connections_counted_and_closed() -> None:
    """An integration that slept while another one named many hosts is as good as new."""
    made = integration("h", base_url(1), domains=("https://*.a.test",))
    async with Upstream() as upstream, running(integration("o", base_url(upstream.port)), made) as sidekey:
        plane = sidekey.plane
        assert plane.router.find(b"o") is not None
        for number in range(2 * POOLS_LIMIT):
            plane.pools.find(elsewhere(number), made, None)
        assert (await sidekey.ask(get(name="o"))).status == 200
        assert plane.worker.metrics.upstream_idle == 1
        await plane.close()
        await (await upstream.connection()).until_ended()


class Renewed(FixedSource):
    """A grant source whose first grant has run out: the next one comes when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.fresh = self.grant
        self.grant = None
        self.asked = asyncio.Event()
        self.go = asyncio.Event()

    async def obtain(self) -> Grant:
        self.asked.set()
        await self.go.wait()
        assert self.fresh is not None
        self.grant = self.fresh
        return self.fresh


async def test_a_route_that_was_forgotten_while_its_request_waited_injects_the_new_grant() -> None:
    """The credential is in the request, once, with the right Host; so it is in the next, by a new route."""
    source = Renewed()
    async with Upstream() as upstream:
        second = base_url(upstream.port, "/second")
        # What is forbidden there cannot be told quickly, so no route but the base's is compiled into the integration.
        forbidden = ((second, "/elsewhere/*"),)
        made = integration("h", base_url(1), second, domains=("https://*.a.test", second[:-7]), forbidden=forbidden)
        raw = f"GET {second}/a HTTP/1.1\r\nHost: x\r\nX-Integration-Id: h\r\nAuthorization: mine\r\n\r\n".encode()
        async with running(made, sources={"h": source}) as sidekey, sidekey.connect() as caller:
            await caller.send(raw)
            await source.asked.wait()
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
    """A retry follows only a reused connection that brought no byte (RFC 9112 9.3.1)."""
    received = 0
    ended = asyncio.Event()

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer a first request without a body, and keep nothing of the second."""
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
