"""Connections kept for the next exchange: who may share one, and for how long it is kept."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sidekey.errors import Problem, ProblemError
from sidekey.policy.addresses import NetworkOverride
from sidekey.policy.targets import Policy, parse_domain, parse_prefix
from sidekey.policy.urls import Origin
from sidekey.proxy.upstream.connection import UpstreamConnection
from sidekey.proxy.upstream.pool import PROBE_AFTER, key_of, may_use, quiet
from sidekey.snapshot.certificate_loader import CertificateLoader, CertificateResult
from sidekey.snapshot.request_rules import Timeouts
from sidekey.snapshot.snapshot import Trust
from support.certificate_files import current, identity_of
from support.memory import Upstream, running
from support.plane import (
    GRANT,
    LOOPBACK,
    UPSTREAM,
    base_url,
    eventually,
    get,
    integration,
    problem,
    request,
    secrets_of,
)
from support.raw_connection import RawConnection
from support.scripted import P, Scripted, ScriptedDialer, settle
from support.upstream import OK, answering


async def test_integrations_with_equal_rules_share_connections() -> None:
    """Credentials travel in each request, so a connection is no integration's own."""
    async with Upstream() as upstream:
        url = base_url(upstream.port)
        async with running(integration("h", url), integration("o", url)) as sidekey:
            for name in ("h", "o", "h"):
                await sidekey.ask(get(name=name))
        assert len(upstream.connections) == 1


async def test_dialling_rules_divide_pools() -> None:
    """A connection that one integration may not have dialled is not lent to it."""
    async with Upstream() as upstream:
        url = base_url(upstream.port)
        allowed = integration("h", url, allow_private=LOOPBACK)
        async with running(allowed, integration("o", url), allow_private=()) as sidekey:
            assert (await sidekey.ask(get())).status == 200
            assert problem(await sidekey.ask(get(name="o")))["code"] == "destination_denied"


async def test_schemes_and_ports_divide_pools() -> None:
    """An origin is scheme, host and port."""
    async with Upstream() as upstream, Upstream() as other:
        async with running(
            integration("h", base_url(upstream.port)), integration("o", base_url(other.port))
        ) as sidekey:
            for name in ("h", "o"):
                await sidekey.ask(get(name=name))
            assert sidekey.metrics.upstream_idle == 2
        assert [len(upstream.requests), len(other.requests)] == [1, 1]


async def test_an_idle_connection_is_closed_in_time() -> None:
    """After timeouts.idle."""
    async with Upstream() as upstream:
        timeouts = Timeouts(idle=0.3)
        async with running(integration("h", base_url(upstream.port)), timeouts=timeouts) as sidekey:
            await sidekey.ask(get())
            sidekey.wait(0.2)
            assert sidekey.metrics.upstream_idle == 1
            sidekey.wait(0.2)
            await (await upstream.connection()).until_ended()
            await eventually(lambda: sidekey.metrics.upstream_open == 0)
            assert (await sidekey.ask(get())).status == 200


@pytest.mark.parametrize(("value", "closed"), [("timeout=1, max=5", True), ("timeout=60", False), ("max=1", False)])
async def test_an_announced_keep_alive_is_taken_at_its_word(value: str, closed: bool) -> None:
    """Less a second, so that no request meets the upstream's close; the announcement of one response holds on."""
    answer = b"HTTP/1.1 200 OK\r\nKeep-Alive: " + value.encode() + b"\r\nContent-Length: 2\r\n\r\nok"
    async with (
        Upstream(answering(answer, answer)) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
    ):
        await sidekey.ask(get())
        sidekey.wait(0.5)
        if closed:
            await (await upstream.connection()).until_ended()
        await sidekey.ask(get())
        assert len(upstream.connections) == (2 if closed else 1)


