"""Large bodies: an upstream that sends and receives at the kernel's speed, and fast and slow callers."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from benchmarks import wire
from benchmarks.probe import CHECK
from benchmarks.processes import MeasureFailed
from benchmarks.upstream import Upstream

_PIECE = 1 << 20
_NOWHERE = bytearray(_PIECE)
_SECONDS = 60.0
_POLL_SECONDS = 0.05
_SLOW_PIECE = 64 << 10
_SLOW_PAUSE = 0.0125
"""Seconds between two pieces of a slow reader: 5 MB/s."""


class BulkUpstream:
    """Responds to `GET .../{bytes}` with this many bytes, and to other requests after their complete body."""

    def __init__(self, folder: Path) -> None:
        self.zeros = folder / "zeros"
        # A sparse file: its pages take no space on the disk.
        with self.zeros.open("wb") as file:
            file.truncate(1 << 30)
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.zeros = self.zeros
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_POLL_SECONDS,), daemon=True)
        self.upstream = Upstream(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    zeros: Path


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        connection: socket.socket = self.request
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while True:
                self._respond(connection)
        except (MeasureFailed, OSError):
            return  # the proxy closed its connection; its caller sees what that cut short

    def _respond(self, connection: socket.socket) -> None:
        head, begun = wire.receive_head(connection)
        discard(connection, head.length - len(begun))
        method, path, _ = head.start
        if path.endswith(f"/{CHECK}"):
            connection.sendall(wire.echo(head))
        elif method == "GET":
            size = int(path.rpartition("/")[2])
            connection.sendall(wire.response(length=size))
            send_zeros(connection, cast("_Server", self.server).zeros, size)
        else:
            connection.sendall(wire.response(b"received"))


def send_zeros(connection: socket.socket, zeros: Path, size: int) -> None:
    """Send the first `size` bytes of the file, without a copy in this process."""
    with zeros.open("rb") as file:
        connection.sendfile(file, count=size)


def discard(connection: socket.socket, size: int) -> None:
    """Receive this many bytes, which the kernel drops (MSG_TRUNC, tcp(7)). Raises MeasureFailed if fewer come."""
    remaining = size
    while remaining > 0:
        received = connection.recv_into(_NOWHERE, min(_PIECE, remaining), socket.MSG_TRUNC)
        if not received:
            raise MeasureFailed(f"a body of {size} bytes ended {remaining} bytes early")
        remaining -= received


def download(port: int, path: str, size: int) -> float:
    """Return the seconds of a response of `size` bytes. Raises MeasureFailed."""
    began = time.perf_counter()
    with _connect(port) as connection:
        connection.sendall(wire.request("GET", f"{path}/{size}"))
        discard(connection, _body_left(connection, size))
    return time.perf_counter() - began


def upload(port: int, path: str, size: int, zeros: Path) -> float:
    """Return the seconds of a request body of `size` bytes and its response. Raises MeasureFailed."""
    began = time.perf_counter()
    with _connect(port) as connection:
        connection.sendall(wire.request("POST", path, length=size))
        send_zeros(connection, zeros, size)
        head, _ = wire.receive_head(connection)
        wire.expect_success(head)
    return time.perf_counter() - began


def read_slowly(port: int, path: str, size: int, readers: int) -> None:
    """Read `readers` parallel responses of `size` bytes, in small pieces with pauses. Raises MeasureFailed."""
    with ExitStack() as stack:
        remaining: dict[socket.socket, int] = {}
        for _ in range(readers):
            connection = stack.enter_context(_connect(port, receive_buffer=_SLOW_PIECE))
            connection.sendall(wire.request("GET", f"{path}/{size}"))
            remaining[connection] = _body_left(connection, size)
        while remaining:
            time.sleep(_SLOW_PAUSE)
            for connection in list(remaining):
                _read_piece(connection, remaining)


def _read_piece(connection: socket.socket, remaining: dict[socket.socket, int]) -> None:
    """Read one piece. Remove a reader from `left` when it has everything."""
    try:
        received = connection.recv_into(
            _NOWHERE, min(_SLOW_PIECE, remaining[connection]), socket.MSG_TRUNC | socket.MSG_DONTWAIT
        )
    except BlockingIOError:
        return
    if not received:
        raise MeasureFailed(f"a slow reader's response ended {remaining[connection]} bytes early")
    remaining[connection] -= received
    if not remaining[connection]:
        del remaining[connection]


def _connect(port: int, receive_buffer: int | None = None) -> socket.socket:
    connection = socket.socket()
    connection.settimeout(_SECONDS)
    if receive_buffer is not None:
        # Before connecting, since the window is negotiated then (tcp(7)).
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.connect(("127.0.0.1", port))
    return connection


def _body_left(connection: socket.socket, size: int) -> int:
    head, begun = wire.receive_head(connection)
    wire.expect_success(head)
    if head.length != size:
        raise MeasureFailed(f"a response of {size} bytes was announced with {head.length}")
    return size - len(begun)
