"""Shutdown of a running Sidekey: the rows `life` of tests/cases/faults.tsv."""

from __future__ import annotations

import asyncio
import json
import signal
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from support.http_get import get
from support.raw_connection import RawConnection, accepts, connect
from support.sidekey_process import SidekeyProcess
from support.upstream import OK, RawUpstream, respond_with
from support.wire import Message

REQUEST = b"GET /i/crm/slow HTTP/1.1\r\nHost: localhost\r\n\r\n"


def config(port: int, timeouts: str) -> str:
    """Build a config with integration `crm` at an upstream on this port, with these timeouts."""
    return f"""\
timeouts: {timeouts}
integrations:
  crm:
    endpoint_prefix: http://127.0.0.1:{port}
    auth: {{type: basic, username: svc, password: {{insecure_value: secret}}}}
"""


async def send_signal(child: SidekeyProcess, number: int = signal.SIGTERM) -> None:
    """Send a signal, and wait until the drain begins."""
    child.process.send_signal(number)
    await asyncio.to_thread(child.wait_for_line, lambda line: '"event":"draining"' in line)


def logged_at(child: SidekeyProcess, event: str) -> datetime:
    """Return the time of an event in the log."""
    entry = next(json.loads(line) for line in child.lines if f'"event":"{event}"' in line)
    return datetime.fromisoformat(entry["timestamp"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_readiness_fails_first_and_requests_in_flight_finish(number: signal.Signals, tmp_path: Path) -> None:
    """During `drain_delay` Sidekey is not ready but still accepts requests. Then it accepts no new connections."""
    go = asyncio.Event()

    async def script(connection: RawConnection) -> None:
        request = await connection.request()
        if request.target == b"/slow":
            await go.wait()
        await connection.send(OK)

    async def send_during_delay(port: int) -> Message | None:
        """Send a request, or return None if the delay was already over on a slow machine."""
        try:
            async with connect(port) as caller:
                await caller.send(REQUEST.replace(b"/slow", b"/quick"))
                return await caller.response()
        except ConnectionRefusedError:
            return None

    for delay in (2, 10, 40):
        go.clear()
        async with RawUpstream(script) as upstream:
            with SidekeyProcess(config(upstream.port, f"{{drain_delay: {delay}s, drain: 120s}}"), tmp_path) as child:
                async with connect(child.proxy_port) as in_flight:
                    await in_flight.send(REQUEST)
                    await (await upstream.connection()).until_contains(b"\r\n\r\n")
                    await send_signal(child, number)
                    ready = await asyncio.to_thread(get, child.admin_port, "/readyz")
                    assert (ready.status, ready.body) == (503, "draining\n")
                    response = await send_during_delay(child.proxy_port)
                    while await accepts(child.proxy_port):
                        await asyncio.sleep(0.02)
                    assert in_flight.received == b""
                    go.set()
                    last_response = await in_flight.response()
                    assert (last_response.status, last_response.body, last_response.values(b"connection")) == (
                        200,
                        b"ok",
                        [b"close"],
                    )
                assert await asyncio.to_thread(child.wait) == 0
        assert json.loads(child.lines[-1])["event"] == "stopped"
        if response is not None:
            break
    assert response is not None
    assert (response.status, response.values(b"connection")) == (200, [b"close"])
    assert logged_at(child, "stopped") - logged_at(child, "draining") >= timedelta(seconds=delay)


async def test_request_in_flight_is_cut_at_the_end_of_drain(tmp_path: Path) -> None:
    """An upstream that never responds delays the exit by `drain`."""
    async with RawUpstream(respond_with()) as upstream:
        with SidekeyProcess(config(upstream.port, "{drain: 500ms}"), tmp_path) as child:
            async with connect(child.proxy_port) as in_flight:
                await in_flight.send(REQUEST)
                await (await upstream.connection()).until_contains(b"\r\n\r\n")
                await send_signal(child)
                assert await in_flight.until_ended() == b""
            assert await asyncio.to_thread(child.wait) == 0
    assert any("cut at the end of timeouts.drain" in line for line in child.lines)
    assert logged_at(child, "stopped") - logged_at(child, "draining") >= timedelta(seconds=0.5)


async def test_streamed_response_is_cut_visibly_at_the_end_of_drain(tmp_path: Path) -> None:
    """An incomplete chunked response has no last chunk."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    async with RawUpstream(respond_with(head)) as upstream:
        with SidekeyProcess(config(upstream.port, "{drain: 200ms}"), tmp_path) as child:
            async with connect(child.proxy_port) as in_flight:
                await in_flight.send(REQUEST)
                await in_flight.until_contains(b"hello")
                await send_signal(child)
                received = await in_flight.until_ended()
            assert await asyncio.to_thread(child.wait) == 0
    assert received.endswith(b"hello\r\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_second_signal_exits_at_once(number: signal.Signals, tmp_path: Path) -> None:
    """A request in flight does not delay the exit. The exit status contains the signal."""
    async with RawUpstream(respond_with()) as upstream:
        with SidekeyProcess(config(upstream.port, "{drain_delay: 1h, drain: 1h}"), tmp_path) as child:
            async with connect(child.proxy_port) as in_flight:
                await in_flight.send(REQUEST)
                await (await upstream.connection()).until_contains(b"\r\n\r\n")
                await send_signal(child)
                assert await asyncio.to_thread(child.stop, number) == 128 + number
                await in_flight.until_ended()


async def test_second_signal_cuts_a_response_visibly(tmp_path: Path) -> None:
    """The connection is reset, because its end would mark the end of the body in HTTP/1.0."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    async with RawUpstream(respond_with(head)) as upstream:
        with SidekeyProcess(config(upstream.port, "{drain_delay: 1h, drain: 1h}"), tmp_path) as child:
            async with connect(child.proxy_port) as in_flight:
                await in_flight.send(REQUEST.replace(b"1.1", b"1.0"))
                await in_flight.until_contains(b"hello")
                await send_signal(child)
                assert await asyncio.to_thread(child.stop) == 128 + signal.SIGTERM
                await in_flight.until_lost()
                assert isinstance(in_flight.error, ConnectionResetError)


async def test_cut_requests_are_logged(tmp_path: Path) -> None:
    """Each request has an access log line and an audit entry, because it has used the credential."""
    async with RawUpstream(respond_with()) as upstream:
        text = "log: {audit: uses}\n" + config(upstream.port, "{drain_delay: 1h, drain: 1h}")
        with SidekeyProcess(text, tmp_path) as child:
            async with connect(child.proxy_port) as first, connect(child.proxy_port) as second:
                for caller in (first, second):
                    await caller.send(REQUEST)
                    await (await upstream.connection()).until_contains(b"\r\n\r\n")
                await send_signal(child)
                assert await asyncio.to_thread(child.stop) == 128 + signal.SIGTERM
    lines = [json.loads(line) for line in child.lines if '"caller_gone"' in line]
    assert sorted(entry["event"] for entry in lines) == ["credential used"] * 2 + ["request"] * 2
    assert len({entry["request_id"] for entry in lines}) == 2


async def test_idle_connection_does_not_delay_the_exit(tmp_path: Path) -> None:
    async with RawUpstream() as upstream:
        with SidekeyProcess(config(upstream.port, "{drain: 1h}"), tmp_path) as child:
            async with connect(child.proxy_port) as idle, connect(child.proxy_port) as silent:
                await idle.send(REQUEST)
                assert (await idle.response()).status == 200
                assert await asyncio.to_thread(child.stop) == 0
                await idle.until_ended()
                await silent.until_ended()
