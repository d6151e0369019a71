"""The shutdown of token leases. Races between processes are in test_shared.py."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from sidekey.credentials.base import CallError
from sidekey.errors import Problem, ProblemError
from sidekey.tokens.ledger import NoLedger, TokenLeaseLost, Unavailable
from sidekey.tokens.shared import LINGER, TokenLeases
from support.manual_clock import advance, settle


class RunningLeases:
    """Leases, and work that runs until the test ends it."""

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
async def running() -> RunningLeases:
    return RunningLeases()


async def test_result_or_error_of_the_work_reaches_the_waiter(running: RunningLeases) -> None:
    given, failed = running.begin(), RunningLeases()
    running.outcome.set_result("token")
    assert await given == "token"
    lost = failed.begin()
    failed.outcome.set_exception(TokenLeaseLost())
    with pytest.raises(TokenLeaseLost):
        await lost
    await running.close()
    await failed.close()
    assert running.defects == failed.defects == []


async def test_work_survives_its_cancelled_waiter_and_close_waits_for_it(running: RunningLeases) -> None:
    waiting = running.begin()
    await settle()
    waiting.cancel()
    closing = asyncio.create_task(running.close())
    await advance(LINGER - 1)
    assert (waiting.cancelled(), closing.done()) == (True, False)
    running.outcome.set_result("token")
    await closing


async def test_no_work_begins_after_the_end(running: RunningLeases) -> None:
    running.leases.end()
    with pytest.raises(Unavailable, match="this process is ending"):
        await running.begin()
    await running.close()


async def test_close_times_out(running: RunningLeases) -> None:
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
async def test_error_of_work_without_a_waiter_is_logged(
    running: RunningLeases, error: Exception, told: str | None
) -> None:
    """A defect is reported. The ledger has logged the other errors."""
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
