"""The admin and the metrics listener: `/metrics`, `/healthz`, `/startupz`, `/readyz`, on aiohttp."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from sidekey.admin.guard import Refusal, guard, in_a_line
from sidekey.admin.health import Health
from sidekey.observe.exposition import CONTENT_TYPE, expose
from sidekey.observe.metrics import Metrics

SCRAPE_TIMEOUT = 60.0
"""Seconds a scrape may take, which its reader decides; Prometheus itself waits 10 unless configured otherwise."""


class Extension(ABC):
    """What the admin listener serves beside that, where there is a store."""

    @abstractmethod
    def names(self) -> frozenset[str]:
        """Further host names of the listener, now."""

    @abstractmethod
    def refuse(self, request: web.Request, refusal: Refusal) -> web.Response:
        """The response to a request that is not for this listener."""

    @abstractmethod
    def is_page(self, request: web.Request) -> bool:
        """Whether a request is for a page, to which links of other sites may lead."""

    @abstractmethod
    def may_scrape(self, request: web.Request) -> web.Response | None:
        """The response to who may not read the metrics; None: they may."""

    @abstractmethod
    def add_to(self, app: web.Application) -> None:
        """Add the routes."""


def build_admin(health: Health, metrics: Metrics, extension: Extension | None = None) -> web.Application:
    """Make the admin application. It requires a Host that is an IP literal, localhost or a name of `extension`."""
    if extension is None:
        return _build(health, metrics, guard(frozenset, in_a_line, _none), _anybody)
    app = _build(health, metrics, guard(extension.names, extension.refuse, extension.is_page), extension.may_scrape)
    extension.add_to(app)
    return app


def build_metrics(health: Health, metrics: Metrics) -> web.Application:
    """Make the metrics application: any Host, so that a scraper reaches it by any name."""
    return _build(health, metrics, guard(None, in_a_line, _none), _anybody)


def _anybody(_: web.Request) -> web.Response | None:
    return None


def _none(_: web.Request) -> bool:
    return False


def _build(
    health: Health,
    metrics: Metrics,
    check: Middleware,
    may_scrape: Callable[[web.Request], web.Response | None],
) -> web.Application:
    async def scrape(request: web.Request) -> web.StreamResponse:
        refused = may_scrape(request)
        if refused is not None:
            return refused
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

    async def startupz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if health.started else web.Response(status=503, text="starting\n")

    async def readyz(_: web.Request) -> web.Response:
        reason = health.reason
        return web.Response(status=503, text=f"{reason}\n") if reason else web.Response(text="ok\n")

    app = web.Application(middlewares=[check])
    app.router.add_get("/metrics", scrape)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/startupz", startupz)
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
