"""Signed requests: the signer gets exactly the bytes that the upstream receives, in replays and retries, too."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidekey.credentials.base import CredentialTraits, Grant, InjectionPoints
from sidekey.credentials.signing import OutgoingRequest, RandomIds
from sidekey.proxy.exchange.signed_request import MAX_INLINE, SignedRequest
from sidekey.proxy.worker import SIGNING_THREADS
from sidekey.snapshot.egress import Egress
from sidekey.snapshot.request_rules import Limits
from sidekey.snapshot.snapshot import Integration
from support import wire
from support.framing import chunked
from support.leaves import IssuedLeaves
from support.memory import MemoryUpstream, running
from support.plane import (
    AUTHORIZATION,
    UPSTREAM,
    FixedSource,
    RenewedSource,
    base_url,
    eventually,
    get,
    problem,
    request,
)
from support.plane import running as running_on_sockets
from support.presets import post, preset
from support.private_ca import Authority
from support.raw_connection import RawConnection
from support.scripted import RecordingTransport, ScriptedPlane, settle
from support.signing import DENIED, UNSIGNABLE, HmacSigner, grant_of, signing_integration, verify
from support.tunnels import tunnel
from support.upstream import OK, RawUpstream, always_ok, respond_with

FORM = "Content-Type: application/x-www-form-urlencoded"
JSON = "Content-Type: application/json"
REFUSED = b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno"
CHUNKED = "Transfer-Encoding: chunked"


def split(received: bytes) -> list[tuple[bytes, wire.Message]]:
    """Return every request of a connection: its bytes, and its parsed message."""
    result = []
    for message in wire.requests(received):
        result.append((received[: message.length], message))
        received = received[message.length :]
    return result


def check(received: list[bytes], *signers: HmacSigner) -> list[wire.Message]:
    """Check each request against the arguments of its signer: method, target, every line, body.

    `signers` has one signer for each request, or one for all.
    """
    received_message = [item for connection in received for item in split(connection)]
    signers = signers if len(signers) > 1 else signers * len(received_message)
    left = {id(item): list(item.signed) for item in signers}
    for (raw, message), signer in zip(received_message, signers, strict=True):
        verify(raw, message.body, signer.key)
        given = left[id(signer)].pop(0)
        assert raw.startswith(given.head + b"\r\nX-")
        assert given.request.authority == message.values(b"host")[0]
        assert (given.request.scheme, given.request.method) == (b"http", message.method)
        assert b"".join(given.body) == message.body
        assert message.values(b"x-time") == [b"%d" % given.now]
        assert message.values(b"x-nonce") == [given.unique.nonce.hex().encode()]
        assert len(given.unique.message) == len(given.unique.nonce) == 16
    assert not any(left.values())
    return [message for _, message in received_message]


BODIES = {
    "none": request("GET"),
    "empty": request("POST", body=b""),
    "whole": request("POST", "/a?b=c", JSON, body=b'{"a": 1}'),
    "chunked": request("POST", "/a", CHUNKED) + chunked(b"hello world", 3),
    "chunked and empty": request("POST", "/a", CHUNKED) + chunked(b""),
    "HTTP/1.0": request("POST", body=b"old", version="1.0"),
    "HEAD": request("HEAD"),
    "DELETE with a body": request("DELETE", body=b"these"),
}


@pytest.mark.parametrize("reads", ["at once", "in pieces of a byte"])
@pytest.mark.parametrize("raw", BODIES.values(), ids=BODIES)
async def test_signed_bytes_are_the_received_bytes(raw: bytes, reads: str) -> None:
    """With any framing and in any reads. Sidekey sends a buffered body with Content-Length."""
    signer = HmacSigner()
    async with MemoryUpstream() as upstream, running(signing_integration(signer, port=upstream.port)) as sidekey:
        async with sidekey.connect() as caller:
            pieces = [raw] if reads == "at once" else [raw[at : at + 1] for at in range(len(raw))]
            for piece in pieces:
                caller.transport.write(piece)
            assert (await caller.response(to_head=raw.startswith(b"HEAD"))).status == 200
        (message,) = check(upstream.received, signer)
    (sent,) = wire.requests(raw.replace(b"HTTP/1.0", b"HTTP/1.1"))
    assert message.body == sent.body
    assert not message.values(b"transfer-encoding")
    length = [] if sent.method in {b"GET", b"HEAD"} else [b"%d" % len(sent.body)]
    assert message.values(b"content-length") == length


async def test_signature_covers_injected_and_removed_fields() -> None:
    """Query, header, Accept-Encoding. Sidekey removes the caller's signature in any spelling."""
    signer = HmacSigner()
    async with MemoryUpstream() as upstream:
        configured = signing_integration(signer, port=upstream.port, query=(("key", "k&k"),), redact_response=True)
        async with running(configured) as sidekey:
            fields = ("X_Signature: forged", "X-Time: 1", "x-nonce: 2", "X-Own: kept", "Connection: x-hop", "X-Hop: 1")
            assert (await sidekey.send(get("/a?b=c", *fields))).status == 200
        (message,) = check(upstream.received, signer)
    assert message.target == b"/api/a?b=c&key=k%26k"
    assert message.values(b"x-own") == [b"kept"]
    assert message.values(b"accept-encoding") == [b"identity"]
    assert [len(message.values(name)) for name in (b"x-signature", b"x-time", b"x-nonce", b"x-id")] == [1, 1, 1, 1]
    assert not (message.values(b"x-hop") + message.values(b"x_signature"))


