"""Variables that hold only while something is imported, and packages of which only modules are."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module, invalidate_caches
from pathlib import Path

import pytest

from sidekey.lean_imports import defer_package, set_while_importing


def test_the_environment_is_afterwards_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the import fails."""
    monkeypatch.setenv("KNOWN", "before")
    monkeypatch.delenv("UNKNOWN", raising=False)
    before = dict(os.environ)
    with set_while_importing({"KNOWN": "", "UNKNOWN": "1"}):
        assert (os.environ["KNOWN"], os.environ["UNKNOWN"]) == ("", "1")
    assert dict(os.environ) == before
    with pytest.raises(ImportError), set_while_importing({"UNKNOWN": "1"}):
        raise ImportError
    assert dict(os.environ) == before


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a package whose own code imports one of its two modules."""
    folder = tmp_path / "deferred_sample"
    folder.mkdir()
    (folder / "__init__.py").write_text("from .heavy import weight\nlevel = 'whole'\n")
    (folder / "heavy.py").write_text("weight = 1000\n")
    (folder / "light.py").write_text("from . import level, other\nseen = level\n")
    (folder / "other.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder.name
    for name in [name for name in sys.modules if name.partition(".")[0] == folder.name]:
        del sys.modules[name]


def test_a_module_of_a_deferred_package_is_imported_alone(package: str) -> None:
    """It finds the modules beside it, and the names that are known."""
    defer_package(package, level="known")
    light = import_module(f"{package}.light")
    assert light.seen == "known"
    assert f"{package}.other" in sys.modules
    assert f"{package}.heavy" not in sys.modules


def test_a_deferred_package_is_whole_once_something_else_is_asked_of_it(package: str) -> None:
    """Its modules stay the same; what is none of its names is an error as of any module."""
    defer_package(package, level="known")
    light = import_module(f"{package}.light")
    whole = sys.modules[package]
    assert whole.weight == 1000
    assert whole.level == "whole"
    assert whole.light is light
    with pytest.raises(AttributeError, match="absent"):
        _ = whole.absent


def test_a_module_of_a_deferred_package_is_there_without_an_import(package: str) -> None:
    """As it is of a whole package that imports it."""
    defer_package(package, level="known")
    whole = import_module(package)
    assert whole.heavy.weight == 1000
    assert whole.level == "known"


def test_threads_that_ask_a_deferred_package_at_the_same_time_all_get_what_they_ask_for(package: str) -> None:
    """Who comes while it is imported waits for it."""
    defer_package(package, level="known")
    whole = sys.modules[package]
    under_way = threading.Barrier(5, timeout=10)

    class Slow:
        """Goes on with the package's own code once the others are about to ask."""

        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            del path, target
            if name == f"{package}.heavy":
                under_way.wait()

    def ask(first: bool) -> object:
        if not first:
            under_way.wait()
        return whole.weight

    sys.meta_path.insert(0, Slow())
    try:
        with ThreadPoolExecutor(5) as pool:
            assert [*pool.map(ask, [True, False, False, False, False])] == [1000] * 5
    finally:
        del sys.meta_path[0]


def test_a_deferred_package_whose_code_fails_is_tried_again(package: str, tmp_path: Path) -> None:
    """What failed may be there by then, as for an import."""
    (tmp_path / package / "heavy.py").rename(tmp_path / "heavy.py")
    defer_package(package, level="known")
    whole = import_module(package)
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="heavy"):
            _ = whole.weight
    (tmp_path / "heavy.py").rename(tmp_path / package / "heavy.py")
    invalidate_caches()
    assert whole.weight == 1000


def test_a_package_that_is_imported_stays_as_it_is(package: str) -> None:
    """As is one that does not exist, of which the import tells."""
    whole = import_module(package)
    defer_package(package, level="known")
    assert sys.modules[package] is whole
    assert whole.level == "whole"
    defer_package("absent_sample")
    with pytest.raises(ModuleNotFoundError):
        import_module("absent_sample")
