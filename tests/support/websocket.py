"""The messages of a WebSocket handshake (RFC 6455 1.3), with the key of the RFC's example."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha1
from typing import Any

from sidekey.snapshot.snapshot import Integration
from support.plane import integration

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The value of Sec-WebSocket-Accept for `KEY`, as the RFC prints it."""

HANDSHAKE = ("Connection: Upgrade", "Upgrade: websocket", f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 13")
"""Headers of a handshake, besides the Host."""

SWITCHING = ("Connection: Upgrade", "Upgrade: websocket")
"""Headers of the response, besides Sec-WebSocket-Accept."""

_KEY_LINE = re.compile(rb"\r\nsec[-_]websocket[-_]key: *([^\r]+)", re.IGNORECASE)
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def last_key(received: bytes | bytearray) -> str:
    """Return the key of the last handshake that an upstream has received."""
    keys: list[bytes] = _KEY_LINE.findall(received)
    return keys[-1].decode()


def accept(key: str) -> str:
    """Return the value of Sec-WebSocket-Accept for a key."""
    return b64encode(sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()


def switching(received: bytes | bytearray, *fields: str) -> bytes:
    """Build the 101 response to the last handshake that an upstream has received, with these fields, too."""
    accepted = f"Sec-WebSocket-Accept: {accept(last_key(received))}"
    return "\r\n".join(("HTTP/1.1 101 Switching Protocols", *SWITCHING, accepted, *fields, "", "")).encode("latin-1")


def websocket_integration(name: str, *prefixes: str, **settings: Any) -> Integration:
    """Build an integration that allows the upgrade; see `support.plane.integration`."""
    return replace(integration(name, *prefixes, **settings), websocket=True)
