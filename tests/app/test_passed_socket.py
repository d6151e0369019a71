"""A service manager passes the socket of the proxy listener, and several processes share it (sd_listen_fds(3))."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, closing
from pathlib import Path

import pytest

from support import programs
from support.http_get import get
from support.ports import free_port, listening_socket
from support.raw_connection import DEADLINE
from support.sidekey_process import HEAD, WITHOUT_UVLOOP, SidekeyProcess
from support.upstream import RawUpstream

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="service managers with this protocol are Linux's")

GET = b"GET /i/it/x HTTP/1.1\r\nHost: localhost\r\nConnection: %s\r\n\r\n"
BODY = b"ok"

_TOTAL_RETRANSMISSIONS = 100
"""Offset of tcpi_total_retrans in struct tcp_info (linux/tcp.h)."""


def config(port: int) -> str:
    """Build a config with integration `it` at an upstream on this port."""
    auth = '{type: headers, headers: {X-Public: "1"}}'
    return f"integrations:\n  it: {{endpoint_prefix: 'http://127.0.0.1:{port}', auth: {auth}}}\n"


def sharing(listening: socket.socket, folder: Path, text: str, code: str | None = None) -> SidekeyProcess:
    """Build a process that gets this socket. It has a config and an admin listener of its own."""
    folder.mkdir(exist_ok=True)
    head = HEAD.replace("{proxy}", str(listening.getsockname()[1]))
    return SidekeyProcess(text, folder, head=head, passed_socket=listening, code=code)


class Load:
    """Callers of a port: half of them open a connection for each request, half keep theirs."""

    def __init__(self, port: int) -> None:
        self.responses: Counter[bytes] = Counter()
        """Responses by the value of `Connection` in the request."""
        self.errors: list[str] = []
        self.retransmissions = 0
        self._port = port
        self._stopped = asyncio.Event()

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Send requests until the block ends."""
        async with asyncio.TaskGroup() as group:
            for value in (b"close", b"keep-alive") * 6:
                group.create_task(self._call(value))
            yield
            self._stopped.set()

    async def until_more(self, count: int = 200) -> None:
        """Wait for this many more responses."""
        target = self.responses.total() + count
        async with asyncio.timeout(DEADLINE):
            while self.responses.total() < target:
                await asyncio.sleep(0.01)

    async def _call(self, value: bytes) -> None:
        while not self._stopped.is_set():
            try:
                await self._connect_and_call(value)
            except (OSError, EOFError) as error:
                self.errors.append(repr(error))

    async def _connect_and_call(self, value: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        # A dropped SYN is sent again after a second.
        info = writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        self.retransmissions += struct.unpack_from("I", info, _TOTAL_RETRANSMISSIONS)[0]
        with closing(writer):
            closes = False
            while not closes and not self._stopped.is_set() and not reader.at_eof():
                writer.write(GET % value)
                head = await reader.readuntil(b"\r\n\r\n")
                if not head.startswith(b"HTTP/1.1 200") or await reader.readexactly(len(BODY)) != BODY:
                    self.errors.append(repr(head))
                self.responses[value] += 1
                closes = value == b"close" or b"connection: close" in head.lower()
                # Let the end of the connection arrive, if the process is draining.
                await asyncio.sleep(0.001)


@pytest.mark.parametrize("code", [None, WITHOUT_UVLOOP], ids=["uvloop", "asyncio"])
async def test_restart_of_one_process_loses_and_delays_no_request(code: str | None, tmp_path: Path) -> None:
    """No caller has to send its SYN again, which would take a second."""
    async with RawUpstream() as upstream:
        with listening_socket() as listening, ExitStack() as stack:
            text = config(upstream.port)
            children = [sharing(listening, tmp_path / str(number), text, code) for number in range(2)]
            for child in children:
                await asyncio.to_thread(stack.enter_context, child)
            load = Load(listening.getsockname()[1])
            async with load.run():
                for child in children:
                    await load.until_more()
                    assert await asyncio.to_thread(child.stop) == 0
                    await load.until_more()
                    await asyncio.to_thread(child.__enter__)
                await load.until_more()
    assert load.errors == []
    assert min(load.responses.values()) > 0
    assert load.retransmissions == 0


async def test_requests_wait_while_no_process_runs(tmp_path: Path) -> None:
    """The launcher keeps the socket open."""
    async with RawUpstream() as upstream:
        with listening_socket() as listening, sharing(listening, tmp_path, config(upstream.port)) as child:
            load = Load(listening.getsockname()[1])
            async with load.run():
                for _ in range(2):
                    await load.until_more()
                    assert await asyncio.to_thread(child.stop) == 0
                    await asyncio.to_thread(child.__enter__)
                await load.until_more()
    assert load.errors == []


def refused(child: SidekeyProcess) -> str:
    """Start a process that must end with status 1, and return its output."""
    child.start()
    assert child.wait() == 1
    return "\n".join(child.lines)


ONE_SOCKET = "pass one for listen.proxy, from a socket unit with one ListenStream=ADDRESS:PORT and without Accept="


def test_socket_with_another_address_than_the_config_is_refused(tmp_path: Path) -> None:
    """Everybody could reach an open socket, and the config requires no callers for loopback."""
    with socket.create_server(("0.0.0.0", 0)) as listening:
        port = listening.getsockname()[1]
        output = refused(sharing(listening, tmp_path, config(9)))
    assert (
        f"listen.proxy: 127.0.0.1:{port} is not the address of the passed socket, 0.0.0.0:{port}: write "
        f"ListenStream=127.0.0.1:{port} in the socket unit, or change listen.proxy"
    ) in output


def test_ipv6_socket_that_accepts_ipv4_is_refused(tmp_path: Path) -> None:
    """systemd makes such a socket by default, and Sidekey does not."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listening:
        port = listening.getsockname()[1]
        text = config(9) + "allow_unauthenticated: true\n"
        child = SidekeyProcess(
            text, tmp_path, head=HEAD.replace("127.0.0.1:{proxy}", f"[::]:{port}"), passed_socket=listening
        )
        output = refused(child)
    assert f"listen.proxy: [::]:{port} accepts IPv4 too at the passed socket: write BindIPv6Only=ipv6-only" in output


def test_socket_with_reuse_port_is_refused(tmp_path: Path) -> None:
    """Another process of its user could bind the port too, and receive callers' tokens."""
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as listening:
        output = refused(sharing(listening, tmp_path, config(9)))
        port = listening.getsockname()[1]
    assert (
        f"listen.proxy: 127.0.0.1:{port} can be shared by other processes at the passed socket (SO_REUSEPORT): remove "
        "ReusePort= from the socket unit"
    ) in output


def udp() -> socket.socket:
    """Return a UDP socket."""
    return socket.socket(type=socket.SOCK_DGRAM)


def unix() -> socket.socket:
    """Return a listening unix socket."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind("")  # Linux chooses an abstract name
    sock.listen()
    return sock


@pytest.mark.parametrize("create", [socket.socket, udp, unix], ids=["not listening", "UDP", "unix"])
def test_socket_that_does_not_listen_for_tcp_is_refused(create: Callable[[], socket.socket], tmp_path: Path) -> None:
    with create() as sock:
        child = SidekeyProcess(config(9), tmp_path, passed_socket=sock)
        output = refused(child)
    assert f"the service manager passed a socket that does not listen for TCP: {ONE_SOCKET}" in output


def started_by(shell: str, tmp_path: Path) -> SidekeyProcess:
    """Build a process that a shell starts with `"$@"`."""
    return SidekeyProcess(config(9), tmp_path, wrapper=("sh", "-c", shell, "sh"))


@pytest.mark.parametrize(
    ("shell", "reason"),
    [
        ('LISTEN_FDS=2 LISTEN_PID=$$ exec "$@" 3</dev/null', "passed 2 sockets"),
        ('LISTEN_FDS= LISTEN_PID=$$ exec "$@"', "passed no sockets"),
        ('LISTEN_FDS=1 LISTEN_PID=$$ exec "$@" 3</dev/null', "passed a descriptor that is not a socket"),
        ('LISTEN_FDS=1 LISTEN_PID=$$ exec "$@" 3>&-', "passed a descriptor that is not a socket"),
    ],
)
def test_passed_descriptors_that_are_not_one_socket_are_refused(shell: str, reason: str, tmp_path: Path) -> None:
    output = refused(started_by(shell, tmp_path))
    assert f"the service manager {reason}: {ONE_SOCKET}" in output


def test_socket_for_another_process_is_refused(tmp_path: Path) -> None:
    """A script that starts Sidekey without `exec` has the PID of the variables."""
    output = refused(started_by('LISTEN_FDS=1 LISTEN_PID=1 exec "$@" 3</dev/null', tmp_path))
    assert "LISTEN_PID names another process: if a script starts Sidekey, use `exec sidekey run`" in output


def test_second_start_of_a_process_is_refused(tmp_path: Path) -> None:
    """Both would share the socket, but the admin listener is in use."""
    with listening_socket() as listening, sharing(listening, tmp_path, config(9)) as first:
        second = sharing(listening, tmp_path, config(9))
        second.rewrite(second.config.read_text().replace(f":{second.admin_port}", f":{first.admin_port}"))
        output = refused(second)
    assert f"listen.admin: 127.0.0.1:{first.admin_port} is in use" in output


async def test_systemd_passes_its_socket(tmp_path: Path) -> None:
    """Its program listens, and starts the command when the first caller connects."""
    port = free_port()
    program = programs.require("systemd-socket-activate")
    # It passes few variables on, so the local CA would be in the home folder.
    wrapper = (program, f"--listen=127.0.0.1:{port}", "--setenv=XDG_STATE_HOME")
    async with RawUpstream() as upstream:
        head = HEAD.replace("{proxy}", str(port))
        child = SidekeyProcess(config(upstream.port), tmp_path, head=head, wrapper=wrapper)
        child.start()
        await asyncio.to_thread(child.wait_for_line, lambda line: "Listening on" in line)
        response = await asyncio.to_thread(get, port, "/i/it/x")
        assert (response.status, response.body) == (200, "ok")
        assert await asyncio.to_thread(child.stop) == 0
