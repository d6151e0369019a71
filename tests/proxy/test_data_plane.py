"""The data plane as a whole: limits, loop detection and shutdown."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from sidekey.errors import Problem, ProblemError
from sidekey.snapshot.request_rules import Limits, Timeouts
from support import wire
from support.memory import MemoryUpstream, running
from support.plane import CREDENTIAL, base_url, eventually, get, integration, problem, request
from support.raw_connection import RawConnection
from support.scripted import GatedGrantSource
from support.upstream import OK, respond_with


async def test_a_request_waits_for_its_grant_with_its_body() -> None:
    """Afterwards Sidekey sends the whole upload with the credential. The next request does not wait."""
    source = GatedGrantSource()
    async with (
        MemoryUpstream() as upstream,
        running(integration("h", base_url(upstream.port)), sources={"h": source}) as sidekey,
        sidekey.connect() as caller,
    ):
        body = b"x" * 300_000
        caller.transport.write(request("POST", body=body))
        await eventually(lambda: source.calls == 1)
        assert upstream.connections == []
        source.go.set()
        assert (await caller.response()).status == 200
        assert (await sidekey.send(get())).status == 200
        first, second = upstream.requests
        assert (first.body == body, first.values(b"authorization")) == (True, [CREDENTIAL])
        assert (second.values(b"authorization"), source.calls) == ([CREDENTIAL], 1)


async def test_failed_grant_is_the_response() -> None:
    """The upstream gets nothing."""
    source = GatedGrantSource()
    gone = Problem("credential_unavailable", "a file cannot be read", error="proxy_configuration_error")
    source.error = ProblemError(gone)
    source.go.set()
    async with (
        MemoryUpstream() as upstream,
        running(integration("h", base_url(upstream.port)), sources={"h": source}) as sidekey,
    ):
        error = problem(await sidekey.send(get()))
        assert (error["status"], error["code"], error["integration"]) == (502, "credential_unavailable", "h")
        assert upstream.connections == []


async def test_defect_is_500_with_only_its_id() -> None:
    """The report has the exception."""
    source = GatedGrantSource()
    source.error = LookupError("secret")
    source.go.set()
    async with running(integration("h", base_url(1)), sources={"h": source}) as sidekey:
        error = problem(await sidekey.send(get()))
        assert (error["status"], error["code"], error["sent"]) == (500, "internal_error", "maybe")
        assert error["detail"] == f"a defect of Sidekey, logged as {sidekey.plane.worker.instance.decode()}-1"
        assert [str(defect) for defect in sidekey.defects] == ["secret"]
        sidekey.defects.clear()


async def test_nothing_is_sent_for_a_caller_that_left_during_the_grant_fetch() -> None:
    source = GatedGrantSource()
    async with (
        MemoryUpstream() as upstream,
        running(integration("h", base_url(upstream.port)), sources={"h": source}) as sidekey,
    ):
        async with sidekey.connect() as caller:
            await caller.send(get())
            await eventually(lambda: source.calls == 1)
        await sidekey.wait_for_outcomes("h", caller_gone=1)
        source.go.set()
        await eventually(lambda: not sidekey.plane.worker._tasks)
        assert upstream.connections == []


async def test_request_over_the_limit_is_503_overloaded() -> None:
    """With Retry-After. The connection stays open, and other requests continue."""
    async with MemoryUpstream(respond_with()) as upstream:
        limits = Limits(in_flight=2)
        async with (
            running(integration("h", base_url(upstream.port)), limits=limits) as sidekey,
            sidekey.connect() as one,
            sidekey.connect() as two,
            sidekey.connect() as three,
        ):
            for caller in (one, two):
                await caller.send(get())
            await eventually(lambda: sidekey.metrics.in_flight == 2)
            await three.send(get())
            response = await three.response()
            error = problem(response)
            assert (error["status"], error["code"]) == (503, "overloaded")
            assert (response.values(b"retry-after"), response.values(b"connection")) == ([b"1"], [])
            await (await upstream.connection(0)).send(OK)
            await eventually(lambda: sidekey.metrics.in_flight == 1)
            await three.send(get())
            await eventually(lambda: sidekey.metrics.in_flight == 2)


@pytest.mark.parametrize("via", [True, False])
async def test_request_that_returns_is_a_loop(via: bool) -> None:
    """By the plane's name in Via, or by more than five Sidekeys. Also with `via: false`."""
    async with MemoryUpstream() as upstream, running(integration("h", base_url(upstream.port)), via=via) as sidekey:
        own = f"1.0 a, 1.1 sidekey ({sidekey.plane.worker.instance.decode()})"
        others = [f"1.1 sidekey ({number})" for number in range(6)]
        for fields in ([f"Via: {own}"], [f"Via: {', '.join(others)}"], [f"Via: {other}" for other in others]):
            error = problem(await sidekey.send(get("/a", *fields)))
            assert (error["status"], error["code"], error["error"]) == (502, "loop_detected", "proxy_loop_detected")
        assert (await sidekey.send(get("/a", f"Via: {', '.join(others[:5])}"))).status == 200
        assert len(upstream.requests) == 1


