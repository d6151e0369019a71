"""Requests that have reached Sidekey's sockets when it stops accepting are answered, not reset."""

from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path

import pytest

from support.child import WITHOUT_UVLOOP, Child
from support.raw_connection import DEADLINE, connect
from support.upstream import RawUpstream

COUNT = 20


def request(number: int) -> bytes:
    """One that can be told from others."""
    return f"GET /i/crm/{number} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def config(port: int, delay: str) -> str:
    """Integration `crm` at an upstream on this port."""
    return f"""\
timeouts: {{drain_delay: {delay}, drain: 60s}}
integrations:
  crm:
    endpoint_prefix: http://127.0.0.1:{port}
    auth: {{type: basic, username: svc, password: {{insecure_value: secret}}}}
"""


both_loops = pytest.mark.parametrize("code", [None, WITHOUT_UVLOOP], ids=["uvloop", "asyncio"])


def unseen(kept: list[socket.socket], port: int) -> list[socket.socket]:
    """While the process does not run, send requests on kept connections, and on as many that it has to accept."""
    callers = [*kept, *[socket.create_connection(("127.0.0.1", port)) for _ in kept]]
    for number, caller in enumerate(callers):
        caller.sendall(request(number))
    return callers


async def ask_each(port: int) -> list[socket.socket]:
    """Kept connections that have had a response."""
    sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(COUNT)]
    for sock in sockets:
        sock.sendall(request(-1))
        assert (await asyncio.to_thread(sock.recv, 65536)).startswith(b"HTTP/1.1 200 OK\r\n")
    return sockets


async def check_answers(upstream: RawUpstream, callers: list[socket.socket]) -> None:
    """Each request arrived once and has its response, after which the connection ends in an orderly way."""
    for caller in callers:
        assert (await asyncio.to_thread(read_all, caller)).startswith(b"HTTP/1.1 200 OK\r\n")
    arrived = sorted(each.target for each in upstream.requests if each.target != b"/-1")
    assert arrived == sorted(b"/%d" % number for number in range(len(callers)))


@both_loops
async def test_what_has_arrived_at_the_signal_is_answered(code: str | None, tmp_path: Path) -> None:
    """The process finds the signal and the requests at the same moment.

    They are on connections that were idle, and on those that nobody has accepted yet.
    """
    async with RawUpstream() as upstream:
        with Child(config(upstream.port, "0s"), tmp_path, code=code) as child:
            kept = await ask_each(child.proxy_port)
            child.process.send_signal(signal.SIGSTOP)
            callers = unseen(kept, child.proxy_port)
            child.process.send_signal(signal.SIGTERM)
            child.process.send_signal(signal.SIGCONT)
            await check_answers(upstream, callers)
            assert await asyncio.to_thread(child.wait) == 0


@both_loops
async def test_what_has_arrived_at_the_end_of_the_delay_is_answered(code: str | None, tmp_path: Path) -> None:
    """The process finds that, and the requests, at the same moment."""
    for delay in (2, 10, 40):
        async with RawUpstream() as upstream:
            with Child(config(upstream.port, f"{delay}s"), tmp_path, code=code) as child:
                kept = await ask_each(child.proxy_port)
                child.process.send_signal(signal.SIGTERM)
                await asyncio.to_thread(child.wait_for_line, lambda line: '"event":"draining"' in line)
                child.process.send_signal(signal.SIGSTOP)
                if not await accepts(child.proxy_port):
                    # The delay was over before a slow machine had stopped the process.
                    for sock in kept:
                        sock.close()
                    continue
                callers = unseen(kept, child.proxy_port)
                await asyncio.sleep(delay + 0.1)
                child.process.send_signal(signal.SIGCONT)
                await check_answers(upstream, callers)
                assert await asyncio.to_thread(child.wait) == 0
                return
    pytest.fail("the process was never stopped in time")


async def test_a_head_of_which_part_has_arrived_may_end(tmp_path: Path) -> None:
    """Within timeouts.request_head and timeouts.drain: its caller was served before."""
    async with RawUpstream() as upstream:
        with Child(config(upstream.port, "0s"), tmp_path) as child:
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
        assert [each.target for each in upstream.requests] == [b"/-1", b"/0"]


async def accepts(port: int) -> bool:
    """Whether a new connection is accepted."""
    try:
        async with connect(port):
            return True
    except ConnectionRefusedError:
        return False


async def test_a_unix_socket_ends_like_any_other(tmp_path: Path) -> None:
    """Nobody finds it any more, and who had connected is served."""
    path = tmp_path / "proxy.sock"
    head = f'version: 1\nlisten: {{{{proxy: "unix:{path}", admin: "127.0.0.1:{{admin}}"}}}}\n'
    head += 'network: {{allow_private: ["127.0.0.0/8"]}}\n'
    async with RawUpstream() as upstream:
        with Child(config(upstream.port, "0s"), tmp_path, head=head) as child:
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
    """What comes until the end. Raises ConnectionResetError."""
    with sock:
        sock.settimeout(DEADLINE)
        data = b""
        while piece := sock.recv(65536):
            data += piece
        return data
