"""HTTP client for the admin or metrics listener of a running Sidekey."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from typing import Final, NamedTuple

from sidekey.snapshot.snapshot import Address

_CHUNK: Final = 1 << 16
"""Maximum bytes for each read. Without it, `http.client` would allocate the Content-Length that the server sends."""


class NoResponse(Exception):
    """No valid response. The message names the address."""


class Response(NamedTuple):
    """An HTTP response."""

    status: int
    body: bytes


def get(listener: Address, path: str, *, tls: bool, timeout: float, max_size: int = 4096) -> Response:
    """GET a path of a listener.

    Raises NoResponse if the body is larger than `max_size` bytes or takes longer than `timeout` seconds.
    """
    address = listener.reachable()
    connection = HTTPConnection("localhost", timeout=timeout)
    body = bytearray()
    try:
        with _connect(address, tls=tls, timeout=timeout) as sock, _shut_down_after(timeout, sock) as timed_out:
            if isinstance(sock, ssl.SSLSocket):
                sock.do_handshake()
            connection.sock = sock
            connection.request("GET", path)
            response = connection.getresponse()
            while chunk := response.read1(_CHUNK):
                body += chunk
                if len(body) > max_size:
                    raise TimeoutError
            if response.length or timed_out.is_set():
                raise ConnectionError
    except (OSError, HTTPException, ValueError):
        raise NoResponse(f"no response from {address}: Sidekey is not running there, or it is stuck") from None
    return Response(response.status, bytes(body))


@contextmanager
def _shut_down_after(timeout: float, sock: socket.socket) -> Iterator[threading.Event]:
    """Shut the socket down after `timeout` seconds in total. A socket time-out restarts with every byte."""
    timed_out = threading.Event()

    def shut_down() -> None:
        timed_out.set()
        with suppress(OSError):
            # `SSLSocket.shutdown` would drop the TLS object that the main thread reads from.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)

    timer = threading.Timer(timeout, shut_down)
    timer.start()
    try:
        yield timed_out
    finally:
        timer.cancel()
        timer.join()


def _connect(address: Address, *, tls: bool, timeout: float) -> socket.socket:
    sock = _connect_plain(address, timeout)
    if not tls:
        return sock
    # The certificate need not be verified: commands send no secret, and decide nothing by the response.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(sock, do_handshake_on_connect=False)


def _connect_plain(address: Address, timeout: float) -> socket.socket:
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
