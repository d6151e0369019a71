"""What a running Sidekey says to a command, by its admin or its metrics listener."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from typing import Final, NamedTuple

from sidekey.snapshot.snapshot import Address

_PIECE: Final = 1 << 16
"""Bytes that are read at once. Without it there would be room for as much as the other side says that it sends."""


class NoResponse(Exception):
    """Nobody responds there as Sidekey does; the message says where."""


class Response(NamedTuple):
    """A status, and the body."""

    status: int
    body: bytes


def get(where: Address, path: str, *, tls: bool, timeout: float, most: int = 4096) -> Response:
    """GET a path of a listener; a body of `most` bytes that comes within `timeout` seconds. Raises NoResponse."""
    address = where.reachable()
    connection = HTTPConnection("localhost", timeout=timeout)
    body = bytearray()
    try:
        with _connect(address, tls=tls, timeout=timeout) as sock, _ended_after(timeout, sock) as ended:
            if isinstance(sock, ssl.SSLSocket):
                sock.do_handshake()
            connection.sock = sock
            connection.request("GET", path)
            response = connection.getresponse()
            while piece := response.read1(_PIECE):
                body += piece
                if len(body) > most:
                    raise TimeoutError
            if response.length or ended.is_set():
                raise ConnectionError
    except (OSError, HTTPException, ValueError):
        raise NoResponse(f"no response from {address}: Sidekey is not running there, or it is stuck") from None
    return Response(response.status, bytes(body))


@contextmanager
def _ended_after(timeout: float, sock: socket.socket) -> Iterator[threading.Event]:
    """End the connection after so many seconds, which is told: a time-out of a socket begins again with each byte."""
    ended = threading.Event()

    def end() -> None:
        ended.set()
        with suppress(OSError):
            # Not TLS's own, which would take the object from under whoever reads.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)

    timer = threading.Timer(timeout, end)
    timer.start()
    try:
        yield ended
    finally:
        timer.cancel()
        timer.join()


def _connect(address: Address, *, tls: bool, timeout: float) -> socket.socket:
    sock = _connected(address, timeout)
    if not tls:
        return sock
    # Nothing is told to whoever responds, and nothing is decided by what it says: whom the certificate is for does not
    # matter.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(sock, do_handshake_on_connect=False)


def _connected(address: Address, timeout: float) -> socket.socket:
    if address.path is None:
        return socket.create_connection((address.host, address.port), timeout=timeout)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout)
    try:
        sock.connect(address.path)
    except OSError:
        sock.close()
        raise
    return sock
