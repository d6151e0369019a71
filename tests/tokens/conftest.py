"""An event loop whose clock advances only when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from support.manual_clock import ManualClockLoop
from support.tokens import Rig


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every async test of this folder on a loop with its own time."""
    return {"still": ManualClockLoop}


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A token source that must end without a task or timer."""
    rig = Rig()
    unhandled: list[dict[str, Any]] = []
    rig.loop.set_exception_handler(lambda _, context: unhandled.append(context))
    yield rig
    await rig.close()
    assert unhandled == []
    assert asyncio.all_tasks() == {asyncio.current_task()}
