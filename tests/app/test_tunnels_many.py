"""Thousands of tunnels, opened and closed, leak neither file descriptors nor memory."""

from __future__ import annotations

import re
import socket
import ssl
from contextlib import ExitStack
from pathlib import Path

from support.http_get import get, wait_until
from support.raw_connection import DEADLINE
from support.scraping import value_of
from support.sidekey_process import SidekeyProcess
from support.tunnels import connect_request

HOST = "up.test"
CONFIG = f"""\
ca: {{folder: state}}
log: {{access: off}}
integrations:
  it: {{endpoint_prefix: 'https://{HOST}/api', auth: {{type: basic, username: u, password: {{insecure_value: p}}}}}}
"""
CONNECT = connect_request(f"{HOST}:443", user="it:x")
# The request is denied, so that it needs no upstream. The tunnel ends with the response.
REQUEST = f"GET /other HTTP/1.1\r\nHost: {HOST}:443\r\nConnection: close\r\n\r\n".encode()
GRANTED = re.compile(rb"HTTP/1\.1 200 Connection established\r\nSidekey-Request-Id: [0-9a-f]{8}-[0-9a-f]+\r\n\r\n")
DENIED = b"HTTP/1.1 403 Forbidden\r\n"
AT_A_TIME = 100
FEW, MANY = 1_000, 4_000
OVER_TLS = 10
"""One of this many tunnels uses TLS, because a handshake costs as much as ten plain tunnels."""
MAX_GROWTH = 100 * (MANY - FEW)
"""Bytes that the allocator may keep. A leak of the smallest object for each tunnel would be twice as much."""


class Callers:
    """Callers that open tunnels for one request each, and resume the previous TLS session."""

    def __init__(self, port: int, trusted: Path) -> None:
        self._port = port
        self._context = ssl.create_default_context(cafile=str(trusted))
        self._session: ssl.SSLSession | None = None
        self.resumed = 0

    def open(self, count: int) -> None:
        """Open this many tunnels, and wait until they end."""
        for _ in range(count // AT_A_TIME):
            with ExitStack() as stack:
                opened = [
                    stack.enter_context(socket.create_connection(("127.0.0.1", self._port), DEADLINE))
                    for _ in range(AT_A_TIME)
                ]
                for number, connection in enumerate(opened):
                    # undici sends both in one segment.
                    connection.sendall(CONNECT if number % OVER_TLS == 0 else CONNECT + REQUEST)
                for number, connection in enumerate(opened):
                    if number % OVER_TLS:
                        data = received(connection)
                        granted = GRANTED.match(data)
                        assert granted is not None
                        assert data.startswith(DENIED, granted.end())
                    else:
                        self._send_over_tls(connection)

    def _send_over_tls(self, connection: socket.socket) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(4096)
        assert GRANTED.fullmatch(head)
        with self._context.wrap_socket(connection, server_hostname=HOST, session=self._session) as inside:
            inside.sendall(REQUEST)
            assert received(inside).startswith(DENIED)
            self.resumed += bool(inside.session_reused)
            self._session = inside.session


def received(connection: socket.socket) -> bytes:
    """Read until the other end closes, over TLS until close_notify."""
    data = b""
    while piece := connection.recv(65536):
        data += piece
    return data


def metric(port: int, name: str) -> float:
    """Return the value of a series with these labels."""
    return value_of(get(port, "/metrics").body, name)


def test_thousands_of_tunnels_leak_nothing(tmp_path: Path) -> None:
    """Memory stops growing once allocator and caches are warm."""
    with SidekeyProcess(CONFIG, tmp_path) as child:
        admin = child.admin_port
        callers = Callers(child.proxy_port, tmp_path / "state" / "trust" / "ca.pem")
        callers.open(FEW)
        assert callers.resumed == FEW // OVER_TLS - 1
        descriptors, memory = metric(admin, "process_open_fds"), metric(admin, "process_resident_memory_bytes")
        callers.open(MANY - FEW)
        assert metric(admin, 'sidekey_tunnels_total{integration="it",outcome="opened"}') == MANY
        wait_until(lambda: metric(admin, "process_open_fds") <= descriptors)
        grown = metric(admin, "process_resident_memory_bytes") - memory
        assert grown < MAX_GROWTH
        assert (
            metric(admin, 'sidekey_open_tunnels{mode="terminated"}')
            == metric(admin, 'sidekey_open_tunnels{mode="plain"}')
            == 0
        )
