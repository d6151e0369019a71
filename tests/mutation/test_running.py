"""What becomes of a mutant, and which tests it meets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mutation.__main__ import PROJECT
from mutation.running import Project

ROOT = Path(__file__).parents[2]


def names(stages: list[list[Path]]) -> list[list[str]]:
    """The test files, relative to the folder of tests."""
    return [[file.relative_to(ROOT / "tests").as_posix() for file in stage] for stage in stages]


def test_a_modules_own_tests_come_first() -> None:
    """Then those of its package, then the properties; none of them twice."""
    own, near, away = names(PROJECT.stages("core/paths.py"))
    assert own == ["core/test_paths.py", "core/test_paths_bounds.py"]
    assert {"core/test_policy.py", "core/test_urls.py"} <= set(near)
    assert not set(own) & set(near)
    assert "property/test_quick_reading.py" in away


def test_a_new_module_and_its_tests_are_found_by_themselves(tmp_path: Path) -> None:
    """In folders below, by the mirrored tree; of other tests only those that script what they need."""
    project = Project(tmp_path / "sidekey", tmp_path / "tests", {"dataplane": ("support.scripted",)})
    scripted, sockets = "from support.scripted import Scripted\n", "import socket\n"
    for path, text in {
        "sidekey/dataplane/tunnel/opening.py": "",
        "sidekey/dataplane/worker.py": "",
        "tests/dataplane/tunnel/test_opening.py": sockets,
        "tests/dataplane/tunnel/test_opening_twice.py": scripted,
        "tests/dataplane/test_worker.py": sockets,
        "tests/dataplane/test_pool.py": scripted,
        "tests/property/test_exchanges.py": scripted,
        "tests/property/test_loading.py": "",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert project.modules("dataplane") == ["dataplane/tunnel/opening.py", "dataplane/worker.py"]
    assert [[file.name for file in stage] for stage in project.stages("dataplane/tunnel/opening.py")] == [
        ["test_opening_twice.py", "test_opening.py"],
        ["test_pool.py"],
        ["test_exchanges.py"],
    ]
    assert project.name("dataplane/tunnel/opening.py") == "sidekey.dataplane.tunnel.opening"
    assert project.name("dataplane/tunnel/__init__.py") == "sidekey.dataplane.tunnel"


MODULE = """
LIMIT = 3

def double(number):
    return number * 2
"""

TESTS = """
from victim.core import m
from victim.core.m import LIMIT, double

def test_double(tmp_path):
    assert double(2) == 4
    assert LIMIT > 2
    assert m.__file__.endswith("m.py")
"""

PROGRAM = """
from pathlib import Path
import mutation.reach
from mutation.mutants import Mutant, sample
from mutation.running import Project, rehearse, run

project = Project(Path("victim").resolve(), Path("tests").resolve(), {"core": "victim.core"})
reach = rehearse(project, "core", jobs=2)
_, mutants = sample(project.package, project.modules("core"), "seed", 100)
source = (project.package / "core/m.py").read_text()
changes = {"the same": source, "no import": "import nothing_like_this", "empty": ""}
mutants += [Mutant("core/m.py", name, name, name, code) for name, code in changes.items()]
endless = "while True: __import__('time').sleep(0.05)"
stuck = Mutant("core/m.py", "stuck", "stuck", "stuck", endless)
slow = Mutant("core/m.py", "slow", "slow", "slow", source.replace("return number * 2", endless))
mutation.reach.GRACE = 1
for mutant, outcome in [
    *run(project, [*mutants, slow], reach, jobs=2, patience=60), *run(project, [stuck], reach, jobs=2, patience=1)
]:
    print(f"{mutant.new} -> {outcome.name}")
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A package with one module and its tests."""
    for path, text in {
        "victim/__init__.py": "",
        "victim/core/m.py": MODULE,
        "tests/core/test_m.py": TESTS,
        "program.py": PROGRAM,
        "pytest.ini": "[pytest]\naddopts = --import-mode=importlib\npythonpath = .\nfilterwarnings = error\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def start(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the program, without the pytest around it."""
    environment = {"PYTHONPATH": str(ROOT / "tests"), "PATH": "", "TMPDIR": str(folder)}
    # Each mutant is a pytest of its own: what it loads for nothing takes longer than its tests.
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "pytest_timeout"}
    command = [sys.executable, "program.py"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_each_mutant_is_run_against_the_tests_of_its_module(checkout: Path) -> None:
    """Killed, survived, not even imported, or stuck in a loop; the file on the disk stays as it is."""
    outcomes = dict(line.split(" -> ") for line in start(checkout).stdout.splitlines() if " -> " in line)
    assert outcomes == {
        "the same": "SURVIVED",
        "LIMIT = 4": "SURVIVED",
        "LIMIT = 2": "KILLED",
        "return number * 3": "KILLED",
        "return number * 1": "KILLED",
        "return number + 2": "SURVIVED",
        "no import": "CRASHED",
        "empty": "CRASHED",
        "slow": "TIMED_OUT",
        "stuck": "TIMED_OUT",
    }
    assert (checkout / "victim/core/m.py").read_text() == MODULE


def test_tests_that_fail_by_themselves_judge_no_mutant(checkout: Path) -> None:
    """What they would say of one means nothing."""
    (checkout / "tests/core/test_m.py").write_text("from victim.core import m\ndef test(): assert False\n")
    ended = start(checkout)
    assert ended.returncode == 1
    assert "the tests of core must pass before they are run against mutants" in ended.stderr


def test_tests_that_kill_what_is_unchanged_judge_no_mutant(checkout: Path) -> None:
    """As those do that find a mutant out by how it was imported."""
    (checkout / "tests/core/test_m.py").write_text(
        "from victim.core import m\ndef test(): assert type(m.__loader__).__name__ == 'SourceFileLoader'\n"
    )
    ended = start(checkout)
    assert ended.returncode == 1
    assert "the tests of core must pass before they are run against mutants" in ended.stderr
