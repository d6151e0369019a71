"""Single flight: at most one attempt to get something is under way, however many wait for its outcome.

What is got, and how, is the owner's business: an attempt is a coroutine function that returns its outcome. Failures
that an owner expects are outcomes as well (`Failed`), values that can be handed to any number of waiters and be kept;
a kept exception would hold the frames that it was raised through, and with them its owner.
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
"""Seconds until the next attempt may begin, after this many failures in a row (at least one), the last of which asked
for so many seconds (`Failed.retry_after`)."""

_AT_ONCE = -math.inf


def fixed(seconds: float) -> Pause:
    """The same pause after every failure."""
    return lambda *_: seconds


_NONE = fixed(0.0)


def _ignore() -> None:
    """What follows an attempt whose owner need not know."""


@dataclass(frozen=True, slots=True)
class Failed(Generic[E]):
    """The outcome of an attempt that got nothing, and why.

    `retry_after` is the pause in seconds that was asked for. With `counts` false there is no other, and this attempt
    makes no later pause longer.
    """

    error: E
    retry_after: float | None = None
    counts: bool = True


class SingleFlight(Generic[T, E]):
    """Runs the attempts of one owner: one at a time, each in a task that belongs to none of those who wait for it.

    `error` is that of the last attempt if it failed, `failures` how many failed in a row, and before `not_before` (on
    the loop's clock) the next should not begin; a success resets all three. `waiting` is how many wait now.

    An attempt that raises has a defect: it counts as a failure, `error` stays what it was, and what it raised reaches
    those who wait. An attempt is passed each time, and not kept: an owner that is kept by what it owns is a cycle,
    which only the garbage collector could free.
    """

    __slots__ = ("_pause", "_task", "error", "failures", "not_before", "waiting")

    def __init__(self, pause: Pause = _NONE) -> None:
        self.error: E | None = None
        self.failures = 0
        self.not_before = _AT_ONCE
        self.waiting = 0
        self._pause = pause
        self._task: asyncio.Task[T | Failed[E]] | None = None

    @property
    def running(self) -> bool:
        """Whether an attempt is under way."""
        return self._task is not None

    @property
    def blocked(self) -> bool:
        """Whether none is under way, and none should begin yet."""
        return self._task is None and asyncio.get_running_loop().time() < self.not_before

    def go_on(self, former: SingleFlight[T, E]) -> None:
        """Begin where the attempts of another owner have ended: with its error, its failures and its pause."""
        self.error, self.failures, self.not_before = former.error, former.failures, former.not_before

    def allow(self) -> None:
        """Let the next attempt begin at once, whatever came of the last."""
        self.not_before = _AT_ONCE

    def start(self, attempt: Callable[[], Awaitable[T | Failed[E]]], then: Callable[[], None] = _ignore) -> None:
        """Begin an attempt, also while `blocked`. `then` is called once it has ended with an outcome."""
        if self._task is not None:
            raise RuntimeError("an attempt is under way")
        self._task = asyncio.get_running_loop().create_task(self._run(attempt, then))

    async def wait(self) -> T | Failed[E]:
        """The outcome of the attempt under way. A waiter that is cancelled leaves it to the others."""
        if self._task is None:
            raise RuntimeError("no attempt is under way")
        self.waiting += 1
        try:
            return await asyncio.shield(self._task)
        finally:
            self.waiting -= 1

    async def join(self, attempt: Callable[[], Awaitable[T | Failed[E]]]) -> T | Failed[E]:
        """The outcome of the attempt under way, or else of this one, also while `blocked`."""
        if self._task is None:
            self.start(attempt)
        return await self.wait()

    async def close(self) -> None:
        """Cancel the attempt under way, and with it everyone who waits."""
        task = self._task
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            # A task that was cancelled before its first step has run nothing of `_run`.
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
                self.allow()
                if outcome.retry_after is not None:
                    self.not_before = asyncio.get_running_loop().time() + outcome.retry_after
        then()
        return outcome

    def _count_failure(self, asked: float | None) -> None:
        self.failures += 1
        self.not_before = asyncio.get_running_loop().time() + self._pause(self.failures, asked)


def call_weakly_at(loop: asyncio.AbstractEventLoop, when: float, method: Callable[[], None]) -> asyncio.TimerHandle:
    """Have the loop call a bound method at `when`, on its own clock, if its object still lives then.

    The loop holds on to whatever a timer refers to: a source that nobody uses any more would live as long as its token.
    """
    return loop.call_at(when, _call, WeakMethod(method))


def _call(reference: WeakMethod[Callable[[], None]]) -> None:
    method = reference()
    if method is not None:
        method()


FIRST = 1.0
MAX_PAUSE = 60.0
MAX_RETRY_AFTER = 3600.0
"""Seconds of a `Retry-After` that are honoured: an endpoint may not lock an integration out for a day."""

_DOUBLINGS = 6


def pause(failures: int, jitter: float, asked: float | None = None) -> float:
    """Seconds until the next attempt, after this many failures in a row (at least one).

    It doubles up to `MAX_PAUSE`; `jitter`, within 0 and 1, takes away up to a quarter. `asked` is the response's
    `Retry-After` in seconds, which can only make it longer.
    """
    base: float = min(MAX_PAUSE, FIRST * 2 ** min(failures - 1, _DOUBLINGS))
    return max(base * (1 - jitter / 4), min(asked or 0.0, MAX_RETRY_AFTER))


def growing(jitter: Callable[[], float]) -> Pause:
    """`pause`, with another jitter each time, for a `SingleFlight`."""
    return lambda failures, asked: pause(failures, jitter(), asked)
