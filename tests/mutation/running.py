"""Runs the tests against mutants, each in a process of its own that is forked with the libraries already imported.

A mutant is never written to a disk: its process imports it in the place of the module. The first failure ends a run,
and the tests that are most likely to fail come first: those of the module, then what its package and the properties
have of tests without sockets. Of these a mutant meets those that execute the statement that it changes
(`mutation.reach`): no other can tell it from the code.
"""

from __future__ import annotations

import importlib
import os
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType

import pytest

from mutation.mutants import Mutant
from mutation.reach import Reach, Recorder, Selection

OPTIONS = (
    *("--exitfirst", "--quiet", "--timeout=30"),
    *("-k", "not uvloop"),  # one of the two loops is enough here
    *("-p", "no:cacheprovider"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),  # of plugins that were imported ahead
)

MEMORY = 4 << 30
"""Bytes of address space that a mutant's process may have: one that loops must not take the machine's."""


class Outcome(Enum):
    """What became of a mutant."""

    SURVIVED = "survived"
    KILLED = "killed"
    CRASHED = "killed on import"
    TIMED_OUT = "killed by the time limit"


@dataclass(frozen=True, slots=True)
class Project:
    """A package and its tests, which mirror its tree."""

    package: Path
    tests: Path
    common: Mapping[str, tuple[str, ...]]
    """For each folder of the package: of which modules a test file must import one to be run against all of them."""

    def modules(self, folder: str) -> list[str]:
        """The modules of a folder, as paths below the package."""
        return sorted(path.relative_to(self.package).as_posix() for path in (self.package / folder).rglob("*.py"))

    def stages(self, module: str) -> list[list[Path]]:
        """The test files for a module, in the order in which they run; none of them twice."""
        path = Path(module)
        wanted = self.common[path.parts[0]]
        folder = self.tests / path.parent
        own = {*folder.glob(f"test_{path.stem}.py"), *folder.glob(f"test_{path.stem}_*.py")}
        near = {file for file in (self.tests / path.parts[0]).rglob("test_*.py") if _imports(file, wanted)}
        away = {file for file in (self.tests / "property").rglob("test_*.py") if _imports(file, wanted)}
        stages = (sorted(own, key=lambda file: (not _imports(file, wanted), file)), sorted(near - own), sorted(away))
        return [stage for stage in stages if stage]

    def name(self, module: str) -> str:
        """A module's dotted name."""
        return ".".join([self.package.name, *Path(module).with_suffix("").parts]).removesuffix(".__init__")


def _imports(file: Path, wanted: tuple[str, ...]) -> bool:
    text = file.read_text("utf-8")
    return any(f"from {name}" in text for name in wanted)


