"""Connections without sockets end and wait as those with sockets do: a test that moves to them loses nothing."""

from __future__ import annotations

from typing import Any

import pytest

from support import memory, plane
from support.plane import base_url, eventually, get, integration, problem, request
from support.raw import RawConnection
from support.upstream import RawUpstream

PART = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npart"

KINDS: dict[str, tuple[Any, Any]] = {
    "sockets": (RawUpstream, plane.running),
    "memory": (memory.Upstream, memory.running),
}
every_kind = pytest.mark.parametrize(("upstream_kind", "running"), KINDS.values(), ids=KINDS)


@every_kind
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_response_that_breaks_off_resets_its_caller(upstream_kind: Any, running: Any, how: str) -> None:
    """Whichever way its upstream ended."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(PART)
        await eventually(lambda: sidekey.plane.worker.metrics.in_flight)
        getattr(connection, how)()

    async with (
        upstream_kind(script) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(get())
        await caller.until_lost()
        assert (type(caller.error), caller.ended) == (ConnectionResetError, False)


@every_kind
async def test_an_orderly_end_comes_after_what_was_sent(upstream_kind: Any, running: Any) -> None:
    """And is no error."""
    async with (
        upstream_kind() as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(get("/a", "Connection: close"))
        assert (await caller.until_ended()).endswith(b"\r\n\r\nok")
        assert (caller.ended, caller.error) == (True, None)


@every_kind
async def test_a_port_without_a_listener_refuses(upstream_kind: Any, running: Any) -> None:
    """As does an address at which nobody listens."""
    async with upstream_kind() as upstream:
        port = upstream.port
        made = integration("h", base_url(port))
        async with running(made, hosts={"up.test": ("127.0.0.9",)}) as sidekey:
            assert problem(await sidekey.ask(get()))["error"] == "connection_refused"
    async with running(made) as sidekey:
        assert problem(await sidekey.ask(get()))["error"] == "connection_refused"


@every_kind
async def test_who_does_not_read_holds_the_writer_up(upstream_kind: Any, running: Any) -> None:
    """Beyond what there is room for, and as long as it does not read."""
    size = 16 << 20

    async def script(connection: RawConnection) -> None:
        await connection.until_contains(b"\r\n\r\n")
        connection.transport.pause_reading()

    async with (
        upstream_kind(script) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        caller.transport.write(request("POST", "/a", f"Content-Length: {size}"))
        connection = await upstream.connection()
        await eventually(lambda: not connection.transport.is_reading())
        caller.transport.write(b"x" * size)
        await eventually(caller.transport.get_write_buffer_size)
        assert len(connection.received) < size
        connection.transport.resume_reading()
        await connection.until(lambda: len(connection.received) > size)