async def test_the_last_used_connection_is_taken_first() -> None:
    """So that those not needed any more grow old and close."""
    async with (
        Upstream(answering()) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as one,
        sidekey.connect() as two,
    ):
        for number, caller in enumerate((one, two)):
            await caller.send(get())
            await (await upstream.connection(number)).request()
        for number, caller in enumerate((one, two)):
            await upstream.connections[number].send(OK)
            await caller.response()
        await one.send(get("/third"))
        assert (await upstream.connections[1].request()).target == b"/api/third"


async def test_a_connection_that_becomes_free_serves_who_waits() -> None:
    """While new ones are still being made; and the one made in vain is kept."""

    async def script(connection: RawConnection) -> None:
        while True:
            await connection.request()
            await connection.send(OK)

    async with Upstream(script) as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        await sidekey.ask(get())
        (pool,) = sidekey.plane.pools.known()
        connection = pool.take()
        assert connection is not None
        sidekey.dialer.go.clear()
        async with sidekey.connect() as caller:
            await caller.send(request("POST", body=b"x"))
            await eventually(lambda: len(pool._waiting) == 1)
            pool.offer(connection)
            assert (await caller.response()).status == 200
            sidekey.dialer.go.set()
            await eventually(lambda: len(pool.idle) == 2)
            assert pool._connecting == 0


async def test_each_failed_connection_fails_one_request() -> None:
    """The oldest that still waits; the others wait for their own attempts, and one that has left for none."""
    sidekey = Scripted(integration("h", base_url(1)))
    outcomes = [asyncio.get_running_loop().create_future() for _ in range(3)]
    sidekey.dialer.turns += outcomes
    gone, one, two = sidekey.caller(), sidekey.caller(), sidekey.caller()
    for number, caller in enumerate((gone, one, two)):
        caller.feed(get(f"/{number}"))
        await settle()
    gone.lose(ConnectionResetError())
    await settle()
    # Two wait, and with this failure two attempts are left.
    outcomes[2].set_exception(refused())
    await settle()
    assert (one.take(), two.take()) == (b"", b"")
    outcomes[0].set_exception(refused())
    await settle()
    assert one.take().startswith(b"HTTP/1.1 502 ")
    assert two.take() == b""
    outcomes[1].set_result(None)
    upstream = await sidekey.upstream()
    assert upstream.take().startswith(b"GET /api/2 HTTP/1.1\r\n")
    upstream.feed(OK)
    assert two.take().endswith(b"ok")
    assert sidekey.metrics.stats("h").connects == {"connection_refused": 2, "ok": 1}
    assert sidekey.metrics.stats("h").outcomes == {"caller_gone": 1, "upstream_unreachable": 1, "2xx": 1}


def refused() -> Exception:
    """What dialling raises."""
    return ProblemError(Problem("upstream_unreachable", "the upstream refused the connection"))


async def test_a_caller_that_leaves_while_it_waits_does_not_use_up_a_connection() -> None:
    """The connection that was made for them is kept for the next."""
    async with Upstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        sidekey.dialer.go.clear()
        async with sidekey.connect() as caller:
            await caller.send(get())
            await eventually(lambda: sidekey.metrics.in_flight == 1)
        await sidekey.outcomes("h", caller_gone=1)
        sidekey.dialer.go.set()
        await eventually(lambda: sidekey.metrics.upstream_idle == 1)
        assert (await sidekey.ask(get("/next"))).status == 200
        assert [message.target for message in upstream.requests] == [b"/api/next"]


def use(port: int, **changes: Any) -> bool:
    """Whether an integration that differs in this may use the connections of one that does not."""
    former = integration("h", base_url(port), domains=("https://*.a.test", base_url(port, "")))
    key = key_of(Origin("http", UPSTREAM, port), former, None)
    return may_use(replace(former, **changes), key)


