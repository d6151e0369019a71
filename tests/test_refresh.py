"""refresh.py: one attempt for all who wait, what a failure leaves, and when the next attempt may begin."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.refresh import MAX_PAUSE, MAX_RETRY_AFTER, Failed, SingleFlight, call_weakly_at, fixed, growing, pause
from support.manual_clock import advance, in_still_time, settle

Outcome = int | Failed[str]


class Owner:
    """Gets numbers, one higher with each attempt, as soon as `open` is set; or fails as `failing` says."""

    def __init__(self, refresh: SingleFlight[int, str] | None = None) -> None:
        self.refresh: SingleFlight[int, str] = (
            SingleFlight(lambda failures, asked: 10.0 * failures) if refresh is None else refresh
        )
        self.attempts = 0
        self.failing: Failed[str] | BaseException | None = None
        self.seen_waiting: list[int] = []
        self.open = asyncio.Event()
        self.open.set()

    async def attempt(self) -> Outcome:
        self.attempts += 1
        number = self.attempts
        await self.open.wait()
        self.seen_waiting.append(self.refresh.waiting)
        if isinstance(self.failing, BaseException):
            raise self.failing
        return number if self.failing is None else self.failing

    async def join(self) -> Outcome:
        return await self.refresh.join(self.attempt)

    @property
    def state(self) -> tuple[str | None, int, float]:
        return self.refresh.error, self.refresh.failures, self.refresh.not_before


AT_FIRST = SingleFlight[int, str]().not_before


@in_still_time
async def test_all_who_wait_share_one_attempt() -> None:
    owner = Owner()
    owner.open.clear()
    waiting = [asyncio.create_task(owner.join()) for _ in range(100)]
    await settle()
    assert (owner.refresh.running, owner.refresh.waiting) == (True, 100)
    owner.open.set()
    assert await asyncio.gather(*waiting) == [1] * 100
    assert (owner.refresh.running, owner.refresh.waiting) == (False, 0)
    assert await owner.join() == 2


@in_still_time
async def test_waiters_that_leave_do_not_end_the_attempt() -> None:
    """Not for those who stay, and not where all leave: whoever comes next joins it."""
    owner = Owner()
    owner.open.clear()
    leaving = [asyncio.create_task(owner.join()) for _ in range(3)]
    await settle()
    for task in leaving:
        task.cancel()
    await settle()
    assert [task.cancelled() for task in leaving] == [True] * 3
    assert (owner.refresh.running, owner.refresh.waiting) == (True, 0)
    late = asyncio.create_task(owner.join())
    await settle()
    owner.open.set()
    assert await late == 1
    assert owner.seen_waiting == [1]


@in_still_time
async def test_an_attempt_needs_nobody_who_waits() -> None:
    """Ahead of time; a second one cannot begin beside it, and without one there is nothing to wait for."""
    owner = Owner()
    with pytest.raises(RuntimeError, match="no attempt"):
        await owner.refresh.wait()
    owner.refresh.start(owner.attempt)
    with pytest.raises(RuntimeError, match="under way"):
        owner.refresh.start(owner.attempt)
    assert await owner.refresh.wait() == 1
    owner.refresh.start(owner.attempt)
    await settle()
    assert (owner.attempts, owner.seen_waiting) == (2, [1, 0])


@in_still_time
async def test_a_failure_is_kept_and_blocks_the_next_attempt_for_a_while() -> None:
    """Every one in a row for longer; all who wait get the same value."""
    owner = Owner()
    owner.failing = Failed("refused")
    assert await asyncio.gather(owner.join(), owner.join()) == [Failed("refused")] * 2
    assert owner.state == ("refused", 1, 10.0)
    assert owner.refresh.blocked
    await advance(9.9)
    assert owner.refresh.blocked
    await advance(0.1)
    assert not owner.refresh.blocked
    owner.failing = Failed("down")
    await owner.join()
    assert owner.state == ("down", 2, 30.0)


@in_still_time
async def test_a_success_resets_what_failures_left() -> None:
    owner = Owner()
    owner.failing = Failed("refused")
    await owner.join()
    owner.failing = None
    # Whether one may begin is the owner's to ask: some have a reason that cannot wait.
    assert owner.refresh.blocked
    assert await owner.join() == 2
    assert owner.state == (None, 0, AT_FIRST)
    assert not owner.refresh.blocked


@in_still_time
async def test_while_an_attempt_is_under_way_nothing_is_blocked() -> None:
    """It can be joined."""
    owner = Owner()
    owner.failing = Failed("refused")
    await owner.join()
    owner.refresh.start(owner.attempt)
    assert not owner.refresh.blocked
    await owner.refresh.wait()
    assert owner.refresh.blocked


@in_still_time
async def test_the_pause_that_was_asked_for_is_passed_on() -> None:
    asked: list[tuple[int, float | None]] = []

    def pause(failures: int, seconds: float | None) -> float:
        asked.append((failures, seconds))
        return 1.0

    owner = Owner(SingleFlight(pause))
    owner.failing = Failed("busy", retry_after=17.0)
    await owner.join()
    owner.failing = Failed("down")
    await owner.join()
    assert asked == [(1, 17.0), (2, None)]


@pytest.mark.parametrize(
    ("refresh", "not_before"), [(SingleFlight[int, str](fixed(3.0)), 3.0), (SingleFlight[int, str](), 0.0)]
)
@in_still_time
async def test_a_pause_may_be_the_same_each_time_or_none(refresh: SingleFlight[int, str], not_before: float) -> None:
    owner = Owner(refresh)
    owner.failing = Failed("down")
    for failures in (1, 2):
        await owner.join()
        assert owner.state == ("down", failures, not_before)


@in_still_time
async def test_a_failure_that_does_not_count_blocks_nothing() -> None:
    """It is told as the last error; an earlier back-off is over, but not forgotten."""
    owner = Owner()
    owner.failing = Failed("refused")
    await owner.join()
    owner.failing = Failed("unreadable", counts=False)
    await owner.join()
    assert owner.state == ("unreadable", 1, AT_FIRST)
    owner.failing = Failed("refused")
    await owner.join()
    assert owner.state == ("refused", 2, 20.0)


@in_still_time
async def test_a_failure_that_does_not_count_may_ask_for_a_pause() -> None:
    """That one and no other, however often it fails."""
    owner = Owner()
    owner.failing = Failed("away", 1.5, counts=False)
    for _ in range(3):
        await owner.join()
        assert owner.state == ("away", 0, 1.5)


@in_still_time
async def test_an_owner_may_lift_the_block() -> None:
    """The count of failures goes on."""
    owner = Owner()
    owner.failing = Failed("refused")
    await owner.join()
    owner.refresh.allow()
    assert not owner.refresh.blocked
    assert owner.state == ("refused", 1, AT_FIRST)


@in_still_time
async def test_another_owner_may_go_on_where_the_attempts_of_one_have_ended() -> None:
    """With the pause, and with the failures that make the next one longer."""
    one, other = Owner(), Owner()
    one.failing = Failed("refused")
    await one.join()
    await one.join()
    other.refresh.go_on(one.refresh)
    assert other.state == one.state == ("refused", 2, 20.0)
    assert other.refresh.blocked
    other.failing = Failed("refused again")
    await other.join()
    assert (other.state, one.state) == (("refused again", 3, 30.0), ("refused", 2, 20.0))


@in_still_time
async def test_what_an_attempt_raises_reaches_all_who_wait_and_counts_as_a_failure() -> None:
    """A defect: the attempts go on after a pause."""
    owner = Owner()
    owner.failing = ZeroDivisionError()
    outcomes = await asyncio.gather(owner.join(), owner.join(), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ZeroDivisionError] * 2
    assert owner.state == (None, 1, 10.0)
    assert not owner.refresh.running
    owner.failing = None
    assert await owner.join() == 2


@in_still_time
async def test_an_owner_is_told_of_the_end() -> None:
    """When what came of the attempt counts already, and before those who wait go on."""
    owner = Owner()
    told: list[tuple[bool, tuple[str | None, int, float]]] = []

    def then() -> None:
        told.append((owner.refresh.running, owner.state))

    owner.failing = Failed("refused")
    owner.refresh.start(owner.attempt, then)
    assert told == []
    await owner.refresh.wait()
    assert told == [(False, ("refused", 1, 10.0))]
    owner.failing = ZeroDivisionError()
    owner.refresh.start(owner.attempt, then)
    with pytest.raises(ZeroDivisionError):
        await owner.refresh.wait()
    assert len(told) == 1


async def nothing() -> None:
    """The attempt has not begun."""


@pytest.mark.parametrize("before", [settle, nothing], ids=["under way", "before its first step"])
@in_still_time
async def test_the_end_cancels_the_attempt_and_all_who_wait(before: Callable[[], Awaitable[None]]) -> None:
    """It counts as nothing, and another may begin after it."""
    owner = Owner()
    await owner.refresh.close()
    owner.open.clear()
    owner.refresh.start(owner.attempt)
    waiting = asyncio.create_task(owner.refresh.wait())
    await before()
    await owner.refresh.close()
    assert not owner.refresh.running
    owner.open.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert owner.state == (None, 0, AT_FIRST)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    attempts = owner.attempts
    assert await owner.join() == attempts + 1


@in_still_time
async def test_nothing_keeps_an_owner_after_an_attempt() -> None:
    """At once, without the garbage collector: a reload must not leave the former integrations behind."""
    owner = Owner()
    owner.failing = Failed("refused")
    await owner.join()
    seen = weakref.ref(owner)
    gc.collect()
    gc.disable()
    try:
        # The task of the attempt has ended, but not yet let go.
        await asyncio.sleep(0)
        del owner
        assert seen() is None
    finally:
        gc.enable()


def test_one_can_be_made_without_a_loop() -> None:
    """In the thread that loads a config."""
    refresh = SingleFlight[int, str]()
    assert not refresh.running


FAILURES = st.integers(1, 100_000)
JITTERS = st.floats(0, 1)
ASKED = st.none() | st.floats(0, 1e9)


@pytest.mark.parametrize(("failures", "seconds"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (8, 60), (100_000, 60)])
def test_the_pause_doubles_from_one_second_to_sixty(failures: int, seconds: float) -> None:
    """Without jitter and without Retry-After."""
    assert pause(failures, 0.0) == seconds


@pytest.mark.parametrize(("asked", "seconds"), [(0.5, 4), (4, 4), (30, 30), (3600, 3600), (86_400, 3600)])
def test_retry_after_makes_it_longer_up_to_an_hour(asked: float, seconds: float) -> None:
    """A shorter one does not shorten the back-off."""
    assert pause(3, 0.0, asked) == seconds


@given(FAILURES, JITTERS, ASKED)
def test_a_pause_is_within_its_bounds(failures: int, jitter: float, asked: float | None) -> None:
    """Never under three quarters of a second, never over the longest that may be asked for."""
    assert 0.75 <= pause(failures, jitter, asked) <= MAX_RETRY_AFTER
    assert pause(failures, jitter) <= MAX_PAUSE


@given(FAILURES, JITTERS, ASKED)
def test_jitter_only_shortens_and_never_below_what_was_asked(failures: int, jitter: float, asked: float | None) -> None:
    """By a quarter at most."""
    plain, moved = pause(failures, 0.0, asked), pause(failures, jitter, asked)
    assert plain * 0.75 <= moved <= plain
    assert moved >= min(asked or 0.0, MAX_RETRY_AFTER)


def test_a_refresh_gets_another_jitter_each_time() -> None:
    """Many processes that failed at the same moment do not stay together."""
    jitters = iter([0.0, 1.0, 1.0])
    seconds = growing(lambda: next(jitters))
    assert [seconds(3, None), seconds(3, None), seconds(3, 30.0)] == [4.0, 3.0, 30.0]


class Holder:
    """Counts how often it was called."""

    def __init__(self, calls: list[int]) -> None:
        self._calls = calls

    def call(self) -> None:
        self._calls.append(1)


async def test_the_method_is_called_while_its_object_lives() -> None:
    """Once."""
    loop = asyncio.get_running_loop()
    calls: list[int] = []
    holder = Holder(calls)
    call_weakly_at(loop, loop.time(), holder.call)
    done = asyncio.Event()
    loop.call_at(loop.time() + 0.02, done.set)
    await done.wait()
    assert calls == [1]


async def test_a_timer_keeps_nothing_alive() -> None:
    """The object goes at once, without the garbage collector; at its time nothing happens."""
    loop = asyncio.get_running_loop()
    calls: list[int] = []
    gc.disable()
    try:
        holder = Holder(calls)
        call_weakly_at(loop, loop.time() + 0.01, holder.call)
        seen = weakref.ref(holder)
        del holder
        assert seen() is None
    finally:
        gc.enable()
    done = asyncio.Event()
    loop.call_at(loop.time() + 0.03, done.set)
    await done.wait()
    assert calls == []
