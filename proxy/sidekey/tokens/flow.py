"""Run the auth flow of a credential whose grants expire: make its calls, limit their rate, count their outcomes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from sidekey.credentials.base import Attempt, Call, CallError, CallingCredential, Issued, Outcome, Reply

WINDOW = 60.0
"""Seconds in which `CallLimit` counts calls."""


class CallLimit:
    """Rate limit of `maximum` calls a minute, or None for no limit."""

    __slots__ = ("_times", "maximum")

    def __init__(self, maximum: int | None) -> None:
        self.maximum = maximum
        self._times: deque[float] = deque(maxlen=maximum or 0)

    def with_maximum(self, maximum: int | None) -> CallLimit:
        """Return a limit with another maximum that remembers the calls made so far."""
        if maximum == self.maximum:
            return self
        limit = CallLimit(maximum)
        limit._times.extend(self._times)
        return limit

    def wait_seconds(self, now: float) -> float:
        """Return the seconds until a call may be made, or 0."""
        if self.maximum is None or len(self._times) < self.maximum:
            return 0.0
        return max(0.0, self._times[0] + WINDOW - now) if self._times else WINDOW

    def record(self, now: float) -> None:
        """Record a call that is made now."""
        self._times.append(now)


Fetch = Callable[[Call], Awaitable[Reply]]
"""Makes a call. Raises CallError if there is no response."""

AuthFlow = Generator[Call, Reply, Issued]
"""Yields calls, receives their responses and returns the issued token, like the auth flows of httpx."""


class FlowResult(NamedTuple):
    """The issued token, and when the last call for it was sent. The lifetime counts from then."""

    issued: Issued
    called_at: float


@dataclass(frozen=True, slots=True)
class FlowRunner:
    """Makes the calls of one flow, within `limit`, and passes each outcome to `count`.

    `check_base_url` raises ValueError if the base URL of a grant is not allowed.
    """

    fetch: Fetch
    limit: CallLimit
    clock: Callable[[], float]
    count: Callable[[Outcome], None]
    check_base_url: Callable[[str], object]

    async def run(self, flow: AuthFlow) -> FlowResult:
        """Make the calls that `flow` yields, one after the other. Raises CallError.

        Count each call once, and a call with a response when `flow` continues, because `flow` decides whether the
        response is an error. Throw a failed call into `flow`, which may yield another call instead. A call over the
        limit ends the attempt and is not counted.
        """
        called_at, step = self.clock(), "token endpoint"
        uncounted = False
        advance: Callable[[], Call] = partial(next, flow)
        try:
            with closing(flow):
                while isinstance(item := _advance(advance), Call):
                    if uncounted:
                        self.count(item.previous_outcome)
                        uncounted = False
                    called_at, step = self.clock(), item.step
                    self._record_call(step, called_at)
                    try:
                        reply = await self.fetch(item)
                    except CallError as error:
                        self.count(error.outcome)
                        advance = partial(flow.throw, error)
                    else:
                        uncounted = True
                        advance = partial(flow.send, reply)
            self._check_issued(step, called_at, item)
        except CallError as error:
            if uncounted:
                self.count(error.outcome)
            raise
        if uncounted:
            self.count("ok")
        return FlowResult(item, called_at)

    def _record_call(self, step: str, now: float) -> None:
        """Record a call. Raises CallError if it would exceed the limit."""
        wait = self.limit.wait_seconds(now)
        if wait:
            reason = f"{step} skipped: limit of {self.limit.maximum} calls a minute reached"
            raise CallError("rate_limited", reason, retry_after=wait, unspent=True)
        self.limit.record(now)

    def _check_issued(self, step: str, called_at: float, issued: Issued) -> None:
        if self.clock() >= called_at + issued.lifetime:
            reason = f"{step} returned a token that had expired on arrival"
            raise CallError("invalid", reason, memory=issued.memory, expired=True, unspent=True)
        if issued.grant.base_url is None:
            return
        try:
            self.check_base_url(issued.grant.base_url)
        except ValueError as error:
            reason = f"the base URL that the {step} returned is not allowed: {error}"
            raise CallError("invalid", reason, memory=issued.memory, unspent=True) from None


def _advance(advance: Callable[[], Call]) -> Call | Issued:
    try:
        return advance()
    except StopIteration as end:
        issued: Issued = end.value
        return issued


class AttemptRunner:
    """Runs the flow of one attempt to obtain a token, and again if the endpoint returns an expired token.

    `memory` is the input of the next attempt (`Attempt.memory`) and is up to date even if `run` raises. `wall_clock`
    returns seconds since the epoch. `pauses` are the seconds before each retry.
    """

    def __init__(
        self,
        credential: CallingCredential,
        build_flow_runner: Callable[[Fetch], FlowRunner],
        wall_clock: Callable[[], float],
        memory: str | None,
        *,
        rejected: bool,
        pauses: Sequence[float],
    ) -> None:
        self.memory = memory
        self._credential = credential
        self._build_flow_runner = build_flow_runner
        self._wall_clock = wall_clock
        self._rejected = rejected
        self._pauses = pauses

    async def run(self, fetch: Fetch) -> FlowResult:
        """Make the calls. Raises CallError, and what `fetch` raises."""
        runner = self._build_flow_runner(fetch)
        for pause in self._pauses:
            try:
                return await self._run_once(runner)
            except CallError as error:
                if not error.expired:
                    raise
            await asyncio.sleep(pause)
        return await self._run_once(runner)

    async def _run_once(self, runner: FlowRunner) -> FlowResult:
        attempt = Attempt(self._wall_clock(), self.memory, self._rejected)
        try:
            result = await runner.run(self._credential.obtain(attempt))
        except CallError as error:
            if error.memory is not None:
                self.memory = error.memory
            raise
        self.memory = result.issued.memory
        return result
