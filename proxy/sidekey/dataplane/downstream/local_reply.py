"""Responses of Sidekey's own as bytes: application/problem+json (RFC 9457) with Proxy-Status (RFC 9209)."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Final

from sidekey.errors import Problem

REQUEST_ID: Final = b"\r\nSidekey-Request-Id: "
"""What stands before a request's id in its response, whoever wrote that: upstreams' own of this name are dropped."""

PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}

_END = b"\r\n\r\n"
_CLOSE = b"\r\nConnection: close\r\n\r\n"


def local_reply(
    problem: Problem,
    *,
    request_id: bytes,
    integration: str | None,
    sent: str,
    close: bool,
    head: bool,
    via: bytes,
    phrase: bytes | None = None,
) -> bytes:
    """Serialise a problem; `phrase` replaces the standard reason phrase of its status.

    `request_id` is a URI reference as well (RFC 9457 3.1.5). `sent` says whether the upstream may have seen the request
    (no, maybe); `head` leaves the body out (RFC 9110 9.3.2); `integration` is None where the caller is not to know it.
    """
    said: dict[str, object] = {
        "type": f"urn:sidekey:problem:{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "instance": request_id.decode(),
        "code": problem.code,
        "sent": sent,
    }
    if integration is not None:
        said["integration"] = integration
    if problem.errors:
        said["errors"] = [{"pointer": pointer, "detail": detail} for pointer, detail in problem.errors]
    body = json.dumps(said).encode()
    lines = [
        b"HTTP/1.1 %d %b" % (problem.status, PHRASES[problem.status] if phrase is None else phrase),
        b"\r\nContent-Type: application/problem+json\r\nContent-Length: %d" % len(body),
        b"\r\nCache-Control: no-store\r\nProxy-Status: sidekey; error=%b" % problem.error.encode(),
    ]
    lines += [b"\r\n%b: %b" % (name.encode(), value.encode()) for name, value in problem.headers]
    lines += [via, REQUEST_ID, request_id, _CLOSE if close else _END]
    if not head:
        lines.append(body)
    return b"".join(lines)


def options_reply(*, request_id: bytes, allow: bytes, close: bool, via: bytes) -> bytes:
    """The response to an OPTIONS request that may go no further (Max-Forwards: 0, RFC 9110 7.6.2)."""
    lines = [b"HTTP/1.1 204 No Content\r\nAllow: ", allow, via, REQUEST_ID, request_id, _CLOSE if close else _END]
    return b"".join(lines)
