"""The head of a request on its way to the upstream: the caller's fields less what may not pass, then the grant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidekey.core.framing import CHUNKED, length_line
from sidekey.core.headers import nominated
from sidekey.dataplane.inbound import without

if TYPE_CHECKING:
    from sidekey.dataplane.exchange import Exchange


def request_head(exchange: Exchange) -> list[bytes]:
    """The pieces of the head, ready to be joined with the body. Nothing a caller sent doubles an injected field."""
    route = exchange.route
    if route.grant is not exchange.grant:
        route.compile(exchange.grant)
    path = exchange.path
    if route.query:
        path += (b"" if path.endswith((b"?", b"&")) else b"&" if b"?" in path else b"?") + route.query
    lines = exchange.lines
    dropped = exchange.lane.strip
    if exchange.hop_by_hop:
        dropped |= nominated(exchange.hop_by_hop)
    if not dropped.isdisjoint(exchange.names):
        lines = without(lines, dropped)
    length = exchange.length
    if length > 0:
        framing = length_line(length)
    elif length == CHUNKED:
        framing = b"\r\nTransfer-Encoding: chunked"
    else:
        framing = length_line(0) if exchange.length_given else b""
    return [
        exchange.method,
        b" ",
        path,
        b" HTTP/1.1",
        route.injected,
        *lines,
        framing,
        exchange.plane.via_and_end,
    ]
