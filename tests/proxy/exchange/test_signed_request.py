"""What a signer is given is what arrives at the upstream, byte for byte, however a request came and is sent again."""

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
from sidekey.proxy.exchange.signed_request import INLINE, SignedRequest
from sidekey.proxy.worker import SIGNING_THREADS
from sidekey.snapshot.request_rules import Limits
from sidekey.snapshot.snapshot import Integration
from support import wire
from support.leaves import IssuedLeaves
from support.memory import Upstream, running
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
from support.scripted import RecordingTransport, Scripted, settle
from support.signing import DENIED, UNSIGNABLE, HmacSigner, grant_of, signing, verify
from support.tunnels import tunnel
from support.upstream import OK, RawUpstream, always_ok, answering

FORM = "Content-Type: application/x-www-form-urlencoded"
JSON = "Content-Type: application/json"
REFUSED = b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno"
CHUNKED = "Transfer-Encoding: chunked"


def chunked(body: bytes, size: int = 1 << 20) -> bytes:
    """A body in chunks of this size, with the end."""
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))


def split(received: bytes) -> list[tuple[bytes, wire.Message]]:
    """Every request that arrived on a connection: its bytes, and what they say."""
    found = []
    for message in wire.requests(received):
        found.append((received[: message.length], message))
        received = received[message.length :]
    return found


def check(received: list[bytes], *signers: HmacSigner) -> list[wire.Message]:
    """Each request that arrived is signed, and is what the signer was given: method, target, every line, the body.

    `signers` are whose keys signed them, one for each request, or one for all.
    """
    arrived = [each for connection in received for each in split(connection)]
    signers = signers if len(signers) > 1 else signers * len(arrived)
    left = {id(each): list(each.signed) for each in signers}
    for (raw, message), signer in zip(arrived, signers, strict=True):
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
    return [message for _, message in arrived]


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
async def test_what_is_signed_is_what_arrives(raw: bytes, reads: str) -> None:
    """However it is framed, and however it is cut. What is held is framed by its length."""
    signer = HmacSigner()
    async with Upstream() as upstream, running(signing(signer, port=upstream.port)) as sidekey:
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


async def test_what_is_injected_and_stripped_is_signed_as_it_is_written() -> None:
    """Query, header, Accept-Encoding of a redacted response; and a caller's own signature is gone, however spelled."""
    signer = HmacSigner()
    async with Upstream() as upstream:
        made = signing(signer, port=upstream.port, query=(("key", "k&k"),), redact_response=True)
        async with running(made) as sidekey:
            fields = ("X_Signature: forged", "X-Time: 1", "x-nonce: 2", "X-Own: kept", "Connection: x-hop", "X-Hop: 1")
            assert (await sidekey.ask(get("/a?b=c", *fields))).status == 200
        (message,) = check(upstream.received, signer)
    assert message.target == b"/api/a?b=c&key=k%26k"
    assert message.values(b"x-own") == [b"kept"]
    assert message.values(b"accept-encoding") == [b"identity"]
    assert [len(message.values(name)) for name in (b"x-signature", b"x-time", b"x-nonce", b"x-id")] == [1, 1, 1, 1]
    assert not (message.values(b"x-hop") + message.values(b"x_signature"))


async def test_an_id_of_the_callers_own_is_kept() -> None:
    """It is what lets a receiver know a request that is sent again."""
    signer = HmacSigner()
    async with Upstream() as upstream, running(signing(signer, port=upstream.port)) as sidekey:
        assert (await sidekey.ask(get("/a", "X-Id: mine"))).status == 200
        (message,) = check(upstream.received, signer)
    assert message.values(b"x-id") == [b"mine"]


async def test_a_preset_lets_the_id_through_and_nothing_else_of_a_signature() -> None:
    """By a preset only a few fields of a caller go on."""
    signer = HmacSigner()
    async with Upstream() as upstream:
        made = signing(signer, port=upstream.port)
        hook = preset(url=base_url(upstream.port, "/api/hook"))
        async with running(made, presets=[hook]) as sidekey:
            assert (await sidekey.ask(post(b"{}", "X-Id: mine", "X-Time: 1", "X-Signature: 2"))).status == 200
        (message,) = check(upstream.received, signer)
    assert (message.target, message.body) == (b"/api/hook", b"{}")
    assert [len(message.values(name)) for name in (b"x-signature", b"x-time")] == [1, 1]
    assert message.values(b"x-id") == [b"mine"]


