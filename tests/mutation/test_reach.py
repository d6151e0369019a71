"""Which tests a mutant meets: all that could tell it from the code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from mutation.reach import GRACE, OUTSIDE, Reach, Selection

SOURCE = """\
LIMIT = 3

def f(a, b=1):
    if (a
            and b):
        return [
            a,
            b,
        ]
    try:
        a.x()
    except (ValueError,
            KeyError):
        pass
    match a:
        case 1:
            return 1
    @g
    def inner():
        return a
    return inner

class C:
    slots = 1

    @g
    def method(self, c=2): return c
"""
EVERY = {f"t{line}" for line in range(1, 30)}
REACH = Reach({("m.py", line): frozenset({f"t{line}"}) for line in range(1, 30)})


@pytest.mark.parametrize(
    ("line", "old", "new", "tests"),
    [
        (1, "3", "4", EVERY),
        (3, "b=1", "b=2", EVERY),
        (4, "if (a", "if (not a", {"t4", "t5"}),
        (5, "and", "or", {"t4", "t5"}),
        (7, "a,", "-a,", {"t6", "t7", "t8", "t9"}),
        (11, "a.x()", "pass", {"t11"}),
        (13, "KeyError", "()", {"t12", "t13"}),
        (16, "1", "2", {"t16"}),
        (18, "@g", "", {"t18", "t19"}),
        (20, "a", "-a", {"t20"}),
        (24, "1", "2", EVERY),
        (26, "@g", "", EVERY),
        (27, "return c", "return -c", {"t27"}),
    ],
)
def test_a_mutant_meets_the_tests_that_execute_the_statement(line: int, old: str, new: str, tests: set[str]) -> None:
    """From its first line to its last; of one that holds others the head, and all of what an import executes."""
    lines = SOURCE.split("\n")
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new)
    selected = REACH.of("m.py", SOURCE, "\n".join(lines))
    assert (EVERY if selected is None else selected) == tests


def test_what_is_executed_without_a_test_meets_all() -> None:
    """As a function that an import calls; and so does code that is the same."""
    reach = Reach({("m.py", 21): frozenset({"t21", OUTSIDE})})
    assert reach.of("m.py", SOURCE, SOURCE.replace("return inner", "return None")) is None
    assert reach.of("m.py", SOURCE, SOURCE) is None
    assert Reach(None).of("m.py", SOURCE, SOURCE.replace("return inner", "return None")) is None


def test_only_files_with_such_tests_are_collected() -> None:
    """Others would take their time for nothing."""
    files = [Path("/p/tests/core/test_a.py"), Path("/p/tests/core/test_aa.py"), Path("/p/tests/test_a.py")]
    assert Selection([files], frozenset({"tests/core/test_a.py::test_x[1::2]"}), {}).files == files[:1]
    assert Selection([files], None, {}).files == files


def test_tests_run_stage_by_stage_and_the_fast_ones_first() -> None:
    """The first failure ends the run of a mutant. Each may take longer than it did, by far."""
    limits: list[pytest.MarkDecorator] = []
    stages = [[Path("own.py")], [Path("near.py")]]
    names = ["own.py::slow", "own.py::fast", "own.py::other", "near.py::fast", "away.py::fast"]
    items = [
        SimpleNamespace(nodeid=name, path=Path(name.partition("::")[0]), add_marker=limits.append) for name in names
    ]
    seconds = {"own.py::slow": 2.0, "own.py::fast": 1.0, "own.py::other": 0.5, "near.py::fast": 0.1}
    selection = Selection(stages, frozenset({*names} - {"own.py::other"}), seconds)
    chosen = selection.of(cast("list[pytest.Item]", items))
    assert [item.nodeid for item in chosen] == ["own.py::fast", "own.py::slow", "near.py::fast"]
    assert [limit.args[0] for limit in limits] == [GRACE + 10, GRACE + 5, GRACE + 0.5]


def test_a_recording_of_nothing_is_an_error(tmp_path: Path) -> None:
    """The package that was imported was another: every mutant would survive."""
    path = tmp_path / "reached"
    path.write_text(json.dumps({"tests": [], "lines": [], "seconds": {}}))
    with pytest.raises(RuntimeError, match="executed no line of the package"):
        Reach.read([path])


PROGRAM = """
import sys
from pathlib import Path
import pytest
from mutation.reach import Reach, Recorder
recorder = Recorder(Path("p").resolve())
pytest.main(["-q", "-p", "no:cacheprovider", "test_m.py"], plugins=[recorder])
recorder.write(Path("reached"))
reach = Reach.read([Path("reached")])
for (file, line), tests in sorted(reach.tests.items()):
    print("line", line, *sorted(test.rpartition(":")[2] or "outside" for test in tests))
print("line of", *(test.rpartition(":")[2] for test, seconds in reach.seconds.items() if seconds > 0))
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="this Python does not tell which lines are executed")
def test_lines_are_told_by_test(tmp_path: Path) -> None:
    """Those of its fixtures too, and each test's own though another has executed them before."""
    for path, text in {
        "p/__init__.py": "",
        "p/m.py": "def f(x):\n    if x:\n        return 1\n    return 2\n",
        "test_m.py": "import pytest\nfrom p.m import f\n"
        "@pytest.fixture\ndef made(): return f(0)\n"
        "def test_a(): f(1)\ndef test_b(): f(1)\ndef test_c(made): pass\n",
        "pytest.ini": "[pytest]\npythonpath = .\nasyncio_default_fixture_loop_scope = function\n",
        "program.py": PROGRAM,
    }.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    environment = {"PYTHONPATH": str(Path(__file__).parents[1]), "PATH": ""}
    command = [sys.executable, "program.py"]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert [line for line in ran.stdout.splitlines() if line.startswith("line ")] == [
        "line 1 outside",
        "line 2 test_a test_b test_c",
        "line 3 test_a test_b",
        "line 4 test_c",
        "line of test_a test_b test_c",
    ]
