"""A server in a thread that responds to one connection."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from support.raw_connection import DEADLINE


@contextmanager
def respond_once(listener: socket.socket, response: bytes) -> Iterator[list[bytes]]:
    """Respond to the first request with these bytes, close the connection, and yield the request."""
    received: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            data = b""
            while not data.endswith(b"\r\n\r\n") and (piece := connection.recv(4096)):
                data += piece
            received.append(data)
            connection.sendall(response)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with listener:
        yield received
        thread.join(timeout=DEADLINE)
