"""What a former config leaves behind in memory: nothing, and without the garbage collector's help.

What only it could free would stay for ever: the process freezes its memory after each swap.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sidekey.credentials.base import FixedCredential, Grant
from sidekey.credentials.fields import SecretUnreadable
from sidekey.proxy.downstream.connection import CallerConnection
from sidekey.proxy.exchange.exchange import Exchange
from sidekey.proxy.routing.compiled import CompiledIntegration
from sidekey.proxy.upstream.connection import UpstreamConnection
from sidekey.proxy.upstream.pool import Pool
from sidekey.snapshot.secret_loader import SecretLoader
from sidekey.snapshot.snapshot import Integration
from sidekey.tokens.static import StaticSource
from support.leak_check import open_sockets
from support.next_snapshot import adopt, keyed
from support.plane import UPSTREAM, base_url, denied, eventually, get, integration, problem, running
from support.private_ca import Authority
from support.raw_connection import RawConnection
from support.upstream import OK, RawUpstream, answering


def alive(kind: type[Any], mark: Callable[[Any], bool]) -> int:
    """How many objects of a kind there are that bear this mark."""
    return sum(1 for each in gc.get_objects() if type(each) is kind and mark(each))


async def only_now(connection: RawConnection) -> None:
    """Answer requests for /api/now, and no others."""
    while True:
        if (await connection.request()).target == b"/api/now":
            await connection.send(OK)


async def test_an_integration_that_has_gone_is_freed() -> None:
    """Once the requests in flight have ended, whichever way."""

    def count() -> dict[str, int]:
        return {
            "compiled": alive(CompiledIntegration, lambda each: each.name == "old"),
            "integrations": alive(Integration, lambda each: each.id == "old"),
            "sources": alive(StaticSource, lambda each: each.grant == grant),
            "pools": alive(Pool, lambda each: each.key.origin.port == upstream.port),
        }

    grant = Grant(headers=(("X-Key", "counted"), ("X-Key-Again", "counted")))
    async with RawUpstream(only_now) as upstream, RawUpstream() as other:
        stays = keyed(other.port, "stays", name="s")
        async with running(stays) as sidekey:
            # Nothing but the plane shall hold it.
            adopt(sidekey, stays, keyed(upstream.port, "counted", name="old"))
            gc.collect()
            gc.disable()
            try:
                async with sidekey.connect() as caller, sidekey.connect() as failing:
                    # Each way to end: with a response, with one of our own, with the caller's leaving.
                    await caller.send(get("/now", name="old"))
                    assert (await caller.response()).status == 200
                    await failing.send(denied(name="old"))
                    assert (await failing.response()).status == 403
                    async with sidekey.connect() as leaving:
                        await leaving.send(get(name="old"))
                        await eventually(lambda: len(upstream.requests) == 2)
                    await caller.send(get(name="old"))
                    await eventually(lambda: len(upstream.requests) == 3)
                    adopt(sidekey, stays)
                    assert count() == {"compiled": 1, "integrations": 1, "sources": 1, "pools": 1}
                    await upstream.connections[-1].send(OK)
                    assert (await caller.response()).status == 200
                    await eventually(lambda: not any(count().values()))
            finally:
                gc.enable()


async def test_so_is_what_failed_before_it_went(ca: Authority) -> None:
    """A problem that was raised refers to the frames it went through, and they to the exchange or the connection."""
    async with RawUpstream() as upstream:
        port = upstream.port
    outcomes = {"old": "credential_unavailable", "dead": "upstream_unreachable", "untrusted": "upstream_tls_failed"}
    async with RawUpstream(ssl_context=ca.server_context(UPSTREAM)) as secure:
        made = (
            replace(integration("old", base_url(port)), secrets=SecretLoader(load_nothing)),
            integration("dead", base_url(port)),
            integration("untrusted", base_url(secure.port, scheme="https")),
        )
        async with running(*made) as sidekey:
            plane = sidekey.plane
            gc.collect()
            gc.disable()
            try:
                async with sidekey.connect() as caller:
                    for name, code in outcomes.items():
                        await caller.send(get(name=name))
                        assert problem(await caller.response())["code"] == code
                    adopt(sidekey)
                    await eventually(lambda: not alive(CompiledIntegration, lambda each: each._pools is plane.pools))
                    assert alive(Exchange, lambda each: each._worker is plane.worker) == 0
                    assert alive(UpstreamConnection, lambda each: each.worker is plane.worker) == 0
            finally:
                gc.enable()


def load_nothing() -> FixedCredential:
    raise SecretUnreadable(((("auth",), "is missing"),))


async def test_closed_connections_are_freed() -> None:
    """Nothing refers back to a connection once it is closed, so none waits for the garbage collector."""

    def count() -> int:
        return sum(isinstance(each, CallerConnection | UpstreamConnection) for each in gc.get_objects())

    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
    async with (
        RawUpstream(answering(closing)) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
    ):
        await sidekey.ask(get())
        await eventually(lambda: sidekey.metrics.upstream_open == 0 and not sidekey.plane.worker.connections)
        gc.collect()
        before = count()
        gc.disable()
        try:
            for _ in range(10):
                await sidekey.ask(get())
            await eventually(lambda: sidekey.metrics.upstream_open == 0 and not sidekey.plane.worker.connections)
            await asyncio.sleep(0)
            assert count() - before <= 2
        finally:
            gc.enable()


async def test_f93_two_thousand_requests_leave_nothing_behind() -> None:
    """F93 of tests/cases/faults.tsv, scaled down: a leak per request would show in objects or sockets."""

    async def serve(connection: RawConnection) -> None:
        while True:
            await connection.until_contains(b"\r\n\r\n")
            connection.received.clear()
            await connection.send(OK)

    async with RawUpstream(serve) as upstream, running(integration("h", base_url(upstream.port))) as sidekey:

        async def some(count: int) -> None:
            async with sidekey.connect() as caller:
                for _ in range(count):
                    await caller.send(get())
                    await caller.until_contains(b"\r\n\r\nok")
                    caller.received.clear()
            await eventually(lambda: not sidekey.plane.worker.connections)

        await some(50)
        gc.collect()
        objects, sockets = len(gc.get_objects()), open_sockets()
        for _ in range(20):
            await some(100)
        gc.collect()
        assert len(gc.get_objects()) - objects < 500
        assert open_sockets() - sockets == set()
