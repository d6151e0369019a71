"""What the data plane asks of a socket beside its transport."""

from __future__ import annotations

import socket

import pytest

from sidekey.dataplane.sockets import half_close, has_arrived


@pytest.mark.parametrize("what", ["bytes", "an end of stream"])
def test_what_has_arrived_is_seen_without_reading_it(what: str) -> None:
    """It stays there for whoever reads."""
    one, other = socket.socketpair()
    with one, other:
        assert not has_arrived(one.fileno())
        if what == "bytes":
            other.sendall(b"x")
        else:
            other.shutdown(socket.SHUT_WR)
        assert has_arrived(one.fileno())
        assert has_arrived(one.fileno())
        assert one.recv(16) == (b"x" if what == "bytes" else b"")


def test_an_end_of_stream_goes_out_at_once() -> None:
    """The socket stays open, to be read."""
    one, other = socket.socketpair()
    with one, other:
        half_close(one.fileno())
        assert other.recv(16) == b""
        other.sendall(b"x")
        assert one.recv(16) == b"x"


def test_what_is_no_connection_any_more_is_told() -> None:
    """As the kernel says it; the descriptor stays its owner's."""
    with socket.socket() as sock:
        with pytest.raises(OSError, match="not connected"):
            half_close(sock.fileno())
        assert sock.getsockname()