async def test_message_id_of_the_caller_is_kept() -> None:
    """It identifies a repeated message."""
    signer = HmacSigner()
    async with MemoryUpstream() as upstream, running(signing_integration(signer, port=upstream.port)) as sidekey:
        assert (await sidekey.send(get("/a", "X-Id: mine"))).status == 200
        (message,) = check(upstream.received, signer)
    assert message.values(b"x-id") == [b"mine"]


async def test_preset_forwards_the_message_id_and_no_other_signature_field() -> None:
    signer = HmacSigner()
    async with MemoryUpstream() as upstream:
        configured = signing_integration(signer, port=upstream.port)
        hook = preset(url=base_url(upstream.port, "/api/hook"))
        async with running(configured, presets=[hook]) as sidekey:
            assert (await sidekey.send(post(b"{}", "X-Id: mine", "X-Time: 1", "X-Signature: 2"))).status == 200
        (message,) = check(upstream.received, signer)
    assert (message.target, message.body) == (b"/api/hook", b"{}")
    assert [len(message.values(name)) for name in (b"x-signature", b"x-time")] == [1, 1]
    assert message.values(b"x-id") == [b"mine"]


async def test_signature_covers_the_filled_preset() -> None:
    signer = HmacSigner()
    async with MemoryUpstream() as upstream:
        configured = signing_integration(signer, port=upstream.port)
        keys = {"parameters": {"user": {"type": "text"}}, "body": {"json": {"user": "{{user}}"}}}
        hook = preset(url=base_url(upstream.port, "/api/hook"), **keys)
        async with running(configured, presets=[hook]) as sidekey, sidekey.connect() as caller:
            whole = post(b'{"user": "x"}', "X-Id: mine")
            for piece in (whole[:-3], whole[-3:]):
                await caller.send(piece)
            assert (await caller.response()).status == 200
        (message,) = check(upstream.received, signer)
    assert message.body.replace(b" ", b"") == b'{"user":"x"}'
    assert message.values(b"x-id") == [b"mine"]


@pytest.mark.parametrize("sent", ["at once", "later"])
async def test_signature_covers_the_injected_token_in_the_body(sent: str) -> None:
    signer = HmacSigner()
    async with MemoryUpstream() as upstream:
        configured = signing_integration(signer, port=upstream.port, body=(("token", "s&t"),))
        async with running(configured) as sidekey, sidekey.connect() as caller:
            whole = request("POST", "/a", FORM, body=b"a=b")
            for piece in [whole] if sent == "at once" else [whole[:-2], whole[-2:]]:
                await caller.send(piece)
            assert (await caller.response()).status == 200
        (message,) = check(upstream.received, signer)
    assert message.body == b"a=b&token=s%26t"


async def test_sidekey_sends_100_continue_for_a_signed_body() -> None:
    """Once, before the body is complete. It does not forward the expectation."""
    signer = HmacSigner()
    async with MemoryUpstream() as upstream, running(signing_integration(signer, port=upstream.port)) as sidekey:
        async with sidekey.connect() as caller:
            await caller.send(request("POST", "/a", "Expect: 100-continue", "Content-Length: 5"))
            assert (await caller.response()).status == 100
            assert upstream.connections == []
            await caller.send(b"hello")
            assert (await caller.response()).status == 200
        assert bytes(caller.received).count(b"100 Continue") == 1
        (message,) = check(upstream.received, signer)
    assert (message.body, message.values(b"expect")) == (b"hello", [])


