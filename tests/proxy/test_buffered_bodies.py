"""Bodies that Sidekey buffers to sign them: limits, and release of memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from sidekey.credentials.certificates.identity import ClientIdentity
from sidekey.errors import Problem, ProblemError
from sidekey.proxy.limits import MIN_BYTES_PER_SECOND
from sidekey.proxy.transport import SHORT_PIECE
from sidekey.snapshot.request_rules import Limits, Timeouts
from support.memory import MemoryUpstream, running
from support.plane import RunningPlane, base_url, eventually, problem, request
from support.presets import post, preset
from support.raw_connection import RawConnection
from support.scripted import GatedGrantSource
from support.signing import HmacSigner, grant_of, signing_integration
from support.wire import Message

KIB = 1 << 10
WHOLE = 256 * KIB
LIMITS = Limits(signed_body=WHOLE, held_bodies=2 * WHOLE)
IDLE = Timeouts().idle
CODED = "Transfer-Encoding: chunked"


def upload(size: int, *fields: str, coded: bool = False, name: str = "h") -> bytes:
    """Build the head of an upload."""
    return request("POST", "/a", CODED if coded else f"Content-Length: {size}", *fields, name=name)


async def wait_until_reserved(sidekey: RunningPlane, size: int) -> None:
    """Wait until this many bytes are reserved."""
    await eventually(lambda: sidekey.plane.worker.held_bytes == size)


async def send(sidekey: RunningPlane, size: int, *, name: str = "h") -> Message:
    """Send a body after its head, and return the response."""
    async with sidekey.connect() as caller:
        await caller.send(upload(size, "Expect: 100-continue", name=name))
        response = await caller.response()
        if response.status == 100:
            await caller.send(b"x" * size)
            response = await caller.response()
        return response


def assert_full(response: Message) -> None:
    """The response reports the limit, and that a retry is safe."""
    error = problem(response)
    assert (error["code"], error["status"], error["sent"]) == ("overloaded", 503, "no")
    assert error["detail"] == "limits.held_bodies is reached, of which one integration may use half"
    assert response.values(b"retry-after") == [b"1"]


@pytest.mark.parametrize("expects", [False, True])
async def test_a_body_over_the_limit_is_refused_before_it_is_sent(expects: bool) -> None:
    """With Content-Length, without 100 Continue."""
    async with running(signing_integration(HmacSigner()), limits=LIMITS) as sidekey, sidekey.connect() as caller:
        await caller.send(upload(WHOLE + 1, *(["Expect: 100-continue"] if expects else [])))
        error = problem(await caller.response())
        assert (error["code"], error["status"]) == ("request_too_large", 413)
        assert "limits.signed_body" in error["detail"]
        assert sidekey.plane.worker.held_bytes == 0


async def test_chunked_body_is_refused_once_it_exceeds_the_limit() -> None:
    """Nothing of it is sent."""
    async with (
        MemoryUpstream() as upstream,
        running(signing_integration(HmacSigner(), port=upstream.port), limits=LIMITS) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(upload(0, coded=True) + b"%x\r\n%b" % (WHOLE + 1, b"x" * WHOLE))
        await wait_until_reserved(sidekey, WHOLE)
        assert not caller.received
        await caller.send(b"x")
        assert problem(await caller.response())["code"] == "request_too_large"
        assert (sidekey.plane.worker.held_bytes, upstream.connections) == (0, [])


async def test_a_body_that_does_not_fit_is_refused_before_it_is_sent() -> None:
    """Content-Length reserves memory. An integration gets half, and others are served."""
    async with MemoryUpstream() as upstream:
        integrations = [signing_integration(HmacSigner(), name, port=upstream.port) for name in ("h", "o")]
        async with running(*integrations, limits=LIMITS) as sidekey, sidekey.connect() as caller:
            await caller.send(upload(WHOLE))
            await wait_until_reserved(sidekey, WHOLE)
            assert_full(await send(sidekey, 1))
            assert (await send(sidekey, WHOLE, name="o")).status == 200
            await caller.send(b"x" * WHOLE)
            assert (await caller.response()).status == 200
            assert (await send(sidekey, WHOLE)).status == 200
            assert sidekey.plane.worker.held_bytes == 0


async def test_all_integrations_together_have_no_more_than_the_limit() -> None:
    """An integration below its half is refused, too."""
    integrations = [signing_integration(HmacSigner(), name) for name in ("h", "o", "p")]
    async with (
        running(*integrations, limits=LIMITS) as sidekey,
        sidekey.connect() as first,
        sidekey.connect() as second,
    ):
        await first.send(upload(WHOLE))
        await second.send(upload(WHOLE, name="o"))
        await wait_until_reserved(sidekey, 2 * WHOLE)
        assert_full(await send(sidekey, 1, name="p"))


async def test_a_chunked_body_counts_as_it_arrives() -> None:
    async with (
        running(signing_integration(HmacSigner()), limits=LIMITS) as sidekey,
        sidekey.connect() as first,
        sidekey.connect() as second,
    ):
        await first.send(upload(0, coded=True) + b"%x\r\n%b" % (WHOLE, b"x" * (WHOLE - 10)))
        await second.send(upload(0, coded=True) + b"%x\r\n%b" % (WHOLE, b"x" * 10))
        await wait_until_reserved(sidekey, WHOLE)
        await second.send(b"x")
        assert_full(await second.response())
        await wait_until_reserved(sidekey, WHOLE - 10)
        assert not first.received


async def test_body_that_arrives_with_its_head_does_not_count() -> None:
    """Slow uploads cannot block such requests."""
    async with (
        MemoryUpstream() as upstream,
        running(signing_integration(HmacSigner(), port=upstream.port), limits=LIMITS) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(upload(WHOLE))
        await wait_until_reserved(sidekey, WHOLE)
        assert (await sidekey.send(request("POST", body=b"short"))).status == 200
        assert (await sidekey.send(request("GET"))).status == 200


class NoCertificate:
    """A client certificate that turns out to be missing once the test sets `go`."""

    identity: ClientIdentity | None = None

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def obtain(self) -> ClientIdentity:
        await self.go.wait()
        raise ProblemError(MISSING)


MISSING = Problem("credential_unavailable", "the client certificate is missing")
PARAMETERS = {"parameters": {"text": {"type": "text"}}, "body": {"json": {"text": "{{text}}"}}}
FILLED = b'{"text":"%b"}' % (b"x" * (WHOLE // 4 - 11))


@pytest.mark.parametrize("filled", [False, True], ids=["with its head", "preset"])
@pytest.mark.parametrize("missing", ["grant", "certificate"])
async def test_a_body_that_waits_for_its_credential_counts(missing: str, filled: bool) -> None:
    """Even if it arrived with its head: a token may take long."""
    signer, certificate = HmacSigner(), NoCertificate()
    source = GatedGrantSource(grant_of(signer), available=missing == "certificate")
    raw = post(FILLED) if filled else request("POST", body=FILLED)
    async with MemoryUpstream() as upstream, AsyncExitStack() as stack:
        sidekey = await stack.enter_async_context(
            running(
                signing_integration(signer, port=upstream.port),
                limits=LIMITS,
                sources={"h": source},
                identities={"h": certificate} if missing == "certificate" else {},
                presets=[preset(url=base_url(upstream.port, "/api/hook"), **PARAMETERS)],
            )
        )
        callers = [await stack.enter_async_context(sidekey.connect()) for _ in range(4)]
        for number, caller in enumerate(callers, 1):
            await caller.send(raw)
            await wait_until_reserved(sidekey, number * len(FILLED))
        assert_full(await sidekey.send(raw))
        source.go.set()
        certificate.go.set()
        for caller in callers:
            response = await caller.response()
            assert response.status == 200 if missing == "grant" else problem(response)["code"] == MISSING.code
        assert sidekey.plane.worker.held_bytes == 0
    assert [b"".join(item.body) for item in signer.signed] == ([FILLED] * 4 if missing == "grant" else [])


# The end of an upload.


async def leave(_: RunningPlane, caller: RawConnection) -> None:
    """Close the caller's connection."""
    caller.transport.abort()


