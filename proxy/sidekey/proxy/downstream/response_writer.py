"""Serialize response heads, and Sidekey's own responses: problem+json (RFC 9457) with Proxy-Status (RFC 9209)."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Final

from sidekey.errors import Problem
from sidekey.policy.framing import BODYLESS, length_line
from sidekey.policy.headers import drop_fields, nominated
from sidekey.policy.messages import ResponseHead

REQUEST_ID: Final = b"\r\nSidekey-Request-Id: "
"""The header that each response has. Sidekey drops an upstream's header of this name."""

PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}

_END = b"\r\n\r\n"
_CLOSE = b"\r\nConnection: close\r\n\r\n"


def serialize_problem(
    problem: Problem,
    *,
    request_id: bytes,
    integration: str | None,
    sent: str,
    close: bool,
    to_head: bool,
    via: bytes,
    phrase: bytes | None = None,
) -> bytes:
    """Serialize a problem as a response.

    `request_id` is also a URI reference (RFC 9457 3.1.5). `sent` is `maybe` if the upstream may have seen the request,
    else `no`. `to_head` omits the body (RFC 9110 9.3.2). `integration` is None if the caller must not know it. `phrase`
    replaces the standard reason phrase.
    """
    document: dict[str, object] = {
        "type": f"urn:sidekey:problem:{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "instance": request_id.decode(),
        "code": problem.code,
        "sent": sent,
    }
    if integration is not None:
        document["integration"] = integration
    if problem.errors:
        document["errors"] = [{"pointer": pointer, "detail": detail} for pointer, detail in problem.errors]
    body = json.dumps(document).encode()
    lines = [
        b"HTTP/1.1 %d %b" % (problem.status, PHRASES[problem.status] if phrase is None else phrase),
        b"\r\nContent-Type: application/problem+json\r\nContent-Length: %d" % len(body),
        b"\r\nCache-Control: no-store\r\nProxy-Status: sidekey; error=%b" % problem.error.encode(),
    ]
    lines += [b"\r\n%b: %b" % (name.encode(), value.encode()) for name, value in problem.headers]
    lines += [via, REQUEST_ID, request_id, _CLOSE if close else _END]
    if not to_head:
        lines.append(body)
    return b"".join(lines)


def serialize_options_response(*, request_id: bytes, allow: bytes, close: bool, via: bytes) -> bytes:
    """Serialize the response to OPTIONS with Max-Forwards: 0, which Sidekey must not forward (RFC 9110 7.6.2)."""
    lines = [b"HTTP/1.1 204 No Content\r\nAllow: ", allow, via, REQUEST_ID, request_id, _CLOSE if close else _END]
    return b"".join(lines)


_STATUS_LINES: Final = [b"HTTP/1.1 %d %b" % (status, PHRASES.get(status, b"")) for status in range(600)]
"""Status lines by status. They have the standard reason phrase: an upstream's may contain anything, and clients ignore
it (RFC 9112 4)."""


def response_head(
    head: ResponseHead, fields: list[bytes], request_id: bytes, ending: bytes, *, chunked: bool, to_head: bool
) -> list[bytes]:
    """Return the pieces of the head of an upstream's response, for the caller.

    `fields` are the fields that the caller may see. This removes those that `Connection` nominates (RFC 9110 7.6.1).
    `ending` contains the last fields and the empty line. `chunked` announces chunks. `to_head` is True for a HEAD
    request.
    """
    if head.connection is not None:
        fields = drop_fields(fields, nominated(head.connection))
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
