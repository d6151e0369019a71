"""A mutant is in the place of the code, or it is said that it is not."""

from __future__ import annotations

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


@pytest.fixture
def imported(tmp_path: Path) -> ModuleType:
    """A module of that source."""
    path = tmp_path / "m.py"
    path.write_text(SOURCE)
    spec = spec_from_file_location("m", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RETURNED = [1, 2, 5, 6, 7]


def results(module: ModuleType) -> list[int]:
    """What the functions of the module return."""
    c = module.C()
    return [module.outer()(), module.cached(), c.p, c.s(), c.m()]


@pytest.mark.parametrize("number", RETURNED)
def test_functions_that_are_there_do_what_the_mutant_says(imported: ModuleType, number: int) -> None:
    """Whatever holds them."""
    assert imported.__file__ is not None
    functions = Functions(Path(imported.__file__).parent)
    assert functions.change(imported.__file__, SOURCE, SOURCE.replace(f"return {number}", f"return {number}0"))
    assert results(imported) == [10 * number if returned == number else returned for returned in RETURNED]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return 3", "return 30"),
        ("        super().m()\n", ""),
        ("    def m(self): return 4", "    m = lambda self: 40"),
    ],
    ids=["a function that is gone", "other free variables", "another function"],
)
def test_what_cannot_be_changed_stays_as_it_is(imported: ModuleType, old: str, new: str) -> None:
    """The mutant must be imported."""
    assert imported.__file__ is not None
    assert old in SOURCE
    assert not Functions(Path(imported.__file__).parent).change(imported.__file__, SOURCE, SOURCE.replace(old, new))
    assert results(imported) == RETURNED
