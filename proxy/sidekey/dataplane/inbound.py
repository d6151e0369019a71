"""The head of an answer on its way to the caller, written anew from the parsed parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidekey.core.framing import bodyless
from sidekey.core.headers import nominated, normalise
from sidekey.dataplane.answers import PHRASES

if TYPE_CHECKING:
    from sidekey.dataplane.exchange import Exchange
    from sidekey.dataplane.upstream import UpstreamConnection

_STATUS_LINES: dict[tuple[int, bytes], bytes] = {}
_STATUS_LINES_LIMIT = 512


def answer_head(upstream: UpstreamConnection, exchange: Exchange) -> list[bytes]:
    """The pieces of the head, ready to be joined. What `Connection` nominates is left out (RFC 9110 7.6.1)."""
    status = upstream.status
    lines = upstream.lines
    if upstream.hop_by_hop is not None and (dropped := nominated(upstream.hop_by_hop)):
        lines = without(lines, dropped)
    line = _STATUS_LINES.get((status, upstream.reason)) or status_line(status, upstream.reason)
    return [line, *lines, _framing(upstream, exchange), exchange.ending]


def without(lines: list[bytes], dropped: frozenset[bytes]) -> list[bytes]:
    """The lines (each after its line end) whose normalised names are not among `dropped`."""
    return [line for line in lines if normalise(line[2 : line.index(b":")]) not in dropped]


def _framing(upstream: UpstreamConnection, exchange: Exchange) -> bytes:
    length = upstream.length
    if length > 0:
        return b"\r\nContent-Length: %d" % length
    if exchange.chunked_out:
        return b"\r\nTransfer-Encoding: chunked"
    if length < 0 or upstream.status == 204:
        return b""
    if exchange.method == b"HEAD" or bodyless(upstream.status):
        # What a GET would have answered (RFC 9110 8.6), or nothing where the upstream did not say.
        return b"" if upstream.content_length is None else b"\r\nContent-Length: %d" % upstream.content_length
    return b"\r\nContent-Length: 0"


def status_line(status: int, reason: bytes) -> bytes:
    """The status line; a reason phrase that is not printable ASCII gives way to the standard one (RFC 9112 4)."""
    phrase = reason
    if not (reason.isascii() and reason.decode("latin-1").isprintable()):
        phrase = PHRASES.get(status, b"")
    line = b"HTTP/1.1 %d %b" % (status, phrase)
    if len(_STATUS_LINES) < _STATUS_LINES_LIMIT:
        _STATUS_LINES[status, reason] = line
    return line
