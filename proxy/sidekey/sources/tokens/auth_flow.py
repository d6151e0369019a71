"""Drives the generator of a credential that must call first: makes its calls, counts what came of each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from sidekey.credentials.base import Call, CallFault, Issued, Outcome, Reply
from sidekey.sources.tokens.call_limit import CallLimit

Fetch = Callable[[Call], Awaitable[Reply]]
"""Makes a call. Raises CallFault where no answer comes of it."""

Work = Generator[Call, Reply, Issued]


class Fresh(NamedTuple):
    """What was issued, and when the last call for it was sent: its life counts from there."""

    issued: Issued
    called: float


@dataclass(frozen=True, slots=True)
class Driver:
    """What driving takes, the same for every attempt of an integration.

    `learn` judges a base URL that came with a grant (ValueError: the rest of a sentence that begins with "it").
    """

    fetch: Fetch
    limit: CallLimit
    clock: Callable[[], float]
    count: Callable[[Outcome], None]
    learn: Callable[[str], object]

    async def run(self, work: Work) -> Fresh:
        """Make the calls that `work` asks for, one after the other. Raises CallFault.

        Each call made is counted once. One that fails is raised where `work` yielded it: it may go on with another.
        A call over the limit ends the attempt, and is neither made nor counted.
        """
        called, step = self.clock(), "token endpoint"
        unjudged = False
        advance: Callable[[], Call] = partial(next, work)
        try:
            with closing(work):
                while isinstance(wanted := _advance(advance), Call):
                    if unjudged:
                        self.count(wanted.previous)
                        unjudged = False
                    called, step = self.clock(), wanted.step
                    self._admit(step, called)
                    try:
                        reply = await self.fetch(wanted)
                    except CallFault as fault:
                        self.count(fault.outcome)
                        advance = partial(work.throw, fault)
                    else:
                        unjudged = True
                        advance = partial(work.send, reply)
            self._judge(step, called, wanted)
        except CallFault as fault:
            if unjudged:
                self.count(fault.outcome)
            raise
        if unjudged:
            self.count("ok")
        return Fresh(wanted, called)

    def _admit(self, step: str, now: float) -> None:
        wait = self.limit.wait(now)
        if wait:
            reason = f"{step} is not called: {self.limit.most} calls a minute are the most"
            raise CallFault("rate_limited", reason, retry_after=wait)
        self.limit.note(now)

    def _judge(self, step: str, called: float, issued: Issued) -> None:
        if self.clock() >= called + issued.life:
            raise CallFault("invalid", f"{step} answered a token that has expired on the way", memory=issued.memory)
        if issued.grant.base_url is None:
            return
        try:
            self.learn(issued.grant.base_url)
        except ValueError as fault:
            reason = f"the base URL that the {step} answered is not allowed: {fault}"
            raise CallFault("invalid", reason, memory=issued.memory) from None


def _advance(advance: Callable[[], Call]) -> Call | Issued:
    try:
        return advance()
    except StopIteration as end:
        issued: Issued = end.value
        return issued
