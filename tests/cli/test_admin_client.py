"""GET requests of commands to a running Sidekey, with limits of size and time."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from sidekey.cli.admin_client import NoResponse, get
from sidekey.snapshot.snapshot import Address
from support.ports import listening_socket
from support.private_ca import Authority
from support.raw_connection import DEADLINE
from support.single_response import respond_once


def address_of(listener: socket.socket) -> Address:
    return Address(port=listener.getsockname()[1])


def test_chunked_body_is_read_completely() -> None:
    listener = listening_socket()
    response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"
    with respond_once(listener, response):
        assert get(address_of(listener), "/metrics", tls=False, timeout=DEADLINE) == (200, b"abcdefg")


def test_body_over_the_limit_is_not_read() -> None:
    listener = listening_socket()
    response = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nmore than 10"
    with respond_once(listener, response), pytest.raises(NoResponse, match="no response from 127"):
        get(address_of(listener), "/metrics", tls=False, timeout=DEADLINE, max_size=10)


@pytest.mark.parametrize("length", ["9" * 30, str((1 << 63) - 1), str(1 << 40)])
@pytest.mark.parametrize("chunked", [False, True])
def test_memory_is_not_allocated_for_a_declared_length(length: str, chunked: bool) -> None:
    """The server may declare any Content-Length."""
    listener = listening_socket()
    framing = (
        f"Transfer-Encoding: chunked\r\n\r\n{int(length):x}\r\nab" if chunked else f"Content-Length: {length}\r\n\r\nab"
    )
    with respond_once(listener, f"HTTP/1.1 200 OK\r\n{framing}".encode()), pytest.raises(NoResponse):
        get(address_of(listener), "/metrics", tls=False, timeout=DEADLINE)


@pytest.mark.parametrize(
    ("first", "more", "tls"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", False),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x", False),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", False),
        (b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc", b"x", True),
    ],
    ids=["body", "chunks", "head", "interim responses", "handshake"],
)
def test_slow_response_times_out(first: bytes, more: bytes, tls: bool) -> None:
    """Each byte arrives before the timeout of the socket."""
    listener = listening_socket()
    stop = threading.Event()

    def trickle() -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.sendall(first)
            while not stop.wait(0.02):
                connection.sendall(more)

    thread = threading.Thread(target=trickle, daemon=True)
    thread.start()
    with listener, pytest.raises(NoResponse):
        get(address_of(listener), "/metrics", tls=tls, timeout=0.2, max_size=1 << 30)
    stop.set()
    thread.join(timeout=DEADLINE)


def test_listener_with_tls_is_requested_over_tls(tmp_path: Path) -> None:
    """The client does not check the names in the certificate."""
    listener = Authority(tmp_path).server_context("elsewhere.test").wrap_socket(listening_socket(), server_side=True)
    with respond_once(listener, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"):
        assert get(address_of(listener), "/readyz", tls=True, timeout=DEADLINE) == (200, b"ok")
