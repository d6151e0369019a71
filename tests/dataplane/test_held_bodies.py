"""The room for bodies that are signed: who finds it, who waits, who is let in next, and that all is given back."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sidekey.core.framing import CHUNKED
from sidekey.dataplane.held_bodies import FIRST, PATIENCE, SMALL, HeldBody, Hold, Room
from sidekey.dataplane.worker import Worker
from sidekey.errors import Problem
from sidekey.observe.access import AccessLog
from sidekey.observe.audit import AuditLog
from sidekey.observe.metrics import Metrics
from sidekey.runtime.rules import Limits
from sidekey.runtime.snapshot import Snapshot
from support.memory import Upstream, running
from support.plane import Running, eventually, problem, request
from support.raw import RawConnection
from support.scripted import NOWHERE
from support.signing import HmacSigner, signing

KIB = 1 << 10
WHOLE = 256 * KIB
LIMITS = Limits(signed_body=WHOLE, held_bodies=2 * WHOLE)
CODED = "Transfer-Encoding: chunked"


def snapshot(*, several: bool = False, limits: Limits = LIMITS) -> Snapshot:
    """A config with one integration that signs bodies, or with several."""
    names = ("h", "o") if several else ("h",)
    return Snapshot({name: signing(HmacSigner(), name) for name in names}, limits=limits)


def room_of(found: Snapshot) -> tuple[Room, Worker]:
    """The room by a config, and the worker whose timer it uses."""
    access, audit = AccessLog(NOWHERE, "off", path=False), AuditLog(NOWHERE, "off")
    worker = Worker(found, metrics=Metrics(), access=access, audit=audit, report=repr)
    return Room(worker, found), worker


class Upload:
    """One upload as an exchange has it. `told` is what the room told it."""

    def __init__(self, hold: Hold, length: int = CHUNKED, most: int = WHOLE) -> None:
        (part,) = hold
        self.held = HeldBody(part, most)
        self.length = length
        self.told: list[str | Problem] = []
        self.complete = False

    def room_found(self) -> None:
        self.told.append("room")
        self.ask()

    def refuse(self, found: Problem) -> None:
        self.told.append(found)
        self.held.end()

    def ask(self) -> bool:
        return self.held.has_room(self.length, complete=self.complete, holder=self)

    def bring(self, size: int, *, complete: bool = False) -> bool:
        """Bring so many bytes; whether there is room to go on."""
        self.held.add([b"x" * size] if size else [])
        self.complete = complete
        return self.ask()


def test_a_length_that_is_known_is_taken_before_it_has_come() -> None:
    """And given back as it is written, the rest at the end."""
    room, _ = room_of(snapshot())
    hold = room.part("h")
    one = Upload(hold, 100_000)
    assert one.ask()
    assert room.taken == 100_000
    assert one.bring(100_000, complete=True)
    assert b"".join(one.held.collect()) == b"x" * 100_000
    one.held.written(60_000)
    assert room.taken == 40_000
    one.held.end()
    assert room.taken == 0


def test_an_unknown_length_takes_a_little_then_all_that_it_may_have_then_what_it_has() -> None:
    """The last once it is known."""
    room, _ = room_of(snapshot())
    one = Upload(room.part("h"))
    taken = []
    for size in (1, FIRST - 1, 1, 10):
        assert one.bring(size)
        taken.append(room.taken)
    assert one.bring(0, complete=True)
    assert [*taken, room.taken] == [FIRST, FIRST, WHOLE, WHOLE, FIRST + 11]
    short = Upload(room.part("h"))
    assert short.bring(5, complete=True)
    assert room.taken == FIRST + 16


def test_who_finds_no_room_is_let_in_in_order() -> None:
    """Also a short body waits behind a long one, which could else wait for ever."""
    room, _ = room_of(snapshot())
    hold = room.part("h")
    full = Upload(hold, 2 * WHOLE - 100)
    assert full.ask()
    long, short = Upload(hold, WHOLE), Upload(hold, 50)
    assert not long.ask()
    assert not short.ask()
    full.held.written(1000)
    assert (long.told, short.told) == ([], [])
    full.held.written(WHOLE - 1100)
    assert (long.told, short.told) == (["room"], [])
    full.held.written(50)
    assert short.told == ["room"]
    assert not Upload(hold, 1).ask()


def test_one_integration_has_half_of_the_room_where_several_sign_bodies() -> None:
    """The others go past those who wait for room of their own part."""
    room, worker = room_of(snapshot(several=True))
    mine, other = room.part("h"), room.part("o")
    one = Upload(mine, WHOLE)
    assert one.bring(WHOLE, complete=True)
    waiting = Upload(mine, 1)
    assert not waiting.ask()
    assert Upload(other, WHOLE).ask()
    later = Upload(other, 1)
    assert not later.ask()
    worker.deadlines.look(worker.deadlines.now + PATIENCE)
    (said,) = waiting.told
    assert isinstance(said, Problem)
    assert said.detail == "one integration holds half of limits.held_bodies, which is the most that one may have"
    assert (said.status, said.headers) == (503, (("Retry-After", "1"),))


def test_who_waits_for_the_room_of_all_is_before_who_comes_later() -> None:
    """Of whichever integration."""
    room, _ = room_of(snapshot(several=True))
    holds = [room.part(name) for name in ("h", "o", "p")]
    full = [Upload(hold, WHOLE - 10) for hold in holds[:2]]
    assert all(each.ask() for each in full)
    first = Upload(holds[2], 30)
    assert not first.ask()
    second = Upload(holds[0], 5)
    assert not second.ask()
    full[0].held.written(5)
    assert (first.told, second.told) == ([], [])
    full[1].held.written(5)
    assert (first.told, second.told) == (["room"], [])


def test_of_several_integrations_whoever_came_first_is_let_in() -> None:
    """Not the next one of whose came first before."""
    room, _ = room_of(snapshot(several=True))
    one, other, third = (room.part(name) for name in ("h", "o", "p"))
    full = [Upload(hold, size) for hold, size in ((one, WHOLE - 10), (other, WHOLE - 10), (third, 20))]
    assert all(each.ask() for each in full)
    waiting = [Upload(hold, 5) for hold in (one, other, one)]
    assert not any(each.ask() for each in waiting)
    for count in (1, 2, 3):
        full[2].held.written(5)
        assert [bool(each.told) for each in waiting] == [number < count for number in range(3)]


def test_nobody_waits_for_longer_than_the_limit_says() -> None:
    """The answer names the limit; what a place in line was worth is given up, and the timer is left alone then."""
    room, worker = room_of(snapshot())
    hold = room.part("h")
    full = Upload(hold, 2 * WHOLE)
    assert full.ask()
    assert full.bring(2 * WHOLE, complete=True)
    waiting = Upload(hold, 1)
    assert not waiting.ask()
    worker.deadlines.look(worker.deadlines.now + PATIENCE - 0.1)
    assert waiting.told == []
    worker.deadlines.look(worker.deadlines.now + 0.1)
    (said,) = waiting.told
    assert isinstance(said, Problem)
    assert (said.code, said.status, said.detail) == ("overloaded", 503, "limits.held_bodies is reached")
    assert (full.told, worker.deadlines.watched) == ([], set())


def test_a_slow_upload_ends_while_others_wait_and_only_then() -> None:
    """One that has brought too little is ended at once where somebody comes who waits; a fast one never is."""
    room, worker = room_of(snapshot())
    deadlines = worker.deadlines
    hold = room.part("h")
    slow, fast = Upload(hold, WHOLE), Upload(hold, WHOLE)
    assert slow.ask()
    assert fast.ask()
    for _ in range(2):
        deadlines.look(deadlines.now + 0.7 * PATIENCE)
        assert slow.bring(FIRST // 2 - 1)
        assert fast.bring(FIRST)
    assert slow.told == []
    waiting = Upload(hold, WHOLE)
    assert not waiting.ask()
    deadlines.look(deadlines.now)
    (said,) = slow.told
    assert isinstance(said, Problem)
    assert (said.code, said.status) == ("request_timeout", 408)
    assert "limits.held_bodies" in said.detail
    assert (waiting.told, fast.told) == (["room"], [])


def test_the_uploads_of_another_integration_are_left_alone_where_they_delay_nobody() -> None:
    """Whoever waits for room of their own part gains nothing by their end."""
    room, worker = room_of(snapshot(several=True))
    deadlines = worker.deadlines
    hold, others = room.part("h"), room.part("o")
    mine, other = Upload(hold, WHOLE), Upload(others, WHOLE)
    assert mine.ask()
    assert other.ask()
    deadlines.look(deadlines.now + PATIENCE)
    assert not Upload(hold, 1).ask()
    deadlines.look(deadlines.now)
    assert (len(mine.told), other.told) == (1, [])


@pytest.mark.parametrize("several", [False, True])
def test_uploads_of_unknown_length_cannot_wait_for_one_another(several: bool) -> None:
    """As many as leave room for one whole body have their first bytes; one that comes then takes all of it at once.

    Room for all, and for one integration.
    """
    limits = Limits(signed_body=WHOLE, held_bodies=(4 if several else 2) * WHOLE)
    room, _ = room_of(snapshot(several=several, limits=limits))
    hold = room.part("h")
    uploads = [Upload(hold) for _ in range(WHOLE // FIRST + 1)]
    assert all(each.ask() for each in uploads)
    assert room.taken == WHOLE + WHOLE
    late = Upload(hold)
    assert not late.ask()
    waiting = [late, *(each for each in uploads if not each.bring(FIRST + 1))]
    assert len(waiting) == WHOLE // FIRST + 1
    uploads[-1].held.end()
    for upload in waiting:
        assert upload.told == ["room"]
        upload.held.end()
    assert room.taken == 0


def test_short_pieces_are_joined() -> None:
    """A body in pieces of two bytes takes about its length; long pieces are not copied."""
    room, _ = room_of(snapshot())
    one = Upload(room.part("h"), WHOLE)
    long = b"y" * SMALL
    one.held.add([b"xx"] * 10_000)
    one.held.add([long])
    pieces = one.held.collect()
    assert b"".join(pieces) == b"x" * 20_000 + long
    assert len(pieces) < 8
    assert pieces[-1] is long


def test_a_reload_changes_the_room_and_keeps_what_is_held() -> None:
    """More room is given to those who wait."""
    room, _ = room_of(snapshot())
    hold = room.part("h")
    full = Upload(hold, 2 * WHOLE)
    assert full.ask()
    waiting = Upload(hold, WHOLE)
    assert not waiting.ask()
    room.prepare(snapshot(limits=replace(LIMITS, held_bodies=3 * WHOLE)))()
    assert waiting.told == ["room"]
    room.prepare(snapshot(several=True))()
    assert (room.limit, room.part_limit) == (2 * WHOLE, WHOLE)
    assert not Upload(hold, 1).ask()
    assert room.part("h") is hold


@pytest.mark.parametrize("leaves", [True, False], ids=["its caller leaves", "it has waited for too long"])
def test_whoever_stands_behind_one_that_leaves_is_let_in(leaves: bool) -> None:
    """It fits, and waited only for the one before it."""
    room, worker = room_of(snapshot())
    hold = room.part("h")
    holding, large, small = Upload(hold, 2 * WHOLE - 10), Upload(hold, WHOLE), Upload(hold, 10)
    assert holding.ask()
    assert not large.ask()
    worker.deadlines.look(worker.deadlines.now + 1)
    assert not small.ask()
    if leaves:
        large.held.end()
    else:
        holding.bring(FIRST)
        worker.deadlines.look(worker.deadlines.now + PATIENCE - 1)
        assert isinstance(large.told[0], Problem)
    assert small.told == ["room"]
    for each in (holding, small):
        each.held.end()
    assert room.taken == 0


class RoomMachine(RuleBasedStateMachine):
    """Uploads of three integrations come, go on, are written and leave, in any order; time passes."""

    def __init__(self) -> None:
        super().__init__()
        # Of each integration two may have their first bytes alone.
        limits = Limits(signed_body=WHOLE, held_bodies=2 * (WHOLE + 2 * FIRST))
        self.room, self.worker = room_of(snapshot(several=True, limits=limits))
        self.holds = [self.room.part(name) for name in ("h", "o", "p")]
        self.uploads: list[Upload] = []

    def pick(self, data: int) -> Upload | None:
        return self.uploads[data % len(self.uploads)] if self.uploads else None

    @rule(which=st.integers(0, 2), length=st.one_of(st.just(CHUNKED), st.integers(0, WHOLE)))
    def come(self, which: int, length: int) -> None:
        upload = Upload(self.holds[which], length)
        self.uploads.append(upload)
        upload.ask()

    @rule(data=st.integers(0, 99), size=st.integers(0, WHOLE))
    def bring(self, data: int, size: int) -> None:
        upload = self.pick(data)
        if upload is None or upload.held.waits or upload.complete or is_over(upload):
            return
        size = min(size, self.left(upload))
        upload.bring(size, complete=size == self.left(upload))

    @staticmethod
    def left(upload: Upload) -> int:
        most = WHOLE if upload.length == CHUNKED else upload.length
        return most - upload.held.size

    @rule(data=st.integers(0, 99))
    def leave(self, data: int) -> None:
        upload = self.pick(data)
        if upload is not None:
            upload.held.end()
            self.uploads.remove(upload)

    @rule(seconds=st.floats(0.1, 6))
    def wait(self, seconds: float) -> None:
        self.worker.deadlines.look(self.worker.deadlines.now + seconds)
        self.uploads = [each for each in self.uploads if not is_over(each)]

    @invariant()
    def nothing_is_over_its_limit(self) -> None:
        parts = [part for hold in self.holds for part in hold]
        assert sum(part.taken for part in parts) == self.room.taken <= self.room.limit
        assert all(0 <= part.taken <= self.room.part_limit for part in parts)

    @precondition(lambda self: self.uploads)
    @invariant()
    def whoever_waits_longest_has_no_room(self) -> None:
        waiting = [each for each in self.uploads if each.held.waits]
        for upload in waiting:
            (part,) = self.holds_of(upload)
            first = part.first
            assert first is not None
            assert not (part.fits(first.wanted) and self.room.fits(first.wanted)) or any(
                other.held.ticket < first.ticket for other in waiting
            )

    def holds_of(self, upload: Upload) -> Hold:
        return next(hold for hold in self.holds if upload.held.part in hold)

    def teardown(self) -> None:
        for upload in self.uploads:
            upload.held.end()
        assert (self.room.taken, self.room.firsts, self.worker.deadlines.watched) == (0, 0, set())


def is_over(upload: Upload) -> bool:
    return any(isinstance(each, Problem) for each in upload.told)


def test_the_room_under_any_order_of_events() -> None:
    """It is never overdrawn, nobody who could be let in waits, and all of it is given back."""
    rules = settings(max_examples=60, stateful_step_count=40, deadline=None)
    run_state_machine_as_test(RoomMachine, settings=rules)  # type: ignore[no-untyped-call]


# Through the data plane.


def upload(size: int, *fields: str, coded: bool = False) -> bytes:
    """The head of an upload."""
    return request("POST", "/a", CODED if coded else f"Content-Length: {size}", *fields)


async def waits_for(sidekey: Running, taken: int) -> None:
    """Wait until so much of the room is taken."""
    await eventually(lambda: sidekey.plane.room.taken == taken)


@pytest.mark.parametrize("expects", [False, True])
async def test_a_body_over_the_limit_is_refused_before_it_is_sent(expects: bool) -> None:
    """At once where its length tells, and nobody is asked to send it."""
    async with running(signing(HmacSigner()), limits=LIMITS) as sidekey, sidekey.connect() as caller:
        await caller.send(upload(WHOLE + 1, *(["Expect: 100-continue"] if expects else [])))
        said = problem(await caller.response())
        assert (said["code"], said["status"]) == ("request_too_large", 413)
        assert "limits.signed_body" in said["detail"]
        assert sidekey.plane.room.taken == 0


async def test_a_chunked_body_is_refused_once_it_is_over_the_limit() -> None:
    """As soon as one byte more has come, and nothing of it goes on."""
    async with (
        Upstream() as upstream,
        running(signing(HmacSigner(), port=upstream.port), limits=LIMITS) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(upload(0, coded=True) + b"%x\r\n%b" % (WHOLE + 1, b"x" * WHOLE))
        await waits_for(sidekey, WHOLE)
        assert not caller.received
        await caller.send(b"x")
        assert problem(await caller.response())["code"] == "request_too_large"
        assert (sidekey.plane.room.taken, upstream.connections) == (0, [])


async def test_who_waits_is_not_asked_for_the_body_before_there_is_room() -> None:
    """Then once; and what is written goes on as ever."""
    async with (
        Upstream() as upstream,
        running(signing(HmacSigner(), port=upstream.port), limits=LIMITS) as sidekey,
        sidekey.connect() as first,
        sidekey.connect() as second,
        sidekey.connect() as third,
    ):
        for caller in (first, second):
            await caller.send(upload(WHOLE))
        await waits_for(sidekey, 2 * WHOLE)
        await third.send(upload(5, "Expect: 100-continue"))
        await eventually(lambda: sidekey.metrics.in_flight == 3)
        assert not third.received
        await first.send(b"x" * WHOLE)
        assert (await first.response()).status == 200
        assert (await third.response()).status == 100
        await third.send(b"hello")
        assert (await third.response()).status == 200
        second.transport.abort()
        await waits_for(sidekey, 0)


async def test_whoever_finds_no_room_in_time_is_told_so() -> None:
    """By 503 after 5 seconds, with the limit's name; those who hold the room and bring their bodies go on."""
    async with (
        running(signing(HmacSigner()), limits=LIMITS) as sidekey,
        sidekey.connect() as first,
        sidekey.connect() as second,
        sidekey.connect() as late,
    ):
        holding = (first, second)
        for caller in holding:
            await caller.send(upload(WHOLE))
        await waits_for(sidekey, 2 * WHOLE)
        await late.send(upload(5) + b"hel")
        await eventually(lambda: sidekey.metrics.in_flight == 3)
        sidekey.wait(PATIENCE - 0.1)
        for caller in holding:
            await caller.send(b"x" * FIRST)
        for _ in range(8):
            await asyncio.sleep(0)
        sidekey.wait(0.2)
        answer = await late.response()
        said = problem(answer)
        assert (said["code"], said["status"], said["sent"]) == ("overloaded", 503, "no")
        assert "limits.held_bodies" in said["detail"]
        assert answer.values(b"retry-after") == [b"1"]
        assert sidekey.plane.room.taken == 2 * WHOLE
        for caller in holding:
            caller.transport.abort()
        await waits_for(sidekey, 0)


