"""A server that answers one connection, in a thread."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from support.raw_connection import DEADLINE


@contextmanager
def answering_once(listener: socket.socket, answer: bytes) -> Iterator[list[bytes]]:
    """Answer the first request of one connection with these bytes, and close it; yields what it sent."""
    received: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            data = b""
            while not data.endswith(b"\r\n\r\n") and (piece := connection.recv(4096)):
                data += piece
            received.append(data)
            connection.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with listener:
        yield received
        thread.join(timeout=DEADLINE)
