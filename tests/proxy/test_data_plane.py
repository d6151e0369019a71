"""What all connections share: limits, loops, and the way to an orderly end."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from sidekey.errors import Problem, ProblemError
from sidekey.snapshot.request_rules import Limits, Timeouts
from support import wire
from support.memory import Upstream, running
from support.plane import CREDENTIAL, base_url, eventually, get, integration, problem, request
from support.raw_connection import RawConnection
from support.scripted import Awaited
from support.upstream import OK, answering


async def test_a_request_waits_for_its_grant_with_its_body() -> None:
    """Nothing is sent before; then the whole upload is, with the credential, and the next request waits no more."""
    source = Awaited()
    async with (
        Upstream() as upstream,
        running(integration("h", base_url(upstream.port)), sources={"h": source}) as sidekey,
        sidekey.connect() as caller,
    ):
        body = b"x" * 300_000
        caller.transport.write(request("POST", body=body))
        await eventually(lambda: source.asked == 1)
        assert upstream.connections == []
        source.go.set()
        assert (await caller.response()).status == 200
        assert (await sidekey.ask(get())).status == 200
        first, second = upstream.requests
        assert (first.body == body, first.values(b"authorization")) == (True, [CREDENTIAL])
        assert (second.values(b"authorization"), source.asked) == ([CREDENTIAL], 1)


async def test_a_credential_that_cannot_be_had_is_said() -> None:
    """The source's problem is the response; the upstream hears nothing."""
    source = Awaited()
    gone = Problem("credential_unavailable", "a file cannot be read", error="proxy_configuration_error")
    source.error = ProblemError(gone)
    source.go.set()
    async with (
        Upstream() as upstream,
        running(integration("h", base_url(upstream.port)), sources={"h": source}) as sidekey,
    ):
        said = problem(await sidekey.ask(get()))
        assert (said["status"], said["code"], said["integration"]) == (502, "credential_unavailable", "h")
        assert upstream.connections == []


async def test_a_defect_is_answered_with_its_id_and_nothing_else() -> None:
    """500, and the report has the exception."""
    source = Awaited()
    source.error = LookupError("secret")
    source.go.set()
    async with running(integration("h", base_url(1)), sources={"h": source}) as sidekey:
        said = problem(await sidekey.ask(get()))
        assert (said["status"], said["code"]) == (500, "internal_error")
        assert said["detail"] == f"a defect of Sidekey, logged as {sidekey.plane.worker.instance.decode()}-1"
        assert [str(defect) for defect in sidekey.defects] == ["secret"]
        sidekey.defects.clear()


async def test_a_caller_that_leaves_while_its_grant_is_fetched() -> None:
    """Nothing is sent for it."""
    source = Awaited()
    async with (
        Upstream() as upstream,
        running(integration("h", base_url(upstream.port)), sources={"h": source}) as sidekey,
    ):
        async with sidekey.connect() as caller:
            await caller.send(get())
            await eventually(lambda: source.asked == 1)
        await sidekey.outcomes("h", caller_gone=1)
        source.go.set()
        await eventually(lambda: not sidekey.plane.worker._tasks)
        assert upstream.connections == []


async def test_one_request_too_many_is_overloaded() -> None:
    """503 with Retry-After, and the connection stays; what is under way is not disturbed."""
    async with Upstream(answering()) as upstream:
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
            answer = await three.response()
            said = problem(answer)
            assert (said["status"], said["code"]) == (503, "overloaded")
            assert (answer.values(b"retry-after"), answer.values(b"connection")) == ([b"1"], [])
            await (await upstream.connection(0)).send(OK)
            await eventually(lambda: sidekey.metrics.in_flight == 1)
            await three.send(get())
            await eventually(lambda: sidekey.metrics.in_flight == 2)


