"""HTTP/1.1 for the upstreams and callers of the benchmarks: heads with Content-Length, nothing else."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.processes import MeasureFailed


@dataclass(frozen=True, slots=True)
class Head:
    """A request or a response up to its empty line. Field names are lower case."""

    start: tuple[str, str, str]
    fields: tuple[tuple[str, str], ...]

    @property
    def length(self) -> int:
        """Bytes of the body. Raises MeasureFailed if the body is framed in another way."""
        values = self.values("content-length")
        if len(values) > 1 or self.values("transfer-encoding"):
            raise MeasureFailed("a body came without Content-Length")
        return int(values[0]) if values else 0

    def values(self, name: str) -> list[str]:
        """Return the values of all fields of this name."""
        return [value for field, value in self.fields if field == name]


def parse_head(raw: bytes) -> Head:
    """Parse a head. `raw` ends before the empty line."""
    first, *lines = raw.decode("latin-1").split("\r\n")
    one, two, three = [*first.split(" ", 2), "", ""][:3]
    pairs = (line.partition(":") for line in lines)
    return Head((one, two, three), tuple((name.lower(), value.strip()) for name, _, value in pairs))


def request(
    method: str, path: str, body: bytes = b"", length: int | None = None, *, fields: Mapping[str, str] | None = None
) -> bytes:
    """Build a request with further header fields. `length` announces a body that is sent later."""
    size = len(body) if length is None else length
    lines = (f"{name}: {value}\r\n" for name, value in (fields or {}).items())
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {size}\r\n{''.join(lines)}\r\n"
    return head.encode() + body


def response(
    body: bytes = b"", length: int | None = None, *, status: str = "200 OK", media_type: str = "text/plain"
) -> bytes:
    """Build a response. `length` announces a body that is sent later."""
    size = len(body) if length is None else length
    head = f"HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {size}\r\n\r\n"
    return head.encode() + body


def echo(head: Head) -> bytes:
    """Build the response to the check: every value of Authorization."""
    return response(", ".join(head.values("authorization")).encode("latin-1"))


def receive_head(connection: socket.socket) -> tuple[Head, bytes]:
    """Receive the next head, and the start of its body. Raises MeasureFailed if the connection ends first."""
    raw = b""
    while b"\r\n\r\n" not in raw:
        piece = connection.recv(65536)
        if not piece:
            raise MeasureFailed(f"the connection ended within a head, after {len(raw)} bytes")
        raw += piece
    head, _, rest = raw.partition(b"\r\n\r\n")
    return parse_head(head), rest


def expect_success(head: Head) -> None:
    """Raise MeasureFailed unless the response is a 200."""
    if head.start[1] != "200":
        raise MeasureFailed(f"responded {' '.join(head.start[1:])}")


Write = Callable[[bytes], None]


class Requests(asyncio.Protocol):
    """Reads requests of one connection in order. Calls `handle` with each request and a way to write back."""

    def __init__(self, handle: Callable[[Head, bytes, Write], None]) -> None:
        self._handle = handle
        self._received = b""
        self._lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport, which `handle` writes to."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake `end`."""
        del exc
        self._lost.set()

    async def end(self) -> None:
        """Close the connection at once, and return when it is closed."""
        self._transport.abort()
        await self._lost.wait()

    def data_received(self, data: bytes) -> None:
        """Handle a request once it is complete."""
        self._received += data
        raw, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        head = parse_head(raw)
        if len(body) < head.length:
            return
        self._received = b""
        self._handle(head, body, self._transport.write)