async def test_a_filled_preset_is_signed_as_it_is_filled() -> None:
    """Not as its parameters came."""
    signer = HmacSigner()
    async with Upstream() as upstream:
        made = signing(signer, port=upstream.port)
        keys = {"parameters": {"user": {"type": "text"}}, "body": {"json": {"user": "{{user}}"}}}
        hook = preset(url=base_url(upstream.port, "/api/hook"), **keys)
        async with running(made, presets=[hook]) as sidekey, sidekey.connect() as caller:
            whole = post(b'{"user": "x"}', "X-Id: mine")
            for piece in (whole[:-3], whole[-3:]):
                await caller.send(piece)
            assert (await caller.response()).status == 200
        (message,) = check(upstream.received, signer)
    assert message.body.replace(b" ", b"") == b'{"user":"x"}'
    assert message.values(b"x-id") == [b"mine"]


@pytest.mark.parametrize("sent", ["at once", "later"])
async def test_a_token_is_in_the_body_before_it_is_signed(sent: str) -> None:
    """In its place, and with the length of both."""
    signer = HmacSigner()
    async with Upstream() as upstream:
        made = signing(signer, port=upstream.port, body=(("token", "s&t"),))
        async with running(made) as sidekey, sidekey.connect() as caller:
            whole = request("POST", "/a", FORM, body=b"a=b")
            for piece in [whole] if sent == "at once" else [whole[:-2], whole[-2:]]:
                await caller.send(piece)
            assert (await caller.response()).status == 200
        (message,) = check(upstream.received, signer)
    assert message.body == b"a=b&token=s%26t"


async def test_an_expectation_is_answered_here() -> None:
    """Once, before the body is whole, and it does not go on."""
    signer = HmacSigner()
    async with Upstream() as upstream, running(signing(signer, port=upstream.port)) as sidekey:
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
async def test_a_body_that_is_not_signed_streams(framing: str) -> None:
    """Head first, in the caller's framing, and an expectation is the upstream's."""
    signer = HmacSigner()
    body = b"unsigned"
    async with Upstream(continuing) as upstream, running(signing(signer, port=upstream.port)) as sidekey:
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


async def continuing(connection: RawConnection) -> None:
    """Ask for the body, then answer."""
    await connection.until_contains(b"\r\n\r\n")
    await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    await connection.request()
    await connection.send(OK)


