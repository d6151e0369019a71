"""tokens/shared.py: what is under way at the end of a process; whose turns they are is test_sharing's."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from sidekey.credentials.base import CallError
from sidekey.errors import Problem, ProblemError
from sidekey.tokens.ledger import NoLedger, TokenLeaseLost, Unavailable
from sidekey.tokens.shared import LINGER, TokenLeases
from support.manual_clock import advance, settle


class Running:
    """Turns, and work that goes on until it is told how to end."""

    def __init__(self) -> None:
        self.leases = TokenLeases(NoLedger("ask another"))
        self.defects: list[BaseException] = []
        self.outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def begin(self) -> asyncio.Task[str]:
        """Begin the work; whoever waits for it."""
        return asyncio.create_task(self.leases.run(self._work))

    async def _work(self) -> str:
        return await self.outcome

    async def close(self) -> None:
        await self.leases.close(self.defects.append)


@pytest.fixture
async def running() -> Running:
    return Running()


async def test_what_a_turn_gives_or_raises_reaches_who_waits(running: Running) -> None:
    given, failed = running.begin(), Running()
    running.outcome.set_result("token")
    assert await given == "token"
    lost = failed.begin()
    failed.outcome.set_exception(TokenLeaseLost())
    with pytest.raises(TokenLeaseLost):
        await lost
    await running.close()
    await failed.close()
    assert running.defects == failed.defects == []


async def test_a_turn_goes_on_where_nobody_waits_for_it_and_the_end_does(running: Running) -> None:
    waiting = running.begin()
    await settle()
    waiting.cancel()
    closing = asyncio.create_task(running.close())
    await advance(LINGER - 1)
    assert (waiting.cancelled(), closing.done()) == (True, False)
    running.outcome.set_result("token")
    await closing


async def test_after_the_end_none_begins(running: Running) -> None:
    running.leases.end()
    with pytest.raises(Unavailable, match="this process is ending"):
        await running.begin()
    await running.close()


async def test_a_turn_that_does_not_end_is_not_waited_for_for_ever(running: Running) -> None:
    waiting = running.begin()
    await settle()
    with capture_logs() as lines:
        closing = asyncio.create_task(running.close())
        await advance(LINGER)
        await closing
    await settle()
    (line,) = lines
    assert line["event"] == "a token request did not finish in time: its refresh token may have been used"
    assert waiting.cancelled()
    assert running.outcome.cancelled()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (CallError("timeout", "token endpoint did not respond in time"), "token endpoint did not respond in time"),
        (Unavailable("it cannot be reached"), None),
        (ProblemError(Problem("credential_unavailable", "no certificate")), None),
        (TokenLeaseLost(), None),
        (ZeroDivisionError("secret text"), None),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_fails_at_the_end_is_told_as_ever(running: Running, error: Exception, told: str | None) -> None:
    """Nobody waits for it any more. A defect is reported; whatever is not told here is told by the store's ledger."""
    waiting = running.begin()
    await settle()
    waiting.cancel()
    with capture_logs() as lines:
        closing = asyncio.create_task(running.close())
        await settle()
        running.outcome.set_exception(error)
        await closing
    assert [line["reason"] for line in lines] == ([] if told is None else [told])
    assert running.defects == ([error] if isinstance(error, ZeroDivisionError) else [])
