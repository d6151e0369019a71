"""Answers of Sidekey's own as bytes: application/problem+json (RFC 9457) with Proxy-Status (RFC 9209)."""

from __future__ import annotations

import json
from http import HTTPStatus

from sidekey.errors import Problem

PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}


def problem(fault: Problem, *, integration: str | None, close: bool, head: bool, via: bytes) -> bytes:
    """Serialise a problem. `head` leaves the body out (RFC 9110 9.3.2); `integration` where the caller knows it."""
    said = {
        "type": f"urn:sidekey:answer:{fault.code}",
        "title": fault.title,
        "status": fault.status,
        "detail": fault.detail,
        "code": fault.code,
        "sent": fault.sent,
    }
    if integration is not None:
        said["integration"] = integration
    body = json.dumps(said).encode()
    lines = [
        b"HTTP/1.1 %d %b\r\n" % (fault.status, PHRASES[fault.status]),
        b"Content-Type: application/problem+json\r\nContent-Length: %d\r\n" % len(body),
        b"Cache-Control: no-store\r\nProxy-Status: sidekey; error=%b\r\n" % fault.error.encode(),
    ]
    lines += [b"%b: %b\r\n" % (name.encode(), value.encode()) for name, value in fault.headers]
    lines += [via, b"Connection: close\r\n\r\n" if close else b"\r\n"]
    if not head:
        lines.append(body)
    return b"".join(lines)


def options(*, allow: bytes, close: bool, via: bytes) -> bytes:
    """The answer to an OPTIONS request that may go no further (Max-Forwards: 0, RFC 9110 7.6.2)."""
    end = b"Connection: close\r\n\r\n" if close else b"\r\n"
    return b"HTTP/1.1 204 No Content\r\nAllow: " + allow + b"\r\n" + via + end
