"""TLS servers for tests: Python's over blocking sockets, OpenSSL's, and a handshake in memory."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from support import programs
from support.private_ca import Authority
from support.raw_connection import DEADLINE

Script = Callable[[ssl.SSLSocket], None]


class ScriptedTlsServer:
    """`with ScriptedTlsServer(context, script) as peer`: runs the script on each of `connections`, one after the other.

    The socket blocks, so that everything that OpenSSL writes is sent, alerts included. `errors` has errors of scripts.
    """

    def __init__(self, context: ssl.SSLContext, script: Script, connections: int = 1) -> None:
        self._context = context
        self._script = script
        self._connections = connections
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.port: int = self._listener.getsockname()[1]
        self.errors: list[OSError] = []

    def _serve(self) -> None:
        for _ in range(self._connections):
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return  # the test has ended
            accepted.settimeout(DEADLINE)
            with accepted:
                try:
                    with self._context.wrap_socket(accepted, server_side=True) as tls:
                        self._script(tls)
                except OSError as error:
                    self.errors.append(error)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listener.close()

    async def served(self) -> None:
        """Wait until every script has ended."""
        await asyncio.to_thread(self._thread.join, DEADLINE)
        assert not self._thread.is_alive()


class OpensslServer:
    """A running `openssl s_server`. Lines go to the client. A single letter at the start of a line is a command."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process = process
        self._shown = b""
        self.port = port

    def type(self, line: str) -> None:
        """Enter a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    async def until_shown(self, text: bytes) -> None:
        """Wait for a text, such as the client's. Some of it appears only after the server has ended (`Q`)."""
        out = self._process.stdout
        assert out is not None
        async with asyncio.timeout(DEADLINE):
            while text not in self._shown:
                line = await asyncio.to_thread(out.readline)
                assert line, self._shown
                self._shown += line


@contextmanager
def s_server(ca: Authority, *options: str) -> Iterator[OpensslServer]:
    """Run OpenSSL's test server for up.test on a free port of 127.0.0.1."""
    leaf = ca.leaf("up.test")
    command = [programs.require("openssl"), "s_server", "-accept", "127.0.0.1:0", *options]
    command += ["-cert", str(leaf.certificate), "-key", str(leaf.key)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as server:
        assert server.stdout is not None
        try:
            for line in server.stdout:
                listening = re.match(rb"ACCEPT 127\.0\.0\.1:(\d+)", line)
                if listening:
                    yield OpensslServer(server, int(listening[1]))
                    return
            raise AssertionError("openssl s_server does not listen")
        finally:
            server.kill()


def handshake(
    client: ssl.SSLContext,
    server: ssl.SSLContext,
    session: ssl.SSLSession | None = None,
    name: str = "up.test",
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Complete a handshake in memory, read a byte from the server, and return both ends.

    Before that byte, TLS 1.3 sends its tickets. Raises ssl.SSLError if the client refuses the server, or the server the
    name.
    """
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=name, session=session)
    server_side = server.wrap_bio(to_server, to_client, server_side=True)
    for end in (ours, server_side) * 3:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    server_side.write(b"x")
    assert ours.read(1) == b"x"
    return ours, server_side
