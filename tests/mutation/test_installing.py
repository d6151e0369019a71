"""A mutant is in the place of the code, or it is said that it is not."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from mutation.installing import Functions

SOURCE = """\
import functools

LIMIT = 1

def outer():
    def inner(): return 1
    return inner

kept = outer()

@functools.cache
def cached(): return 2

def gone(): return 3

del gone

class Base:
    def m(self): return 4

class C(Base):
    @property
    def p(self): return 5
    @staticmethod
    def s(): return 6
    def m(self):
        super().m()
        return 7
"""


RETURNED = [1, 2, 5, 6, 7]
UNCHANGEABLE = {
    "a function that is gone": ("return 3", "return 30"),
    "other free variables": ("        super().m()\n", ""),
    "another function": ("    def m(self): return 4", "    m = lambda self: 40"),
}


@dataclass(frozen=True)
class Copies:
    """Modules of that source, one for each test, and their functions: to find them takes long."""

    modules: list[ModuleType]
    functions: Functions


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Copies:
    """All that are needed here."""
    folder = tmp_path_factory.mktemp("copies")
    modules = [imported_from(folder / f"m{number}.py") for number in range(len(RETURNED) + len(UNCHANGEABLE))]
    return Copies(modules, Functions(folder))


def imported_from(path: Path) -> ModuleType:
    """A module of that source."""
    path.write_text(SOURCE)
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def results(module: ModuleType) -> list[int]:
    """What the functions of the module return."""
    c = module.C()
    return [module.outer()(), module.cached(), c.p, c.s(), c.m()]


@pytest.mark.parametrize("number", RETURNED)
def test_functions_that_are_there_do_what_the_mutant_says(copies: Copies, number: int) -> None:
    """Whatever holds them."""
    imported = copies.modules.pop()
    assert imported.__file__ is not None
    assert copies.functions.change(imported.__file__, SOURCE, SOURCE.replace(f"return {number}", f"return {number}0"))
    assert results(imported) == [10 * number if returned == number else returned for returned in RETURNED]


@pytest.mark.parametrize(("old", "new"), UNCHANGEABLE.values(), ids=UNCHANGEABLE)
def test_what_cannot_be_changed_stays_as_it_is(copies: Copies, old: str, new: str) -> None:
    """The mutant must be imported."""
    imported = copies.modules.pop()
    assert imported.__file__ is not None
    assert old in SOURCE
    assert not copies.functions.change(imported.__file__, SOURCE, SOURCE.replace(old, new))
    assert results(imported) == RETURNED
