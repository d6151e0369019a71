"""What the tests of the API and of the console share: one Sidekey with a store for each folder, and names in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import pytest

from support.api import Running, serving

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
