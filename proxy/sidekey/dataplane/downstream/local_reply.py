"""Responses of Sidekey's own as bytes: application/problem+json (RFC 9457) with Proxy-Status (RFC 9209)."""

from __future__ import annotations

import json
from http import HTTPStatus

from sidekey.errors import Problem

PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}

_END = b"\r\n\r\n"
_CLOSE = b"\r\nConnection: close\r\n\r\n"


def local_reply(
    problem: Problem,
    *,
    integration: str | None,
    sent: str,
    close: bool,
    head: bool,
    via: bytes,
    phrase: bytes | None = None,
) -> bytes:
    """Serialise a problem; `phrase` replaces the standard reason phrase of its status.

    `sent` says whether the upstream may have seen the request (no, maybe); `head` leaves the body out (RFC 9110
    9.3.2); `integration` is None where the caller is not to know it.
    """
    said: dict[str, object] = {
        "type": f"urn:sidekey:answer:{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
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
    lines += [via, _CLOSE if close else _END]
    if not head:
        lines.append(body)
    return b"".join(lines)


def options_reply(*, allow: bytes, close: bool, via: bytes) -> bytes:
    """The response to an OPTIONS request that may go no further (Max-Forwards: 0, RFC 9110 7.6.2)."""
    return b"HTTP/1.1 204 No Content\r\nAllow: " + allow + via + (_CLOSE if close else _END)