@pytest.mark.parametrize("framing", ["Content-Length: 8", CHUNKED])
async def test_unsigned_body_streams(framing: str) -> None:
    """In the caller's framing, with its expectation."""
    signer = HmacSigner()
    body = b"unsigned"
    async with (
        MemoryUpstream(send_100_then_ok) as upstream,
        running(signing_integration(signer, port=upstream.port)) as sidekey,
    ):
        async with sidekey.connect() as caller:
            await caller.send(request("POST", "/a", "X-Unsigned-Body: 1", "Expect: 100-continue", framing))
            assert (await caller.response()).status == 100
            await caller.send(chunked(body) if framing == CHUNKED else body)
            assert (await caller.response()).status == 200
        ((raw, message),) = split(upstream.received[0])
    (once,) = signer.signed
    assert raw.startswith(once.head + b"\r\nX-Id: ")
    assert (once.body, message.body, message.values(b"expect")) == ((), body, [b"100-continue"])
    verify(raw, b"", signer.key)


async def send_100_then_ok(connection: RawConnection) -> None:
    """Send 100 Continue, then respond."""
    await connection.until_contains(b"\r\n\r\n")
    await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    await connection.request()
    await connection.send(OK)


async def test_long_body_is_signed_in_a_thread_and_written_as_the_upstream_reads() -> None:
    """The caller's connection then serves the next request."""
    signer = HmacSigner()
    body = bytes(range(256)) * (12 * MAX_INLINE // 256)
    async with MemoryUpstream() as upstream, running(signing_integration(signer, port=upstream.port)) as sidekey:
        async with sidekey.connect() as caller:
            caller.transport.write(request("PUT", body=body) + get("/next"))
            assert [(await caller.response()).status for _ in range(2)] == [200, 200]
            assert sidekey.plane.worker.held_bytes == 0
        long, short = check(upstream.received, signer)
    assert (long.body == body, short.target) == (True, b"/api/next")
    assert len(signer.signed[0].body) > 1


async def test_buffered_body_is_written_one_piece_in_each_turn() -> None:
    """However fast the upstream reads."""
    signer = HmacSigner()
    sidekey = ScriptedPlane(signing_integration(signer))
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    upstream.feed(OK)
    raw = upstream.read()
    caller.read()
    pieces = [b"%d" % number * 50_000 for number in range(5)]
    length = f"Content-Length: {sum(map(len, pieces))}"
    caller.feed(request("POST", "/a", length), *pieces)
    await until_written(upstream)
    sizes = [len(upstream.written)]
    for _ in pieces:
        await asyncio.sleep(0)
        sizes.append(len(upstream.written))
    assert [more - size for size, more in pairwise(sizes)] == [50_000] * 4 + [0]
    _, message = check([raw + upstream.read()], signer)
    assert message.body == b"".join(pieces)
    upstream.feed(OK)
    assert caller.read().startswith(b"HTTP/1.1 200 OK")


async def until_written(upstream: RecordingTransport) -> None:
    """Run the loop until the upstream gets the first bytes."""
    while not upstream.written:
        await asyncio.sleep(0)


async def test_resume_writing_during_a_turn_does_not_add_a_piece() -> None:
    """Otherwise each such event would add a piece to every further turn."""
    piece, signer = 1 << 16, HmacSigner()
    body = bytes(range(256)) * (3 * piece // 256)
    sidekey = ScriptedPlane(signing_integration(signer))
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    upstream.feed(OK)
    upstream.read()
    caller.feed(request("POST", "/a", f"Content-Length: {len(body)}"))
    caller.feed(*(body[at : at + piece] for at in range(0, len(body), piece)))
    await until_written(upstream)
    for sent in (1, 2):
        assert body[: sent * piece] == bytes(upstream.written).partition(b"\r\n\r\n")[2]
        upstream.protocol.pause_writing()
        upstream.protocol.resume_writing()
        assert body[: sent * piece] == bytes(upstream.written).partition(b"\r\n\r\n")[2]
        await asyncio.sleep(0)
    upstream.feed(OK)
    assert sidekey.metrics.stats("h").outcomes == {"2xx": 2}
    verify(upstream.read(), body)


def test_short_pieces_are_joined_up_to_a_bounded_write() -> None:
    body = [b"a", b"b", b"c" * 40_000, b"d" * 40_000]
    signed = SignedRequest(covers_body=True, extends_body=False)
    request = OutgoingRequest(b"POST", b"https", b"up.test", b"/", [b"\r\nHost: up.test"])
    assert signed.set_content(request, body, sum(map(len, body)), HmacSigner()) is None
    assert signed.write(lambda: 0.0)[-1] == b"\r\n\r\n"
    assert not signed.is_written
    assert signed.next_piece() == b"".join(body[:3])
    assert not signed.is_written
    assert signed.next_piece() is body[3]
    assert signed.is_written
    assert signed.set_content(request, body[:3], 40_002, HmacSigner()) is None
    assert signed.write(lambda: 0.0)[-3:] == body[:3]
    assert signed.is_written


def test_undeclared_signature_fields_are_neither_signed_nor_written() -> None:
    signed = SignedRequest(covers_body=True, extends_body=False)
    for act in (lambda: signed.bind_signature(0.0), lambda: signed.write(lambda: 0.0)):
        with pytest.raises(AttributeError):
            act()


async def test_slow_signers_leave_threads_to_other_work() -> None:
    """DNS and token requests use the same threads. Sidekey signs nothing for callers that left."""
    going = threading.Event()

    class Blocking(HmacSigner):
        def sign(self, request: OutgoingRequest, body: Sequence[bytes], now: float, unique: RandomIds) -> list[bytes]:
            lines = super().sign(request, body, now, unique)
            assert going.wait(30)
            return lines

    signer = Blocking(slow=True)
    async with MemoryUpstream() as upstream, running(signing_integration(signer, port=upstream.port)) as sidekey:
        async with AsyncExitStack() as stack:
            callers = [await stack.enter_async_context(sidekey.connect()) for _ in range(SIGNING_THREADS + 40)]
            try:
                for caller in callers:
                    caller.transport.write(get())
                await eventually(lambda: len(signer.signed) == SIGNING_THREADS)
                assert await asyncio.to_thread(lambda: "a thread") == "a thread"
                assert len(signer.signed) == SIGNING_THREADS
                callers.pop().transport.abort()
                await eventually(lambda: sidekey.metrics.in_flight == len(callers))
            finally:
                going.set()
            assert [(await caller.response()).status for caller in callers] == [200] * len(callers)
        assert len(signer.signed) == len(callers)


async def test_body_stays_reserved_until_the_signing_thread_ends() -> None:
    """Even if the caller has left."""
    going = threading.Event()

    class Blocking(HmacSigner):
        def sign(self, request: OutgoingRequest, body: Sequence[bytes], now: float, unique: RandomIds) -> list[bytes]:
            assert going.wait(30)
            return super().sign(request, body, now, unique)

    sidekey = ScriptedPlane(signing_integration(Blocking(slow=True)))
    caller = sidekey.caller()
    raw = request("POST", body=b"whole")
    caller.feed(raw[:-1])
    caller.feed(raw[-1:])
    worker = sidekey.plane.worker
    await eventually(lambda: worker.is_waiting)
    caller.fail(ConnectionResetError())
    try:
        await eventually(lambda: sidekey.metrics.in_flight == 0)
        assert worker.held_bytes == 5
    finally:
        going.set()
    await eventually(lambda: worker.held_bytes == 0)
    assert sidekey.upstreams == []


async def test_defect_of_a_signing_thread_is_reported_after_the_caller_left() -> None:
    """The loop's handler logs it, and the next request is signed."""
    going, failed = threading.Event(), []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context["exception"]))

    class Broken(HmacSigner):
        def sign(self, request: OutgoingRequest, body: Sequence[bytes], now: float, unique: RandomIds) -> list[bytes]:
            assert going.wait(30)
            raise LookupError

    sidekey = ScriptedPlane(signing_integration(Broken(slow=True)))
    caller = sidekey.caller()
    caller.feed(request("POST", body=b"whole"))
    await settle()
    caller.fail(ConnectionResetError())
    await settle()
    assert sidekey.metrics.stats("h").outcomes == {"caller_gone": 1}
    going.set()
    await eventually(lambda: failed)
    assert [type(error) for error in failed] == [LookupError]
    again = sidekey.caller()
    again.feed(get())
    await eventually(lambda: again.written)
    assert again.read().startswith(b"HTTP/1.1 500 ")
    assert [type(error) for error in sidekey.defects] == [LookupError]
    sidekey.defects.clear()


