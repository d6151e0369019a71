"""Loopback ports for programs that accept neither port 0 nor a socket."""

from __future__ import annotations

import os
import random
import socket

_BELOW_EPHEMERAL = range(10_240, 32_768)
"""Linux assigns ephemeral ports from 32768 up, so these are never assigned by chance."""

_choose = random.SystemRandom().choice
_used: set[int] = set()
# Workers of pytest-xdist use disjoint ports: a chosen port stays free until its program has started.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_SHARE = _BELOW_EPHEMERAL[_WORKER :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 without a listener, and never the same one twice in a process."""
    while True:
        port = _choose(_SHARE)
        if port not in _used and _can_listen(port):
            _used.add(port)
            return port


def listening_socket() -> socket.socket:
    """Return a socket that listens on a free port of 127.0.0.1, for a child. Connections queue from now on."""
    return socket.create_server(("127.0.0.1", 0))


def _can_listen(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
