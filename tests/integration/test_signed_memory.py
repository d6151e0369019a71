"""Memory of a process that signs bodies."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from support.raw_connection import connect
from support.sidekey_process import SidekeyProcess
from support.upstream import OK

MIB = 1 << 20
UPLOADS = 200

REFUSED = UPLOADS - 32
FIRST_READ = 128 << 10
"""Bytes that a loopback socket buffers before the first read."""

CONFIG = """
integrations:
  it:
    endpoint_prefix: http://127.0.0.1:{port}
    auth: {{type: signature, scheme: github, secret: {{insecure_value: not-to-be-guessed-at-all}}}}
"""


def memory(pid: int, name: str) -> int:
    """Return a value of /proc/PID/status in bytes: VmRSS is the current memory, VmHWM the peak."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read requests, and store nothing."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            (length,) = (line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            left = int(length.partition(b":")[2])
            while left:
                left -= len(await reader.read(min(left, MIB)))
            writer.write(OK)
    except asyncio.IncompleteReadError:
        writer.close()


@pytest.mark.parametrize("expects", [True, False])
async def test_two_hundred_parallel_uploads_of_a_mebibyte_take_little_memory(tmp_path: Path, *, expects: bool) -> None:
    """The process grows by at most 48 MiB: 32 MiB for bodies of one integration, the rest for buffers.

    A caller that does not wait for 100 Continue (RFC 9110 10.1.1) may send one read before it is refused.
    """
    async with await asyncio.start_server(receive, "127.0.0.1", 0) as server:
        config = CONFIG.format(port=server.sockets[0].getsockname()[1])
        head = b"POST /i/it/x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n"
        head += b"Expect: 100-continue\r\n\r\n" if expects else b"\r\n"
        most = 48 * MIB + (0 if expects else REFUSED * FIRST_READ)
        body = b"x" * MIB
        child = await asyncio.to_thread(SidekeyProcess(config, tmp_path).__enter__)
        try:

            async def upload(size: int) -> int:
                async with connect(child.proxy_port) as caller:
                    # As clients do: the head is written before the body is.
                    await caller.send(head % size)
                    if expects and (early := await caller.response()).status != 100:
                        return early.status
                    await asyncio.sleep(0)
                    await caller.send(body[:size])
                    return (await caller.response()).status

            assert await upload(4) == 200
            before = memory(child.process.pid, "VmRSS")
            statuses = await asyncio.gather(*(upload(MIB) for _ in range(UPLOADS)))
            assert {200} <= {*statuses} <= {200, 503}
            assert memory(child.process.pid, "VmHWM") - before <= most
        finally:
            await asyncio.to_thread(child.__exit__, None, None, None)
