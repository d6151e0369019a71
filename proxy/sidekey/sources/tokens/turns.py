"""The turns of this process: each in a task of its own. Its end begins none, and waits for those that are under way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from sidekey.credentials.base import CallFault
from sidekey.errors import ProblemError
from sidekey.observe.logs import get_logger
from sidekey.sources.tokens.ledger import Ledger, TurnLost, Unavailable

T = TypeVar("T")

LINGER = 15.0
"""Seconds for which the end of a process waits for its turns: a call that was sent may have spent what it presented."""


class Turns:
    """Where the turns of `ledger` are taken in this process, by all of its token sources."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_ending = False
        self._log = get_logger()

    def check(self) -> None:
        """Raise Unavailable once the process ends: what would be presented now, nobody may be left to keep."""
        if self._is_ending:
            raise Unavailable("this process is ending")

    async def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What a turn gives, from when it is asked for until it has ended. Raises what it does, and as `check`.

        Whoever stops waiting must not keep what is taken from being given back, nor what a call brings from being kept.
        """
        self.check()
        task = asyncio.get_running_loop().create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    def end(self) -> None:
        """Make no call from now on that is not under way."""
        self._is_ending = True

    async def close(self, report: Callable[[BaseException], object]) -> None:
        """Wait, for some time, until all turns have ended; `report` is passed the defects of those that fail."""
        self.end()
        tasks = set(self._tasks)
        if not tasks:
            return
        ended, left = await asyncio.wait(tasks, timeout=LINGER)
        for task in ended:
            self._note(task.exception(), report)
        for task in left:
            task.cancel()
        if left:
            self._log.error("a token request did not finish in time: its refresh token may have been used")

    def _note(self, error: BaseException | None, report: Callable[[BaseException], object]) -> None:
        """Tell what nobody waits for any more."""
        if isinstance(error, CallFault):
            self._log.warning("no token could be obtained", outcome=error.outcome, reason=error.reason)
        elif error is not None and not isinstance(error, (ProblemError, TurnLost, Unavailable)):
            report(error)
