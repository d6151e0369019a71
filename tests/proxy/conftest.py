"""Event loops for tests of the data plane. A failed callback fails the test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop

from support import plane

Factory = Callable[[], asyncio.AbstractEventLoop]

broken: list[dict[str, Any]] = []
"""Exceptions of callbacks of the loop."""


def watched(factory: Factory) -> Factory:
    """Build a class of event loops that record failed callbacks."""

    def make() -> asyncio.AbstractEventLoop:
        loop = factory()
        loop.set_exception_handler(lambda _, context: broken.append(context))
        return loop

    return make


LOOPS: dict[str, Factory] = {
    "asyncio": watched(asyncio.SelectorEventLoop),
    "uvloop": watched(uvloop.new_event_loop),
}


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Factory]:
    """Run modules that use sockets or timers on both loops, and others on one."""
    module = item.getparent(pytest.Module)
    assert module is not None
    names = vars(module.obj)
    touches_loop = names.get("running") is plane.running or "Deadlines" in names
    return LOOPS if touches_loop else {"asyncio": LOOPS["asyncio"]}


@pytest.fixture(autouse=True)
def no_callback_fails() -> Iterator[None]:
    """Fail the test if a callback raised: the loop would only close the connection."""
    broken.clear()
    yield
    assert broken == []
