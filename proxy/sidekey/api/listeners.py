"""The aiohttp applications of the admin and the metrics listener.

Both serve `/metrics`, `/healthz`, `/startupz` and `/readyz`. The admin listener adds the API and the console.
"""

from __future__ import annotations

import asyncio
import gzip
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from ipaddress import ip_address
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware
from prometheus_client.exposition import gzip_accepted

from sidekey.api.auth.operators import bearer
from sidekey.api.dispatch import Dispatcher, defer_continue, require_permission, respond_problem
from sidekey.api.errors import ApiProblem
from sidekey.api.guard import Refusal, guard, respond_line
from sidekey.api.route import PREFIX
from sidekey.api.routes import ROUTES
from sidekey.api.service import ApiServices
from sidekey.console.static_files import ASSETS, StaticPages
from sidekey.observe.prometheus import Exposition, choose_format
from sidekey.snapshot.snapshot import Address


class Health:
    """Startup and readiness, which the app sets. After the start they never depend on a third party.

    `started`: the listeners accept, and the integrations of files are in use. `unread_reason` returns why the store
    was not read yet, or an empty string. `config_loaded` returns False after a refused reload, with which the process
    stays ready. Anybody may read these reasons, so they name no secret and no path.
    """

    __slots__ = ("_config_loaded", "_unread_reason", "draining", "started")

    def __init__(
        self, unread_reason: Callable[[], str] | None = None, config_loaded: Callable[[], bool] = lambda: True
    ) -> None:
        self.started = False
        self.draining = False
        self._unread_reason = unread_reason
        self._config_loaded = config_loaded

    @property
    def reason(self) -> str:
        """Why the process is not ready, or an empty string if it is."""
        if self.draining:
            return "draining"
        if not self.started:
            return "starting"
        return "" if self._unread_reason is None else self._unread_reason()

    @property
    def page(self) -> str:
        """The response of a process that is ready."""
        if self._config_loaded():
            return "ok\n"
        return "ok\nthe last reload was refused, and the previous config is in use: the log has the reason\n"

    @property
    def ready(self) -> bool:
        """True if this process accepts callers."""
        return not self.reason


SCRAPE_TIMEOUT = 60.0
"""Seconds that a scraper may take to read the page. Prometheus waits 10 by default."""

_BLOCK = 65_536
"""Bytes of the page to decompress at a time, about 0.1 ms, for a scraper that does not accept gzip."""


class Extension(ABC):
    """Routes and checks that the admin listener has in addition to health and metrics."""

    @abstractmethod
    def names(self) -> frozenset[str]:
        """Return the extra host names of the listener, as of now."""

    @abstractmethod
    def refuse(self, request: web.Request, refusal: Refusal) -> web.Response:
        """Build the response to a refused request."""

    @abstractmethod
    def is_console_page(self, request: web.Request) -> bool:
        """Return True if the path is a page of the console, so that other sites may link to it."""

    @abstractmethod
    def refuse_scrape(self, request: web.Request) -> web.Response | None:
        """Build the response to an unauthorized scrape: 401 or 403. Return None to serve the scrape."""

    @abstractmethod
    def add_to(self, app: web.Application) -> None:
        """Add the routes."""


def build_admin(health: Health, exposition: Exposition, extension: Extension | None = None) -> web.Application:
    """Build the admin application. Host must be an IP literal, localhost or a name of `extension`."""
    if extension is None:
        app = _build(health, exposition, guard(frozenset, respond_line, _has_no_console), _allow_every_scrape)
        for path in ("/", "/ui", "/ui/{path:.*}"):
            app.router.add_get(path, _explain_missing_console)
        app.router.add_route("*", f"{PREFIX}{{path:(/(?s:.*))?}}", _explain_missing_api)
        return app
    check = guard(extension.names, extension.refuse, extension.is_console_page)
    app = _build(health, exposition, check, extension.refuse_scrape)
    extension.add_to(app)
    return app


_UNCONFIGURED: Final = (
    "{} is not configured: set `store`, or name operators in `admin.tokens` or `admin.oidc`. "
    "This listener serves /metrics, /healthz, /startupz and /readyz"
)


async def _explain_missing_console(_: web.Request) -> web.Response:
    return web.Response(status=404, text=f"{_UNCONFIGURED.format('the console')}\n")


async def _explain_missing_api(_: web.Request) -> web.Response:
    return respond_problem(ApiProblem("not_found", _UNCONFIGURED.format("the API")))


