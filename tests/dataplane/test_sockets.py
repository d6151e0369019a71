"""What the data plane asks of a socket beside its transport."""

from __future__ import annotations

import asyncio
import socket

import pytest

from sidekey.dataplane.sockets import descriptor_of, half_close, has_arrived, is_quiet, reset


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
            assert is_quiet(Over(one))
            other.sendall(b"x")
            assert not is_quiet(Over(one))
        assert descriptor_of(Over(one)) == -1
        assert is_quiet(Over(one))
    for nothing in (None, Over(None)):
        assert descriptor_of(nothing) == -1
        assert is_quiet(nothing)


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
            peer.settimeout(10)
            with pytest.raises(ConnectionResetError):
                peer.recv(1)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
