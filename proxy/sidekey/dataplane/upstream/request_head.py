"""The head of a request on its way to the upstream: the caller's fields less what may not pass, then the grant."""

from __future__ import annotations

from collections.abc import Sequence

from sidekey.core.framing import CHUNKED, length_line
from sidekey.core.headers import nominated, without
from sidekey.core.request import RequestHead


def line_of(path: bytes) -> bytes:
    """What the request line says behind the method."""
    return b" " + path + b" HTTP/1.1"


def request_head(
    head: RequestHead,
    line: bytes,
    injected: bytes,
    stripped: frozenset[bytes],
    *,
    length: int,
    head_end: bytes,
) -> list[bytes]:
    """The pieces of the head, ready to be joined with the body. Nothing a caller sent doubles an injected field.

    `line` is that of the path (`line_of`), `injected` are Host and the grant's lines, `stripped` the normalised names
    that a caller may not send. `length` is the body's on its way out, which may be another than it came with: an empty
    one of unknown length is known to be.
    """
    fields = head.fields
    if head.connection:
        stripped |= nominated(head.connection)
    for name in head.names:
        if name in stripped:
            fields = without(fields, stripped)
            break
    if head.marks is not None:
        fields = [*fields, *(line for name, line in head.hop_fields() if name not in stripped)]
    if length > 0:
        framing = length_line(length)
    elif length == CHUNKED:
        framing = b"\r\nTransfer-Encoding: chunked"
    else:
        framing = length_line(0) if head.length_given or head.length else b""
    return [head.method, line, injected, *fields, framing, head_end]


def field_lines(
    head: RequestHead, injected: Sequence[bytes], stripped: frozenset[bytes], *, length: int, via: bytes
) -> list[bytes]:
    """The field lines of the same head, one by one, for whom it is not written yet; `via` is our own."""
    lines = request_head(head, b"", b"", stripped, length=length, head_end=via)
    if not lines[-2]:
        # No framing.
        del lines[-2]
    if not via:
        del lines[-1]
    lines[:3] = injected
    return lines