class _Finder:
    """Finds one module, with other code than its file's."""

    def __init__(self, name: str, path: Path, code: str) -> None:
        self.name, self.path = name, path
        self.compiled = compile(code, path, "exec", dont_inherit=True)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As importlib asks for it."""
        if name != self.name:
            return None
        places = [str(self.path.parent)] if self.path.name == "__init__.py" else None
        loader = _Loader(name, str(self.path), self.compiled)
        return spec_from_file_location(name, self.path, loader=loader, submodule_search_locations=places)


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, compiled: CodeType) -> None:
        super().__init__(name, path)
        self.compiled = compiled

    def get_code(self, fullname: str) -> CodeType:
        return self.compiled


def rehearse(project: Project, folder: str) -> tuple[float, Reach]:
    """Run every test that a mutant of this folder may meet, and import the libraries that they used.

    Returns how many seconds the tests took, and which lines each executed. Raises RuntimeError where a test fails
    without any mutant, or a mutant that changes nothing is killed: what the tests would say of others means nothing.
    """
    files = {file: None for module in project.modules(folder) for stage in project.stages(module) for file in stage}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        listing, reached = Path(scratch, "libraries"), Path(scratch, "reached")
        process = _fork(lambda: _rehearse(project, list(files), listing, reached, Path(scratch)))
        _, status = os.waitpid(process, 0)
        if status:
            raise RuntimeError(f"the tests of {folder} must pass before they are run against mutants")
        took, reach = time.monotonic() - began, Reach.read(reached)
        for name in listing.read_text("utf-8").split():
            # What cannot be imported by its name alone is left to whoever needs it.
            with warnings.catch_warnings(), suppress(ImportError):
                warnings.simplefilter("ignore")
                importlib.import_module(name)
    _, module = max((len(project.stages(module)), module) for module in project.modules(folder))
    unchanged = Mutant(module, "", "", "", (project.package / module).read_text("utf-8"))
    ((_, outcome),) = run(project, [unchanged], reach, jobs=1, patience=30 + 3 * took)
    if outcome is not Outcome.SURVIVED:
        raise RuntimeError(f"unchanged, {module} must survive: {outcome.value}")
    return took, reach


def _rehearse(project: Project, files: Sequence[Path], listing: Path, reached: Path, scratch: Path) -> int:
    recorder = Recorder(project.package)
    code = _pytest(files, scratch, recorder)
    recorder.write(reached)
    files_of_modules = {name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items()}
    listing.write_text("\n".join(name for name, file in files_of_modules.items() if "site-packages" in file), "utf-8")
    return code


def run(
    project: Project, mutants: Sequence[Mutant], reach: Reach, *, jobs: int, patience: float
) -> Iterator[tuple[Mutant, Outcome]]:
    """Run the tests against each mutant, `jobs` at a time and each for `patience` seconds at most; as they end."""
    waiting = list(reversed(mutants))
    running: dict[int, tuple[Mutant, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    mutant = waiting.pop()
                    process = _start(project, mutant, reach, Path(scratch))
                    running[process] = mutant, time.monotonic() + patience
                for process, (mutant, deadline) in list(running.items()):
                    outcome = _outcome(process, late=time.monotonic() > deadline)
                    if outcome is not None:
                        del running[process]
                        yield mutant, outcome
                time.sleep(0.005)
        finally:
            for process in running:
                _kill(process)


def _start(project: Project, mutant: Mutant, reach: Reach, scratch: Path) -> int:
    return _fork(lambda: _test(project, mutant, reach, scratch / str(os.getpid())))


def _outcome(process: int, *, late: bool) -> Outcome | None:
    """What became of it, None while it runs."""
    ended, status = os.waitpid(process, os.WNOHANG)
    if ended:
        code = os.waitstatus_to_exitcode(status)
        # Where a test file, or a conftest.py, could not be imported.
        crashes = dict.fromkeys(map(int, (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.USAGE_ERROR)), Outcome.CRASHED)
        return {0: Outcome.SURVIVED, **crashes}.get(code, Outcome.KILLED)
    if not late:
        return None
    _kill(process)
    return Outcome.TIMED_OUT


def _kill(process: int) -> None:
    """End it with all that it started."""
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)


def _test(project: Project, mutant: Mutant, reach: Reach, scratch: Path) -> int:
    scratch.mkdir()
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    path = project.package / mutant.path
    selection = reach.of(str(path), path.read_text("utf-8"), mutant.code)
    sys.meta_path.insert(0, _Finder(project.name(mutant.path), path, mutant.code))
    stages = (selection.files(stage) for stage in project.stages(mutant.path))
    return next((code for stage in stages if stage and (code := _pytest(stage, scratch, selection))), 0)


def _pytest(files: Sequence[Path], scratch: Path, plugin: Recorder | Selection) -> int:
    """Run the tests of these files in this order until one fails."""
    code = int(pytest.main([*OPTIONS, f"--basetemp={scratch / 'tmp'}", *map(str, files)], plugins=[plugin]))
    return 0 if code == pytest.ExitCode.NO_TESTS_COLLECTED else code


def _fork(work: Callable[[], int]) -> int:
    """The process, leader of a group, that ends with what the work returns."""
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        os.setsid()
        code = work()
        sys.stdout.flush()
    finally:
        # None of the clean-up of the parent, whose memory this is a copy of.
        os._exit(code)
