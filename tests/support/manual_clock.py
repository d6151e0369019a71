"""An event loop with a manual clock. Sockets and threads work normally."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec

P = ParamSpec("P")


class ManualClockLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock only `advance` changes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def time(self) -> float:
        return self.now

    async def advance(self, seconds: float, *, step: float | None = None) -> None:
        """Advance the clock from timer to timer, and run everything that is due."""
        await settle()
        end = self.now + seconds
        while self.now < end:
            self.now = end if step is None else min(end, self.now + step)
            await settle()


async def settle() -> None:
    """Run everything that can run now."""
    for _ in range(20):
        await asyncio.sleep(0)


async def advance(seconds: float, *, step: float | None = None) -> None:
    """Advance the clock of the running loop."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, ManualClockLoop):
        raise TypeError("this test needs a ManualClockLoop")
    await loop.advance(seconds, step=step)


def with_manual_clock(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run one async test on a `ManualClockLoop`. Other tests of the folder use normal loops."""

    @wraps(test)
    def run(*arguments: P.args, **named: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=ManualClockLoop) as runner:
            runner.run(test(*arguments, **named))

    return run
