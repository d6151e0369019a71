"""Another snapshot while requests are under way: they end as they began, what begins later goes by the new one."""

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
from support.memory import Upstream, running
from support.next_snapshot import adopt, carried, keyed
from support.plane import FixedSource, eventually, get, problem, request
from support.upstream import OK, answering


async def test_a_request_in_flight_ends_as_it_began() -> None:
    """Its response comes; the next request carries the new credential to the new place."""
    async with Upstream(answering()) as upstream:
        async with running(keyed(upstream.port, "old")) as sidekey, sidekey.connect() as caller:
            await caller.send(get())
            first = await upstream.connection()
            await first.request()
            adopt(sidekey, keyed(upstream.port, "new", "/other"))
            await caller.send(get("/b"))
            await first.send(OK)
            assert (await caller.response()).status == 200
            await eventually(lambda: len(upstream.requests) == 2)
            await upstream.connections[-1].send(OK)
            assert (await caller.response()).status == 200
        assert carried(upstream) == [(b"/api/a", b"old", b"old"), (b"/other/b", b"new", b"new")]


async def test_pipelined_requests_carry_one_whole_credential_each() -> None:
    """However the swaps fall between them: place and credential always belong together."""
    places = {b"/%d/a" % number: b"%d" % number for number in range(40)}
    async with Upstream() as upstream:
        versions = [keyed(upstream.port, str(number), f"/{number}") for number in range(40)]
        async with running(versions[0]) as sidekey, sidekey.connect() as caller:
            for version in versions:
                caller.transport.write(get() * 8)
                await asyncio.sleep(0)
                adopt(sidekey, version)
                for _ in range(4):
                    assert (await caller.response()).status == 200
            for _ in range(4 * len(versions)):
                assert (await caller.response()).status == 200
        seen = carried(upstream)
        assert len(seen) == 8 * len(versions)
        assert {target: key for target, key, _ in seen}.items() <= places.items()
        assert all(key == again == places[target] for target, key, again in seen)
        assert len({key for _, key, _ in seen}) > 2


async def test_an_upload_in_flight_ends_where_it_began() -> None:
    """The rest of its body follows the head that was sent."""
    async with Upstream() as upstream, Upstream() as other:
        async with running(keyed(upstream.port, "old")) as sidekey, sidekey.connect() as caller:
            head, body = request("POST", body=b"x" * 100_000)[:-100_000], b"x" * 100_000
            await caller.send(head + body[:50_000])
            await (await upstream.connection()).until_contains(b"x" * 1000)
            adopt(sidekey, keyed(other.port, "new"))
            await caller.send(body[50_000:])
            assert (await caller.response()).status == 200
        assert [len(each.body) for each in upstream.requests] == [100_000]
        assert other.connections == []


class LateSource(FixedSource):
    """A grant source that has its grant when it is let."""

    def __init__(self, grant: Grant) -> None:
        super().__init__(grant)
        self._ready, self.grant = grant, None
        self.asked = asyncio.Event()
        self.go = asyncio.Event()

    async def obtain(self) -> Grant:
        self.asked.set()
        await self.go.wait()
        self.grant = self._ready
        return self._ready


async def test_who_waited_for_a_token_gets_it() -> None:
    """By the source that was asked; the next request asks the new one."""
    old = LateSource(Grant(headers=(("X-Key", "old"), ("X-Key-Again", "old"))))
    sources: dict[str, Any] = {"h": old}
    async with Upstream() as upstream:
        async with running(keyed(upstream.port, ""), sources=sources) as sidekey, sidekey.connect() as caller:
            await caller.send(get())
            await old.asked.wait()
            sources["h"] = FixedSource(Grant(headers=(("X-Key", "new"), ("X-Key-Again", "new"))))
            adopt(sidekey, keyed(upstream.port, "", "/other"))
            assert (await sidekey.ask(get("/b"))).status == 200
            old.go.set()
            assert (await caller.response()).status == 200
        assert sorted(carried(upstream)) == [(b"/api/a", b"old", b"old"), (b"/other/b", b"new", b"new")]


