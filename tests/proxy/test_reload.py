"""Reloads during requests: active requests keep their rules, later ones use the new snapshot."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from sidekey.credentials.base import FixedCredential, Grant
from sidekey.credentials.fields import SecretUnreadable
from sidekey.policy.targets import Policy
from sidekey.policy.urls import Origin
from sidekey.proxy.routing.compiled import CompiledIntegration
from sidekey.snapshot.request_rules import Limits, Timeouts
from sidekey.snapshot.secret_loader import SecretLoader
from sidekey.snapshot.snapshot import Integration, Listen
from support.memory import MemoryUpstream, running
from support.next_snapshot import keyed_integration, publish, received_keys
from support.plane import FixedSource, eventually, get, problem, request
from support.scripted import GatedGrantSource
from support.upstream import OK, respond_with


async def test_request_in_flight_keeps_its_credential() -> None:
    """The next request sends the new credential to the new host."""
    async with MemoryUpstream(respond_with()) as upstream:
        async with running(keyed_integration(upstream.port, "old")) as sidekey, sidekey.connect() as caller:
            await caller.send(get())
            first = await upstream.connection()
            await first.request()
            publish(sidekey, keyed_integration(upstream.port, "new", "/other"))
            await caller.send(get("/b"))
            await first.send(OK)
            assert (await caller.response()).status == 200
            await eventually(lambda: len(upstream.requests) == 2)
            await upstream.connections[-1].send(OK)
            assert (await caller.response()).status == 200
        assert received_keys(upstream) == [(b"/api/a", b"old", b"old"), (b"/other/b", b"new", b"new")]


async def test_pipelined_requests_never_mix_host_and_credential() -> None:
    places = {b"/%d/a" % number: b"%d" % number for number in range(40)}
    async with MemoryUpstream() as upstream:
        versions = [keyed_integration(upstream.port, str(number), f"/{number}") for number in range(40)]
        async with running(versions[0]) as sidekey, sidekey.connect() as caller:
            for version in versions:
                caller.transport.write(get() * 8)
                await asyncio.sleep(0)
                publish(sidekey, version)
                for _ in range(4):
                    assert (await caller.response()).status == 200
            for _ in range(4 * len(versions)):
                assert (await caller.response()).status == 200
        seen = received_keys(upstream)
        assert len(seen) == 8 * len(versions)
        assert {target: key for target, key, _ in seen}.items() <= places.items()
        assert all(key == again == places[target] for target, key, again in seen)
        assert len({key for _, key, _ in seen}) > 2


async def test_upload_in_flight_stays_with_its_upstream() -> None:
    async with MemoryUpstream() as upstream, MemoryUpstream() as other:
        async with running(keyed_integration(upstream.port, "old")) as sidekey, sidekey.connect() as caller:
            head, body = request("POST", body=b"x" * 100_000)[:-100_000], b"x" * 100_000
            await caller.send(head + body[:50_000])
            await (await upstream.connection()).until_contains(b"x" * 1000)
            publish(sidekey, keyed_integration(other.port, "new"))
            await caller.send(body[50_000:])
            assert (await caller.response()).status == 200
        assert [len(item.body) for item in upstream.requests] == [100_000]
        assert other.connections == []


async def test_waiting_request_gets_its_token() -> None:
    """From the old source. The next request uses the new one."""
    old = GatedGrantSource(Grant(headers=(("X-Key", "old"), ("X-Key-Again", "old"))))
    sources: dict[str, Any] = {"h": old}
    async with MemoryUpstream() as upstream:
        async with (
            running(keyed_integration(upstream.port, ""), sources=sources) as sidekey,
            sidekey.connect() as caller,
        ):
            await caller.send(get())
            await eventually(lambda: old.calls)
            sources["h"] = FixedSource(Grant(headers=(("X-Key", "new"), ("X-Key-Again", "new"))))
            publish(sidekey, keyed_integration(upstream.port, "", "/other"))
            assert (await sidekey.send(get("/b"))).status == 200
            old.go.set()
            assert (await caller.response()).status == 200
        assert sorted(received_keys(upstream)) == [(b"/api/a", b"old", b"old"), (b"/other/b", b"new", b"new")]


async def test_unchanged_integration_keeps_its_connections() -> None:
    """Also with another secret: connections carry no credential."""
    async with MemoryUpstream() as upstream:
        same, old = keyed_integration(upstream.port, "same", name="s"), keyed_integration(upstream.port, "old")
        async with running(same, old) as sidekey:
            for name in ("s", "h"):
                assert (await sidekey.send(get(name=name))).status == 200
            compiled = sidekey.plane.router.find(b"s")
            publish(sidekey, same, keyed_integration(upstream.port, "new"))
            assert sidekey.plane.router.find(b"s") is compiled
            for name in ("h", "s"):
                assert (await sidekey.send(get(name=name))).status == 200
        assert [key for _, key, _ in received_keys(upstream)] == [b"same", b"old", b"new", b"same"]
        assert len(upstream.connections) == 1


async def test_new_secret_keeps_the_connection_open() -> None:
    """Even if no other integration uses it."""
    async with MemoryUpstream() as upstream:
        async with running(keyed_integration(upstream.port, "old")) as sidekey:
            assert (await sidekey.send(get())).status == 200
            publish(sidekey, keyed_integration(upstream.port, "new"))
            assert (await sidekey.send(get())).status == 200
        assert len(upstream.connections) == 1


async def test_removed_integration_is_unknown_and_its_idle_connections_close() -> None:
    async with MemoryUpstream() as upstream, MemoryUpstream() as other:
        stays = keyed_integration(other.port, "stays", name="s")
        async with running(keyed_integration(upstream.port, "old"), stays) as sidekey:
            for name in ("s", "h"):
                assert (await sidekey.send(get(name=name))).status == 200
            publish(sidekey, stays)
            await upstream.connections[0].until_ended()
            assert problem(await sidekey.send(get()))["code"] == "integration_denied"
            assert (await sidekey.send(get(name="s"))).status == 200
            assert len(other.connections) == 1
            assert {pool.key.origin.port for pool in sidekey.plane.pools.known()} == {other.port}


async def test_connection_of_a_removed_integration_closes_after_its_response() -> None:
    async with (
        MemoryUpstream(respond_with()) as upstream,
        MemoryUpstream() as other,
        running(keyed_integration(upstream.port, "old")) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(get())
        connection = await upstream.connection()
        await connection.request()
        publish(sidekey, keyed_integration(other.port, "new"))
        assert not connection.ended
        await connection.send(OK)
        assert (await caller.response()).status == 200
        await connection.until_ended()
        assert sidekey.plane.pools._by_key == {}


async def test_pending_connection_of_a_removed_integration_serves_the_waiting_request() -> None:
    """Then it closes."""
    async with MemoryUpstream() as upstream:
        async with running(keyed_integration(upstream.port, "old")) as sidekey, sidekey.connect() as caller:
            sidekey.dialer.go.clear()
            await caller.send(get())
            await eventually(lambda: sidekey.metrics.upstream_connecting == 1)
            publish(sidekey)
            sidekey.dialer.go.set()
            assert (await caller.response()).status == 200
            await upstream.connections[0].until_ended()
        assert [key for _, key, _ in received_keys(upstream)] == [b"old"]


async def test_pending_connection_of_a_removed_integration_closes_without_a_waiting_request() -> None:
    async with MemoryUpstream() as upstream, running(keyed_integration(upstream.port, "old")) as sidekey:
        sidekey.dialer.go.clear()
        async with sidekey.connect() as caller:
            await caller.send(get())
            await eventually(lambda: sidekey.metrics.upstream_connecting == 1)
            publish(sidekey)
        await sidekey.wait_for_outcomes("h", caller_gone=1)
        sidekey.dialer.go.set()
        await (await upstream.connection()).until_ended()
        assert upstream.requests == []


async def test_connections_to_a_newly_denied_address_close() -> None:
    """Idle ones at once, active ones after their response. New requests are refused."""
    async with MemoryUpstream(respond_with()) as upstream:
        configured = keyed_integration(upstream.port, "key")
        async with running(configured) as sidekey, sidekey.connect() as one, sidekey.connect() as two:
            for number, caller in enumerate((one, two)):
                await caller.send(get())
                await (await upstream.connection(number)).request()
            idle, busy = upstream.connections
            for connection, caller in ((idle, one), (busy, two)):
                await connection.send(OK)
                assert (await caller.response()).status == 200
            await two.send(get())
            await busy.request()
            publish(sidekey, configured, network=replace(sidekey.snapshot.network, allow_private=()))
            await idle.until_ended()
            assert problem(await sidekey.send(get()))["code"] == "destination_denied"
            await busy.send(OK)
            assert (await two.response()).status == 200
            await busy.until_ended()


async def test_changed_network_hosts_close_connections() -> None:
    async with MemoryUpstream() as upstream:
        configured = keyed_integration(upstream.port, "key")
        async with running(configured) as sidekey:
            assert (await sidekey.send(get())).status == 200
            publish(sidekey, configured, network=replace(sidekey.snapshot.network, hosts={"up.test": ("127.0.0.2",)}))
            await upstream.connections[0].until_ended()
            assert problem(await sidekey.send(get()))["code"] == "upstream_unreachable"


async def test_equal_rules_close_nothing() -> None:
    """Each snapshot has new objects for the rules."""
    async with MemoryUpstream() as upstream:
        configured = keyed_integration(upstream.port, "key")
        async with running(configured) as sidekey:
            assert (await sidekey.send(get())).status == 200
            rules = sidekey.snapshot.network
            equal = replace(rules, hosts=dict(rules.hosts), allow_private=(ip_network("127.0.0.0/8"),))
            publish(sidekey, configured, network=equal)
            assert (await sidekey.send(get())).status == 200
        assert len(upstream.connections) == 1


async def test_evicted_route_keeps_its_connections_after_a_reload() -> None:
    """The hosts of a wildcard evicted the route."""
    async with MemoryUpstream() as upstream:
        configured = keyed_integration(upstream.port, "key")
        gone = keyed_integration(upstream.port, "gone", name="g")
        async with running(configured, gone) as sidekey:
            for name in ("h", "g"):
                assert (await sidekey.send(get(name=name))).status == 200
            compiled = sidekey.plane.router.find(b"h")
            assert compiled is not None
            for number in range(CompiledIntegration.ROUTES):
                compiled.route(Origin("https", f"h{number}.a.test", 443))
            publish(sidekey, configured)
            assert (await sidekey.send(get())).status == 200
            assert len(upstream.connections) == 1
            publish(sidekey, configured, network=replace(sidekey.snapshot.network, search=True))
            assert (await sidekey.send(get())).status == 200
            assert (await sidekey.send(get())).status == 200
            assert len(upstream.connections) == 2


async def test_global_keys_apply_from_the_next_request_on() -> None:
    """Names of the listener, callers, limits, Via. On open connections, too."""
    async with MemoryUpstream() as upstream:
        configured = keyed_integration(upstream.port, "key")
        async with running(configured) as sidekey, sidekey.connect() as caller:

            async def code() -> object:
                await caller.send(get("/" + "a" * 100))
                response = await caller.response()
                return response.status if response.status == 200 else problem(response)["code"]

            assert await code() == 200
            publish(sidekey, configured, via=False)
            assert await code() == 200
            assert [bool(item.values(b"via")) for item in upstream.requests] == [True, False]
            publish(sidekey, configured, listen=Listen(names=("other.test",)))
            assert await code() == "door_denied"
        async with running(configured) as sidekey, sidekey.connect() as caller:
            publish(sidekey, configured, limits=Limits(target=50))
            await caller.send(get("/" + "a" * 100))
            assert problem(await caller.response())["code"] == "request_too_large"
        async with running(configured, tokens={"t": None}) as sidekey:
            callers = sidekey.snapshot.callers
            publish(sidekey, configured, callers=None)
            assert (await sidekey.send(get())).status == 200
            publish(sidekey, configured, callers=callers)
            assert problem(await sidekey.send(get()))["code"] == "caller_denied"


async def test_newly_denied_method_is_denied_for_cached_targets() -> None:
    async with MemoryUpstream() as upstream:
        configured = keyed_integration(upstream.port, "key")
        async with running(configured) as sidekey:
            for _ in range(2):
                assert (await sidekey.send(get())).status == 200
            publish(sidekey, replace(configured, policy=replace(configured.policy, methods=frozenset({"POST"}))))
            for _ in range(3):
                assert problem(await sidekey.send(get()))["code"] == "method_denied"


@pytest.mark.parametrize(("before", "after"), [(60.0, 0.0), (0.0, 60.0), (60.0, 30.0)])
async def test_changed_timeouts_total_leaves_no_deadline(before: float, after: float) -> None:
    """Of an exchange in flight."""
    async with MemoryUpstream(respond_with()) as upstream:
        configured = keyed_integration(upstream.port, "key")
        async with running(configured, timeouts=Timeouts(total=before)) as sidekey, sidekey.connect() as caller:
            await caller.send(get())
            await (await upstream.connection()).request()
            publish(sidekey, configured, timeouts=Timeouts(total=after))
            plane = sidekey.plane
            assert all(hasattr(item, "deadline") for item in plane.worker.deadlines.watched)
            await upstream.connections[0].send(OK)
            assert (await caller.response()).status == 200
            upstreams = {connection for pool in plane.pools._in_use for connection in pool._open}
            assert plane.worker.deadlines.watched == {*plane.worker.connections, *upstreams}


async def test_new_timeouts_total_applies_to_the_next_request() -> None:
    """On an open connection, too."""
    async with MemoryUpstream(respond_with(OK)) as upstream:
        configured = keyed_integration(upstream.port, "key")
        async with running(configured) as sidekey, sidekey.connect() as caller:
            await caller.send(get())
            assert (await caller.response()).status == 200
            publish(sidekey, configured, timeouts=Timeouts(total=0.3))
            await caller.send(get())
            await upstream.connections[0].request()
            sidekey.advance(0.4)
            assert problem(await caller.response())["code"] == "upstream_timeout"


class SlowIntegration:
    """An integration that is complete once `readable` is set. Each build waits for `go`."""

    def __init__(self, whole: Integration, *, readable: bool = True) -> None:
        self.whole = whole
        self.readable = readable
        self.built = 0
        self.go = asyncio.Event()
        self.asked = asyncio.Event()
        loop = asyncio.get_running_loop()

        def load() -> FixedCredential:
            if not self.readable:
                raise SecretUnreadable(((("auth",), "is missing"),))
            loop.call_soon_threadsafe(self.asked.set)
            asyncio.run_coroutine_threadsafe(self.go.wait(), loop).result()
            return FixedCredential(Grant())

        self.integration = replace(whole, policy=Policy(), base=None, secrets=SecretLoader(load), rebuild=self.rebuild)

    def rebuild(self) -> Integration:
        self.built += 1
        return self.whole


async def test_resolved_integration_stays_resolved_after_a_reload() -> None:
    """If it is unchanged. Sidekey does not build it again, and keeps its connections."""
    async with MemoryUpstream() as upstream:
        unresolved = SlowIntegration(keyed_integration(upstream.port, "key"))
        unresolved.go.set()
        async with running(unresolved.integration) as sidekey:
            assert (await sidekey.send(get())).status == 200
            publish(sidekey, unresolved.integration)
            assert (await sidekey.send(get())).status == 200
            assert unresolved.built == 1
            publish(sidekey, keyed_integration(upstream.port, "new"))
            assert (await sidekey.send(get())).status == 200
        assert [key for _, key, _ in received_keys(upstream)] == [b"key", b"key", b"new"]
        assert len(upstream.connections) == 1


async def test_request_that_waits_for_resolution_fails_at_a_reload() -> None:
    """Its caller gets the reason. The next request succeeds."""
    async with MemoryUpstream() as upstream:
        unresolved = SlowIntegration(keyed_integration(upstream.port, "old"))
        async with running(unresolved.integration) as sidekey, sidekey.connect() as caller:
            await caller.send(get())
            await unresolved.asked.wait()
            publish(sidekey, keyed_integration(upstream.port, "new"))
            unresolved.go.set()
            error = problem(await caller.response())
            assert (error["code"], error["sent"]) == ("credential_unavailable", "no")
            assert "config was reloaded" in error["detail"]
            assert (await sidekey.send(get())).status == 200
        assert [key for _, key, _ in received_keys(upstream)] == [b"new"]
