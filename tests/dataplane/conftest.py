"""The loops that the data plane runs on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvloop

from support import plane

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run the tests of modules that use sockets, or the loop's timer, on both loops; events that are fed know none."""
    module = item.getparent(pytest.Module)
    assert module is not None
    names = vars(module.obj)
    touches_loop = names.get("running") is plane.running or "Deadlines" in names
    return LOOPS if touches_loop else {"asyncio": LOOPS["asyncio"]}
