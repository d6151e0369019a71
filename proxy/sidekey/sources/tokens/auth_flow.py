"""Runs the auth flow of a credential whose grants end: makes its calls, counts the outcome of each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from sidekey.credentials.base import Call, CallFault, Issued, Outcome, Reply
from sidekey.sources.tokens.call_limit import CallLimit

Fetch = Callable[[Call], Awaitable[Reply]]
"""Makes a call. Raises CallFault where it brings no response."""

AuthFlow = Generator[Call, Reply, Issued]
"""Yields the calls it needs, is sent their responses, returns what was issued (as httpx's auth flows)."""


class Obtained(NamedTuple):
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

    async def run(self, flow: AuthFlow) -> Obtained:
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
                    except CallFault as error:
                        self.count(error.outcome)
                        advance = partial(flow.throw, error)
                    else:
                        uncounted = True
                        advance = partial(flow.send, reply)
            self._check(step, called, wanted)
        except CallFault as error:
            if uncounted:
                self.count(error.outcome)
            raise
        if uncounted:
            self.count("ok")
        return Obtained(wanted, called)

    def _admit(self, step: str, now: float) -> None:
        wait = self.limit.wait(now)
        if wait:
            reason = f"{step} skipped: limit of {self.limit.most} calls a minute reached"
            raise CallFault("rate_limited", reason, retry_after=wait, unspent=True)
        self.limit.note(now)

    def _check(self, step: str, called: float, issued: Issued) -> None:
        if self.clock() >= called + issued.life:
            reason = f"{step} returned a token that had expired on arrival"
            raise CallFault("invalid", reason, memory=issued.memory, expired=True, unspent=True)
        if issued.grant.base_url is None:
            return
        try:
            self.learn(issued.grant.base_url)
        except ValueError as error:
            reason = f"the base URL that the {step} returned is not allowed: {error}"
            raise CallFault("invalid", reason, memory=issued.memory, unspent=True) from None


def _advance(advance: Callable[[], Call]) -> Call | Issued:
    try:
        return advance()
    except StopIteration as end:
        issued: Issued = end.value
        return issued
