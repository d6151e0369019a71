"""Single flight, retry pauses and weak timers."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.refresh import (
    MAX_PAUSE,
    MAX_RETRY_AFTER,
    Failed,
    SingleFlight,
    backoff,
    call_weakly_at,
    fixed_pause,
    growing_pause,
)
from support.manual_clock import settle, with_manual_clock

Outcome = int | Failed[str]


class Owner:
    """Counts: each attempt returns the next number once `open` is set, or fails with `failing`."""

    def __init__(self, refresh: SingleFlight[int, str] | None = None) -> None:
        self.refresh: SingleFlight[int, str] = (
            SingleFlight(lambda failures, _: 10.0 * failures) if refresh is None else refresh
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
        return await self.refresh.start_or_wait(self.attempt)

    @property
    def state(self) -> tuple[str | None, int, float]:
        return self.refresh.error, self.refresh.failures, self.refresh.not_before


AT_FIRST = SingleFlight[int, str]().not_before


@with_manual_clock
async def test_cancelled_waiters_do_not_end_the_attempt() -> None:
    """Remaining waiters get its result. If all are cancelled, the next caller joins it."""
    owner = Owner()
    owner.open.clear()
    waiters = [asyncio.create_task(owner.join()) for _ in range(3)]
    await settle()
    for task in waiters:
        task.cancel()
    await settle()
    assert [task.cancelled() for task in waiters] == [True] * 3
    assert (owner.refresh.running, owner.refresh.waiting) == (True, 0)
    late = asyncio.create_task(owner.join())
    await settle()
    owner.open.set()
    assert await late == 1
    assert owner.seen_waiting == [1]


@with_manual_clock
async def test_attempt_needs_no_waiter() -> None:
    """Only one runs at a time, and `wait` needs a running attempt."""
    owner = Owner()
    with pytest.raises(RuntimeError, match="no attempt"):
        await owner.refresh.wait()
    owner.refresh.start(owner.attempt)
    with pytest.raises(RuntimeError, match="already running"):
        owner.refresh.start(owner.attempt)
    assert await owner.refresh.wait() == 1
    owner.refresh.start(owner.attempt)
    await settle()
    assert (owner.attempts, owner.seen_waiting) == (2, [1, 0])


@with_manual_clock
async def test_running_attempt_is_not_blocked() -> None:
    """A caller can join it."""
    owner = Owner()
    owner.failing = Failed("refused")
    await owner.join()
    owner.refresh.start(owner.attempt)
    assert not owner.refresh.blocked
    await owner.refresh.wait()
    assert owner.refresh.blocked


@pytest.mark.parametrize(
    ("refresh", "not_before"), [(SingleFlight[int, str](fixed_pause(3.0)), 3.0), (SingleFlight[int, str](), 0.0)]
)
@with_manual_clock
async def test_pause_may_be_fixed_or_zero(refresh: SingleFlight[int, str], not_before: float) -> None:
    owner = Owner(refresh)
    owner.failing = Failed("down")
    for failures in (1, 2):
        await owner.join()
        assert owner.state == ("down", failures, not_before)


@with_manual_clock
async def test_uncounted_failure_blocks_nothing() -> None:
    """It sets `error`, ends the current pause, and keeps the count of failures."""
    owner = Owner()
    owner.failing = Failed("refused")
    await owner.join()
    owner.failing = Failed("unreadable", counts=False)
    await owner.join()
    assert owner.state == ("unreadable", 1, AT_FIRST)
    owner.failing = Failed("refused")
    await owner.join()
    assert owner.state == ("refused", 2, 20.0)


@with_manual_clock
async def test_uncounted_failure_may_request_a_pause() -> None:
    """Only that one, however often it fails."""
    owner = Owner()
    owner.failing = Failed("away", 1.5, counts=False)
    for _ in range(3):
        await owner.join()
        assert owner.state == ("away", 0, 1.5)


@with_manual_clock
async def test_allow_ends_the_pause() -> None:
    """The count of failures continues."""
    owner = Owner()
    owner.failing = Failed("refused")
    await owner.join()
    owner.refresh.unblock()
    assert not owner.refresh.blocked
    assert owner.state == ("refused", 1, AT_FIRST)


@with_manual_clock
async def test_owner_resumes_from_a_previous_owner() -> None:
    """With its pause, and with the failures that lengthen the next one."""
    first, second = Owner(), Owner()
    first.failing = Failed("refused")
    await first.join()
    await first.join()
    second.refresh.resume_from(first.refresh)
    assert second.state == first.state == ("refused", 2, 20.0)
    assert second.refresh.blocked
    second.failing = Failed("refused again")
    await second.join()
    assert (second.state, first.state) == (("refused again", 3, 30.0), ("refused", 2, 20.0))


@with_manual_clock
async def test_exception_reaches_all_waiters_and_counts_as_a_failure() -> None:
    """It is a defect. The next attempt begins after a pause."""
    owner = Owner()
    owner.failing = ZeroDivisionError()
    outcomes = await asyncio.gather(owner.join(), owner.join(), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ZeroDivisionError] * 2
    assert owner.state == (None, 1, 10.0)
    assert not owner.refresh.running
    owner.failing = None
    assert await owner.join() == 2


@with_manual_clock
async def test_owner_is_called_at_the_end() -> None:
    """After the outcome is recorded, and before the waiters continue."""
    owner = Owner()
    notified: list[tuple[bool, tuple[str | None, int, float]]] = []

    def then() -> None:
        notified.append((owner.refresh.running, owner.state))

    owner.failing = Failed("refused")
    owner.refresh.start(owner.attempt, then)
    assert notified == []
    await owner.refresh.wait()
    assert notified == [(False, ("refused", 1, 10.0))]
    owner.failing = ZeroDivisionError()
    owner.refresh.start(owner.attempt, then)
    with pytest.raises(ZeroDivisionError):
        await owner.refresh.wait()
    assert len(notified) == 1


async def nothing() -> None:
    """Return before the attempt begins."""


@pytest.mark.parametrize("start", [settle, nothing], ids=["under way", "before its first step"])
@with_manual_clock
async def test_close_cancels_the_attempt_and_all_waiters(start: Callable[[], Awaitable[None]]) -> None:
    """It does not count, and a new attempt may begin."""
    owner = Owner()
    await owner.refresh.close()
    owner.open.clear()
    owner.refresh.start(owner.attempt)
    waiting = asyncio.create_task(owner.refresh.wait())
    await start()
    await owner.refresh.close()
    assert not owner.refresh.running
    owner.open.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert owner.state == (None, 0, AT_FIRST)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    attempts = owner.attempts
    assert await owner.join() == attempts + 1


@with_manual_clock
async def test_owner_is_freed_after_an_attempt() -> None:
    """At once and without the garbage collector: a reload must free the previous integrations."""
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


def test_single_flight_needs_no_loop_to_be_created() -> None:
    """A thread loads the config."""
    refresh = SingleFlight[int, str]()
    assert not refresh.running


FAILURES = st.integers(1, 100_000)
JITTERS = st.floats(0, 1)
RETRY_AFTERS = st.none() | st.floats(0, 1e9)


@pytest.mark.parametrize(("failures", "seconds"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (8, 60), (100_000, 60)])
def test_pause_doubles_from_one_second_to_sixty(failures: int, seconds: float) -> None:
    """Without jitter and Retry-After."""
    assert backoff(failures, 0.0) == seconds


@pytest.mark.parametrize(("retry_after", "seconds"), [(0.5, 4), (4, 4), (30, 30), (3600, 3600), (86_400, 3600)])
def test_retry_after_lengthens_the_pause_up_to_an_hour(retry_after: float, seconds: float) -> None:
    """A shorter one does not shorten the pause."""
    assert backoff(3, 0.0, retry_after) == seconds


@given(FAILURES, JITTERS, RETRY_AFTERS)
def test_pause_is_within_its_bounds(failures: int, jitter: float, retry_after: float | None) -> None:
    assert 0.75 <= backoff(failures, jitter, retry_after) <= MAX_RETRY_AFTER
    assert backoff(failures, jitter) <= MAX_PAUSE


@given(FAILURES, JITTERS, RETRY_AFTERS)
def test_jitter_shortens_the_pause_but_not_below_retry_after(
    failures: int, jitter: float, retry_after: float | None
) -> None:
    """By a quarter at most."""
    plain, shortened = backoff(failures, 0.0, retry_after), backoff(failures, jitter, retry_after)
    assert plain * 0.75 <= shortened <= plain
    assert shortened >= min(retry_after or 0.0, MAX_RETRY_AFTER)


def test_growing_pause_has_a_new_jitter_each_time() -> None:
    """Processes that failed at the same moment must not retry at the same moment."""
    jitters = iter([0.0, 1.0, 1.0])
    seconds = growing_pause(lambda: next(jitters))
    assert [seconds(3, None), seconds(3, None), seconds(3, 30.0)] == [4.0, 3.0, 30.0]


class Holder:
    """Counts calls of its method."""

    def __init__(self, calls: list[int]) -> None:
        self._calls = calls

    def call(self) -> None:
        self._calls.append(1)


async def test_method_is_called_while_its_object_exists() -> None:
    loop = asyncio.get_running_loop()
    calls: list[int] = []
    holder = Holder(calls)
    call_weakly_at(loop, loop.time(), holder.call)
    timer = asyncio.Event()
    loop.call_at(loop.time() + 0.02, timer.set)
    await timer.wait()
    assert calls == [1]


async def test_timer_does_not_keep_its_object_alive() -> None:
    """The object is freed at once without the garbage collector, and later nothing happens."""
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
    timer = asyncio.Event()
    loop.call_at(loop.time() + 0.03, timer.set)
    await timer.wait()
    assert calls == []
