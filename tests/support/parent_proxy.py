"""Parent proxies: a scripted one in the test's loop, and a real squid."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import socket
import ssl
import subprocess
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Final, Self

from support import programs
from support.ports import free_port
from support.private_ca import Leaf
from support.raw_connection import DEADLINE

ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"
USER: Final = ("sidekey", "proxy:pass word")
BASIC: Final = f"Basic {b64encode(':'.join(USER).encode()).decode()}"

Respond = Callable[[bytes, asyncio.StreamWriter], Awaitable[bool]]
"""Responds to a head, and returns True to tunnel."""


def own_address() -> str:
    """Return an IPv4 address of this machine that is not a loopback one, because Sidekey connects to these directly."""
    address = "127.0.0.1"
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # This sends nothing: the kernel only picks a source address.
        probe.connect(("192.0.2.1", 9))
        address = probe.getsockname()[0]
    if address.startswith("127."):
        programs.missing("network", "this machine has only loopback addresses")
    return address


async def establish(head: bytes, writer: asyncio.StreamWriter) -> bool:
    """Respond with 200."""
    del head
    writer.write(ESTABLISHED)
    return True


def answer(response: bytes) -> Respond:
    """Send these bytes and keep the connection open."""

    async def respond(head: bytes, writer: asyncio.StreamWriter) -> bool:
        del head
        writer.write(response)
        return False

    return respond


class ScriptedProxy:
    """`async with ScriptedProxy(port) as proxy`: connects every CONNECT to a port of 127.0.0.1, whatever it names.

    `heads` are the received heads, and `sent` the bytes that followed each of them.
    """

    def __init__(
        self, target: int = 0, respond: Respond = establish, *, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        self.heads: list[bytes] = []
        self.sent: list[bytes] = []
        self.port = 0
        self._target = target
        self._respond = respond
        self._ssl_context = ssl_context
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._ssl_context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                if await self._respond(self.heads[-1], writer):
                    await self._tunnel(reader, writer)
                else:
                    await reader.read()
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(self.sent)
        self.sent.append(b"")
        from_upstream, to_upstream = await asyncio.open_connection("127.0.0.1", self._target)

        async def forward() -> None:
            while data := await reader.read(1 << 16):
                self.sent[number] += data
                to_upstream.write(data)
                await to_upstream.drain()
            to_upstream.close()

        forwarding = asyncio.create_task(forward())
        try:
            while data := await from_upstream.read(1 << 16):
                writer.write(data)
                await writer.drain()
            writer.close()
        finally:
            forwarding.cancel()
            to_upstream.transport.abort()


_SQUID: Final = """
pid_filename none
cache deny all
shutdown_lifetime 0 seconds
visible_hostname squid.test
cache_effective_user proxy
access_log stdio:{folder}/access.log
cache_log {folder}/cache.log
coredump_dir {folder}
hosts_file {folder}/hosts
connect_timeout 60 seconds
{auth}
acl SSL_ports port 443 {ports}
http_access deny CONNECT !SSL_ports
{rules}
http_access allow all
{listen}
"""
_AUTH: Final = """
auth_param basic program {program} {folder}/passwords
auth_param basic realm squid.test
acl users proxy_auth REQUIRED
http_access deny !users
"""


class Squid:
    """`with Squid(...) as squid`: a forward proxy on `port` of 127.0.0.1, with TLS if there is a `leaf`.

    CONNECT is allowed to `ports`. `hosts` maps names to addresses. With `user` it requires a password. `rules` are
    further lines of its config.
    """

    def __init__(
        self,
        *ports: int,
        hosts: dict[str, str] | None = None,
        user: tuple[str, str] | None = None,
        leaf: Leaf | None = None,
        rules: str = "",
    ) -> None:
        self._binary = programs.require("squid")
        # pytest's folder is private, and squid, started by root, runs as another user.
        self._temporary = TemporaryDirectory(prefix="squid-")
        self._folder = Path(self._temporary.name)
        self._ports = ports
        self._hosts = hosts or {}
        self._user = user
        self._leaf = leaf
        self._rules = rules
        self.port = free_port()
        self._process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        folder = self._folder
        folder.chmod(0o755)
        with suppress(LookupError, PermissionError):
            shutil.chown(folder, "proxy")
        (folder / "hosts").write_text("".join(f"{address} {name}\n" for name, address in self._hosts.items()))
        auth = ""
        if self._user is not None:
            self.set_password(*self._user)
            auth = _AUTH.format(folder=folder, program="/usr/lib/squid/basic_ncsa_auth")
        listen = f"http_port 127.0.0.1:{self.port}"
        if self._leaf is not None:
            pem = folder / "leaf.pem"
            pem.write_text(self._leaf.certificate.read_text() + self._leaf.key.read_text())
            listen = f"https_port 127.0.0.1:{self.port} tls-cert={pem}"
        config = folder / "squid.conf"
        ports = " ".join(map(str, self._ports))
        config.write_text(_SQUID.format(folder=folder, auth=auth, ports=ports, rules=self._rules, listen=listen))
        # The name keeps its shared memory apart from that of other squids.
        command = [self._binary, "-N", "-n", f"t{secrets.token_hex(6)}", "-f", str(config)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + DEADLINE
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return self
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"squid does not start: {(folder / 'cache.log').read_text()}")
            time.sleep(0.01)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(timeout=DEADLINE)
        self._temporary.cleanup()

    def set_password(self, user: str, password: str) -> None:
        """Write the file of users."""
        digest = subprocess.run(
            [programs.require("openssl"), "passwd", "-apr1", "-stdin"],
            input=password,
            capture_output=True,
            text=True,
            check=True,
        )
        (self._folder / "passwords").write_text(f"{user}:{digest.stdout}")

    def requests(self, count: int) -> list[tuple[str, str, str]]:
        """Return result, method and target of each request once there are `count`: squid logs a tunnel at its end."""
        deadline = time.monotonic() + DEADLINE
        log = self._folder / "access.log"
        while True:
            fields = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
            # The probe of the start is no request.
            found = [(line[3], line[5], line[6]) for line in fields if line[5] == "CONNECT"]
            if len(found) >= count:
                return found
            if time.monotonic() > deadline:
                raise TimeoutError(f"squid has logged {found}")
            time.sleep(0.01)
