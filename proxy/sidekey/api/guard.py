"""What the admin and the metrics listener refuse before any handler runs.

aiohttp routes an absolute-form target by its path alone, so `GET http://other.example/metrics` would be served, and a
browser whose page rebinds a name to this address would be served like a local tool.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from sidekey.policy.naming import is_own_host

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Refusal(NamedTuple):
    """Why a request is not answered: the status, and a line for whoever sent it."""

    status: int
    reason: str


Names = Callable[[], frozenset[str]]
"""Gives the further host names of a listener, which may change while it listens."""


def guard(
    names: Names | None,
    refuse: Callable[[web.Request, Refusal], web.Response],
    is_page: Callable[[web.Request], bool],
) -> Middleware:
    """Make the middleware, which responds with what `refuse` makes of a refusal.

    `names` None accepts any Host and any site. What `is_page` is for people: a link from elsewhere may lead there.
    """

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        refusal = _misdirected(request, names, is_page)
        if refusal is not None:
            return refuse(request, refusal)
        return await handler(request)

    return check


def _misdirected(request: web.Request, names: Names | None, is_page: Callable[[web.Request], bool]) -> Refusal | None:
    """Why a request is not for this listener; None lets it pass."""
    if not request.raw_path.startswith("/"):
        # Whoever sends the absolute-form takes this for a proxy (RFC 9112 3.2.2): misdirected (RFC 9110 7.4, 15.5.20).
        return Refusal(421, "this listener is not a proxy: send only the path as the target")
    if names is None:
        return None
    # Only HTTP/1.0 comes without a Host; aiohttp refuses the rest (RFC 9112 3.2). No browser speaks it.
    host = request.headers.get(hdrs.HOST)
    if host is not None and not is_own_host(host.encode("latin-1", "replace"), names()):
        return Refusal(421, "Host must be an IP address, localhost or a name from the config")
    site = request.headers.get("Sec-Fetch-Site", "none")
    if site not in ("none", "same-origin") and not (_is_navigation(request) and is_page(request)):
        return Refusal(403, "requests from pages of other sites are refused")
    return None


def _is_navigation(request: web.Request) -> bool:
    """Whether somebody has followed a link in a window of its own: not a frame, not a script, not a form that posts."""
    fetch = request.headers.get("Sec-Fetch-Mode"), request.headers.get("Sec-Fetch-Dest")
    return request.method == hdrs.METH_GET and fetch == ("navigate", "document")


def in_a_line(_: web.Request, refusal: Refusal) -> web.Response:
    """A response of one line."""
    return web.Response(status=refusal.status, text=f"{refusal.reason}\n")


def is_whole(request: web.BaseRequest) -> bool:
    """Tell whether all of a request has arrived."""
    return not request.body_exists or request.content.is_eof()
