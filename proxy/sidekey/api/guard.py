"""Middleware of the admin and the metrics listener that refuses requests for other servers and from other sites.

aiohttp routes an absolute-form target by its path alone, so `GET http://other.example/metrics` would be served, and a
browser whose page rebinds a name to this address would be served like a local tool.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from sidekey.policy.listener import is_listener_host

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Refusal(NamedTuple):
    """A refused request: the status, and the reason in one line."""

    status: int
    reason: str


Names = Callable[[], frozenset[str]]
"""Returns the extra host names of a listener, which may change while it listens."""


def guard(
    names: Names | None,
    refuse: Callable[[web.Request, Refusal], web.Response],
    is_console_page: Callable[[web.Request], bool],
) -> Middleware:
    """Build the middleware. `refuse` builds the response to a refused request.

    Without `names`, the middleware accepts any Host and requests from any site. With `names`, other sites may only
    link to the pages for which `is_console_page` returns True.
    """

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        refusal = _misdirected(request, names, is_console_page)
        if refusal is not None:
            return refuse(request, refusal)
        return await handler(request)

    return check


def _misdirected(
    request: web.Request, names: Names | None, is_console_page: Callable[[web.Request], bool]
) -> Refusal | None:
    """Return why a request is not for this listener, or None if it is."""
    if not request.raw_path.startswith("/"):
        # A client that sends the absolute form expects a proxy (RFC 9112 3.2.2): misdirected (RFC 9110 7.4, 15.5.20).
        return Refusal(421, "this listener is not a proxy: send only the path as the target")
    if names is None:
        return None
    # Only HTTP/1.0 may omit Host, and no browser speaks it: aiohttp refuses other requests without one (RFC 9112 3.2).
    host = request.headers.get(hdrs.HOST)
    if host is not None and not is_listener_host(host.encode("latin-1", "replace"), names()):
        return Refusal(421, "Host must be an IP address, localhost or a name from the config")
    site = request.headers.get("Sec-Fetch-Site", "none")
    if site not in ("none", "same-origin") and not (_is_navigation(request) and is_console_page(request)):
        return Refusal(403, "requests from pages of other sites are refused")
    return None


def _is_navigation(request: web.Request) -> bool:
    """Return True if a person followed a link in a window: no frame, no script, and no form that posts."""
    fetch = request.headers.get("Sec-Fetch-Mode"), request.headers.get("Sec-Fetch-Dest")
    return request.method == hdrs.METH_GET and fetch == ("navigate", "document")


def respond_line(_: web.Request, refusal: Refusal) -> web.Response:
    """Respond with the reason as a line of text."""
    return web.Response(status=refusal.status, text=f"{refusal.reason}\n")


def is_complete(request: web.BaseRequest) -> bool:
    """Return True if the whole request was received."""
    return not request.body_exists or request.content.is_eof()
