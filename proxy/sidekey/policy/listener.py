"""Checks of a request at the proxy listener that depend on no integration: web pages, Host and loops."""

from __future__ import annotations

from typing import Final, TypeVar

from sidekey.errors import Problem
from sidekey.policy.addresses import parse_address
from sidekey.policy.callers import Callers
from sidekey.policy.headers import Role
from sidekey.policy.identifiers import parse_proxy_authorization
from sidekey.policy.integration_rules import Candidate
from sidekey.policy.messages import RequestHead
from sidekey.policy.routes import Routes

C = TypeVar("C", bound=Candidate)

MAX_HOST_LENGTH: Final = 260
"""Maximum bytes of Host: a name of 253, and a port."""

_LOOP: Final = Problem("loop_detected", "Via shows that the request has already passed through Sidekey", denial="loop")


def check_browser(head: RequestHead, callers: Callers | None, routes: Routes[C]) -> Problem | None:
    """Refuse requests of web pages to the reverse proxy, including those by DNS rebinding."""
    if head.control_header(Role.SEC_FETCH_SITE) not in (None, b"none"):
        return Problem("door_denied", "requests from web pages are refused (Sec-Fetch-Site)", denial="browser")
    if (problem := check_origin(head, callers)) is not None:
        return problem
    if not routes.is_listener_host(head.host):
        detail = "Host must be this listener's: an IP address, localhost or one of listen.names"
        return Problem("door_denied", detail, denial="foreign_host")
    return None


def check_origin(head: RequestHead, callers: Callers | None) -> Problem | None:
    """Refuse requests with Origin if there are no callers, or if only a certificate identifies the caller.

    At the forward proxy this is for WebSocket handshakes: web pages can read any WebSocket (RFC 6455 10.2), while the
    same-origin policy keeps them from reading other responses. Raises InvalidIdentifiers for a malformed
    Proxy-Authorization.
    """
    if head.control_header(Role.ORIGIN) is None:
        return None
    if callers is None:
        detail = "requests from web pages are refused (Origin) where no callers are configured"
        return Problem("door_denied", detail, denial="browser")
    if callers.has_certificate and not (head.token or parse_proxy_authorization(head.proxy_authorization).token):
        # A browser presents its certificate for every page, but a page cannot know a token. An empty one is no token.
        detail = "requests from web pages are refused (Origin) unless they carry a token"
        return Problem("door_denied", detail, denial="browser")
    return None


def is_listener_host(host: bytes, names: frozenset[str]) -> bool:
    """Return True if `Host` is an IP literal, localhost or one of the listener's `names`. Prevents DNS rebinding."""
    if len(host) > MAX_HOST_LENGTH:
        return False
    name, port = _split_host(host.decode("latin-1").lower())
    if port and not (port.isascii() and port.isdigit()):
        return False
    return name == "localhost" or name in names or parse_address(name) is not None


def _split_host(host: str) -> tuple[str, str]:
    if host.startswith("["):
        name, bracket, port = host[1:].partition("]")
        return (name, port[1:]) if bracket and ":" in name and port[:1] in ("", ":") else ("", "")
    name, _, port = host.partition(":")
    return name, port


def check_loop(head: RequestHead, routes: Routes[C]) -> Problem | None:
    """Refuse a request that has passed through this process, or through more than five Sidekey processes."""
    via = head.control_header(Role.VIA) or b""
    return _LOOP if routes.instance in via or via.lower().count(b"sidekey") > 5 else None
