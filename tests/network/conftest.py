"""What the tests of dialling share: both event loops, and a watch over sockets left open."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from support.raw import DEADLINE


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every async test of this folder on both loops."""
    return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


def open_sockets() -> set[str]:
    """The sockets this process holds, as the kernel names them."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


@pytest.fixture
async def nothing_leaks() -> AsyncIterator[None]:
    """Fail a test that leaves a socket or a task behind. Whatever the test itself opened must be closed by its end."""
    sockets, tasks = open_sockets(), asyncio.all_tasks()
    yield
    async with asyncio.timeout(DEADLINE):
        while open_sockets() - sockets or asyncio.all_tasks() - tasks - {asyncio.current_task()}:
            # Transports close their sockets some turns of the loop later.
            await asyncio.sleep(0.005)


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """What a lookup that hangs waits for; set at the end at the latest."""
    event = threading.Event()
    yield event
    event.set()
