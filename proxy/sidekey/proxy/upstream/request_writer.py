"""Build the head of a request to the upstream from the caller's header fields and the grant."""

from __future__ import annotations

from collections.abc import Sequence

from sidekey.policy.framing import CHUNKED, length_line
from sidekey.policy.headers import drop_fields, nominated
from sidekey.policy.messages import RequestHead


def line_without_method(path: bytes) -> bytes:
    """Return the request line without the method."""
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
    """Return the pieces of the head, to be joined with the body.

    `line` comes from `line_without_method`, and `injected` are Host and the lines of the grant. `stripped` are the
    normalised names of headers to remove, so that no injected one comes twice. `length` is the length of the outgoing
    body.
    """
    fields = head.fields
    if head.connection:
        stripped |= nominated(head.connection)
    for name in head.names:
        if name in stripped:
            fields = drop_fields(fields, stripped)
            break
    if head.control_headers is not None:
        fields = [*fields, *(line for name, line in head.hop_fields() if name not in stripped)]
    if length > 0:
        framing = length_line(length)
    elif length == CHUNKED:
        framing = b"\r\nTransfer-Encoding: chunked"
    else:
        framing = length_line(0) if head.has_content_length or head.length else b""
    return [head.method, line, injected, *fields, framing, head_end]


def field_lines(
    head: RequestHead, injected: Sequence[bytes], stripped: frozenset[bytes], *, length: int, via: bytes
) -> list[bytes]:
    """Return the header lines of the request that `request_head` builds, to be signed. `via` is Sidekey's Via line."""
    lines = request_head(head, b"", b"", stripped, length=length, head_end=via)
    if not lines[-2]:
        # No framing.
        del lines[-2]
    if not via:
        del lines[-1]
    lines[:3] = injected
    return lines
