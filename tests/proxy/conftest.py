"""The loops that the data plane runs on, and what is said of them in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop

from support import plane

Factory = Callable[[], asyncio.AbstractEventLoop]

broken: list[dict[str, Any]] = []
"""What left a callback of the loop as an exception: nobody could catch it there."""


def watched(factory: Factory) -> Factory:
    """Loops of this kind, whose callbacks must not fail."""

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
    """Run the tests of modules that use sockets, or the loop's timer, on both loops; events that are fed know none."""
    module = item.getparent(pytest.Module)
    assert module is not None
    names = vars(module.obj)
    touches_loop = names.get("running") is plane.running or "Deadlines" in names
    return LOOPS if touches_loop else {"asyncio": LOOPS["asyncio"]}


@pytest.fixture(autouse=True)
def no_callback_fails() -> Iterator[None]:
    """A protocol that raises has no one to tell; the connection would be closed, and the test might not see why."""
    broken.clear()
    yield
    assert broken == []
