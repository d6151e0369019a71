"""Operations on the socket of a transport."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from sidekey.proxy.transport import (
    block_input_if_empty,
    descriptor_of,
    discard_input,
    half_close,
    has_input,
    has_no_input,
    reset,
)
from support.raw_connection import DEADLINE


@pytest.mark.parametrize("what", ["bytes", "an end of stream"])
def test_unread_bytes_are_seen_without_reading_them(what: str) -> None:
    one, other = socket.socketpair()
    with one, other:
        assert not has_input(one.fileno())
        if what == "bytes":
            other.sendall(b"x")
        else:
            other.shutdown(socket.SHUT_WR)
        assert has_input(one.fileno())
        assert has_input(one.fileno())
        assert one.recv(16) == (b"x" if what == "bytes" else b"")


class SocketTransport(asyncio.Transport):
    """A transport with this socket, or none."""

    def __init__(self, sock: socket.socket | None) -> None:
        super().__init__({"socket": sock})


def test_transport_is_quiet_until_bytes_arrive() -> None:
    """And without a socket."""
    one, other = socket.socketpair()
    with other:
        with one:
            assert descriptor_of(SocketTransport(one)) == one.fileno()
            assert has_no_input(SocketTransport(one))
            other.sendall(b"x")
            assert not has_no_input(SocketTransport(one))
        assert descriptor_of(SocketTransport(one)) == -1
        assert has_no_input(SocketTransport(one))
        half_close(SocketTransport(one))
        discard_input(SocketTransport(one))
        assert block_input_if_empty(SocketTransport(one))
    for nothing in (None, SocketTransport(None)):
        assert descriptor_of(nothing) == -1
        assert has_no_input(nothing)


def test_fin_is_sent_at_once() -> None:
    """The socket stays open for reads."""
    one, other = socket.socketpair()
    with one, other:
        half_close(SocketTransport(one))
        assert other.recv(16) == b""
        other.sendall(b"x")
        assert one.recv(16) == b"x"


def test_lost_connection_is_reported() -> None:
    """The descriptor stays with its owner."""
    with socket.socket() as sock:
        with pytest.raises(OSError, match="not connected"):
            half_close(SocketTransport(sock))
        assert sock.getsockname()


@contextmanager
def pair(kind: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return both ends of a connection. The second has a time-out."""
    if kind == "unix":
        ours, peer = socket.socketpair()
    else:
        family, host = (socket.AF_INET6, "::1") if kind == "IPv6" else (socket.AF_INET, "127.0.0.1")
        with socket.create_server((host, 0), family=family) as listener:
            peer = socket.create_connection(listener.getsockname()[:2])
            ours, _ = listener.accept()
    peer.settimeout(DEADLINE)
    with ours, peer:
        yield ours, peer


every_kind = pytest.mark.parametrize("kind", ["IPv4", "IPv6", "unix"])


@every_kind
def test_a_quiet_socket_that_is_sealed_can_be_closed_without_a_reset(kind: str) -> None:
    """Later bytes do not count as received."""
    with pair(kind) as (ours, peer):
        peer.sendall(b"read")
        assert ours.recv(16) == b"read"
        assert block_input_if_empty(SocketTransport(ours))
        if kind == "unix":
            with pytest.raises(BrokenPipeError):
                peer.sendall(b"late")
        else:
            peer.sendall(b"late")
        ours.close()
        assert peer.recv(16) == b""


@every_kind
def test_bytes_between_check_and_seal_are_not_reset(kind: str) -> None:
    with pair(kind) as (ours, peer):

        def on_event(frame: FrameType, event: str, _: object) -> None:
            if event == "return" and frame.f_code.co_name == has_input.__name__:
                sys.setprofile(None)
                peer.sendall(b"late")

        sys.setprofile(on_event)
        try:
            assert block_input_if_empty(SocketTransport(ours))
        finally:
            sys.setprofile(None)
        ours.close()
        assert peer.recv(16) == b""


@every_kind
def test_socket_with_unread_bytes_stays_open(kind: str) -> None:
    with pair(kind) as (ours, peer):
        peer.sendall(b"early")
        assert not block_input_if_empty(SocketTransport(ours))
        assert ours.recv(16) == b"early"
        peer.sendall(b"more")
        ours.settimeout(DEADLINE)
        assert ours.recv(16) == b"more"


@every_kind
def test_a_socket_whose_rest_is_dropped_can_be_closed_without_a_reset(kind: str) -> None:
    """Even if the peer has sent a lot and keeps sending. Not over a Unix socket."""
    with pair(kind) as (ours, peer):
        ours.sendall(b"response")
        peer.sendall(b"x" * 100_000)
        discard_input(SocketTransport(ours))
        if kind != "unix":
            peer.sendall(b"late")
        assert ours.fileno() >= 0
        ours.close()
        assert peer.recv(16) == b"response"
        assert peer.recv(16) == b""


def test_dropping_the_rest_after_a_reset_is_no_error() -> None:
    """A later read finds the end."""
    with pair("IPv4") as (ours, peer):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        discard_input(SocketTransport(ours))
        assert ours.recv(1) == b""


@pytest.mark.parametrize("factory", [asyncio.SelectorEventLoop])
def test_reset_is_visible_to_the_peer(factory: type[asyncio.SelectorEventLoop]) -> None:
    """Even without unsent bytes."""

    async def main() -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as listener,
            socket.create_connection(listener.getsockname()) as peer,
        ):
            accepted, _ = listener.accept()
            transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=accepted)
            reset(transport)
            await asyncio.sleep(0)
            peer.settimeout(DEADLINE)
            with pytest.raises(ConnectionResetError):
                peer.recv(1)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