def build_metrics(health: Health, exposition: Exposition) -> web.Application:
    """Build the metrics application. It accepts any Host: a scraper may reach it by any name."""
    return _build(health, exposition, guard(None, respond_line, _has_no_console), _allow_every_scrape)


def _allow_every_scrape(_: web.Request) -> web.Response | None:
    return None


def _has_no_console(_: web.Request) -> bool:
    return False


def _build(
    health: Health,
    exposition: Exposition,
    check: Middleware,
    refuse_scrape: Callable[[web.Request], web.Response | None],
) -> web.Application:
    async def scrape(request: web.Request) -> web.StreamResponse:
        refusal = refuse_scrape(request)
        if refusal is not None:
            return refusal
        form = choose_format(request.headers.get(hdrs.ACCEPT, ""))
        response = web.StreamResponse(
            headers={hdrs.CONTENT_TYPE: form.content_type, hdrs.VARY: "Accept, Accept-Encoding"}
        )
        compressed = gzip_accepted(request.headers.get(hdrs.ACCEPT_ENCODING, ""))
        if compressed:
            response.headers[hdrs.CONTENT_ENCODING] = "gzip"
        blocks: Iterable[bytes] = ()
        if request.method != hdrs.METH_HEAD:
            page = await exposition.page(form)
            blocks = (page,) if compressed else _decompressed(page)
        # A scraper that left or timed out needs no response. aiohttp would log it as a defect.
        with suppress(ConnectionError), _deadline(request):
            await response.prepare(request)
            for block in blocks:
                await response.write(block)
                # A fast scraper must not block the loop for a whole page.
                await asyncio.sleep(0)
            await response.write_eof()
        return response

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def startupz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if health.started else web.Response(status=503, text="starting\n")

    async def readyz(_: web.Request) -> web.Response:
        reason = health.reason
        return web.Response(status=503, text=f"{reason}\n") if reason else web.Response(text=health.page)

    app = web.Application(middlewares=[check])
    app.router.add_get("/metrics", scrape)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/startupz", startupz)
    app.router.add_get("/readyz", readyz)
    return app


def _decompressed(page: bytes) -> Iterator[bytes]:
    """Decompress a page block by block: for a slow scraper of 10,000 integrations, memory holds 1 MB instead of 21."""
    with gzip.open(BytesIO(page)) as plain:
        while block := plain.read(_BLOCK):
            yield block


@contextmanager
def _deadline(request: web.Request) -> Iterator[None]:
    """Abort the connection of a scraper that stops reading, so that the next write fails."""
    if request.transport is None:
        raise ConnectionResetError
    timer = asyncio.get_running_loop().call_later(SCRAPE_TIMEOUT, request.transport.abort)
    try:
        yield
    finally:
        timer.cancel()


_CODE_BY_STATUS = {421: "misdirected", 403: "forbidden"}


class AdminExtension(Extension):
    """The API and the pages of the console. `address` is that of the admin listener in the config."""

    def __init__(self, service: ApiServices, address: Address) -> None:
        self._service = service
        self._dispatcher = Dispatcher(service, ROUTES)
        self._pages = StaticPages()
        self._is_remote = address.path is None and not ip_address(address.host).is_loopback

    def names(self) -> frozenset[str]:
        """Return `admin.names` of the config in use."""
        return self._service.snapshot.admin.names

    def refuse(self, request: web.Request, refusal: Refusal) -> web.Response:
        """Respond with a problem below the path of the API, else with a line."""
        if not request.path.startswith(PREFIX):
            return respond_line(request, refusal)
        return respond_problem(ApiProblem(_CODE_BY_STATUS[refusal.status], refusal.reason))

    def is_console_page(self, request: web.Request) -> bool:
        """Return False for the API, the assets, health and metrics."""
        return not request.path.startswith(("/api/", ASSETS, "/metrics", "/healthz", "/startupz", "/readyz"))

    def refuse_scrape(self, request: web.Request) -> web.Response | None:
        """Return 401 or 403 for an unauthorized scrape of a listener that other hosts can reach, else None."""
        if not self._is_remote and not self._service.snapshot.admin.behind_tls:
            return None
        try:
            require_permission(self._service.authenticate(bearer(request.headers.get(hdrs.AUTHORIZATION))), "viewer")
        except ApiProblem as problem:
            return respond_problem(problem)
        return None

    def add_to(self, app: web.Application) -> None:
        """Add the API and the pages."""
        self._pages.add_to(app)
        # aiohttp matches decoded paths, which may contain newlines.
        path = f"{PREFIX}{{path:(/(?s:.*))?}}"
        app.router.add_route("*", path, self._dispatcher.serve, expect_handler=defer_continue)
