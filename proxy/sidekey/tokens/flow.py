"""Runs the auth flow of a credential whose grants end: makes its calls, counts the outcome of each."""

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


class CallLimit:
    """Remembers when the last `most` calls were made; None: any number may be."""

    __slots__ = ("_made", "most")

    def __init__(self, most: int | None) -> None:
        self.most = most
        self._made: deque[float] = deque(maxlen=most or 0)

    def at_most(self, most: int | None) -> CallLimit:
        """The limit for another number of calls, which remembers those that were made."""
        if most == self.most:
            return self
        found = CallLimit(most)
        found._made.extend(self._made)
        return found

    def wait(self, now: float) -> float:
        """Seconds until a call may be made, 0 where it may be made now."""
        if self.most is None or len(self._made) < self.most:
            return 0.0
        return max(0.0, self._made[0] + WINDOW - now) if self._made else WINDOW

    def note(self, now: float) -> None:
        """Remember a call that is made now."""
        self._made.append(now)


Fetch = Callable[[Call], Awaitable[Reply]]
"""Makes a call. Raises CallFault where it brings no response."""

AuthFlow = Generator[Call, Reply, Issued]
"""Yields the calls it needs, is sent their responses, returns what was issued (as httpx's auth flows)."""


class FlowResult(NamedTuple):
    """What was issued, and when the last call for it was sent: its life counts from there."""

    issued: Issued
    called: float


@dataclass(frozen=True, slots=True)
class FlowRunner:
    """What running a flow takes.

    `learn` checks a base URL that came with a grant (ValueError: the rest of a sentence that begins with "it").
    """

    fetch: Fetch
    limit: CallLimit
    clock: Callable[[], float]
    count: Callable[[Outcome], None]
    learn: Callable[[str], object]

    async def run(self, flow: AuthFlow) -> FlowResult:
        """Make the calls that `flow` asks for, one after the other. Raises CallFault.

        Each call made is counted once. One that fails is raised where `flow` yielded it, which may go on with another.
        A call over the limit ends the attempt, and is neither made nor counted.
        """
        called, step = self.clock(), "token endpoint"
        uncounted = False
        advance: Callable[[], Call] = partial(next, flow)
        try:
            with closing(flow):
                while isinstance(wanted := _advance(advance), Call):
                    if uncounted:
                        self.count(wanted.previous)
                        uncounted = False
                    called, step = self.clock(), wanted.step
                    self._admit(step, called)
                    try:
                        reply = await self.fetch(wanted)
                    except CallError as error:
                        self.count(error.outcome)
                        advance = partial(flow.throw, error)
                    else:
                        uncounted = True
                        advance = partial(flow.send, reply)
            self._check(step, called, wanted)
        except CallError as error:
            if uncounted:
                self.count(error.outcome)
            raise
        if uncounted:
            self.count("ok")
        return FlowResult(wanted, called)

    def _admit(self, step: str, now: float) -> None:
        wait = self.limit.wait(now)
        if wait:
            reason = f"{step} skipped: limit of {self.limit.most} calls a minute reached"
            raise CallError("rate_limited", reason, retry_after=wait, unspent=True)
        self.limit.note(now)

    def _check(self, step: str, called: float, issued: Issued) -> None:
        if self.clock() >= called + issued.life:
            reason = f"{step} returned a token that had expired on arrival"
            raise CallError("invalid", reason, memory=issued.memory, expired=True, unspent=True)
        if issued.grant.base_url is None:
            return
        try:
            self.learn(issued.grant.base_url)
        except ValueError as error:
            reason = f"the base URL that the {step} returned is not allowed: {error}"
            raise CallError("invalid", reason, memory=issued.memory, unspent=True) from None


def _advance(advance: Callable[[], Call]) -> Call | Issued:
    try:
        return advance()
    except StopIteration as end:
        issued: Issued = end.value
        return issued


class Calls:
    """One attempt. `memory` is what the next call may use (`Attempt.memory`), also after `run` has raised.

    `pauses` are the seconds before each further call, where one brought a token that has ended.
    """

    def __init__(
        self,
        credential: CallingCredential,
        make_runner: Callable[[Fetch], FlowRunner],
        wall: Callable[[], float],
        memory: str | None,
        *,
        rejected: bool,
        pauses: Sequence[float],
    ) -> None:
        self.memory = memory
        self._credential = credential
        self._make_runner = make_runner
        self._wall = wall
        self._rejected = rejected
        self._pauses = pauses

    async def run(self, fetch: Fetch) -> FlowResult:
        """Make the calls. Raises CallFault, and what `fetch` raises."""
        runner = self._make_runner(fetch)
        for pause in self._pauses:
            try:
                return await self._once(runner)
            except CallError as error:
                if not error.expired:
                    raise
            await asyncio.sleep(pause)
        return await self._once(runner)

    async def _once(self, runner: FlowRunner) -> FlowResult:
        attempt = Attempt(self._wall(), self.memory, self._rejected)
        try:
            obtained = await runner.run(self._credential.obtain(attempt))
        except CallError as error:
            if error.memory is not None:
                self.memory = error.memory
            raise
        self.memory = obtained.issued.memory
        return obtained
