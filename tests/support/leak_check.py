"""Detect leaks of async code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from support.raw_connection import DEADLINE


@asynccontextmanager
async def assert_no_leaks() -> AsyncIterator[None]:
    """Fail if the block leaves an open socket or a task behind.

    Enter and leave it in the same run of the loop, because uvloop opens sockets for each run.
    """
    sockets, tasks = open_sockets(), asyncio.all_tasks()
    yield
    try:
        async with asyncio.timeout(DEADLINE):
            while open_sockets() - sockets or asyncio.all_tasks() - tasks:
                # Transports close their sockets some turns of the loop later.
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"left: {open_sockets() - sockets} {asyncio.all_tasks() - tasks}") from None


def open_sockets() -> set[str]:
    """Return the sockets of this process, as the kernel names them."""
    sockets = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:"):
            sockets.add(target)
    return sockets
