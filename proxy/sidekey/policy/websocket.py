"""Check both messages of a WebSocket handshake (RFC 6455 4.2.1, 4.1). What follows the handshake is not HTTP."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha1
from typing import Final

from sidekey.errors import Problem
from sidekey.policy.headers import Role, line_values, nominated, tokens
from sidekey.policy.messages import WEBSOCKET_LINES, RequestHead, ResponseHead

SWITCHING_PROTOCOLS: Final = 101

NOT_ALLOWED: Final = Problem(
    "not_implemented",
    "Upgrade to WebSocket is not enabled for this integration: add `upgrade: [websocket]` to it",
)
NOT_PASSED: Final = Problem(
    "not_implemented", "Upgrade to WebSocket needs an integration: requests without a credential are not upgraded"
)
EARLY_BYTES: Final = Problem(
    "request_invalid", "a caller must send nothing between a WebSocket handshake and its response"
)

_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")
"""16 bytes in base64."""
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_MASK: Final = 0x80
_RSV1: Final = 0x40
_CONTROL_STARTS: Final = frozenset({0x88, 0x89, 0x8A})
"""Close, ping and pong, each with FIN."""
_MESSAGE_STARTS: Final = frozenset({0x01, 0x02, 0x81, 0x82})
"""Text and binary, without and with FIN. A continuation cannot come first."""


def find_request_error(head: RequestHead) -> Problem | None:
    """Return the problem of a request for an upgrade to WebSocket, or None if it is a valid handshake."""
    options = nominated(head.connection or b"")
    if head.method != b"GET" or not head.http_1_1:
        return _invalid("must be a GET in HTTP/1.1")
    if head.length or head.has_content_length:
        return _invalid("must have neither Content-Length nor Transfer-Encoding")
    if head.expects_continue:
        # The upstream's 101 would tell the caller nothing about its expectation (RFC 9110 10.1.1).
        return Problem("request_invalid", "a WebSocket handshake must not have Expect: 100-continue", status=417)
    if b"upgrade" not in options:
        return _invalid("must list Upgrade in Connection")
    if any(name.startswith(b"sec-websocket-") for name in options):
        # Sidekey drops the headers that Connection lists.
        return _invalid("must list no header of the handshake but Upgrade in Connection")
    if line_values(head.fields, b"sec-websocket-version") != [b"13"]:
        # RFC 6455 4.4
        return _invalid("must have one Sec-WebSocket-Version, which must be 13", ("Sec-WebSocket-Version", "13"))
    keys = line_values(head.fields, b"sec-websocket-key")
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        return _invalid("must have one Sec-WebSocket-Key, which must be 16 bytes in base64")
    return None


def _invalid(rule: str, *headers: tuple[str, str]) -> Problem:
    return Problem("request_invalid", f"a WebSocket handshake {rule}", headers=headers)


def find_response_error(request: RequestHead, response: ResponseHead) -> Problem | None:
    """Return the problem of a 101 response, or None if it completes the handshake of this request."""
    if request.control_header(Role.WEBSOCKET_KEY) is None:
        return _mismatch("the upstream switched protocols without a request for it")
    if [protocol.lower() for protocol in line_values(response.fields, b"upgrade")] != [b"websocket"]:
        return _mismatch("the upstream's 101 response must have one Upgrade, which must be websocket")
    if b"upgrade" not in tokens(response.connection or b""):
        return _mismatch("the upstream's 101 response must list Upgrade in Connection")
    (key,) = line_values(request.fields, b"sec-websocket-key")
    if line_values(response.fields, b"sec-websocket-accept") != [_accept(key)]:
        return _mismatch(
            "the upstream's 101 response must have one Sec-WebSocket-Accept, which must match the key that was sent"
        )
    return None


def _mismatch(detail: str) -> Problem:
    return Problem("upstream_protocol_error", detail, sent="maybe")


def response_lines(request: RequestHead) -> bytes:
    """Return the lines of a 101 response to the caller's own key, each after the preceding CRLF."""
    key = request.control_header(Role.WEBSOCKET_KEY) or b""
    return b"\r\nSec-WebSocket-Accept: " + _accept(key) + WEBSOCKET_LINES


def _accept(key: bytes) -> bytes:
    return b64encode(sha1(key + _GUID, usedforsecurity=False).digest())


def may_begin_stream(start: bytes) -> bool:
    """Return True if these two bytes of a caller may begin its first frame (RFC 6455 5.2, 5.5).

    The frame must be masked and its opcode known. A control frame must not be a fragment. RSV1 may mark a compressed
    message (RFC 7692 6), and no registered extension uses RSV2 or RSV3.
    """
    return bool(start[1] & _MASK) and (start[0] in _CONTROL_STARTS or start[0] & ~_RSV1 in _MESSAGE_STARTS)
