"""Connections that are kept between calls: for whom, for how long, and that no call is ever sent again."""

from __future__ import annotations

import asyncio
import gc
import ssl
from ipaddress import ip_address, ip_network

import pytest

from sidekey.core.addresses import Address
from sidekey.credentials.base import Call, CallFault, Reply
from sidekey.network import fetch
from sidekey.network.call_slots import CallSlots
from sidekey.network.dial import Dialer
from sidekey.network.fetch import Fetcher
from sidekey.runtime.snapshot import NetworkRules, Snapshot, Trust
from support import wire
from support.ca import Authority
from support.dialling import HOSTS, LOOPBACK, RULES
from support.leaks import nothing_left
from support.plane import eventually
from support.raw import DEADLINE, RawConnection
from support.upstream import OK, RawUpstream, always_ok, answering


class Calls:
    """One fetcher for calls to up.test."""

    def __init__(self, trust: Trust) -> None:
        self.dialer = Dialer(RULES)
        self.fetcher = Fetcher(self.dialer, CallSlots(256))
        self.trust = trust

    def go_by(self, rules: NetworkRules) -> None:
        """Dial by other rules from now on."""
        self.dialer.prepare(Snapshot(integrations={}, network=rules))()

    async def fetch(
        self,
        port: int,
        method: str = "POST",
        *,
        host: str = "up.test",
        trust: Trust | None = None,
        own_connection: bool = False,
        allow_private: tuple[ip_network, ...] = (),
        source_address: Address | None = None,
        largest: int = 1 << 10,
        timeout: float = DEADLINE,
    ) -> Reply:
        return await self.fetcher.fetch(
            Call("token endpoint", method, f"https://{host}:{port}/", own_connection=own_connection),
            trust=trust or self.trust,
            allow_private=allow_private,
            source_address=source_address,
            timeout=timeout,
            largest=largest,
        )


@pytest.fixture
def calls(ca: Authority) -> Calls:
    return Calls(ca.trust)


@pytest.fixture
def tls(ca: Authority) -> ssl.SSLContext:
    """The context of a server that is up.test and dead-first.test."""
    return ca.server_context("up.test", "dead-first.test")


def counts(upstream: RawUpstream) -> list[int]:
    """How many requests arrived on each connection."""
    return [len(wire.requests(received)) for received in upstream.received]


async def test_calls_of_one_identity_share_a_connection(calls: Calls, tls: ssl.SSLContext) -> None:
    """One handshake for all of them, and nothing says that the connection ends."""
    async with RawUpstream(always_ok, ssl_context=tls) as upstream:
        for method in ("POST", "GET", "POST"):
            assert (await calls.fetch(upstream.port, method)).body == b"ok"
        assert counts(upstream) == [3]
        assert not any(name == b"connection" for request in upstream.requests for name, _ in request.headers)


async def test_calls_at_the_same_time_have_a_connection_each(calls: Calls, tls: ssl.SSLContext) -> None:
    """A connection carries one call at a time; both are kept."""
    async with RawUpstream(always_ok, ssl_context=tls) as upstream:
        for _ in range(2):
            await asyncio.gather(calls.fetch(upstream.port), calls.fetch(upstream.port))
        assert counts(upstream) == [2, 2]


async def test_a_call_that_may_be_made_once_has_a_connection_of_its_own(calls: Calls, tls: ssl.SSLContext) -> None:
    """It takes none that was kept, which the server may be closing, and leaves none."""
    async with RawUpstream(always_ok, ssl_context=tls) as upstream:
        for own_connection in (False, True, True, False):
            await calls.fetch(upstream.port, own_connection=own_connection)
        assert counts(upstream) == [2, 1, 1]
        for number in (1, 2):
            await upstream.connections[number].until_lost()
            (request,) = wire.requests(upstream.received[number])
            assert dict(request.headers)[b"connection"] == b"close"


