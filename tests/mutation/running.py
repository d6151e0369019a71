"""Runs the tests against mutants, each in a process of its own.

Most are put into functions of a process that has collected the tests, and forks for each of them. What an import
executes cannot change there: such a mutant is imported, with the tests, by a process that is forked with the libraries
alone (`mutation.installing`). The first failure ends a run, and the tests that are most likely to fail come first:
those of the module, then what its package and the properties have of tests without sockets. Of these a mutant meets
those that execute the statement that it changes (`mutation.reach`): no other can tell it from the code.
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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path

import pytest

from mutation.installing import Finder, Functions
from mutation.mutants import Mutant
from mutation.reach import Reach, Recorder, Selection

OPTIONS = (
    *("--exitfirst", "--quiet"),
    "--capture=sys",  # files would be shared with what is forked
    *("-k", "not uvloop"),  # one of the two loops is enough here
    *("-p", "no:cacheprovider"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),  # of plugins that were imported ahead
)

MEMORY = 4 << 30
"""Bytes of address space that a mutant's process may have: one that loops must not take the machine's."""


TEMPORARY = "PYTEST_DEBUG_TEMPROOT"
"""The variable that names the folder for the temporary folders of tests, at their first use."""


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

    def files(self, modules: Iterable[str]) -> list[Path]:
        """The test files for all of these modules."""
        return list({file: None for module in modules for stage in self.stages(module) for file in stage})

    def name(self, module: str) -> str:
        """A module's dotted name."""
        return ".".join([self.package.name, *Path(module).with_suffix("").parts]).removesuffix(".__init__")


def _imports(file: Path, wanted: tuple[str, ...]) -> bool:
    text = file.read_text("utf-8")
    return any(f"from {name}" in text for name in wanted)


def rehearse(project: Project, folder: str, *, jobs: int) -> Reach:
    """Run every test that a mutant of this folder may meet, and import the libraries that they used.

    Its modules are imported as mutants are, but unchanged. Returns what the tests executed, and how long each took.
    Raises RuntimeError where a test fails: what the tests would say of mutants means nothing.
    """
    files = project.files(project.modules(folder))
    with tempfile.TemporaryDirectory() as scratch:
        folders = [Path(scratch, str(job)) for job in range(jobs)]
        processes = [
            _fork(partial(_rehearse, project, folder, files[job::jobs], part), part) for job, part in enumerate(folders)
        ]
        ended = [os.waitpid(process, 0)[1] for process in processes]
        for part in folders:
            sys.stdout.write((part / _OUTPUT).read_text("utf-8"))
        if any(ended):
            raise RuntimeError(f"the tests of {folder} must pass before they are run against mutants")
        reach = Reach.read([part / _REACHED for part in folders])
        for name in {name for part in folders for name in (part / _LIBRARIES).read_text("utf-8").split()}:
            # What cannot be imported by its name alone is left to whoever needs it.
            with warnings.catch_warnings(), suppress(ImportError):
                warnings.simplefilter("ignore")
                importlib.import_module(name)
    return reach


_OUTPUT, _REACHED, _LIBRARIES = "output", "reached", "libraries"


def _rehearse(project: Project, folder: str, files: Sequence[Path], scratch: Path) -> int:
    _direct(scratch / _OUTPUT)
    paths = {project.name(module): project.package / module for module in project.modules(folder)}
    sys.meta_path.insert(0, Finder({name: (path, path.read_text("utf-8")) for name, path in paths.items()}))
    recorder = Recorder(project.package)
    code = _pytest(files, recorder) if files else 0
    recorder.write(scratch / _REACHED)
    files_of_modules = {name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items()}
    libraries = "\n".join(name for name, file in files_of_modules.items() if "site-packages" in file)
    (scratch / _LIBRARIES).write_text(libraries, "utf-8")
    return code


def run(
    project: Project, mutants: Sequence[Mutant], reach: Reach, *, jobs: int, patience: float
) -> Iterator[tuple[Mutant, Outcome]]:
    """Run the tests against each mutant, `jobs` at a time and each for `patience` seconds at most; as they end."""
    left = []
    for number, outcome in _run_collected(project, mutants, reach, jobs, patience):
        if outcome is None:
            left.append(mutants[number])
        else:
            yield mutants[number], outcome
    for number, outcome in _each(len(left), partial(_import, project, left, reach), jobs, patience):
        yield left[number], outcome or Outcome.KILLED


def _run_collected(
    project: Project, mutants: Sequence[Mutant], reach: Reach, jobs: int, patience: float
) -> Iterator[tuple[int, Outcome | None]]:
    """What becomes of each mutant, by its number, in a process that has the tests collected; None: it must be imported.

    The process forks for each of them.
    """
    reading, writing = os.pipe()
    with os.fdopen(reading, encoding="ascii") as lines, tempfile.TemporaryDirectory() as scratch:

        def serve() -> int:
            lines.close()
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
            _direct(Path(os.devnull))
            server = _Server(project, mutants, reach, partial(_each, jobs=jobs, patience=patience), writing)
            return _pytest(project.files({mutant.path for mutant in mutants}), server)

        process = _fork(serve, Path(scratch))
        os.close(writing)
        try:
            for line in lines:
                number, _, outcome = line.rstrip("\n").partition(" ")
                yield int(number), Outcome(outcome) if outcome else None
        finally:
            os.kill(process, signal.SIGTERM)
            _, status = os.waitpid(process, 0)
    if status:
        raise RuntimeError("the tests could not be collected")