async def test_what_is_unchanged_goes_on_over_its_connections() -> None:
    """As does what has only another secret: a connection carries no credential."""
    async with Upstream() as upstream:
        same, old = keyed(upstream.port, "same", name="s"), keyed(upstream.port, "old")
        async with running(same, old) as sidekey:
            for name in ("s", "h"):
                assert (await sidekey.ask(get(name=name))).status == 200
            compiled = sidekey.plane.router.find(b"s")
            adopt(sidekey, same, keyed(upstream.port, "new"))
            assert sidekey.plane.router.find(b"s") is compiled
            for name in ("h", "s"):
                assert (await sidekey.ask(get(name=name))).status == 200
        assert [key for _, key, _ in carried(upstream)] == [b"same", b"old", b"new", b"same"]
        assert len(upstream.connections) == 1


async def test_another_secret_alone_leaves_the_connection_open() -> None:
    """Also where no other integration uses it."""
    async with Upstream() as upstream:
        async with running(keyed(upstream.port, "old")) as sidekey:
            assert (await sidekey.ask(get())).status == 200
            adopt(sidekey, keyed(upstream.port, "new"))
            assert (await sidekey.ask(get())).status == 200
        assert len(upstream.connections) == 1


async def test_what_has_gone_is_unknown_and_its_connections_close() -> None:
    """At once, where they are idle."""
    async with Upstream() as upstream, Upstream() as other:
        stays = keyed(other.port, "stays", name="s")
        async with running(keyed(upstream.port, "old"), stays) as sidekey:
            for name in ("s", "h"):
                assert (await sidekey.ask(get(name=name))).status == 200
            adopt(sidekey, stays)
            await upstream.connections[0].until_ended()
            assert problem(await sidekey.ask(get()))["code"] == "integration_denied"
            assert (await sidekey.ask(get(name="s"))).status == 200
            assert len(other.connections) == 1
            assert {pool.key.origin.port for pool in sidekey.plane.pools.known()} == {other.port}


