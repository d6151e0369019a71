"""The head of an answer on its way to the caller, written anew from the parsed parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidekey.core.framing import BODYLESS, length_line
from sidekey.core.headers import line_name, nominated
from sidekey.dataplane.answers import PHRASES

if TYPE_CHECKING:
    from sidekey.dataplane.answer_reader import AnswerReader
    from sidekey.dataplane.exchange import Exchange

_STATUS_LINES = {status: b"HTTP/1.1 %d %b" % (status, PHRASES.get(status, b"")) for status in range(200, 600)}
"""The reason phrase is the standard one: clients do not read it, and the upstream's may hold anything (RFC 9112 4)."""


def answer_head(upstream: AnswerReader, exchange: Exchange) -> list[bytes]:
    """The pieces of the head, ready to be joined. What `Connection` nominates is left out (RFC 9110 7.6.1)."""
    lines = upstream.lines
    if upstream.hop_by_hop is not None:
        lines = without(lines, nominated(upstream.hop_by_hop))
    length = upstream.length
    framing = length_line(length) if length > 0 else _framing(upstream, exchange)
    return [_STATUS_LINES[upstream.status], *lines, framing, exchange.ending]


def without(lines: list[bytes], dropped: frozenset[bytes]) -> list[bytes]:
    """The lines (each after its line end) whose normalised names are not among `dropped`."""
    return [line for line in lines if line_name(line) not in dropped]


def _framing(upstream: AnswerReader, exchange: Exchange) -> bytes:
    if exchange.chunked_out:
        return b"\r\nTransfer-Encoding: chunked"
    if upstream.length < 0 or upstream.status == 204:
        return b""
    if exchange.method == b"HEAD" or upstream.status in BODYLESS:
        # What a GET would have answered (RFC 9110 8.6), or nothing where the upstream did not say.
        return b"" if upstream.content_length is None else length_line(upstream.content_length)
    return length_line(0)
