"""Run the tests of certificates on a loop whose clock the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from support.manual_clock import ManualClockLoop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every async test of this folder on a loop with its own clock."""
    return {"still": ManualClockLoop}