def test_what_an_integration_may_use_is_told_by_its_key_and_its_policy() -> None:
    """Another secret, prefix or name makes no difference; another CA, allowance, certificate or host does."""
    assert use(1)
    assert use(1, id="o", secrets=secrets_of(GRANT), policy=Policy(prefixes=(parse_prefix(base_url(1, "/else")),)))
    assert use(1, policy=Policy(domains=(parse_domain(base_url(1, "")),)))
    assert not use(1, policy=Policy(prefixes=(parse_prefix(base_url(2)),)))
    assert not use(1, policy=Policy(domains=(parse_domain("https://*.a.test"),)))
    assert not use(1, trust=Trust("system"))
    assert not use(1, allow_private=LOOPBACK)
    certificate = CertificateLoader(lambda fetched, now: CertificateResult(identity_of(current())))
    assert use(1, certificate=certificate)
    certificate.load(0)
    assert not use(1, certificate=certificate)
    assert not may_use(None, key_of(Origin("http", UPSTREAM, 1), integration("h", base_url(1)), None))


async def test_a_connection_that_has_just_failed_is_not_taken() -> None:
    """The loop tells it a turn later; a POST must not go out by it, since nobody may send it again."""
    sidekey = Scripted(integration("h", base_url(1)))
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    upstream.feed(OK)
    upstream.take()
    caller.take()
    upstream.lose(ConnectionResetError())
    caller.feed(request("POST", body=b"order"))
    again = await sidekey.upstream(1)
    assert (upstream.take(), again.take().count(b"order")) == (b"", 1)
    again.feed(OK)
    assert caller.take().endswith(b"ok")


async def test_a_pool_is_empty_once_nothing_is_open_or_being_made() -> None:
    """Also where a connection is made for one exchange alone, or the exchange it was begun for has another by now."""
    sidekey = Scripted(integration("h", base_url(1)))
    caller, other = sidekey.caller(), sidekey.caller()
    caller.feed(get())
    (pool,) = sidekey.plane.pools.known()
    assert not pool.is_empty
    upstream = await sidekey.upstream()
    sidekey.dialer.go.clear()
    other.feed(get("/waits"))
    await settle()
    upstream.feed(OK)
    upstream.feed(OK)
    caller.feed(get("/stale"))
    upstream.lose(ConnectionResetError())
    await settle()
    assert not pool.is_empty
    sidekey.dialer.go.set()
    await settle()
    for made in sidekey.upstreams[1:]:
        if made.written:
            made.feed(OK)
    assert (other.take().endswith(b"ok"), caller.take().endswith(b"ok")) == (True, True)
    assert (len(pool.idle), pool.is_empty) == (2, False)
    for made in sidekey.upstreams[1:]:
        made.lose(ConnectionResetError())
    await settle()
    assert (pool.idle, pool.is_empty) == ((), True)


async def test_a_failure_is_told_to_as_many_as_there_are_connections_too_few() -> None:
    """Those who wait for a connection that may still come go on waiting; who was served otherwise is no failure."""
    sidekey = Scripted(integration("h", base_url(1)))
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    sidekey.dialer.go.clear()
    served, waits = sidekey.caller(), sidekey.caller()
    for each in (served, waits):
        each.feed(get("/later"))
        await settle()
    upstream.feed(OK)
    sidekey.dialer.error = refused()
    sidekey.dialer.go.set()
    await settle()
    assert waits.take().startswith(b"HTTP/1.1 502 ")
    upstream.feed(OK)
    assert served.take().endswith(b"ok")


@pytest.mark.parametrize(("seconds", "reused"), [(PROBE_AFTER - 0.1, True), (PROBE_AFTER, False)])
async def test_a_connection_that_cannot_be_probed_is_used_only_while_it_is_fresh(seconds: float, reused: bool) -> None:
    """A transport without a socket to look at: what may have come meanwhile is not known."""
    sidekey = Scripted(integration("h", base_url(1)))
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    upstream.feed(OK)
    upstream.take()
    sidekey.plane.worker.deadlines.look(seconds)
    caller.feed(request("POST", body=b"order"))
    await settle()
    assert (b"order" in upstream.take(), upstream.aborted, len(sidekey.upstreams)) == (reused, not reused, 2 - reused)


