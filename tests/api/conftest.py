"""The API of the Sidekey that all tests share, by the token of each role; tests that change more start their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import pytest

from support.api import TOKENS, Api, Running, serving


@pytest.fixture
def api(running: Running) -> Api:
    """The API, by an admin's token."""
    return Api(running.child.admin_port)


@pytest.fixture
def editor(api: Api) -> Api:
    """The same, by an editor's."""
    return api.by(TOKENS["editor"])


@pytest.fixture
def viewer(api: Api) -> Api:
    """The same, by a viewer's."""
    return api.by(TOKENS["viewer"])


Named = Callable[[str], str]

_NUMBERS = count()


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A Sidekey with a store, and an echoing upstream, for all tests that have names of their own."""
    with serving(tmp_path_factory.mktemp("admin")) as found:
        yield found


@pytest.fixture
def named() -> Named:
    """Makes names that no other test has."""
    return lambda word: f"{word}-{next(_NUMBERS)}"
