"""What the data plane asks of a socket beside its transport."""

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
    descriptor_of,
    discard_input,
    half_close,
    has_input,
    has_no_input,
    reset,
    seal_if_quiet,
)
from support.raw_connection import DEADLINE


@pytest.mark.parametrize("what", ["bytes", "an end of stream"])
def test_what_has_arrived_is_seen_without_reading_it(what: str) -> None:
    """It stays there for whoever reads."""
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


class Over(asyncio.Transport):
    """A transport over this socket, if it has one."""

    def __init__(self, sock: socket.socket | None) -> None:
        super().__init__({"socket": sock})


def test_a_transport_is_quiet_until_something_has_arrived() -> None:
    """And where there is no socket, or no more, nothing can."""
    one, other = socket.socketpair()
    with other:
        with one:
            assert descriptor_of(Over(one)) == one.fileno()
            assert has_no_input(Over(one))
            other.sendall(b"x")
            assert not has_no_input(Over(one))
        assert descriptor_of(Over(one)) == -1
        assert has_no_input(Over(one))
        half_close(Over(one))
        discard_input(Over(one))
        assert seal_if_quiet(Over(one))
    for nothing in (None, Over(None)):
        assert descriptor_of(nothing) == -1
        assert has_no_input(nothing)


def test_an_end_of_stream_goes_out_at_once() -> None:
    """The socket stays open, to be read."""
    one, other = socket.socketpair()
    with one, other:
        half_close(Over(one))
        assert other.recv(16) == b""
        other.sendall(b"x")
        assert one.recv(16) == b"x"


def test_what_is_no_connection_any_more_is_told() -> None:
    """As the kernel says it; the descriptor stays its owner's."""
    with socket.socket() as sock:
        with pytest.raises(OSError, match="not connected"):
            half_close(Over(sock))
        assert sock.getsockname()


@contextmanager
def pair(kind: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection; the second is the peer's, which does not wait for ever."""
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
    """What is sent from then on has not arrived."""
    with pair(kind) as (ours, peer):
        peer.sendall(b"read")
        assert ours.recv(16) == b"read"
        assert seal_if_quiet(Over(ours))
        if kind == "unix":
            with pytest.raises(BrokenPipeError):
                peer.sendall(b"late")
        else:
            peer.sendall(b"late")
        ours.close()
        assert peer.recv(16) == b""


@every_kind
def test_what_comes_between_the_look_and_the_seal_is_not_reset(kind: str) -> None:
    """Sent as the look returns."""
    with pair(kind) as (ours, peer):

        def on_event(frame: FrameType, event: str, _: object) -> None:
            if event == "return" and frame.f_code.co_name == has_input.__name__:
                sys.setprofile(None)
                peer.sendall(b"late")

        sys.setprofile(on_event)
        try:
            assert seal_if_quiet(Over(ours))
        finally:
            sys.setprofile(None)
        ours.close()
        assert peer.recv(16) == b""


@every_kind
def test_a_socket_on_which_something_has_arrived_stays_open(kind: str) -> None:
    """For that, and for all that follows."""
    with pair(kind) as (ours, peer):
        peer.sendall(b"early")
        assert not seal_if_quiet(Over(ours))
        assert ours.recv(16) == b"early"
        peer.sendall(b"more")
        ours.settimeout(DEADLINE)
        assert ours.recv(16) == b"more"


@every_kind
def test_a_socket_whose_rest_is_dropped_can_be_closed_without_a_reset(kind: str) -> None:
    """Also where the peer has not read all, had sent a lot and sends on; over a Unix socket it cannot."""
    with pair(kind) as (ours, peer):
        ours.sendall(b"response")
        peer.sendall(b"x" * 100_000)
        discard_input(Over(ours))
        if kind != "unix":
            peer.sendall(b"late")
        assert ours.fileno() >= 0
        ours.close()
        assert peer.recv(16) == b"response"
        assert peer.recv(16) == b""


def test_dropping_the_rest_of_what_was_reset_is_no_error() -> None:
    """The reset is dropped with it: a later read finds the end."""
    with pair("IPv4") as (ours, peer):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        discard_input(Over(ours))
        assert ours.recv(1) == b""


@pytest.mark.parametrize("factory", [asyncio.SelectorEventLoop])
def test_a_reset_tells_the_peer_that_something_was_cut(factory: type[asyncio.SelectorEventLoop]) -> None:
    """Not an orderly end, though nothing was left to write."""

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
