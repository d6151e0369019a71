"""Single flight, retry pauses and weak timers for values that Sidekey refreshes: tokens, certificates, secrets.

An attempt is a coroutine function that returns its outcome. A failure that the owner expects is an outcome too
(`Failed`), not an exception: a stored exception would keep its frames alive, and with them its owner.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar
from weakref import WeakMethod

T = TypeVar("T")
E = TypeVar("E")

Pause = Callable[[int, float | None], float]
"""Returns the seconds until the next attempt, from the failures in a row (at least 1) and the last `retry_after`."""

_AT_ONCE = -math.inf


def fixed_pause(seconds: float) -> Pause:
    """Return a pause that is the same after every failure."""
    return lambda *_: seconds


_FIRST_PAUSE = 1.0
MAX_PAUSE = 60.0
MAX_RETRY_AFTER = 3600.0
"""Maximum `Retry-After` in seconds: an endpoint must not lock an integration out for a day."""

_MAX_DOUBLINGS = 6


def backoff(failures: int, jitter: float, retry_after: float | None = None) -> float:
    """Return the seconds until the next attempt, after this many failures in a row (at least one).

    The pause doubles up to `MAX_PAUSE`; `jitter`, between 0 and 1, shortens it by up to a quarter. `retry_after` is the
    response's `Retry-After` in seconds, which can only lengthen it.
    """
    base: float = min(MAX_PAUSE, _FIRST_PAUSE * 2 ** min(failures - 1, _MAX_DOUBLINGS))
    return max(base * (1 - jitter / 4), min(retry_after or 0.0, MAX_RETRY_AFTER))


def growing_pause(jitter: Callable[[], float]) -> Pause:
    """Return a pause that doubles with each failure in a row, with a new jitter each time."""
    return lambda failures, retry_after: backoff(failures, jitter(), retry_after)


_NO_PAUSE = fixed_pause(0.0)


def _ignore() -> None:
    """Do nothing after an attempt."""


@dataclass(frozen=True, slots=True)
class Failed(Generic[E]):
    """Outcome of a failed attempt.

    `retry_after` is the pause in seconds that the server requested. If `counts` is False, the next pause is exactly
    `retry_after`, or there is none, and later pauses do not become longer.
    """

    error: E
    retry_after: float | None = None
    counts: bool = True


class SingleFlight(Generic[T, E]):
    """Runs one attempt at a time for all waiters, in a task of its own, which survives a cancelled waiter.

    `error` is the error of the last attempt if it failed, `failures` counts failures in a row, and the next attempt
    should not begin before `not_before` (on the loop's clock). A success resets all three. `waiting` counts waiters.

    An attempt that raises has a defect: it counts as a failure, `error` stays unchanged, and the waiters get the
    exception. The attempt is an argument rather than an attribute: a reference back to the owner would be a cycle,
    which only the garbage collector could free.
    """

    __slots__ = ("_pause", "_task", "error", "failures", "not_before", "waiting")

    def __init__(self, pause: Pause = _NO_PAUSE) -> None:
        self.error: E | None = None
        self.failures = 0
        self.not_before = _AT_ONCE
        self.waiting = 0
        self._pause = pause
        self._task: asyncio.Task[T | Failed[E]] | None = None

    @property
    def running(self) -> bool:
        """Return True while an attempt is running."""
        return self._task is not None

    @property
    def blocked(self) -> bool:
        """Return True if no attempt is running and none should begin yet."""
        return self._task is None and asyncio.get_running_loop().time() < self.not_before

    def resume_from(self, previous: SingleFlight[T, E]) -> None:
        """Take over the error, the failures and the pause of a previous owner's attempts."""
        self.error, self.failures, self.not_before = previous.error, previous.failures, previous.not_before

    def unblock(self) -> None:
        """Let the next attempt begin at once."""
        self.not_before = _AT_ONCE

    def start(self, attempt: Callable[[], Awaitable[T | Failed[E]]], then: Callable[[], None] = _ignore) -> None:
        """Begin an attempt, even while `blocked`. Call `then` when it has an outcome."""
        if self._task is not None:
            raise RuntimeError("an attempt is already running")
        self._task = asyncio.get_running_loop().create_task(self._run(attempt, then))

    async def wait(self) -> T | Failed[E]:
        """Wait for the running attempt. Cancelling a waiter does not cancel the attempt."""
        if self._task is None:
            raise RuntimeError("no attempt is running")
        self.waiting += 1
        try:
            return await asyncio.shield(self._task)
        finally:
            self.waiting -= 1

    async def start_or_wait(self, attempt: Callable[[], Awaitable[T | Failed[E]]]) -> T | Failed[E]:
        """Start an attempt, even while `blocked`, or wait for the running one. Return the outcome."""
        if self._task is None:
            self.start(attempt)
        return await self.wait()

    async def close(self) -> None:
        """Cancel the running attempt and its waiters."""
        task = self._task
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            # `_run` did not reset it if the task was cancelled before its first step.
            self._task = None

    async def _run(self, attempt: Callable[[], Awaitable[T | Failed[E]]], then: Callable[[], None]) -> T | Failed[E]:
        try:
            outcome = await attempt()
        except Exception:
            self._count_failure(None)
            raise
        finally:
            self._task = None
        if not isinstance(outcome, Failed):
            self.error, self.failures, self.not_before = None, 0, _AT_ONCE
        else:
            self.error = outcome.error
            if outcome.counts:
                self._count_failure(outcome.retry_after)
            else:
                self.unblock()
                if outcome.retry_after is not None:
                    self.not_before = asyncio.get_running_loop().time() + outcome.retry_after
        then()
        return outcome

    def _count_failure(self, retry_after: float | None) -> None:
        self.failures += 1
        self.not_before = asyncio.get_running_loop().time() + self._pause(self.failures, retry_after)


def call_weakly_at(loop: asyncio.AbstractEventLoop, when: float, method: Callable[[], None]) -> asyncio.TimerHandle:
    """Call a bound method at `when`, on the loop's clock, if its object still exists.

    A strong reference in the timer would keep an unused source alive as long as its token.
    """
    return loop.call_at(when, _call_if_alive, WeakMethod(method))


def _call_if_alive(reference: WeakMethod[Callable[[], None]]) -> None:
    method = reference()
    if method is not None:
        method()