@pytest.mark.parametrize(
    ("end", "fit"),
    [(lambda _: None, True), (lambda peer: peer.send(b"x"), False), (socket.socket.close, False)],
    ids=["nothing", "a byte", "the end"],
)
async def test_a_connection_on_which_something_has_arrived_is_not_quiet(
    end: Callable[[socket.socket], object], fit: bool
) -> None:
    """Stray bytes, or the end: the kernel knows of them before the loop does."""
    sidekey = Scripted(integration("h", base_url(1)))
    sidekey.caller().feed(get())
    transport = await sidekey.upstream()
    assert isinstance(transport.protocol, UpstreamConnection)
    ours, peer = socket.socketpair()
    with ours, peer:
        transport.sock = ours
        end(peer)
        assert quiet(transport.protocol) is fit


async def test_a_stored_integration_is_lent_no_connection_that_only_files_may_make() -> None:
    """Although both name the same origin, and neither a network of its own."""
    async with Upstream() as upstream:
        url = base_url(upstream.port)
        stored = integration("o", url, allow_private=NetworkOverride())
        async with running(integration("h", url), stored) as sidekey:
            assert (await sidekey.ask(get())).status == 200
            assert problem(await sidekey.ask(get(name="o")))["code"] == "destination_denied"
        assert len(upstream.requests) == 1


class Closing(ScriptedDialer):
    """Whatever it connects to closes at once."""

    async def connect(self, factory: Callable[[], P], origin: Origin, **options: Any) -> P:
        protocol = await super().connect(factory, origin, **options)
        self.made[-1].finish()
        return protocol


async def test_a_new_connection_that_closes_at_once_ends_the_request_that_waits_for_it() -> None:
    """No other one is begun for it, so that it would wait for ever."""
    scripted = Scripted(integration("h", base_url(1)), dialer=Closing())
    callers = [scripted.caller() for _ in range(2)]
    for caller in callers:
        caller.feed(get())
    await settle()
    for caller in callers:
        assert caller.written.startswith(b"HTTP/1.1 502 ")
        assert b"error=connection_terminated" in caller.written
    assert scripted.metrics.in_flight == scripted.metrics.upstream_open == 0
    assert not scripted.pooled()


H = integration("h", base_url(1))


class SlowDialer(ScriptedDialer):
    """Connects, or fails, when the test says so; `pending` are those under way, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.pending: list[asyncio.Future[None]] = []

    async def connect(self, factory: Callable[[], P], origin: Origin, **options: Any) -> P:
        pending = asyncio.get_running_loop().create_future()
        self.pending.append(pending)
        await pending
        return await super().connect(factory, origin, **options)

    def fail(self, number: int) -> None:
        self.pending[number].set_exception(ProblemError(Problem("upstream_unreachable", "nobody answers")))


async def test_a_retry_that_connects_is_no_hope_for_those_in_line() -> None:
    """Its connection is for its own request alone: whoever waits beside it is told that theirs cannot be made."""
    dialer = SlowDialer()
    sidekey = Scripted(H, dialer=dialer)
    caller = sidekey.caller()
    caller.feed(get())
    await settle()
    dialer.pending[0].set_result(None)
    stale = await sidekey.upstream()
    stale.feed(OK)
    caller.take()
    caller.feed(get())
    stale.lose(ConnectionResetError())
    await settle()
    assert len(dialer.pending) == 2
    waiting = sidekey.caller()
    waiting.feed(request("POST", body=b"1"))
    await settle()
    assert len(dialer.pending) == 3
    dialer.fail(2)
    await settle()
    assert b'"code": "upstream_unreachable", "sent": "no"' in waiting.take()
    assert caller.take() == b""
    dialer.fail(1)
    await settle()
    assert b'"code": "upstream_unreachable", "sent": "maybe"' in caller.take()
    assert sidekey.metrics.in_flight == 0
    assert all(pool.is_empty for pool in sidekey.plane.pools.known())