async def test_room_is_given_back_as_the_upstream_takes_the_body() -> None:
    """Not at its end: an upstream that takes half of it makes room for others."""
    taken = []

    async def script(connection: RawConnection) -> None:
        connection.transport.pause_reading()
        await eventually(lambda: sidekey.plane.room.taken < 4 * KIB * KIB)
        taken.append(sidekey.plane.room.taken)
        connection.transport.resume_reading()
        await connection.request()
        await connection.send(b"HTTP/1.1 204 No\r\n\r\n")

    limits = Limits(signed_body=4 * KIB * KIB, held_bodies=8 * KIB * KIB)
    signer = HmacSigner()
    async with Upstream(script) as upstream, running(signing(signer, port=upstream.port), limits=limits) as sidekey:
        async with sidekey.connect() as caller:
            await caller.send(upload(4 * KIB * KIB) + b"x" * (4 * KIB * KIB))
            assert (await caller.response()).status == 204
        assert sidekey.plane.room.taken == 0
        (message,) = upstream.requests
    assert 0 < taken[0] < 4 * KIB * KIB
    assert len(message.body) == 4 * KIB * KIB


async def test_an_early_response_ends_what_is_left_of_a_held_body() -> None:
    """Its room is given back, the upstream's connection closes, and the caller's goes on: it has sent all."""

    async def script(connection: RawConnection) -> None:
        await connection.until_contains(b"\r\n\r\n")
        connection.transport.pause_reading()
        await connection.send(b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n")

    limits = Limits(signed_body=4 * KIB * KIB, held_bodies=8 * KIB * KIB)
    async with (
        Upstream(script) as upstream,
        running(signing(HmacSigner(), port=upstream.port), limits=limits) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(upload(4 * KIB * KIB) + b"x" * (4 * KIB * KIB))
        response = await caller.response()
        assert (response.status, response.values(b"connection")) == (413, [])
        assert sidekey.plane.room.taken == 0
        await caller.send(request("POST", body=b"next"))
        await eventually(lambda: len(upstream.connections) == 2)
        assert (await caller.response()).status == 413


async def test_two_hundred_uploads_of_a_mebibyte_at_once_all_arrive() -> None:
    """They take turns within the room."""
    size = KIB * KIB
    signer = HmacSigner()
    most = 0
    async with Upstream() as upstream, running(signing(signer, port=upstream.port)) as sidekey:

        async def send(coded: bool) -> int:
            nonlocal most
            async with sidekey.connect() as caller:
                body = b"x" * size
                raw = upload(size, coded=coded) + (b"%x\r\n%b\r\n0\r\n\r\n" % (size, body) if coded else body)
                await caller.send(raw)
                status = (await caller.response()).status
                most = max(most, sidekey.plane.room.taken)
                return status

        assert await asyncio.gather(*(send(number % 4 == 0) for number in range(200))) == [200] * 200
        assert sidekey.plane.room.taken == 0
        assert 0 < most <= Limits().held_bodies
    assert len(signer.signed) == 200


@pytest.mark.parametrize("brought", [0, FIRST + 1], ids=["nothing came", "more than its first bytes came"])
async def test_five_hundred_stalled_uploads_leave_other_integrations_served(brought: int) -> None:
    """They have half of the room at most, and those that wait get it once the stalled are ended."""
    async with Upstream() as upstream:
        stalled, other = signing(HmacSigner(), "h", port=upstream.port), signing(HmacSigner(), "o", port=upstream.port)
        async with running(stalled, other) as sidekey:
            callers = [sidekey.connect() for _ in range(500)]
            opened = [await each.__aenter__() for each in callers]
            begun = upload(0, coded=True) + b"100000\r\n" + b"x" * brought
            for caller in opened:
                await caller.send(begun)
            await eventually(lambda: sidekey.metrics.in_flight == 500)
            size = 8 << 20
            async with sidekey.connect() as caller:
                await caller.send(upload(size).replace(b"/i/h/", b"/i/o/") + b"y" * size)
                assert (await caller.response()).status == 200
            assert sidekey.plane.room.taken <= Limits().held_bodies // 2
            sidekey.wait(PATIENCE)
            async with sidekey.connect() as caller:
                await caller.send(upload(5) + b"hello")
                assert (await caller.response()).status == 200
            for each in callers:
                await each.__aexit__(None, None, None)
        assert sidekey.plane.room.taken == 0


async def test_a_reload_while_a_body_is_held_changes_nothing_of_it() -> None:
    """It keeps the limit that it began with, and its room is given back."""
    async with Upstream() as upstream:
        made = signing(HmacSigner(), port=upstream.port)
        async with running(made, limits=LIMITS) as sidekey, sidekey.connect() as caller:
            await caller.send(upload(WHOLE) + b"x" * 10)
            await waits_for(sidekey, WHOLE)
            lower = replace(LIMITS, signed_body=FIRST, held_bodies=2 * FIRST)
            sidekey.publisher.publish(replace(sidekey.snapshot, limits=lower))
            await caller.send(b"x" * (WHOLE - 10))
            assert (await caller.response()).status == 200
            await caller.send(upload(FIRST + 1))
            assert problem(await caller.response())["code"] == "request_too_large"
            assert sidekey.plane.room.taken == 0