async def test_a_connection_stays_in_the_pool_if_its_request_cannot_be_signed() -> None:
    class Broken(HmacSigner):
        def sign(self, request: OutgoingRequest, body: Sequence[bytes], now: float, unique: RandomIds) -> list[bytes]:
            if request.values(b"x-broken"):
                raise LookupError
            return super().sign(request, body, now, unique)

    sidekey = ScriptedPlane(signing_integration(Broken()))
    caller = sidekey.caller()
    for fields in ((), ("X-Broken: 1",), ()):
        caller.feed(get("/a", *fields))
        upstream = await sidekey.upstream()
        if upstream.read():
            upstream.feed(OK)
        assert caller.read().startswith(b"HTTP/1.1 500 " if fields else b"HTTP/1.1 200 ")
        assert [item.transport for item in sidekey.pooled()] == [upstream]
    assert len(sidekey.upstreams) == 1
    assert [type(error) for error in sidekey.defects] == [LookupError]
    sidekey.defects.clear()


async def test_thread_that_cannot_start_does_not_block_later_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process limit may be reached for a while."""
    signer = HmacSigner(slow=True)
    sidekey = ScriptedPlane(signing_integration(signer))

    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(SIGNING_THREADS):
            caller = sidekey.caller()
            caller.feed(get())
            await settle()
            assert caller.read().startswith(b"HTTP/1.1 500 ")
    assert [type(error) for error in sidekey.defects] == [RuntimeError] * SIGNING_THREADS
    sidekey.defects.clear()
    sidekey.caller().feed(get())
    await eventually(lambda: sidekey.upstreams and sidekey.upstreams[0].written)


async def test_rules_and_signer_may_refuse_a_request() -> None:
    """The rules before anything else, the signer after the grant and before a connection."""
    signer = HmacSigner()
    async with MemoryUpstream() as upstream, running(signing_integration(signer, port=upstream.port)) as sidekey:
        async with sidekey.connect() as caller:
            await caller.send(request("POST", "/a", "X-Denied: 1", "Content-Length: 5"))
            assert problem(await caller.response())["detail"] == DENIED.detail
        assert problem(await sidekey.send(get("/a", "X-Unsignable: 1")))["detail"] == UNSIGNABLE.detail
        assert (upstream.connections, signer.signed) == ([], [])


# What is sent a second time.


def renewed(port: int, *, slow: bool = False) -> tuple[Integration, RenewedSource, HmacSigner, HmacSigner]:
    """Build an integration whose first grant is refused. Return the signers of both grants."""
    old, new = HmacSigner(b"an old key", slow=slow), HmacSigner(b"a new key", slow=slow)
    configured = signing_integration(old, port=port, watched=frozenset({401}))
    return configured, RenewedSource(grant_of(old), grant_of(new)), old, new


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("slow", [False, True], ids=["at once", "in a thread"])
async def test_replay_is_signed_again(slow: bool, framing: str) -> None:
    """With the newer key, a new nonce and the same ID."""
    refusals = iter([REFUSED])
    body = b"again"

    async def script(connection: RawConnection) -> None:
        while True:
            await connection.request()
            await connection.send(next(refusals, OK))

    async with MemoryUpstream(script) as upstream:
        created, source, old, new = renewed(upstream.port, slow=slow)
        async with running(created, sources={"h": source}) as sidekey:
            raw = (
                request("POST", "/a", CHUNKED) + chunked(body, 2)
                if framing == "chunked"
                else request("POST", body=body)
            )
            assert (await sidekey.send(raw)).status == 200
        first, second = check(upstream.received, old, new)
    assert (first.body, second.body) == (body, body)
    assert first.values(b"x-id") == second.values(b"x-id")
    assert first.values(b"x-nonce") != second.values(b"x-nonce")


async def test_replay_does_not_release_memory_twice() -> None:
    responses: list[asyncio.Future[bytes]] = [asyncio.Future(), asyncio.Future()]
    coming = iter(responses)
    body = b"x" * 1000

    async def script(connection: RawConnection) -> None:
        while True:
            await connection.request()
            await connection.send(await next(coming))

    async with MemoryUpstream(script) as upstream:
        created, source, old, new = renewed(upstream.port)
        async with running(created, sources={"h": source}) as sidekey, sidekey.connect() as caller:
            worker = sidekey.plane.worker
            raw = request("POST", body=body)
            await caller.send(raw[:-1])
            await eventually(lambda: worker.held_bytes == len(body))
            await caller.send(raw[-1:])
            await eventually(lambda: worker.held_bytes == 0)
            responses[0].set_result(REFUSED)
            await eventually(lambda: len(new.signed) == 1)
            assert worker.held_bytes == 0
            responses[1].set_result(OK)
            assert (await caller.response()).status == 200
            assert worker.held_bytes == 0
        check(upstream.received, old, new)


async def test_signed_body_over_the_replay_limit_is_sent_once() -> None:
    """The caller gets the refusal."""
    async with MemoryUpstream(respond_with(REFUSED)) as upstream:
        created, source, old, _ = renewed(upstream.port)
        async with running(created, sources={"h": source}, limits=Limits(replay_body=4)) as sidekey:
            assert (await sidekey.send(request("POST", body=b"hello"))).status == 401
        check(upstream.received, old)


@pytest.mark.parametrize("slow", [False, True], ids=["at once", "in a thread"])
@pytest.mark.parametrize("how", ["held", "streamed"])
async def test_retry_is_signed_again(how: str, slow: bool) -> None:
    """With a new time, a new nonce and the same ID: the upstream may have seen the first signature."""
    signer = HmacSigner(slow=slow)
    times = iter([100.0, 200.0, 300.0, 400.0])

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(OK)
        if len(upstream.connections) == 1:
            await connection.request()
            connection.transport.close()

    upstream = MemoryUpstream(script)
    async with upstream, running(signing_integration(signer, port=upstream.port), wall=lambda: next(times)) as sidekey:
        async with sidekey.connect() as caller:
            await caller.send(get())
            assert (await caller.response()).status == 200
            fields = () if how == "held" else ("X-Unsigned-Body: 1",)
            await caller.send(request("PUT", "/a", *fields, body=b"hello"))
            assert (await caller.response()).status == 200
        received = upstream.received
    _, first, second = [message for connection in received for _, message in split(connection)]
    if how == "held":
        check(received, signer)
    assert (first.body, second.body) == (b"hello", b"hello")
    assert first.values(b"x-id") == second.values(b"x-id")
    assert first.values(b"x-nonce") != second.values(b"x-nonce")
    assert [message.values(b"x-time") for message in (first, second)] == [[b"200"], [b"300"]]


@pytest.mark.parametrize("body", [b"hello", b"x" * 100_000], ids=["not idempotent", "over the limit for replays"])
async def test_post_and_unbuffered_body_are_not_retried(body: bytes) -> None:
    signer = HmacSigner()

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(OK)
        await connection.request()
        connection.transport.close()

    async with MemoryUpstream(script) as upstream, running(signing_integration(signer, port=upstream.port)) as sidekey:
        async with sidekey.connect() as caller:
            await caller.send(get())
            assert (await caller.response()).status == 200
            await caller.send(request("POST" if len(body) < 10 else "PUT", body=body))
            error = problem(await caller.response())
        assert (error["code"], error["sent"]) == ("upstream_protocol_error", "maybe")
        assert len(check(upstream.received, signer)) == 2


# Keys that change.


@pytest.mark.parametrize("slow", [False, True], ids=["at once", "in a thread"])
async def test_new_key_signs_all_requests_written_after_the_change(slow: bool) -> None:
    """Also requests that wait for a connection or a signature."""
    signers = [HmacSigner(b"key %d" % number, slow=slow) for number in range(4)]
    source = FixedSource(grant_of(signers[0]))
    async with (
        MemoryUpstream() as upstream,
        running(signing_integration(signers[0], port=upstream.port), sources={"h": source}) as sidekey,
    ):

        async def send(number: int) -> None:
            async with sidekey.connect() as caller:
                for _ in range(5):
                    await caller.send(request("POST", body=b"%d" % number * 1000))
                    assert (await caller.response()).status == 200
                    done.append(number)

        async def change() -> None:
            for count, signer in enumerate(signers[1:], 1):
                while len(done) < 10 * count:
                    await asyncio.sleep(0)
                source.grant = grant_of(signer)

        done: list[int] = []

        await asyncio.gather(change(), *(send(number) for number in range(10)))
        received = [item for connection in upstream.received for item in split(connection)]
    assert len(received) == 50
    keys = [next(signer for signer in signers if verified(raw, message.body, signer.key)) for raw, message in received]
    assert len(set(keys)) > 1


def verified(raw: bytes, body: bytes, key: bytes) -> bool:
    """Return True if a request is signed with this key."""
    try:
        verify(raw, body, key)
    except AssertionError:
        return False
    return True


async def test_grant_that_contradicts_its_integration_is_a_defect() -> None:
    """Sidekey neither sends an unsigned request nor signs without rules."""
    signer = HmacSigner()
    async with MemoryUpstream() as upstream:
        configured = signing_integration(signer, port=upstream.port)
        other = replace(configured, id="o", traits=CredentialTraits(InjectionPoints(headers=("Authorization",))))
        sources = {"h": FixedSource(Grant(headers=AUTHORIZATION)), "o": FixedSource(grant_of(signer))}
        async with running(configured, other, sources=sources) as sidekey:
            for name in ("h", "o"):
                assert problem(await sidekey.send(get(name=name)))["code"] == "internal_error"
            assert list(map(str, sidekey.defects)) == 2 * ["the grant is not signed by the rules of its integration"]
            sidekey.defects.clear()
        assert b"".join(upstream.received) == b""


# Ways in.


async def test_request_in_a_tunnel_is_signed_with_its_https_url(ca: Authority) -> None:
    signer = HmacSigner()
    async with RawUpstream(always_ok, ssl_context=ca.server_context(UPSTREAM)) as upstream:
        unsigned = signing_integration(signer, base=base_url(upstream.port, scheme="https"))
        configured = replace(unsigned, egress=Egress(ca.trust))
        async with (
            running_on_sockets(configured, leaves=IssuedLeaves(ca)) as sidekey,
            tunnel(sidekey, ca, f"{UPSTREAM}:{upstream.port}") as caller,
        ):
            lines = [
                "POST /api/a HTTP/1.1",
                f"Host: {UPSTREAM}:{upstream.port}",
                "X_Signature: forged",
                "Content-Length: 5",
            ]
            await caller.send("\r\n".join([*lines, "", "hello"]).encode())
            assert (await caller.response()).status == 200
        ((raw, message),) = split(upstream.received[0])
    verify(raw, message.body)
    (once,) = signer.signed
    assert raw.startswith(once.head)
    assert (once.request.scheme, once.body) == (b"https", (b"hello",))
    assert once.request.authority == message.values(b"host")[0]


WORDS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=12)
NAMES = st.from_regex(r"x-[a-z_]{1,8}", fullmatch=True)


@settings(max_examples=60)
@given(
    fields=st.lists(st.tuples(NAMES, WORDS), max_size=6),
    body=st.one_of(st.none(), st.binary(max_size=300)),
    size=st.integers(1, 50),
    coded=st.booleans(),
    query=st.sampled_from(["", "?a=b", "?a", "?"]),
    method=st.sampled_from(["POST", "PUT", "PATCH", "DELETE", "QUERY"]),
)
def test_any_request_is_signed_as_it_arrives(
    fields: list[tuple[str, str]], body: bytes | None, size: int, coded: bool, query: str, method: str
) -> None:
    """With any fields, and any split of the body."""

    async def play() -> None:
        signer = HmacSigner()
        lines = [f"{name}: {value}" for name, value in fields if name not in {"x-id", "x_id"}]
        target = f"/a{query}"
        raw = request(method, target, *lines, body=body)
        if coded and body is not None:
            raw = request(method, target, *lines, CHUNKED) + chunked(body, size)
        async with MemoryUpstream() as upstream:
            configured = signing_integration(signer, port=upstream.port, query=(("key", "k"),))
            async with running(configured) as sidekey, sidekey.connect() as caller:
                for at in range(0, len(raw), size):
                    caller.transport.write(raw[at : at + size])
                assert (await caller.response()).status == 200
            (message,) = check(upstream.received, signer)
        assert message.body == (body or b"")

    asyncio.run(play())
