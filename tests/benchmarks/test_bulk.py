"""Callers of big bodies: a response that is not the requested one is a failure."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from benchmarks.bulk import download, read_slowly
from benchmarks.processes import MeasureFailed

Responding = Callable[[bytes], int]


@pytest.fixture
def responding() -> Iterator[Responding]:
    """Starts a server that sends these bytes to its one caller and closes; returns its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threads = []

        def serve(raw: bytes) -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(raw)

        def start(raw: bytes) -> int:
            thread = threading.Thread(target=serve, args=(raw,))
            thread.start()
            threads.append(thread)
            port: int = server.getsockname()[1]
            return port

        yield start
        for thread in threads:
            thread.join()


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123", "ended 6 bytes early", id="it is cut"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n12345678", "announced with 8", id="it is another"),
        pytest.param(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "responded 503 Busy", id="it is an error"),
        pytest.param(b"", "after 0 bytes", id="there is none"),
    ],
)
@pytest.mark.parametrize("slow", [False, True], ids=["fast", "slow"])
def test_a_response_that_is_not_whole_is_a_failure(responding: Responding, raw: bytes, reason: str, slow: bool) -> None:
    """A peer that loses bytes is not fast."""
    port = responding(raw)
    with pytest.raises(MeasureFailed, match=reason):
        if slow:
            read_slowly(port, "/api/bulk", 9, readers=1)
        else:
            download(port, "/api/bulk", 9)
