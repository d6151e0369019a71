"""The messages of a WebSocket handshake (RFC 6455 1.3), with the key of the RFC's example."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sidekey.snapshot.snapshot import Integration
from support.plane import integration

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The value of Sec-WebSocket-Accept for `KEY`, as the RFC prints it."""

HANDSHAKE = ("Connection: Upgrade", "Upgrade: websocket", f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 13")
"""Headers of a handshake, besides the Host."""

SWITCHING = ("Connection: Upgrade", "Upgrade: websocket", f"Sec-WebSocket-Accept: {ACCEPT}")
"""Headers of the response."""


def switching(*fields: str) -> bytes:
    """Build a 101 response with `SWITCHING` and these fields."""
    return "\r\n".join(("HTTP/1.1 101 Switching Protocols", *SWITCHING, *fields, "", "")).encode("latin-1")


def websocket_integration(name: str, *prefixes: str, **settings: Any) -> Integration:
    """Build an integration that allows the upgrade; see `support.plane.integration`."""
    return replace(integration(name, *prefixes, **settings), websocket=True)
