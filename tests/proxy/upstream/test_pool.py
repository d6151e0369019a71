"""One pool of upstream connections: sharing, eviction and waiting requests."""

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
from sidekey.proxy.upstream.pool import PROBE_AFTER, is_reusable, key_of, may_use
from sidekey.snapshot.certificate_loader import CertificateLoader, CertificateResult
from sidekey.snapshot.egress import Egress
from sidekey.snapshot.request_rules import Timeouts
from sidekey.snapshot.snapshot import Trust
from support.certificate_files import identity_of, valid_now
from support.memory import MemoryUpstream, running
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
from support.scripted import P, ScriptedDialer, ScriptedPlane, settle
from support.upstream import OK, respond_with


async def test_integrations_with_equal_rules_share_connections() -> None:
    """A connection carries no credential of its own."""
    async with MemoryUpstream() as upstream:
        url = base_url(upstream.port)
        async with running(integration("h", url), integration("o", url)) as sidekey:
            for name in ("h", "o", "h"):
                await sidekey.send(get(name=name))
        assert len(upstream.connections) == 1


async def test_integrations_with_different_network_rules_share_no_connection() -> None:
    async with MemoryUpstream() as upstream:
        url = base_url(upstream.port)
        allowed = integration("h", url, allow_private=LOOPBACK)
        async with running(allowed, integration("o", url), allow_private=()) as sidekey:
            assert (await sidekey.send(get())).status == 200
            assert problem(await sidekey.send(get(name="o")))["code"] == "destination_denied"


async def test_different_schemes_and_ports_share_no_connection() -> None:
    async with MemoryUpstream() as upstream, MemoryUpstream() as other:
        async with running(
            integration("h", base_url(upstream.port)), integration("o", base_url(other.port))
        ) as sidekey:
            for name in ("h", "o"):
                await sidekey.send(get(name=name))
            assert sidekey.metrics.upstream_idle == 2
        assert [len(upstream.requests), len(other.requests)] == [1, 1]


async def test_idle_connection_closes_after_timeouts_idle() -> None:
    async with MemoryUpstream() as upstream:
        timeouts = Timeouts(idle=0.3)
        async with running(integration("h", base_url(upstream.port)), timeouts=timeouts) as sidekey:
            await sidekey.send(get())
            sidekey.advance(0.2)
            assert sidekey.metrics.upstream_idle == 1
            sidekey.advance(0.2)
            await (await upstream.connection()).until_ended()
            await eventually(lambda: sidekey.metrics.upstream_open == 0)
            assert (await sidekey.send(get())).status == 200


@pytest.mark.parametrize(("value", "closed"), [("timeout=1, max=5", True), ("timeout=60", False), ("max=1", False)])
async def test_keep_alive_of_the_upstream_shortens_the_idle_time(value: str, closed: bool) -> None:
    """Minus a second, so that no request crosses the upstream's close. It applies to later responses, too."""
    response = b"HTTP/1.1 200 OK\r\nKeep-Alive: " + value.encode() + b"\r\nContent-Length: 2\r\n\r\nok"
    async with (
        MemoryUpstream(respond_with(response, response)) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
    ):
        await sidekey.send(get())
        sidekey.advance(0.5)
        if closed:
            await (await upstream.connection()).until_ended()
        await sidekey.send(get())
        assert len(upstream.connections) == (2 if closed else 1)