async def test_what_decides_about_a_connection_keeps_calls_apart(
    calls: Calls, ca: Authority, tls: ssl.SSLContext
) -> None:
    """Origin, trusted CAs, the integration's allowance and source address, the network rules; equal ones share."""
    async with RawUpstream(always_ok, ssl_context=tls) as upstream:
        port, trust = upstream.port, ca.trust
        same = Trust(trust.source, trust.path, trust.digest, trust.pem)
        other = Trust(trust.source, trust.path, "another content", trust.pem)
        await calls.fetch(port)
        await calls.fetch(port, trust=same)
        await calls.fetch(port, trust=other)
        await calls.fetch(port, allow_private=(ip_network("10.0.0.0/8"),))
        await calls.fetch(port, source_address=ip_address("127.0.0.1"))
        await calls.fetch(port, host="dead-first.test")
        calls.go_by(NetworkRules(hosts=dict(HOSTS), allow_private=LOOPBACK))
        await calls.fetch(port)
        calls.go_by(NetworkRules(hosts=HOSTS, allow_private=LOOPBACK, search=True))
        await calls.fetch(port)
        assert counts(upstream) == [3, 1, 1, 1, 1, 1]


async def test_rules_that_forbid_the_address_hold_for_the_next_call(calls: Calls, tls: ssl.SSLContext) -> None:
    """A kept connection is no way around them."""
    async with RawUpstream(always_ok, ssl_context=tls) as upstream:
        await calls.fetch(upstream.port)
        calls.go_by(NetworkRules(hosts=HOSTS))
        with pytest.raises(CallFault, match="may not be dialled"):
            await calls.fetch(upstream.port)
        assert counts(upstream) == [1]


async def test_a_drop_closes_what_is_idle_and_the_rest_after_its_call(calls: Calls, tls: ssl.SSLContext) -> None:
    """A call under way ends as it began; later ones are kept again."""
    asked, answer = asyncio.Event(), asyncio.Event()

    async def script(connection: RawConnection) -> None:
        while True:
            request = await connection.request()
            if request.start.startswith(b"GET"):
                asked.set()
                await answer.wait()
            await connection.send(OK)

    async with RawUpstream(script, ssl_context=tls) as upstream, nothing_left():
        slow = asyncio.create_task(calls.fetch(upstream.port, "GET"))
        await asked.wait()
        await calls.fetch(upstream.port)
        calls.fetcher.drop()
        await upstream.connections[1].until_ended()
        answer.set()
        assert (await slow).status == 200
        await upstream.connections[0].until_ended()
        for _ in range(2):
            await calls.fetch(upstream.port)
        assert counts(upstream) == [1, 1, 2]
        calls.fetcher.close()


async def test_a_closed_fetcher_keeps_nothing(calls: Calls, tls: ssl.SSLContext) -> None:
    """The end of the process waits for no connection."""
    async with RawUpstream(always_ok, ssl_context=tls) as upstream, nothing_left():
        await calls.fetch(upstream.port)
        calls.fetcher.close()
        await calls.fetch(upstream.port)
        for connection in upstream.connections:
            await connection.until_lost()
        assert counts(upstream) == [1, 1]


async def test_an_idle_connection_closes_in_time(
    calls: Calls, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By close_notify, and the next call has a new one."""
    assert fetch.KEEP_FOR == 30.0
    monkeypatch.setattr(fetch, "KEEP_FOR", 0.05)
    async with RawUpstream(always_ok, ssl_context=tls) as upstream:
        await calls.fetch(upstream.port)
        await upstream.connections[0].until_lost()
        assert upstream.connections[0].error is None
        await calls.fetch(upstream.port)
        assert counts(upstream) == [1, 1]


async def test_no_more_than_so_many_are_kept(
    calls: Calls, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that was idle longest goes."""
    monkeypatch.setattr(fetch, "MOST_KEPT", 2)
    async with RawUpstream(always_ok, ssl_context=tls) as upstream:
        await asyncio.gather(*(calls.fetch(upstream.port) for _ in range(3)))
        await eventually(lambda: sum(connection.lost for connection in upstream.connections) == 1)
        await asyncio.gather(*(calls.fetch(upstream.port) for _ in range(2)))
        assert len(upstream.connections) == 3


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"Connection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        HEAD + b"Keep-Alive: timeout=1\r\n\r\nok",
        HEAD + b"\r\nokHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain",
        HEAD + b"\r\nokgarbage",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n",
    ],
    ids=["close", "HTTP/1.0", "about to close", "two responses", "garbage", "a length without a body"],
)
async def test_a_response_after_which_nothing_may_follow(calls: Calls, tls: ssl.SSLContext, answer: bytes) -> None:
    """It is used, the connection is not."""
    async with RawUpstream(answering(answer), ssl_context=tls) as upstream:
        for _ in range(2):
            assert (await calls.fetch(upstream.port)).status in (200, 204)
        assert counts(upstream) == [1, 1]