@pytest.mark.parametrize("via", [True, False])
async def test_a_request_that_comes_round_again_is_a_loop(via: bool) -> None:
    """By the plane's own word, or by more than five Sidekeys, also where `via: false` stops sending."""
    async with Upstream() as upstream, running(integration("h", base_url(upstream.port)), via=via) as sidekey:
        own = f"1.0 a, 1.1 sidekey ({sidekey.plane.worker.instance.decode()})"
        others = [f"1.1 sidekey ({number})" for number in range(6)]
        for fields in ([f"Via: {own}"], [f"Via: {', '.join(others)}"], [f"Via: {other}" for other in others]):
            said = problem(await sidekey.ask(get("/a", *fields)))
            assert (said["status"], said["code"], said["error"]) == (502, "loop_detected", "proxy_loop_detected")
        assert (await sidekey.ask(get("/a", f"Via: {', '.join(others[:5])}"))).status == 200
        assert len(upstream.requests) == 1


async def test_a_real_loop_ends() -> None:
    """Two planes that lead to each other: the request comes back to the first and is refused there."""
    async with Upstream() as somewhere:
        port = somewhere.port
    async with (
        running(integration("h", base_url(port, "/i/h")), names=("up.test",)) as first,
        running(integration("h", base_url(first.port, "/i/h")), names=("up.test",), port=port) as second,
    ):
        answer = await first.ask(get().replace(b"h.test", b"up.test"))
        assert answer.status == 502
        assert first.plane.worker.metrics.stats("h").outcomes.keys() == {"loop_detected", "5xx"}
        assert second.plane.worker.metrics.stats("h").outcomes == {"5xx": 1}


async def test_draining_closes_each_connection_with_its_response() -> None:
    """From then on every response says so; `finish` waits for what is under way, and says that none was cut."""
    async with (
        Upstream(answering()) as upstream,
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
        sidekey.wait(1)
        end = asyncio.create_task(sidekey.plane.finish(30))
        await idle.until_ended()
        assert not end.done()
        await upstream.connections[0].send(OK)
        answer = await busy.response()
        assert (answer.body, answer.values(b"connection")) == (b"ok", [b"close"])
        for caller in (idle, busy, later):
            caller.close()
        assert await end is True


async def test_a_drain_that_takes_too_long_cuts_what_is_left() -> None:
    """A response that has begun ends in a reset; `finish` says that it was not clean."""
    part = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npart"
    async with (
        Upstream(answering(part)) as upstream,
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
    """Idle connections of both sides are closed."""
    async with (
        Upstream() as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(get())
        await caller.response()
        sidekey.plane.drain()
        sidekey.wait(1)
        end = asyncio.create_task(sidekey.plane.finish(30))
        await caller.until_ended()
        caller.close()
        assert await end is True
        await (await upstream.connection()).until_ended()


async def test_requests_are_logged_without_what_may_be_secret(tmp_path: Path) -> None:
    """One line each: no path, no query, no unknown ID, no credential."""
    log = tmp_path / "log"
    async with Upstream() as upstream, running(integration("h", base_url(upstream.port)), log=log) as sidekey:
        await sidekey.ask(request("POST", "/hidden?token=hidden", body=b"hello"))
        await sidekey.ask(get(name="hidden"))
        await sidekey.ask(b"nonsense\r\n\r\n")
    text = log.read_text()
    assert "hidden" not in text
    assert CREDENTIAL.decode() not in text
    first, second, third = map(json.loads, text.splitlines())
    assert (first["integration"], first["status"], first["code"], first["method"]) == ("h", 200, None, "POST")
    assert (first["bytes_in"], first["door"], first["host"]) == (5, "reverse", "up.test")
    assert (second["integration"], second["status"], second["code"]) == ("unknown", 403, "integration_denied")
    assert (third["integration"], third["status"], third["code"]) == ("unknown", 400, "request_invalid")
    assert len({line["request_id"] for line in (first, second, third)}) == 3


async def test_a_total_timeout_covers_everything() -> None:
    """Connecting, the upload and the response; 504 where no byte of the response was sent."""

    async def silent(connection: RawConnection) -> None:
        await connection.until_ended()

    async with Upstream(silent) as upstream:
        timeouts = Timeouts(total=0.3)
        async with running(integration("h", base_url(upstream.port)), timeouts=timeouts) as sidekey:
            asking = asyncio.create_task(sidekey.ask(get()))
            await (await upstream.connection()).until_contains(b"\r\n\r\n")
            sidekey.wait(0.4)
            said = problem(await asking)
            assert (said["status"], said["code"], said["sent"]) == (504, "upstream_timeout", "maybe")
        assert len(wire.requests(upstream.received[0])) == 1
