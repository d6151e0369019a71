"""The calls of one attempt: the auth flow of a credential, begun again where it brought a token that has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from sidekey.credentials.base import Attempt, CallFault, CallingCredential
from sidekey.sources.tokens.auth_flow import Fetch, FlowRunner, Obtained


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

    async def run(self, fetch: Fetch) -> Obtained:
        """Make the calls. Raises CallFault, and what `fetch` raises."""
        runner = self._make_runner(fetch)
        for pause in self._pauses:
            try:
                return await self._once(runner)
            except CallFault as error:
                if not error.expired:
                    raise
            await asyncio.sleep(pause)
        return await self._once(runner)

    async def _once(self, runner: FlowRunner) -> Obtained:
        attempt = Attempt(self._wall(), self.memory, self._rejected)
        try:
            obtained = await runner.run(self._credential.obtain(attempt))
        except CallFault as error:
            if error.memory is not None:
                self.memory = error.memory
            raise
        self.memory = obtained.issued.memory
        return obtained
