"""The loop of these tests: its time moves by hand, while sockets and threads work as ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from support.still import StillLoop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every async test of this folder runs in its own time."""
    return {"still": StillLoop}
