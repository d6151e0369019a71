"""Build the head of a response to the caller."""

from __future__ import annotations

from typing import Final

from sidekey.core.framing import BODYLESS, length_line
from sidekey.core.headers import nominated, without
from sidekey.core.response import ResponseHead
from sidekey.dataplane.downstream.local_reply import PHRASES, REQUEST_ID

_STATUS_LINES: Final = [b"HTTP/1.1 %d %b" % (status, PHRASES.get(status, b"")) for status in range(600)]
"""Status lines by status. They have the standard reason phrase, because that of an upstream may contain anything, and
clients do not read it (RFC 9112 4)."""


def response_head(
    head: ResponseHead, fields: list[bytes], request_id: bytes, ending: bytes, *, chunked: bool, to_head: bool
) -> list[bytes]:
    """Return the pieces of the head.

    `fields` are the fields that the caller may see, without those that `Connection` nominates (RFC 9110 7.6.1).
    `ending` are the last fields and the empty line. `chunked` sends the body in chunks. `to_head` is True for a HEAD
    request.
    """
    if head.connection is not None:
        fields = without(fields, nominated(head.connection))
    length = head.length
    framing = length_line(length) if length > 0 else _framing(head, chunked=chunked, to_head=to_head)
    return [_STATUS_LINES[head.status], *fields, framing, REQUEST_ID, request_id, ending]


def _framing(head: ResponseHead, *, chunked: bool, to_head: bool) -> bytes:
    if chunked:
        return b"\r\nTransfer-Encoding: chunked"
    if head.length < 0 or head.status == 204:
        return b""
    if to_head or head.status in BODYLESS:
        # The length that the response to a GET would have, if known (RFC 9110 8.6).
        return b"" if head.content_length is None else length_line(head.content_length)
    return length_line(0)
