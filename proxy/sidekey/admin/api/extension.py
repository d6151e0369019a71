"""The API on the admin listener."""

from __future__ import annotations

from ipaddress import ip_address

from aiohttp import hdrs, web

from sidekey.admin.api.dispatch import Dispatcher, expect_later, respond
from sidekey.admin.api.problems import ApiProblem
from sidekey.admin.api.route import PREFIX
from sidekey.admin.api.service import Service
from sidekey.admin.api.table import ROUTES
from sidekey.admin.guard import Refusal, in_a_line
from sidekey.admin.listeners import Extension
from sidekey.runtime.snapshot import Address

_CODES = {421: "misdirected", 403: "forbidden"}


class Api(Extension):
    """What `service` does, served by the table of routes. `address` is where the listener is asked to listen."""

    def __init__(self, service: Service, address: Address) -> None:
        self._service = service
        self._dispatcher = Dispatcher(service, ROUTES)
        self._open = address.path is None and not ip_address(address.host).is_loopback

    def names(self) -> frozenset[str]:
        """Those of `admin.names`."""
        return self._service.snapshot.admin.names

    def refuse(self, request: web.Request, refusal: Refusal) -> web.Response:
        """A problem for who wants the API, a line for others."""
        if not request.path.startswith(PREFIX):
            return in_a_line(request, refusal)
        return respond(ApiProblem(_CODES[refusal.status], refusal.reason).answer())

    def may_scrape(self, request: web.Request) -> web.Response | None:
        """Whoever reaches a listener that others reach needs a viewer's token for the metrics."""
        if not self._open:
            return None
        try:
            self._service.authenticate(request.headers.get(hdrs.AUTHORIZATION))
        except ApiProblem as problem:
            return respond(problem.answer())
        return None

    def add_to(self, app: web.Application) -> None:
        """Everything below the prefix."""
        # Any character: aiohttp matches paths that are decoded, in which there may be ends of lines.
        path = f"{PREFIX}{{path:(/(?s:.*))?}}"
        app.router.add_route("*", path, self._dispatcher.serve, expect_handler=expect_later)
