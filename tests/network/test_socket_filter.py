"""Kernel filters: dropped and received packets."""

from __future__ import annotations

import errno
import select
import socket
import sys
from collections.abc import Iterator

import pytest

from sidekey.network.listen import accept_pending
from sidekey.network.socket_filter import refuse_everything, refuse_new, refuse_payload, remove_filter
from support.raw_connection import DEADLINE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="socket filters are Linux's")

FAMILIES = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


@pytest.fixture(params=FAMILIES, ids=["IPv4", "IPv6"])
def server(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """Yield a listening socket that does not block."""
    with socket.create_server((FAMILIES[request.param], 0), family=request.param) as listening:
        listening.setblocking(False)
        yield listening


def where(server: socket.socket) -> tuple[str, int]:
    """Return the address of a server."""
    host, port = server.getsockname()[:2]
    return host, port


def readable(sock: socket.socket, *, within: float) -> bool:
    """Return True if bytes arrive within this many seconds."""
    return bool(select.select([sock], [], [], within)[0])


@pytest.mark.parametrize("refuse", [refuse_new, refuse_everything])
def test_new_connections_are_dropped(server: socket.socket, refuse: type[refuse_new]) -> None:
    """The socket still accepts earlier ones, and receives their bytes."""
    with socket.create_connection(where(server)) as early:
        refuse(server)
        with socket.socket(server.family) as late:
            late.setblocking(False)
            assert late.connect_ex(where(server)) == errno.EINPROGRESS
            (accepted,) = accept_pending(server)
            with accepted:
                early.sendall(b"early")
                accepted.settimeout(DEADLINE)
                assert accepted.recv(16) == b"early"
            assert accept_pending(server) == []


@pytest.mark.parametrize(("refuse", "ends"), [(refuse_new, True), (refuse_everything, False)])
def test_pending_handshake_completes(server: socket.socket, refuse: type[refuse_new], *, ends: bool) -> None:
    """If only new connections are dropped. The kernel repeats its reply after a second."""
    with socket.socket(server.family) as caller:
        caller.setblocking(False)
        refuse_everything(caller)
        assert caller.connect_ex(where(server)) == errno.EINPROGRESS
        refuse(server)
        remove_filter(caller)
        assert readable(server, within=10 if ends else 1.5) is ends


def test_close_passes_a_payload_filter(server: socket.socket) -> None:
    """A byte is received only after the filter is removed."""
    with socket.create_connection(where(server)) as peer:
        assert readable(server, within=10)
        (ours,) = accept_pending(server)
        with ours:
            refuse_payload(ours)
            peer.sendall(b"x")
            assert not readable(ours, within=0.05)
            ours.sendall(b"to the peer")
            assert peer.recv(16) == b"to the peer"
            remove_filter(ours)
            ours.settimeout(DEADLINE)
            assert ours.recv(16) == b"x"
            refuse_payload(ours)
            peer.shutdown(socket.SHUT_WR)
            assert readable(ours, within=10)
            assert ours.recv(16) == b""


def test_unix_socket_gets_no_filter() -> None:
    one, other = socket.socketpair()
    with one, other:
        refuse_everything(one)
        other.sendall(b"x")
        assert one.recv(16) == b"x"
        remove_filter(one)
