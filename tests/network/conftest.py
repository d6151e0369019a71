"""Fixtures for the tests of the network package."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest
import uvloop

from support.dialling import LoopbackDialer
from support.private_ca import Authority


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every async test of this folder on both loops."""
    return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Return the event that a hanging lookup waits for. It is set at the end of the test."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def dial(ca: Authority) -> LoopbackDialer:
    """Build a dialer that knows the hosts of `support.dialling` and may dial loopback."""
    return LoopbackDialer(ca)