async def pause(sidekey: RunningPlane, caller: RawConnection) -> None:
    """Send nothing more."""
    sidekey.advance(IDLE)
    assert problem(await caller.response())["detail"] == "the body came too slowly"


async def trickle(sidekey: RunningPlane, caller: RawConnection) -> None:
    """Send a byte now and then, so that `timeouts.idle` never expires."""
    for _ in range(3):
        sidekey.advance(IDLE / 2)
        await caller.send(b"x")
        # Else the next wait comes before the byte.
        await asyncio.sleep(0)
    error = problem(await caller.response())
    assert (error["code"], error["status"], error["sent"]) == ("request_timeout", 408, "no")
    assert error["detail"] == f"the body is signed and came at less than {MIN_BYTES_PER_SECOND >> 10} KiB/s"


@pytest.mark.parametrize("coded", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("end", [leave, pause, trickle])
async def test_an_upload_that_ends_early_releases_its_memory(
    end: Callable[[RunningPlane, RawConnection], Awaitable[None]], coded: bool
) -> None:
    async with (
        MemoryUpstream() as upstream,
        running(signing_integration(HmacSigner(), port=upstream.port), limits=LIMITS) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(upload(WHOLE, coded=coded) + (b"%x\r\n" % WHOLE if coded else b"") + b"x" * 10)
        await wait_until_reserved(sidekey, 10 if coded else WHOLE)
        await end(sidekey, caller)
        await wait_until_reserved(sidekey, 0)
        assert (await send(sidekey, WHOLE)).status == 200


async def test_an_upload_may_pause_after_it_was_fast() -> None:
    """The rate is an average."""
    async with (
        MemoryUpstream() as upstream,
        running(signing_integration(HmacSigner(), port=upstream.port), limits=LIMITS) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(upload(WHOLE) + b"x" * (WHOLE // 2))
        await wait_until_reserved(sidekey, WHOLE)
        for piece in (b"x", b"x" * (WHOLE // 2 - 1)):
            sidekey.advance(IDLE / 2 + 1)
            await caller.send(piece)
            await asyncio.sleep(0)
        assert (await caller.response()).status == 200


async def test_memory_is_released_as_the_upstream_reads() -> None:
    """Not only at the end."""
    reserved = []

    async def script(connection: RawConnection) -> None:
        connection.transport.pause_reading()
        await eventually(lambda: sidekey.plane.worker.held_bytes < 4 * KIB * KIB)
        reserved.append(sidekey.plane.worker.held_bytes)
        connection.transport.resume_reading()
        await connection.request()
        await connection.send(b"HTTP/1.1 204 No\r\n\r\n")

    limits = Limits(signed_body=4 * KIB * KIB, held_bodies=8 * KIB * KIB)
    async with MemoryUpstream(script) as upstream:
        async with running(signing_integration(HmacSigner(), port=upstream.port), limits=limits) as sidekey:
            assert (await send(sidekey, 4 * KIB * KIB)).status == 204
            assert sidekey.plane.worker.held_bytes == 0
        (message,) = upstream.requests
    assert 0 < reserved[0] < 4 * KIB * KIB
    assert len(message.body) == 4 * KIB * KIB


async def test_early_response_releases_a_buffered_body() -> None:
    """Sidekey closes the upstream connection, and keeps the caller's, which has sent everything."""

    async def script(connection: RawConnection) -> None:
        await connection.until_contains(b"\r\n\r\n")
        connection.transport.pause_reading()
        await connection.send(b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n")

    limits = Limits(signed_body=4 * KIB * KIB, held_bodies=8 * KIB * KIB)
    async with (
        MemoryUpstream(script) as upstream,
        running(signing_integration(HmacSigner(), port=upstream.port), limits=limits) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(upload(4 * KIB * KIB))
        await wait_until_reserved(sidekey, 4 * KIB * KIB)
        await caller.send(b"x" * (4 * KIB * KIB))
        response = await caller.response()
        assert (response.status, response.values(b"connection")) == (413, [])
        assert sidekey.plane.worker.held_bytes == 0
        await caller.send(request("POST", body=b"next"))
        await eventually(lambda: len(upstream.connections) == 2)
        assert (await caller.response()).status == 413


async def test_two_hundred_uploads_of_a_mebibyte_at_once_are_served_or_refused() -> None:
    """Reservations never exceed the limit, and end at zero."""
    size, most = KIB * KIB, 0
    signer = HmacSigner()
    async with MemoryUpstream() as upstream, running(signing_integration(signer, port=upstream.port)) as sidekey:

        async def one(coded: bool) -> int:
            nonlocal most
            async with sidekey.connect() as caller:
                await caller.send(upload(size, coded=coded))
                await asyncio.sleep(0)
                most = max(most, sidekey.plane.worker.held_bytes)
                body = b"x" * size
                await caller.send(b"%x\r\n%b\r\n0\r\n\r\n" % (size, body) if coded else body)
                return (await caller.response()).status

        statuses = await asyncio.gather(*(one(number % 4 == 0) for number in range(200)))
        assert sidekey.plane.worker.held_bytes == 0
    assert {200} <= {*statuses} <= {200, 503}
    assert 0 < most <= Limits().held_bodies // 2
    assert len(signer.signed) == statuses.count(200)


async def test_short_pieces_are_joined() -> None:
    """A body in chunks of two bytes takes about its length."""
    signer = HmacSigner()
    count = 10_000
    async with (
        MemoryUpstream() as upstream,
        running(signing_integration(signer, port=upstream.port), limits=LIMITS) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(upload(0, coded=True))
        await caller.send(b"2\r\nxx\r\n" * count)
        await wait_until_reserved(sidekey, 2 * count)
        await caller.send(b"0\r\n\r\n")
        assert (await caller.response()).status == 200
    (once,) = signer.signed
    assert b"".join(once.body) == b"x" * 2 * count
    assert len(once.body) <= 2 * count // SHORT_PIECE + 1


async def test_reload_keeps_the_limit_of_a_buffered_body() -> None:
    async with MemoryUpstream() as upstream:
        configured = signing_integration(HmacSigner(), port=upstream.port)
        async with running(configured, limits=LIMITS) as sidekey, sidekey.connect() as caller:
            await caller.send(upload(WHOLE) + b"x" * 10)
            await wait_until_reserved(sidekey, WHOLE)
            lower = replace(LIMITS, signed_body=KIB, held_bodies=2 * KIB)
            sidekey.publisher.publish(replace(sidekey.snapshot, limits=lower))
            assert_full(await send(sidekey, 1))
            await caller.send(b"x" * (WHOLE - 10))
            assert (await caller.response()).status == 200
            await caller.send(upload(KIB + 1))
            assert problem(await caller.response())["code"] == "request_too_large"
            assert sidekey.plane.worker.held_bytes == 0


async def test_a_reload_does_not_give_an_integration_another_half() -> None:
    """Bodies of the replaced integration count until they end."""
    integrations = [signing_integration(HmacSigner(), name) for name in ("h", "o")]
    async with running(*integrations, limits=LIMITS) as sidekey, sidekey.connect() as caller:
        await caller.send(upload(WHOLE))
        await wait_until_reserved(sidekey, WHOLE)
        renewed = {**sidekey.snapshot.integrations, "h": replace(integrations[0], description="renewed")}
        sidekey.publisher.publish(replace(sidekey.snapshot, integrations=renewed))
        assert_full(await send(sidekey, 1))
        caller.transport.abort()
        await wait_until_reserved(sidekey, 0)
        async with sidekey.connect() as next_caller:
            await next_caller.send(upload(WHOLE))
            await wait_until_reserved(sidekey, WHOLE)