async def test_a_long_body_is_signed_in_a_thread_and_written_as_the_upstream_takes_it() -> None:
    """And the caller's connection goes on with its next request."""
    signer = HmacSigner()
    body = bytes(range(256)) * (12 * INLINE // 256)
    async with Upstream() as upstream, running(signing(signer, port=upstream.port)) as sidekey:
        async with sidekey.connect() as caller:
            caller.transport.write(request("PUT", body=body) + get("/next"))
            assert [(await caller.response()).status for _ in range(2)] == [200, 200]
            assert sidekey.plane.worker.held_bytes == 0
        long, short = check(upstream.received, signer)
    assert (long.body == body, short.target) == (True, b"/api/next")
    assert len(signer.signed[0].body) > 1


async def test_a_held_body_is_written_a_piece_a_turn_so_that_others_have_theirs() -> None:
    """However fast the upstream takes it."""
    signer = HmacSigner()
    sidekey = Scripted(signing(signer))
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    upstream.feed(OK)
    raw = upstream.take()
    caller.take()
    pieces = [b"%d" % number * 50_000 for number in range(5)]
    length = f"Content-Length: {sum(map(len, pieces))}"
    caller.feed(request("POST", "/a", length), *pieces)
    await until_written(upstream)
    sizes = [len(upstream.written)]
    for _ in pieces:
        await asyncio.sleep(0)
        sizes.append(len(upstream.written))
    assert [more - size for size, more in pairwise(sizes)] == [50_000] * 4 + [0]
    _, message = check([raw + upstream.take()], signer)
    assert message.body == b"".join(pieces)
    upstream.feed(OK)
    assert caller.take().startswith(b"HTTP/1.1 200 OK")


async def until_written(upstream: RecordingTransport) -> None:
    """Wait, a turn of the loop at a time, until the upstream gets the first bytes."""
    while not upstream.written:
        await asyncio.sleep(0)


async def test_an_upstream_that_drains_while_a_piece_has_its_turn_gets_no_other_one_before() -> None:
    """Else two pieces went in each turn from then on, and more with each time that it drains."""
    piece, signer = 1 << 16, HmacSigner()
    body = bytes(range(256)) * (3 * piece // 256)
    sidekey = Scripted(signing(signer))
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    upstream.feed(OK)
    upstream.take()
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
    verify(upstream.take(), body)


def test_short_pieces_of_a_body_are_written_together_and_no_more_than_a_little_at_once() -> None:
    """Each counts with its own length."""
    body = [b"a", b"b", b"c" * 40_000, b"d" * 40_000]
    signed = SignedRequest(reads_body=True, fills_body=False)
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


def test_what_was_not_stated_is_neither_signed_nor_written() -> None:
    signed = SignedRequest(reads_body=True, fills_body=False)
    for act in (lambda: signed.signing(0.0), lambda: signed.write(lambda: 0.0)):
        with pytest.raises(AttributeError):
            act()


async def test_slow_signers_leave_threads_to_others() -> None:
    """Names are resolved and tokens fetched in the same threads. Who has left meanwhile is not signed."""
    going = threading.Event()

    class Blocking(HmacSigner):
        def sign(self, request: OutgoingRequest, body: Sequence[bytes], now: float, unique: RandomIds) -> list[bytes]:
            lines = super().sign(request, body, now, unique)
            assert going.wait(30)
            return lines

    signer = Blocking(slow=True)
    async with Upstream() as upstream, running(signing(signer, port=upstream.port)) as sidekey:
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


async def test_what_a_thread_reads_is_given_up_once_it_is_done_where_the_caller_has_left() -> None:
    """Until then its memory stays reserved."""
    going = threading.Event()

    class Blocking(HmacSigner):
        def sign(self, request: OutgoingRequest, body: Sequence[bytes], now: float, unique: RandomIds) -> list[bytes]:
            assert going.wait(30)
            return super().sign(request, body, now, unique)

    sidekey = Scripted(signing(Blocking(slow=True)))
    caller = sidekey.caller()
    raw = request("POST", body=b"whole")
    caller.feed(raw[:-1])
    caller.feed(raw[-1:])
    worker = sidekey.plane.worker
    await eventually(lambda: worker.is_waiting)
    caller.lose(ConnectionResetError())
    try:
        await eventually(lambda: sidekey.metrics.in_flight == 0)
        assert worker.held_bytes == 5
    finally:
        going.set()
    await eventually(lambda: worker.held_bytes == 0)
    assert sidekey.upstreams == []


async def test_a_defect_of_a_thread_is_reported_though_the_caller_has_left() -> None:
    """By the loop, whose handler logs it; the next request may sign."""
    going, failed = threading.Event(), []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context["exception"]))

    class Broken(HmacSigner):
        def sign(self, request: OutgoingRequest, body: Sequence[bytes], now: float, unique: RandomIds) -> list[bytes]:
            assert going.wait(30)
            raise LookupError

    sidekey = Scripted(signing(Broken(slow=True)))
    caller = sidekey.caller()
    caller.feed(request("POST", body=b"whole"))
    await settle()
    caller.lose(ConnectionResetError())
    await settle()
    assert sidekey.metrics.stats("h").outcomes == {"caller_gone": 1}
    going.set()
    await eventually(lambda: failed)
    assert [type(error) for error in failed] == [LookupError]
    again = sidekey.caller()
    again.feed(get())
    await eventually(lambda: again.written)
    assert again.take().startswith(b"HTTP/1.1 500 ")
    assert [type(error) for error in sidekey.defects] == [LookupError]
    sidekey.defects.clear()


async def test_a_connection_stays_in_the_pool_if_its_request_cannot_be_signed() -> None:
    """Nothing was written to it: the next request uses it."""

    class Broken(HmacSigner):
        def sign(self, request: OutgoingRequest, body: Sequence[bytes], now: float, unique: RandomIds) -> list[bytes]:
            if request.values(b"x-broken"):
                raise LookupError
            return super().sign(request, body, now, unique)

    sidekey = Scripted(signing(Broken()))
    caller = sidekey.caller()
    for fields in ((), ("X-Broken: 1",), ()):
        caller.feed(get("/a", *fields))
        upstream = await sidekey.upstream()
        if upstream.take():
            upstream.feed(OK)
        assert caller.take().startswith(b"HTTP/1.1 500 " if fields else b"HTTP/1.1 200 ")
        assert [each.transport for each in sidekey.pooled()] == [upstream]
    assert len(sidekey.upstreams) == 1
    assert [type(error) for error in sidekey.defects] == [LookupError]
    sidekey.defects.clear()


