"""The head of a response on its way to the caller, written from the parsed parts."""

from __future__ import annotations

from typing import Final

from sidekey.core.framing import BODYLESS, length_line
from sidekey.core.headers import nominated, without
from sidekey.core.response import ResponseHead
from sidekey.dataplane.downstream.local_reply import PHRASES, REQUEST_ID

_STATUS_LINES: Final = [b"HTTP/1.1 %d %b" % (status, PHRASES.get(status, b"")) for status in range(600)]
"""By the status, of which those of final responses are used. The reason phrase is the standard one: clients do not read
it, and the upstream's may hold anything (RFC 9112 4)."""


def response_head(
    head: ResponseHead, fields: list[bytes], request_id: bytes, ending: bytes, *, chunked: bool, to_head: bool
) -> list[bytes]:
    """The pieces of the head, ready to be joined; `ending` are the last fields and the empty line.

    `fields` are the head's, less what may not be shown; what `Connection` nominates is left out (RFC 9110 7.6.1).
    `chunked` says that the body goes to the caller in chunks, `to_head` that the request was a HEAD.
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
        # What the response to a GET would have had (RFC 9110 8.6), or nothing where the upstream did not say.
        return b"" if head.content_length is None else length_line(head.content_length)
    return length_line(0)