async def test_loop_of_two_planes_is_refused() -> None:
    async with MemoryUpstream() as somewhere:
        port = somewhere.port
    async with (
        running(integration("h", base_url(port, "/i/h")), names=("up.test",)) as first,
        running(integration("h", base_url(first.port, "/i/h")), names=("up.test",), port=port) as second,
    ):
        response = await first.send(get().replace(b"h.test", b"up.test"))
        assert response.status == 502
        assert first.plane.worker.metrics.stats("h").outcomes.keys() == {"loop_detected", "5xx"}
        assert second.plane.worker.metrics.stats("h").outcomes == {"5xx": 1}


async def test_draining_closes_each_connection_with_its_response() -> None:
    """Every response has Connection: close. `finish` waits for exchanges, and returns True."""
    async with (
        MemoryUpstream(respond_with()) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as idle,
        sidekey.connect() as busy,
        sidekey.connect() as later,
    ):
        await idle.send(b"GET /nowhere HTTP/1.1\r\nHost: h.test\r\n\r\n")
        assert (await idle.response()).values(b"connection") == []
        sidekey.plane.drain()
        await later.send(b"GET /nowhere HTTP/1.1\r\nHost: h.test\r\n\r\n")
        assert (await later.response()).values(b"connection") == [b"close"]
        # Under way only after the drain has begun, when nothing was.
        await busy.send(get())
        await eventually(lambda: upstream.connections and upstream.received[0])
        sidekey.advance(1)
        end = asyncio.create_task(sidekey.plane.finish(30))
        await idle.until_ended()
        assert not end.done()
        await upstream.connections[0].send(OK)
        response = await busy.response()
        assert (response.body, response.values(b"connection")) == (b"ok", [b"close"])
        for caller in (idle, busy, later):
            caller.close()
        assert await end is True


async def test_drain_resets_remaining_responses_after_its_time_out() -> None:
    """`finish` returns False."""
    part = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npart"
    async with (
        MemoryUpstream(respond_with(part)) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(get())
        await caller.until_contains(b"part")
        sidekey.plane.drain()
        assert await sidekey.plane.finish(0.1) is False
        await caller.until_lost()
        assert isinstance(caller.error, ConnectionResetError)


async def test_a_drain_without_work_ends_at_once() -> None:
    """Sidekey closes idle connections on both sides."""
    async with (
        MemoryUpstream() as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(get())
        await caller.response()
        sidekey.plane.drain()
        sidekey.advance(1)
        end = asyncio.create_task(sidekey.plane.finish(30))
        await caller.until_ended()
        caller.close()
        assert await end is True
        await (await upstream.connection()).until_ended()


async def test_access_log_has_no_secrets(tmp_path: Path) -> None:
    """One line each, without path, query, unknown ID and credential."""
    log = tmp_path / "log"
    async with MemoryUpstream() as upstream, running(integration("h", base_url(upstream.port)), log=log) as sidekey:
        await sidekey.send(request("POST", "/hidden?token=hidden", body=b"hello"))
        await sidekey.send(get(name="hidden"))
        await sidekey.send(b"nonsense\r\n\r\n")
    text = log.read_text()
    assert "hidden" not in text
    assert CREDENTIAL.decode() not in text
    first, second, third = map(json.loads, text.splitlines())
    assert (first["integration"], first["status"], first["code"], first["method"]) == ("h", 200, None, "POST")
    assert (first["bytes_in"], first["door"], first["host"]) == (5, "reverse", "up.test")
    assert (second["integration"], second["status"], second["code"]) == ("unknown", 403, "integration_denied")
    assert (third["integration"], third["status"], third["code"]) == ("unknown", 400, "request_invalid")
    assert len({line["request_id"] for line in (first, second, third)}) == 3


async def test_timeouts_total_covers_connect_upload_and_response() -> None:
    """504 if no byte of the response was sent."""

    async def silent(connection: RawConnection) -> None:
        await connection.until_ended()

    async with MemoryUpstream(silent) as upstream:
        timeouts = Timeouts(total=0.3)
        async with running(integration("h", base_url(upstream.port)), timeouts=timeouts) as sidekey:
            asking = asyncio.create_task(sidekey.send(get()))
            await (await upstream.connection()).until_contains(b"\r\n\r\n")
            sidekey.advance(0.4)
            error = problem(await asking)
            assert (error["status"], error["code"], error["sent"]) == (504, "upstream_timeout", "maybe")
        assert len(wire.requests(upstream.received[0])) == 1
