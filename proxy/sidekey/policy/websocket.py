"""Check both messages of a WebSocket handshake (RFC 6455 4.2.1, 4.1). What follows the handshake is not HTTP."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha1
from typing import Final

from sidekey.errors import Problem
from sidekey.policy.headers import line_values, nominated, tokens
from sidekey.policy.messages import RequestHead, ResponseHead

SWITCHING_PROTOCOLS: Final = 101

NOT_ALLOWED: Final = Problem(
    "not_implemented",
    "Upgrade to WebSocket is not enabled for this integration: add `upgrade: [websocket]` to it",
)
NOT_PASSED: Final = Problem(
    "not_implemented", "Upgrade to WebSocket needs an integration: requests without a credential are not upgraded"
)

_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")
"""16 bytes in base64."""
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_MASK: Final = 0x80
_FIRST_OPCODES: Final = frozenset({1, 2, 8, 9, 10})
"""Text, binary, close, ping and pong. A continuation cannot come first."""


def find_request_error(head: RequestHead) -> Problem | None:
    """Return the problem of a request for an upgrade to WebSocket, or None if it is a valid handshake."""
    options = nominated(head.connection or b"")
    if head.method != b"GET" or not head.http_1_1:
        return _invalid("must be a GET in HTTP/1.1")
    if head.length or head.has_content_length:
        return _invalid("must have neither Content-Length nor Transfer-Encoding")
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


def find_response_error(request: RequestHead, response: ResponseHead) -> str:
    """Return the reason why a 101 response does not complete the handshake of this request, or an empty string."""
    if not request.is_websocket:
        return "the upstream switched protocols without a request for it"
    if [protocol.lower() for protocol in line_values(response.fields, b"upgrade")] != [b"websocket"]:
        return "the upstream's 101 response must have one Upgrade, which must be websocket"
    if b"upgrade" not in tokens(response.connection or b""):
        return "the upstream's 101 response must list Upgrade in Connection"
    (key,) = line_values(request.fields, b"sec-websocket-key")
    accepted = b64encode(sha1(key + _GUID, usedforsecurity=False).digest())
    if line_values(response.fields, b"sec-websocket-accept") != [accepted]:
        return "the upstream's 101 response must have one Sec-WebSocket-Accept, which must match the request's key"
    return ""


def may_begin_stream(start: bytes) -> bool:
    """Return True if these two bytes of a caller may begin its first frame (RFC 6455 5.2), and no HTTP request.

    An endpoint that relays the status and the headers of another server can send a valid 101 while its own server still
    speaks HTTP. Requests behind such a response would be subject to no policy.
    """
    return start[0] & 0x0F in _FIRST_OPCODES and bool(start[1] & _MASK)