async def test_a_server_that_announces_how_long_is_believed(calls: Calls, tls: ssl.SSLContext) -> None:
    """Some seconds are enough for the next call, and a second before the end it closes."""
    lasting = HEAD + b"Keep-Alive: timeout=20, max=100\r\n\r\nok"
    async with RawUpstream(answering(lasting, lasting), ssl_context=tls) as upstream:
        for _ in range(2):
            await calls.fetch(upstream.port)
        assert counts(upstream) == [2]


@pytest.mark.parametrize("end", ["close", "unasked bytes"])
async def test_a_connection_that_the_server_has_ended_is_not_used(calls: Calls, tls: ssl.SSLContext, end: str) -> None:
    """Nothing of the next call is written to it, even where the loop has not been told yet."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(OK)
        await told.wait()
        if end == "close":
            connection.transport.close()
        else:
            await connection.send(OK)

    told = asyncio.Event()
    async with RawUpstream(script, ssl_context=tls) as upstream:
        await calls.fetch(upstream.port)
        told.set()
        (kept,) = calls.fetcher._idle
        while kept.is_quiet():
            await asyncio.sleep(0)
        assert (await calls.fetch(upstream.port)).status == 200
        assert counts(upstream) == [1, 1]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_call_that_was_sent_is_never_sent_again(calls: Calls, tls: ssl.SSLContext, method: str) -> None:
    """Though its method is idempotent and its connection was a kept one: whoever called decides."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(OK)
        await connection.request()
        connection.reset()

    async with RawUpstream(script, ssl_context=tls) as upstream:
        await calls.fetch(upstream.port, method)
        with pytest.raises(CallFault) as failed:
            await calls.fetch(upstream.port, method)
        assert failed.value.reason == "token endpoint closed the connection before it responded"
        assert failed.value.outcome == "unreachable"
        assert counts(upstream) == [2]


async def test_a_call_that_failed_leaves_no_connection(calls: Calls, tls: ssl.SSLContext) -> None:
    """What is left of its response could be taken for that of the next."""
    async with RawUpstream(always_ok, ssl_context=tls) as upstream, nothing_left():
        with pytest.raises(CallFault, match="more than 0 KiB"):
            await calls.fetch(upstream.port, largest=1)
        await upstream.connections[0].until_lost()
        await calls.fetch(upstream.port)
        assert counts(upstream) == [1, 1]
        calls.fetcher.close()


async def test_a_cancelled_call_leaves_no_connection(calls: Calls, tls: ssl.SSLContext) -> None:
    """Whether it was kept or new."""
    asked: asyncio.Queue[RawConnection] = asyncio.Queue()

    async def script(connection: RawConnection) -> None:
        await connection.request()
        if len(upstream.connections) == 1:
            await connection.send(OK)
            await connection.request()
        asked.put_nowait(connection)

    async with RawUpstream(script, ssl_context=tls) as upstream, nothing_left():
        await calls.fetch(upstream.port)
        for _ in range(2):
            task = asyncio.create_task(calls.fetch(upstream.port))
            connection = await asked.get()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await connection.until_lost()
        assert counts(upstream) == [2, 1]


async def test_calls_leave_no_object_behind(calls: Calls, tls: ssl.SSLContext) -> None:
    """Not even for the garbage collector: neither one that ends well, nor one that fails."""
    async with RawUpstream(always_ok, ssl_context=tls) as upstream:

        async def both() -> None:
            await calls.fetch(upstream.port)
            with pytest.raises(CallFault):
                await calls.fetch(upstream.port, largest=1)

        def ours() -> int:
            return sum(type(each).__module__ == "sidekey.network.http_connection" for each in gc.get_objects())

        await both()
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                await both()
            calls.fetcher.close()
            await eventually(lambda: ours() == 0)
        finally:
            gc.enable()
