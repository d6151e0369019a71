"""Requests that reached Sidekey's sockets before it stops listening get responses instead of resets."""

from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path

import pytest

from support.raw_connection import DEADLINE, accepts, connect
from support.sidekey_process import WITHOUT_UVLOOP, SidekeyProcess
from support.upstream import RawUpstream

COUNT = 20


def request(number: int) -> bytes:
    """Build a request with an identifiable target."""
    return f"GET /i/crm/{number} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def config(port: int, delay: str) -> str:
    """Build a config with integration `crm` at an upstream on this port."""
    return f"""\
timeouts: {{drain_delay: {delay}, drain: 60s}}
integrations:
  crm:
    endpoint_prefix: http://127.0.0.1:{port}
    auth: {{type: basic, username: svc, password: {{insecure_value: secret}}}}
"""


both_loops = pytest.mark.parametrize("code", [None, WITHOUT_UVLOOP], ids=["uvloop", "asyncio"])


def send_to_stopped_process(connections: list[socket.socket], port: int) -> list[socket.socket]:
    """While the process is stopped, send requests on kept connections, and on as many that it has not accepted."""
    callers = [*connections, *[socket.create_connection(("127.0.0.1", port)) for _ in connections]]
    for number, caller in enumerate(callers):
        caller.sendall(request(number))
    return callers


async def open_kept_connections(port: int) -> list[socket.socket]:
    """Return connections that had a response."""
    sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(COUNT)]
    for sock in sockets:
        sock.sendall(request(-1))
        assert (await asyncio.to_thread(sock.recv, 65536)).startswith(b"HTTP/1.1 200 OK\r\n")
    return sockets


async def check_responses(upstream: RawUpstream, callers: list[socket.socket]) -> None:
    """Check that each request was received once and has a response, after which the connection closes cleanly."""
    for caller in callers:
        assert (await asyncio.to_thread(read_all, caller)).startswith(b"HTTP/1.1 200 OK\r\n")
    received = sorted(arrival.target for arrival in upstream.requests if arrival.target != b"/-1")
    assert received == sorted(b"/%d" % number for number in range(len(callers)))


@both_loops
async def test_requests_that_arrive_with_the_signal_are_served(code: str | None, tmp_path: Path) -> None:
    """Requests arrive on idle connections, and on connections that the process has not accepted yet."""
    async with RawUpstream() as upstream:
        with SidekeyProcess(config(upstream.port, "0s"), tmp_path, code=code) as child:
            connections = await open_kept_connections(child.proxy_port)
            child.process.send_signal(signal.SIGSTOP)
            callers = send_to_stopped_process(connections, child.proxy_port)
            child.process.send_signal(signal.SIGTERM)
            child.process.send_signal(signal.SIGCONT)
            await check_responses(upstream, callers)
            assert await asyncio.to_thread(child.wait) == 0


@both_loops
async def test_requests_that_arrive_at_the_end_of_the_delay_are_served(code: str | None, tmp_path: Path) -> None:
    """The event loop handles the end of the delay and the requests in the same iteration."""
    for delay in (2, 10, 40):
        async with RawUpstream() as upstream:
            with SidekeyProcess(config(upstream.port, f"{delay}s"), tmp_path, code=code) as child:
                connections = await open_kept_connections(child.proxy_port)
                child.process.send_signal(signal.SIGTERM)
                await asyncio.to_thread(child.wait_for_line, lambda line: '"event":"draining"' in line)
                child.process.send_signal(signal.SIGSTOP)
                if not await accepts(child.proxy_port):
                    # The delay was over before a slow machine had stopped the process.
                    for sock in connections:
                        sock.close()
                    continue
                callers = send_to_stopped_process(connections, child.proxy_port)
                await asyncio.sleep(delay + 0.1)
                child.process.send_signal(signal.SIGCONT)
                await check_responses(upstream, callers)
                assert await asyncio.to_thread(child.wait) == 0
                return
    pytest.fail("the process was never stopped in time")


async def test_partial_request_head_may_be_completed(tmp_path: Path) -> None:
    """The caller has until timeouts.request_head or timeouts.drain, if Sidekey has served it before."""
    async with RawUpstream() as upstream:
        with SidekeyProcess(config(upstream.port, "0s"), tmp_path) as child:
            async with connect(child.proxy_port) as caller:
                await caller.send(request(-1))
                assert (await caller.response()).status == 200
                await caller.send(request(0)[:10])
                child.process.send_signal(signal.SIGTERM)
                while await accepts(child.proxy_port):
                    await asyncio.sleep(0.02)
                await caller.send(request(0)[10:])
                assert (await caller.response()).values(b"connection") == [b"close"]
                await caller.until_ended()
            assert await asyncio.to_thread(child.wait) == 0
        assert [arrival.target for arrival in upstream.requests] == [b"/-1", b"/0"]


async def test_unix_socket_drains_like_tcp(tmp_path: Path) -> None:
    """Sidekey removes the socket, and serves callers that are already connected."""
    path = tmp_path / "proxy.sock"
    head = f'version: 1\nlisten: {{{{proxy: "unix:{path}", admin: "127.0.0.1:{{admin}}"}}}}\n'
    head += 'network: {{allow_private: ["127.0.0.0/8"]}}\n'
    async with RawUpstream() as upstream:
        with SidekeyProcess(config(upstream.port, "0s"), tmp_path, head=head) as child:
            child.process.send_signal(signal.SIGSTOP)
            waiting = []
            for number in range(COUNT):
                sock = socket.socket(socket.AF_UNIX)
                sock.connect(str(path))
                sock.sendall(request(number))
                waiting.append(sock)
            child.process.send_signal(signal.SIGTERM)
            child.process.send_signal(signal.SIGCONT)
            for sock in waiting:
                assert (await asyncio.to_thread(read_all, sock)).startswith(b"HTTP/1.1 200 OK\r\n")
            assert await asyncio.to_thread(child.wait) == 0
            assert not path.exists()
        assert len(upstream.requests) == COUNT


def read_all(sock: socket.socket) -> bytes:
    """Read until the end of the connection. Raises ConnectionResetError."""
    with sock:
        sock.settimeout(DEADLINE)
        data = b""
        while piece := sock.recv(65536):
            data += piece
        return data
