"""Fixtures: one Chromium and one Sidekey for all tests. Each test has separate browser contexts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.browser import Chromium, chromium
from support.ui import Console, ConsoleSetup, running


@pytest.fixture(scope="package")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleSetup]:
    """Run a Sidekey with a store, and an upstream."""
    with running(tmp_path_factory.mktemp("ui")) as process:
        yield process


@pytest.fixture(scope="package")
def browser() -> Iterator[Chromium]:
    """Start Chromium for this package only, because no other event loop can run beside Chromium's."""
    with chromium() as process:
        yield process


@pytest.fixture
def console(shared: ConsoleSetup, browser: Chromium) -> Iterator[Console]:
    """Open the console. Any error in a page fails the test."""
    shared.upstream.reset()
    opened = Console(shared, browser)
    yield opened
    opened.close()
