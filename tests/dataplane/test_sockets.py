"""What is done to a socket behind its transport's back."""

from __future__ import annotations

import asyncio
import socket

import pytest

from sidekey.dataplane.sockets import half_close, has_arrived, reset


def test_what_has_arrived_is_seen_before_it_is_read() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert not has_arrived(one.fileno())
        other.send(b"x")
        assert has_arrived(one.fileno())


def test_a_half_close_leaves_the_other_direction_open() -> None:
    one, other = socket.socketpair()
    with one, other:
        half_close(one.fileno())
        assert other.recv(1) == b""
        other.send(b"x")
        assert one.recv(1) == b"x"


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