async def test_most_recently_used_connection_is_reused_first() -> None:
    """So that surplus connections become idle and close."""
    async with (
        MemoryUpstream(respond_with()) as upstream,
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


async def test_free_connection_serves_a_waiting_request() -> None:
    """The connection that was opened for this request becomes idle."""

    async def script(connection: RawConnection) -> None:
        while True:
            await connection.request()
            await connection.send(OK)

    async with MemoryUpstream(script) as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        await sidekey.send(get())
        (pool,) = sidekey.plane.pools.known()
        connection = pool.take_idle()
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
    """The request that has waited longest. Requests that have ended are not counted."""
    sidekey = ScriptedPlane(integration("h", base_url(1)))
    outcomes = [asyncio.get_running_loop().create_future() for _ in range(3)]
    sidekey.dialer.turns += outcomes
    gone, one, two = sidekey.caller(), sidekey.caller(), sidekey.caller()
    for number, caller in enumerate((gone, one, two)):
        caller.feed(get(f"/{number}"))
        await settle()
    gone.fail(ConnectionResetError())
    await settle()
    # Two wait, and with this failure two attempts are left.
    outcomes[2].set_exception(connection_refused())
    await settle()
    assert (one.read(), two.read()) == (b"", b"")
    outcomes[0].set_exception(connection_refused())
    await settle()
    assert one.read().startswith(b"HTTP/1.1 502 ")
    assert two.read() == b""
    outcomes[1].set_result(None)
    upstream = await sidekey.upstream()
    assert upstream.read().startswith(b"GET /api/2 HTTP/1.1\r\n")
    upstream.feed(OK)
    assert two.read().endswith(b"ok")
    assert sidekey.metrics.stats("h").connects == {"connection_refused": 2, "ok": 1}
    assert sidekey.metrics.stats("h").outcomes == {"caller_gone": 1, "upstream_unreachable": 1, "2xx": 1}


def connection_refused() -> Exception:
    """Build the error of a failed dial."""
    return ProblemError(Problem("upstream_unreachable", "the upstream refused the connection"))


async def test_connection_for_a_caller_that_left_is_kept() -> None:
    async with MemoryUpstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        sidekey.dialer.go.clear()
        async with sidekey.connect() as caller:
            await caller.send(get())
            await eventually(lambda: sidekey.metrics.in_flight == 1)
        await sidekey.wait_for_outcomes("h", caller_gone=1)
        sidekey.dialer.go.set()
        await eventually(lambda: sidekey.metrics.upstream_idle == 1)
        assert (await sidekey.send(get("/next"))).status == 200
        assert [message.target for message in upstream.requests] == [b"/api/next"]


def can_share(port: int, **changes: Any) -> bool:
    """Return True if an integration with these changes may use connections of the original."""
    previous = integration("h", base_url(port), domains=("https://*.a.test", base_url(port, "")))
    key = key_of(Origin("http", UPSTREAM, port), previous, None)
    return may_use(replace(previous, **changes), key)


def test_pool_key_and_policy_decide_which_connections_are_shared() -> None:
    """Secret, prefix and name make no difference. CA, allow_private, certificate and host do."""
    assert can_share(1)
    assert can_share(
        1, id="o", secrets=secrets_of(GRANT), policy=Policy(prefixes=(parse_prefix(base_url(1, "/else")),))
    )
    assert can_share(1, policy=Policy(domains=(parse_domain(base_url(1, "")),)))
    assert not can_share(1, policy=Policy(prefixes=(parse_prefix(base_url(2)),)))
    assert not can_share(1, policy=Policy(domains=(parse_domain("https://*.a.test"),)))
    assert not can_share(1, egress=Egress(Trust("system")))
    assert not can_share(1, egress=Egress(allow_private=LOOPBACK))
    certificate = CertificateLoader(lambda fetched, now: CertificateResult(identity_of(valid_now())))
    assert can_share(1, certificate=certificate)
    certificate.load(0)
    assert not can_share(1, certificate=certificate)
    assert not may_use(None, key_of(Origin("http", UPSTREAM, 1), integration("h", base_url(1)), None))


async def test_connection_that_has_just_failed_is_not_reused() -> None:
    """The loop reports the failure a turn later, and Sidekey cannot retry a POST."""
    sidekey = ScriptedPlane(integration("h", base_url(1)))
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    upstream.feed(OK)
    upstream.read()
    caller.read()
    upstream.fail(ConnectionResetError())
    caller.feed(request("POST", body=b"order"))
    again = await sidekey.upstream(1)
    assert (upstream.read(), again.read().count(b"order")) == (b"", 1)
    again.feed(OK)
    assert caller.read().endswith(b"ok")


async def test_pool_is_empty_without_open_and_pending_connections() -> None:
    sidekey = ScriptedPlane(integration("h", base_url(1)))
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
    upstream.fail(ConnectionResetError())
    await settle()
    assert not pool.is_empty
    sidekey.dialer.go.set()
    await settle()
    for created in sidekey.upstreams[1:]:
        if created.written:
            created.feed(OK)
    assert (other.read().endswith(b"ok"), caller.read().endswith(b"ok")) == (True, True)
    assert (len(pool.idle), pool.is_empty) == (2, False)
    for created in sidekey.upstreams[1:]:
        created.fail(ConnectionResetError())
    await settle()
    assert (pool.idle, pool.is_empty) == ((), True)


async def test_failed_dial_fails_only_requests_without_a_pending_connection() -> None:
    sidekey = ScriptedPlane(integration("h", base_url(1)))
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    sidekey.dialer.go.clear()
    served, waits = sidekey.caller(), sidekey.caller()
    for item in (served, waits):
        item.feed(get("/later"))
        await settle()
    upstream.feed(OK)
    sidekey.dialer.error = connection_refused()
    sidekey.dialer.go.set()
    await settle()
    assert waits.read().startswith(b"HTTP/1.1 502 ")
    upstream.feed(OK)
    assert served.read().endswith(b"ok")


@pytest.mark.parametrize(("seconds", "reused"), [(PROBE_AFTER - 0.1, True), (PROBE_AFTER, False)])
async def test_connection_without_a_socket_is_reused_only_for_a_short_time(seconds: float, reused: bool) -> None:
    sidekey = ScriptedPlane(integration("h", base_url(1)))
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    upstream.feed(OK)
    upstream.read()
    sidekey.plane.worker.deadlines.look(seconds)
    caller.feed(request("POST", body=b"order"))
    await settle()
    assert (b"order" in upstream.read(), upstream.aborted, len(sidekey.upstreams)) == (reused, not reused, 2 - reused)


@pytest.mark.parametrize(
    ("end", "fit"),
    [(lambda _: None, True), (lambda peer: peer.send(b"x"), False), (socket.socket.close, False)],
    ids=["nothing", "a byte", "the end"],
)
async def test_connection_with_unread_bytes_is_not_quiet(end: Callable[[socket.socket], object], fit: bool) -> None:
    """The kernel has stray bytes or FIN before the loop."""
    sidekey = ScriptedPlane(integration("h", base_url(1)))
    sidekey.caller().feed(get())
    transport = await sidekey.upstream()
    assert isinstance(transport.protocol, UpstreamConnection)
    ours, peer = socket.socketpair()
    with ours, peer:
        transport.sock = ours
        end(peer)
        assert is_reusable(transport.protocol) is fit


async def test_stored_integration_uses_no_connection_that_only_files_may_open() -> None:
    """Both have the same origin and no network rules."""
    async with MemoryUpstream() as upstream:
        url = base_url(upstream.port)
        stored = integration("o", url, allow_private=NetworkOverride())
        async with running(integration("h", url), stored) as sidekey:
            assert (await sidekey.send(get())).status == 200
            assert problem(await sidekey.send(get(name="o")))["code"] == "destination_denied"
        assert len(upstream.requests) == 1


class ClosingDialer(ScriptedDialer):
    """Connects, and closes at once."""

    async def connect(self, factory: Callable[[], P], origin: Origin, egress: Egress, **options: Any) -> P:
        protocol = await super().connect(factory, origin, egress, **options)
        self.transports[-1].finish()
        return protocol


async def test_new_connection_that_closes_at_once_fails_its_request() -> None:
    """No further dial is pending, so the request would wait forever."""
    scripted = ScriptedPlane(integration("h", base_url(1)), dialer=ClosingDialer())
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
    """Connects or fails on command. `pending` has the pending dials in order."""

    def __init__(self) -> None:
        super().__init__()
        self.pending: list[asyncio.Future[None]] = []

    async def connect(self, factory: Callable[[], P], origin: Origin, egress: Egress, **options: Any) -> P:
        pending = asyncio.get_running_loop().create_future()
        self.pending.append(pending)
        await pending
        return await super().connect(factory, origin, egress, **options)

    def fail(self, number: int) -> None:
        self.pending[number].set_exception(ProblemError(Problem("upstream_unreachable", "nobody answers")))


async def test_connection_of_a_retry_does_not_serve_waiting_requests() -> None:
    """Waiting requests fail if no other dial is pending."""
    dialer = SlowDialer()
    sidekey = ScriptedPlane(H, dialer=dialer)
    caller = sidekey.caller()
    caller.feed(get())
    await settle()
    dialer.pending[0].set_result(None)
    stale = await sidekey.upstream()
    stale.feed(OK)
    caller.read()
    caller.feed(get())
    stale.fail(ConnectionResetError())
    await settle()
    assert len(dialer.pending) == 2
    waiting = sidekey.caller()
    waiting.feed(request("POST", body=b"1"))
    await settle()
    assert len(dialer.pending) == 3
    dialer.fail(2)
    await settle()
    assert b'"code": "upstream_unreachable", "sent": "no"' in waiting.read()
    assert caller.read() == b""
    dialer.fail(1)
    await settle()
    assert b'"code": "upstream_unreachable", "sent": "maybe"' in caller.read()
    assert sidekey.metrics.in_flight == 0
    assert all(pool.is_empty for pool in sidekey.plane.pools.known())