async def test_a_thread_that_cannot_start_costs_no_later_request_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of processes may be reached for a while: each such request is answered, and the next ones sign."""
    signer = HmacSigner(slow=True)
    sidekey = Scripted(signing(signer))

    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(SIGNING_THREADS):
            caller = sidekey.caller()
            caller.feed(get())
            await settle()
            assert caller.take().startswith(b"HTTP/1.1 500 ")
    assert [type(error) for error in sidekey.defects] == [RuntimeError] * SIGNING_THREADS
    sidekey.defects.clear()
    sidekey.caller().feed(get())
    await eventually(lambda: sidekey.upstreams and sidekey.upstreams[0].written)


async def test_rules_and_signer_may_refuse_a_request() -> None:
    """The rules before anything is waited for, the signer once its grant is known; no connection is asked for."""
    signer = HmacSigner()
    async with Upstream() as upstream, running(signing(signer, port=upstream.port)) as sidekey:
        async with sidekey.connect() as caller:
            await caller.send(request("POST", "/a", "X-Denied: 1", "Content-Length: 5"))
            assert problem(await caller.response())["detail"] == DENIED.detail
        assert problem(await sidekey.ask(get("/a", "X-Unsignable: 1")))["detail"] == UNSIGNABLE.detail
        assert (upstream.connections, signer.signed) == ([], [])


# What is sent a second time.


def renewed(port: int, *, slow: bool = False) -> tuple[Integration, RenewedSource, HmacSigner, HmacSigner]:
    """An integration whose first grant is refused, and what the two grants sign with."""
    old, new = HmacSigner(b"an old key", slow=slow), HmacSigner(b"a new key", slow=slow)
    made = signing(old, port=port, watched=frozenset({401}))
    return made, RenewedSource(grant_of(old), grant_of(new)), old, new


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("slow", [False, True], ids=["at once", "in a thread"])
async def test_a_replay_is_signed_anew(slow: bool, framing: str) -> None:
    """With the newer grant's key, another nonce, and the same ID."""
    refusals = iter([REFUSED])
    body = b"again"

    async def script(connection: RawConnection) -> None:
        while True:
            await connection.request()
            await connection.send(next(refusals, OK))

    async with Upstream(script) as upstream:
        made, source, old, new = renewed(upstream.port, slow=slow)
        async with running(made, sources={"h": source}) as sidekey:
            raw = (
                request("POST", "/a", CHUNKED) + chunked(body, 2)
                if framing == "chunked"
                else request("POST", body=body)
            )
            assert (await sidekey.ask(raw)).status == 200
        first, second = check(upstream.received, old, new)
    assert (first.body, second.body) == (body, body)
    assert first.values(b"x-id") == second.values(b"x-id")
    assert first.values(b"x-nonce") != second.values(b"x-nonce")


async def test_a_replay_releases_no_memory_a_second_time() -> None:
    """The memory of a body is released once it was written."""
    answers: list[asyncio.Future[bytes]] = [asyncio.Future(), asyncio.Future()]
    coming = iter(answers)
    body = b"x" * 1000

    async def script(connection: RawConnection) -> None:
        while True:
            await connection.request()
            await connection.send(await next(coming))

    async with Upstream(script) as upstream:
        made, source, old, new = renewed(upstream.port)
        async with running(made, sources={"h": source}) as sidekey, sidekey.connect() as caller:
            worker = sidekey.plane.worker
            raw = request("POST", body=body)
            await caller.send(raw[:-1])
            await eventually(lambda: worker.held_bytes == len(body))
            await caller.send(raw[-1:])
            await eventually(lambda: worker.held_bytes == 0)
            answers[0].set_result(REFUSED)
            await eventually(lambda: len(new.signed) == 1)
            assert worker.held_bytes == 0
            answers[1].set_result(OK)
            assert (await caller.response()).status == 200
            assert worker.held_bytes == 0
        check(upstream.received, old, new)


async def test_a_body_over_the_limit_for_replays_is_sent_once() -> None:
    """Its refusal is the caller's."""
    async with Upstream(answering(REFUSED)) as upstream:
        made, source, old, _ = renewed(upstream.port)
        async with running(made, sources={"h": source}, limits=Limits(replay_body=4)) as sidekey:
            assert (await sidekey.ask(request("POST", body=b"hello"))).status == 401
        check(upstream.received, old)


