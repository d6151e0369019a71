"""One Chromium for all tests here, and one Sidekey; each test has windows and log-ins of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from sidekey.runtime.admin_rules import Role
from support.api import TOKENS, Api, Running, serving
from support.browser import Chromium, Tab, chromium

Open = Callable[..., Tab]
Named = Callable[[str], str]


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A Sidekey with a store, and an echoing upstream."""
    with serving(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture(scope="package")
def browser() -> Iterator[Chromium]:
    """Of this package and not of the session: while it runs, so does its event loop, and no other can."""
    with chromium() as found:
        yield found


@pytest.fixture
def tabs() -> Iterator[list[Tab]]:
    """Those of a test; whatever the browser complained of in them fails it."""
    found: list[Tab] = []
    yield found
    for each in found:
        each.close()
    assert [complaint for each in found for complaint in each.complaints] == []


@pytest.fixture
def tab(browser: Chromium, running: Running, tabs: list[Tab]) -> Open:
    """Opens windows that are logged in with a role, or with a token; or not at all, where it is empty."""

    def opened(role: Role = "editor", *, token: str | None = None, **more: Any) -> Tab:
        found = Tab(browser, f"http://127.0.0.1:{running.child.admin_port}", **more)
        tabs.append(found)
        if token != "":
            found.be(token or TOKENS[role])
        return found

    return opened


@pytest.fixture
def api(running: Running) -> Api:
    """The API, by an editor's token."""
    return Api(running.child.admin_port, TOKENS["editor"])


@pytest.fixture(scope="session")
def turns() -> list[float]:
    """When tests ended that have sent a test request."""
    return []


@pytest.fixture
def may_test(turns: list[float]) -> Iterator[None]:
    """An operator may send one test request a second: wait until one may be sent, whatever test sent the last."""
    time.sleep(max(0.0, turns[-1] + 1 - time.monotonic()) if turns else 0)
    yield
    turns.append(time.monotonic())


_NUMBERS = count()


@pytest.fixture
def named() -> Named:
    """Makes names that no other test has."""
    return lambda word: f"{word}-{next(_NUMBERS)}"