Test = Callable[[int], int]
"""Runs the tests against the mutant of a number, in a process of its own; returns the exit code of pytest."""


class _Server:
    """A plugin of pytest: with the tests collected, runs them against each mutant that can be put into the functions.

    Writes a line for each, with its number and what became of it.
    """

    def __init__(
        self,
        project: Project,
        mutants: Sequence[Mutant],
        reach: Reach,
        each: Callable[[int, Test], Iterator[tuple[int, Outcome | None]]],
        writing: int,
    ) -> None:
        self._project, self._mutants, self._reach = project, mutants, reach
        self._each = each
        self._writing = writing

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """In place of running the tests once."""
        functions = Functions(self._project.package)
        for number, outcome in self._each(len(self._mutants), partial(self._test, session, functions)):
            os.write(self._writing, f"{number} {outcome.value if outcome else ''}\n".encode())
        return True

    def _test(self, session: pytest.Session, functions: Functions, number: int) -> int:
        mutant = self._mutants[number]
        path = self._project.package / mutant.path
        source = path.read_text("utf-8")
        ids = self._reach.of(str(path), source, mutant.code)
        if ids is None or not functions.change(str(path), source, mutant.code):
            return _LEFT
        selection = Selection(self._project.stages(mutant.path), ids, self._reach.seconds)
        session.items = selection.of(session.items)
        session.config.pluginmanager.register(selection)
        with suppress(pytest.Session.Failed):
            session.config.pluginmanager.subset_hook_caller("pytest_runtestloop", [self])(session=session)
        return _LATE if selection.timed_out else 1 if session.testsfailed else 0


_LEFT, _LATE = 98, 99
"""What a process ends with where its mutant must be imported, or a test took too long; no exit codes of pytest."""


def _import(project: Project, mutants: Sequence[Mutant], reach: Reach, number: int) -> int:
    """A `Test` that imports the mutant."""
    mutant = mutants[number]
    path = project.package / mutant.path
    ids = reach.of(str(path), path.read_text("utf-8"), mutant.code)
    sys.meta_path.insert(0, Finder({project.name(mutant.path): (path, mutant.code)}))
    selection = Selection(project.stages(mutant.path), ids, reach.seconds)
    code = _pytest(selection.files, selection)
    return _LATE if selection.timed_out else code


def _each(count: int, test: Test, jobs: int, patience: float) -> Iterator[tuple[int, Outcome | None]]:
    """Run the tests against so many mutants, `jobs` at a time and each for `patience` seconds at most; as they end."""
    waiting = list(reversed(range(count)))
    running: dict[int, tuple[int, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    number = waiting.pop()
                    process = _fork(partial(_confined, test, number), Path(scratch, str(number)))
                    running[process] = number, time.monotonic() + patience
                for process, (number, deadline) in list(running.items()):
                    ended, status = os.waitpid(process, os.WNOHANG)
                    if ended:
                        del running[process]
                        yield number, _outcome(os.waitstatus_to_exitcode(status))
                    elif time.monotonic() > deadline:
                        del running[process]
                        _kill(process)
                        yield number, Outcome.TIMED_OUT
                time.sleep(0.005)
        finally:
            for process in running:
                _kill(process)


def _outcome(code: int) -> Outcome | None:
    # Where a test file, or a conftest.py, could not be imported.
    crashes = dict.fromkeys(map(int, (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.USAGE_ERROR)), Outcome.CRASHED)
    return {0: Outcome.SURVIVED, _LEFT: None, _LATE: Outcome.TIMED_OUT, **crashes}.get(code, Outcome.KILLED)


def _kill(process: int) -> None:
    """End it with all that it started."""
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)


def _confined(test: Test, number: int) -> int:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _direct(Path(os.devnull))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    return test(number)


def _direct(output: Path) -> None:
    """Write what is printed to this file, and read nothing."""
    for stream, file in enumerate((Path(os.devnull), output, output)):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND), stream)


def _pytest(files: Sequence[Path], plugin: object) -> int:
    """Run the tests of these files until one fails."""
    code = int(pytest.main([*OPTIONS, *map(str, files)], plugins=[plugin]))
    return 0 if code == pytest.ExitCode.NO_TESTS_COLLECTED else code


def _fork(work: Callable[[], int], scratch: Path) -> int:
    """The process, leader of a group, that ends with what the work returns; its tests have this folder."""
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        os.setsid()
        scratch.mkdir(exist_ok=True)
        os.environ[TEMPORARY] = str(scratch)
        code = work()
        sys.stdout.flush()
    finally:
        # None of the clean-up of the parent, whose memory this is a copy of.
        os._exit(code)
