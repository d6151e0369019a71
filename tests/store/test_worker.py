"""The store's own thread."""

from __future__ import annotations

import asyncio
import threading

import pytest

from sidekey.store.worker import Worker
from support.raw import DEADLINE


async def name() -> str:
    return threading.current_thread().name


async def test_work_is_done_in_the_thread_and_its_result_comes_here() -> None:
    worker = Worker()
    assert await worker.run(name()) == "sidekey-store"
    assert threading.current_thread().name != "sidekey-store"
    await worker.close()


async def test_what_work_raises_is_raised_here() -> None:
    async def fail() -> None:
        raise KeyError("x")

    worker = Worker()
    with pytest.raises(KeyError, match="x"):
        await worker.run(fail())
    await worker.close()


async def test_work_that_blocks_blocks_nobody_else() -> None:
    over = threading.Event()

    async def block() -> bool:
        return over.wait(DEADLINE)

    worker = Worker()
    blocking = asyncio.create_task(worker.run(block()))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not blocking.done()
    over.set()
    assert await blocking
    await worker.close()


async def test_what_has_begun_goes_on_where_nobody_waits_any_more() -> None:
    done = threading.Event()

    async def work() -> None:
        await asyncio.sleep(0.01)
        done.set()

    worker = Worker()
    waiting = asyncio.create_task(worker.run(work()))
    await asyncio.sleep(0)
    waiting.cancel()
    assert await asyncio.to_thread(done.wait, DEADLINE)
    await worker.close()


async def test_the_end_cancels_what_still_runs() -> None:
    ended = threading.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    worker = Worker()
    worker.start(work())
    await worker.run(name())
    await worker.close()
    assert ended.is_set()
    assert "sidekey-store" not in {thread.name for thread in threading.enumerate()}