async def test_a_connection_in_use_closes_after_its_response_where_nobody_may_use_it_again() -> None:
    """And not before."""
    async with (
        Upstream(answering()) as upstream,
        Upstream() as other,
        running(keyed(upstream.port, "old")) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(get())
        connection = await upstream.connection()
        await connection.request()
        adopt(sidekey, keyed(other.port, "new"))
        assert not connection.ended
        await connection.send(OK)
        assert (await caller.response()).status == 200
        await connection.until_ended()
        assert sidekey.plane.pools._by_key == {}


async def test_a_connection_under_way_for_what_has_gone_serves_who_waits_and_closes() -> None:
    """It was asked for before."""
    async with Upstream() as upstream:
        async with running(keyed(upstream.port, "old")) as sidekey, sidekey.connect() as caller:
            sidekey.dialer.go.clear()
            await caller.send(get())
            await eventually(lambda: sidekey.metrics.upstream_connecting == 1)
            adopt(sidekey)
            sidekey.dialer.go.set()
            assert (await caller.response()).status == 200
            await upstream.connections[0].until_ended()
        assert [key for _, key, _ in carried(upstream)] == [b"old"]


async def test_a_connection_under_way_for_what_has_gone_closes_where_nobody_waits_any_more() -> None:
    """It is not kept for anyone."""
    async with Upstream() as upstream, running(keyed(upstream.port, "old")) as sidekey:
        sidekey.dialer.go.clear()
        async with sidekey.connect() as caller:
            await caller.send(get())
            await eventually(lambda: sidekey.metrics.upstream_connecting == 1)
            adopt(sidekey)
        await sidekey.outcomes("h", caller_gone=1)
        sidekey.dialer.go.set()
        await (await upstream.connection()).until_ended()
        assert upstream.requests == []


async def test_an_address_that_is_forbidden_now_has_no_connection_left() -> None:
    """An idle one closes, one in use after its response; new requests of unchanged integrations are refused."""
    async with Upstream(answering()) as upstream:
        made = keyed(upstream.port, "key")
        async with running(made) as sidekey, sidekey.connect() as one, sidekey.connect() as two:
            for number, caller in enumerate((one, two)):
                await caller.send(get())
                await (await upstream.connection(number)).request()
            idle, busy = upstream.connections
            for connection, caller in ((idle, one), (busy, two)):
                await connection.send(OK)
                assert (await caller.response()).status == 200
            await two.send(get())
            await busy.request()
            adopt(sidekey, made, network=replace(sidekey.snapshot.network, allow_private=()))
            await idle.until_ended()
            assert problem(await sidekey.ask(get()))["code"] == "destination_denied"
            await busy.send(OK)
            assert (await two.response()).status == 200
            await busy.until_ended()


async def test_a_host_that_leads_elsewhere_is_dialled_again() -> None:
    """An unchanged integration keeps no connection that stands on former answers."""
    async with Upstream() as upstream:
        made = keyed(upstream.port, "key")
        async with running(made) as sidekey:
            assert (await sidekey.ask(get())).status == 200
            adopt(sidekey, made, network=replace(sidekey.snapshot.network, hosts={"up.test": ("127.0.0.2",)}))
            await upstream.connections[0].until_ended()
            assert problem(await sidekey.ask(get()))["code"] == "upstream_unreachable"


async def test_equal_rules_close_nothing() -> None:
    """A snapshot has rules of its own, whatever stands in them."""
    async with Upstream() as upstream:
        made = keyed(upstream.port, "key")
        async with running(made) as sidekey:
            assert (await sidekey.ask(get())).status == 200
            rules = sidekey.snapshot.network
            equal = replace(rules, hosts=dict(rules.hosts), allow_private=(ip_network("127.0.0.0/8"),))
            adopt(sidekey, made, network=equal)
            assert (await sidekey.ask(get())).status == 200
        assert len(upstream.connections) == 1


async def test_routes_beyond_what_an_integration_keeps_get_their_connections_again() -> None:
    """A base that was pushed out by a wildcard's many hosts is still a route."""
    async with Upstream() as upstream:
        made = keyed(upstream.port, "key")
        gone = keyed(upstream.port, "gone", name="g")
        async with running(made, gone) as sidekey:
            for name in ("h", "g"):
                assert (await sidekey.ask(get(name=name))).status == 200
            compiled = sidekey.plane.router.find(b"h")
            assert compiled is not None
            for number in range(CompiledIntegration.ROUTES):
                compiled.route(Origin("https", f"h{number}.a.test", 443))
            adopt(sidekey, made)
            assert (await sidekey.ask(get())).status == 200
            assert len(upstream.connections) == 1
            adopt(sidekey, made, network=replace(sidekey.snapshot.network, search=True))
            assert (await sidekey.ask(get())).status == 200
            assert (await sidekey.ask(get())).status == 200
            assert len(upstream.connections) == 2


async def test_global_keys_hold_from_the_next_request_on() -> None:
    """Names of the listener, callers, limits, Via: on connections that are open as well."""
    async with Upstream() as upstream:
        made = keyed(upstream.port, "key")
        async with running(made) as sidekey, sidekey.connect() as caller:

            async def code() -> object:
                await caller.send(get("/" + "a" * 100))
                answer = await caller.response()
                return answer.status if answer.status == 200 else problem(answer)["code"]

            assert await code() == 200
            adopt(sidekey, made, via=False)
            assert await code() == 200
            assert [bool(each.values(b"via")) for each in upstream.requests] == [True, False]
            adopt(sidekey, made, listen=Listen(names=("other.test",)))
            assert await code() == "door_denied"
        async with running(made) as sidekey, sidekey.connect() as caller:
            adopt(sidekey, made, limits=Limits(target=50))
            await caller.send(get("/" + "a" * 100))
            assert problem(await caller.response())["code"] == "request_too_large"
        async with running(made, tokens={"t": None}) as sidekey:
            callers = sidekey.snapshot.callers
            adopt(sidekey, made, callers=None)
            assert (await sidekey.ask(get())).status == 200
            adopt(sidekey, made, callers=callers)
            assert problem(await sidekey.ask(get()))["code"] == "caller_denied"


async def test_an_integration_that_forbids_a_method_forbids_it_for_targets_that_are_remembered() -> None:
    """What the quick reading kept of them goes with their integration."""
    async with Upstream() as upstream:
        made = keyed(upstream.port, "key")
        async with running(made) as sidekey:
            for _ in range(2):
                assert (await sidekey.ask(get())).status == 200
            adopt(sidekey, replace(made, policy=replace(made.policy, methods=frozenset({"POST"}))))
            for _ in range(3):
                assert problem(await sidekey.ask(get()))["code"] == "method_denied"


@pytest.mark.parametrize(("before", "after"), [(60.0, 0.0), (0.0, 60.0), (60.0, 30.0)])
async def test_a_total_time_out_that_changes_leaves_nothing_watched(before: float, after: float) -> None:
    """Of an exchange that was in flight then."""
    async with Upstream(answering()) as upstream:
        made = keyed(upstream.port, "key")
        async with running(made, timeouts=Timeouts(total=before)) as sidekey, sidekey.connect() as caller:
            await caller.send(get())
            await (await upstream.connection()).request()
            adopt(sidekey, made, timeouts=Timeouts(total=after))
            plane = sidekey.plane
            assert all(hasattr(each, "deadline") for each in plane.worker.deadlines.watched)
            await upstream.connections[0].send(OK)
            assert (await caller.response()).status == 200
            upstreams = {connection for pool in plane.pools._in_use for connection in pool._open}
            assert plane.worker.deadlines.watched == {*plane.worker.connections, *upstreams}


async def test_a_total_time_out_that_comes_holds_for_the_next_request() -> None:
    """Also on a connection that is open."""
    async with Upstream(answering(OK)) as upstream:
        made = keyed(upstream.port, "key")
        async with running(made) as sidekey, sidekey.connect() as caller:
            await caller.send(get())
            assert (await caller.response()).status == 200
            adopt(sidekey, made, timeouts=Timeouts(total=0.3))
            await caller.send(get())
            await upstream.connections[0].request()
            sidekey.wait(0.4)
            assert problem(await caller.response())["code"] == "upstream_timeout"


class Unresolved:
    """An integration that is built whole once `readable` is set; building waits for `go`."""

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


async def test_what_was_decided_since_the_load_stays_decided() -> None:
    """Where its integration is unchanged: it is not built again, and goes on over its connections."""
    async with Upstream() as upstream:
        unresolved = Unresolved(keyed(upstream.port, "key"))
        unresolved.go.set()
        async with running(unresolved.integration) as sidekey:
            assert (await sidekey.ask(get())).status == 200
            adopt(sidekey, unresolved.integration)
            assert (await sidekey.ask(get())).status == 200
            assert unresolved.built == 1
            adopt(sidekey, keyed(upstream.port, "new"))
            assert (await sidekey.ask(get())).status == 200
        assert [key for _, key, _ in carried(upstream)] == [b"key", b"key", b"new"]
        assert len(upstream.connections) == 1


async def test_a_request_that_waits_to_be_decided_is_not_decided_by_another_config() -> None:
    """It was let in by the former one. It is told what happened; the next goes through."""
    async with Upstream() as upstream:
        unresolved = Unresolved(keyed(upstream.port, "old"))
        async with running(unresolved.integration) as sidekey, sidekey.connect() as caller:
            await caller.send(get())
            await unresolved.asked.wait()
            adopt(sidekey, keyed(upstream.port, "new"))
            unresolved.go.set()
            said = problem(await caller.response())
            assert (said["code"], said["sent"]) == ("credential_unavailable", "no")
            assert "config was reloaded" in said["detail"]
            assert (await sidekey.ask(get())).status == 200
        assert [key for _, key, _ in carried(upstream)] == [b"new"]
