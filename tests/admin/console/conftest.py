"""One Sidekey with a store for the tests of pages, and browsers that are logged in to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import pytest

from admin.api.conftest import Running, serving
from sidekey.runtime.admin_rules import Role
from support.api import TOKENS, Api
from support.pages import Pages

LogIn = Callable[[Role], Pages]
Named = Callable[[str], str]


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A Sidekey with a store, and an echoing upstream."""
    with serving(tmp_path_factory.mktemp("console")) as found:
        yield found


@pytest.fixture
def log_in(running: Running) -> LogIn:
    """Makes a browser that is logged in with a role."""

    def browser(role: Role) -> Pages:
        pages = Pages(running.child.admin_port)
        seen = pages.log_in(TOKENS[role])
        assert (seen.status, seen.path) == (200, "/")
        return pages

    return browser


@pytest.fixture
def api(running: Running) -> Api:
    """The API, by an editor's token."""
    return Api(running.child.admin_port, TOKENS["editor"])


_NUMBERS = count()


@pytest.fixture
def named() -> Named:
    """Makes names that no other test has."""
    return lambda word: f"{word}-{next(_NUMBERS)}"
