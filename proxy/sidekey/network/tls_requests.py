"""Noticing that a server asked for a client certificate, for `sidekey test`: the ssl module does not tell."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

_CERTIFICATE_REQUEST = 13
"""The handshake message by which a server asks (RFC 8446 4.3.2, RFC 5246 7.4.4)."""


def note_requests(context: ssl.SSLContext, note: Callable[[str], None]) -> None:
    """Have `note` told the name of each server that asks a connection of this context for a certificate.

    By the hook that CPython keeps for debugging; where it is gone, nothing is noted. It costs a call for each TLS
    message, so that no context of a serving process has one.
    """

    def heard(connection: Any, direction: str, _version: Any, _content: Any, message: Any, _data: bytes) -> None:
        if direction == "read" and message == _CERTIFICATE_REQUEST:
            note(connection.server_hostname or "")

    if hasattr(context, "_msg_callback"):
        context._msg_callback = heard
