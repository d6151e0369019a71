"""Fixtures: a Sidekey that the tests of the API share, and its API with the token of each role."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import pytest

from support.api import TOKENS, Api, ApiSetup, serving


@pytest.fixture
def api(running: ApiSetup) -> Api:
    """Return the API with an admin's token."""
    return Api(running.child.admin_port)


@pytest.fixture
def editor(api: Api) -> Api:
    """Return the API with an editor's token."""
    return api.by(TOKENS["editor"])


@pytest.fixture
def viewer(api: Api) -> Api:
    """Return the API with a viewer's token."""
    return api.by(TOKENS["viewer"])


Named = Callable[[str], str]

_NUMBERS = count()


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiSetup]:
    """Run a Sidekey with a store and an echoing upstream. Tests that share it use unique names."""
    with serving(tmp_path_factory.mktemp("admin")) as process:
        yield process


@pytest.fixture
def named() -> Named:
    """Return a function that makes unique names."""
    return lambda word: f"{word}-{next(_NUMBERS)}"
