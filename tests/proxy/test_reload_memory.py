"""Objects of a replaced snapshot are freed without the garbage collector.

The process freezes its memory after each reload, so the collector would never free them.
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
from support.next_snapshot import keyed_integration, publish
from support.plane import UPSTREAM, base_url, denied, eventually, get, integration, problem, running
from support.private_ca import Authority
from support.raw_connection import RawConnection
from support.upstream import OK, RawUpstream, respond_with


def alive(kind: type[Any], mark: Callable[[Any], bool]) -> int:
    """Count the living objects of a class with this mark."""
    return sum(1 for item in gc.get_objects() if type(item) is kind and mark(item))


async def only_now(connection: RawConnection) -> None:
    """Respond only to requests for /api/now."""
    while True:
        if (await connection.request()).target == b"/api/now":
            await connection.send(OK)


async def test_removed_integration_is_freed() -> None:
    """After its requests in flight, however they end."""

    def count() -> dict[str, int]:
        return {
            "compiled": alive(CompiledIntegration, lambda item: item.name == "old"),
            "integrations": alive(Integration, lambda item: item.id == "old"),
            "sources": alive(StaticSource, lambda item: item.grant == grant),
            "pools": alive(Pool, lambda item: item.key.origin.port == upstream.port),
        }

    grant = Grant(headers=(("X-Key", "counted"), ("X-Key-Again", "counted")))
    async with RawUpstream(only_now) as upstream, RawUpstream() as other:
        stays = keyed_integration(other.port, "stays", name="s")
        async with running(stays) as sidekey:
            # Nothing but the plane shall hold it.
            publish(sidekey, stays, keyed_integration(upstream.port, "counted", name="old"))
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
                    publish(sidekey, stays)
                    assert count() == {"compiled": 1, "integrations": 1, "sources": 1, "pools": 1}
                    await upstream.connections[-1].send(OK)
                    assert (await caller.response()).status == 200
                    await eventually(lambda: not any(count().values()))
            finally:
                gc.enable()


async def test_removed_integration_with_failures_is_freed(ca: Authority) -> None:
    """A raised exception refers to its frames, and they to the exchange or the connection."""
    async with RawUpstream() as upstream:
        port = upstream.port
    outcomes = {"old": "credential_unavailable", "dead": "upstream_unreachable", "untrusted": "upstream_tls_failed"}
    async with RawUpstream(ssl_context=ca.server_context(UPSTREAM)) as secure:
        created = (
            replace(integration("old", base_url(port)), secrets=SecretLoader(load_nothing)),
            integration("dead", base_url(port)),
            integration("untrusted", base_url(secure.port, scheme="https")),
        )
        async with running(*created) as sidekey:
            plane = sidekey.plane
            gc.collect()
            gc.disable()
            try:
                async with sidekey.connect() as caller:
                    for name, code in outcomes.items():
                        await caller.send(get(name=name))
                        assert problem(await caller.response())["code"] == code
                    publish(sidekey)
                    await eventually(lambda: not alive(CompiledIntegration, lambda item: item._pools is plane.pools))
                    assert alive(Exchange, lambda item: item._worker is plane.worker) == 0
                    assert alive(UpstreamConnection, lambda item: item.worker is plane.worker) == 0
            finally:
                gc.enable()


def load_nothing() -> FixedCredential:
    raise SecretUnreadable(((("auth",), "is missing"),))


async def test_closed_connections_are_freed() -> None:
    """Nothing refers to a closed connection."""

    def count() -> int:
        return sum(isinstance(item, CallerConnection | UpstreamConnection) for item in gc.get_objects())

    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
    async with (
        RawUpstream(respond_with(closing)) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
    ):
        await sidekey.send(get())
        await eventually(lambda: sidekey.metrics.upstream_open == 0 and not sidekey.plane.worker.connections)
        gc.collect()
        before = count()
        gc.disable()
        try:
            for _ in range(10):
                await sidekey.send(get())
            await eventually(lambda: sidekey.metrics.upstream_open == 0 and not sidekey.plane.worker.connections)
            await asyncio.sleep(0)
            assert count() - before <= 2
        finally:
            gc.enable()


async def test_two_thousand_requests_leave_nothing_behind() -> None:
    """A leak for each request would show in objects or sockets."""

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
