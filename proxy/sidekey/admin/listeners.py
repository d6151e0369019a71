"""The admin and the metrics listener: `/metrics`, `/healthz`, `/readyz`, on aiohttp."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from aiohttp import hdrs, web

from sidekey.admin.guard import guard
from sidekey.admin.health import Health
from sidekey.observe.exposition import CONTENT_TYPE, expose
from sidekey.observe.metrics import Metrics

SCRAPE_TIMEOUT = 60.0
"""Seconds a scrape may take, which its reader decides; Prometheus itself waits 10 unless configured otherwise."""


def build_admin(health: Health, metrics: Metrics, names: Iterable[str] = ()) -> web.Application:
    """Make the admin application. It requires a Host that is an IP literal, localhost or one of `names`."""
    return _build(health, metrics, frozenset(name.lower() for name in names))


def build_metrics(health: Health, metrics: Metrics) -> web.Application:
    """Make the metrics application: any Host, so that a scraper reaches it by any name."""
    return _build(health, metrics, None)


def _build(health: Health, metrics: Metrics, names: frozenset[str] | None) -> web.Application:
    async def scrape(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: CONTENT_TYPE})
        # A scraper that left, or was cut off, needs no response; aiohttp would log its departure as a defect.
        with suppress(ConnectionError), _deadline(request):
            await response.prepare(request)
            if request.method != hdrs.METH_HEAD:
                async for block in expose(metrics):
                    await response.write(block)
            await response.write_eof()
        return response

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if health.ready else web.Response(status=503, text=f"{health.reason}\n")

    app = web.Application(middlewares=[guard(names)])
    app.router.add_get("/metrics", scrape)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    return app


@contextmanager
def _deadline(request: web.Request) -> Iterator[None]:
    """Cut the connection of a scraper that stops reading: the next write to it fails."""
    if request.transport is None:
        raise ConnectionResetError
    timer = asyncio.get_running_loop().call_later(SCRAPE_TIMEOUT, request.transport.abort)
    try:
        yield
    finally:
        timer.cancel()