@pytest.mark.parametrize("slow", [False, True], ids=["at once", "in a thread"])
@pytest.mark.parametrize("how", ["held", "streamed"])
async def test_a_retry_on_a_new_connection_is_signed_anew(how: str, slow: bool) -> None:
    """At another time, with another nonce, and the same ID: the first signature may have been seen."""
    signer = HmacSigner(slow=slow)
    times = iter([100.0, 200.0, 300.0, 400.0])

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(OK)
        if len(upstream.connections) == 1:
            await connection.request()
            connection.transport.close()

    upstream = Upstream(script)
    async with upstream, running(signing(signer, port=upstream.port), wall=lambda: next(times)) as sidekey:
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
async def test_what_may_not_be_sent_again_is_not(body: bytes) -> None:
    """POST is not idempotent; a long body was not kept."""
    signer = HmacSigner()

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(OK)
        await connection.request()
        connection.transport.close()

    async with Upstream(script) as upstream, running(signing(signer, port=upstream.port)) as sidekey:
        async with sidekey.connect() as caller:
            await caller.send(get())
            assert (await caller.response()).status == 200
            await caller.send(request("POST" if len(body) < 10 else "PUT", body=body))
            said = problem(await caller.response())
        assert (said["code"], said["sent"]) == ("upstream_protocol_error", "maybe")
        assert len(check(upstream.received, signer)) == 2


# Keys that change.


@pytest.mark.parametrize("slow", [False, True], ids=["at once", "in a thread"])
async def test_a_key_that_changes_under_load_signs_what_is_written_from_then_on(slow: bool) -> None:
    """Whatever waits for a connection, or is being signed, goes by the newer grant: each request by one key."""
    signers = [HmacSigner(b"key %d" % number, slow=slow) for number in range(4)]
    source = FixedSource(grant_of(signers[0]))
    async with (
        Upstream() as upstream,
        running(signing(signers[0], port=upstream.port), sources={"h": source}) as sidekey,
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
        arrived = [each for connection in upstream.received for each in split(connection)]
    assert len(arrived) == 50
    keys = [next(signer for signer in signers if verified(raw, message.body, signer.key)) for raw, message in arrived]
    assert len(set(keys)) > 1


def verified(raw: bytes, body: bytes, key: bytes) -> bool:
    """Whether a request is signed with this key."""
    try:
        verify(raw, body, key)
    except AssertionError:
        return False
    return True


async def test_a_grant_that_is_not_what_its_integration_says_is_a_defect() -> None:
    """Nothing goes out unsigned that was to be signed, nor signed by rules that nobody has."""
    signer = HmacSigner()
    async with Upstream() as upstream:
        made = signing(signer, port=upstream.port)
        other = replace(made, id="o", traits=CredentialTraits(InjectionPoints(headers=("Authorization",))))
        sources = {"h": FixedSource(Grant(headers=AUTHORIZATION)), "o": FixedSource(grant_of(signer))}
        async with running(made, other, sources=sources) as sidekey:
            for name in ("h", "o"):
                assert problem(await sidekey.ask(get(name=name)))["code"] == "internal_error"
            assert list(map(str, sidekey.defects)) == 2 * ["the grant is not signed by the rules of its integration"]
            sidekey.defects.clear()
        assert b"".join(upstream.received) == b""


# Ways in.


async def test_a_request_in_a_tunnel_is_signed_as_it_is_written(ca: Authority) -> None:
    """Over TLS, by the https URL that it stands for."""
    signer = HmacSigner()
    async with RawUpstream(always_ok, ssl_context=ca.server_context(UPSTREAM)) as upstream:
        made = replace(signing(signer, base=base_url(upstream.port, scheme="https")), trust=ca.trust)
        async with (
            running_on_sockets(made, leaves=IssuedLeaves(ca)) as sidekey,
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
    """Whatever fields it has, and however its body is cut."""

    async def play() -> None:
        signer = HmacSigner()
        lines = [f"{name}: {value}" for name, value in fields if name not in {"x-id", "x_id"}]
        target = f"/a{query}"
        raw = request(method, target, *lines, body=body)
        if coded and body is not None:
            raw = request(method, target, *lines, CHUNKED) + chunked(body, size)
        async with Upstream() as upstream:
            made = signing(signer, port=upstream.port, query=(("key", "k"),))
            async with running(made) as sidekey, sidekey.connect() as caller:
                for at in range(0, len(raw), size):
                    caller.transport.write(raw[at : at + size])
                assert (await caller.response()).status == 200
            (message,) = check(upstream.received, signer)
        assert message.body == (body or b"")

    asyncio.run(play())
