"""The API and the console on the admin listener."""

from __future__ import annotations

from ipaddress import ip_address

from aiohttp import hdrs, web

from sidekey.admin.api.dispatch import Dispatcher, expect_later, require, respond_problem
from sidekey.admin.api.operators import bearer
from sidekey.admin.api.problems import ApiProblem
from sidekey.admin.api.route import PREFIX
from sidekey.admin.api.routes import ROUTES
from sidekey.admin.api.service import Service
from sidekey.admin.guard import Refusal, in_a_line
from sidekey.admin.listeners import Extension
from sidekey.admin.static import ASSETS, StaticPages
from sidekey.runtime.snapshot import Address

_CODES = {421: "misdirected", 403: "forbidden"}


class Managing(Extension):
    """What `service` does, for programs and for people. `address` is where the listener is asked to listen."""

    def __init__(self, service: Service, address: Address) -> None:
        self._service = service
        self._dispatcher = Dispatcher(service, ROUTES)
        self._pages = StaticPages()
        self._open = address.path is None and not ip_address(address.host).is_loopback

    def names(self) -> frozenset[str]:
        """Those of `admin.names`."""
        return self._service.snapshot.admin.names

    def refuse(self, request: web.Request, refusal: Refusal) -> web.Response:
        """A problem for who wants the API, a line for others."""
        if not request.path.startswith(PREFIX):
            return in_a_line(request, refusal)
        return respond_problem(ApiProblem(_CODES[refusal.status], refusal.reason))

    def is_page(self, request: web.Request) -> bool:
        """Return True except for the API, the assets of pages, and what every admin listener has."""
        return not request.path.startswith(("/api/", ASSETS, "/metrics", "/healthz", "/startupz", "/readyz"))

    def may_scrape(self, request: web.Request) -> web.Response | None:
        """Return 401 or 403 for an unauthorized scrape of a listener that other hosts reach, else None."""
        if not self._open and not self._service.snapshot.admin.behind_tls:
            return None
        try:
            require(self._service.authenticate(bearer(request.headers.get(hdrs.AUTHORIZATION))), "viewer")
        except ApiProblem as problem:
            return respond_problem(problem)
        return None

    def add_to(self, app: web.Application) -> None:
        """Add the API and the pages."""
        self._pages.add_to(app)
        # Any character: aiohttp matches paths that are decoded, in which there may be ends of lines.
        path = f"{PREFIX}{{path:(/(?s:.*))?}}"
        app.router.add_route("*", path, self._dispatcher.serve, expect_handler=expect_later)
