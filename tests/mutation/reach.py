"""Which tests execute which lines of the package, so that a mutant meets only those that can tell it from the code.

Python 3.12 and newer say it (PEP 669); on an older one every mutant meets every test.
"""

from __future__ import annotations

import ast
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

GRACE = 30
"""Seconds that each test may take for nothing, beside five times those that it took without a mutant."""


class Selection:
    """A plugin of pytest: runs the tests of these files that have these IDs, or all where there are none given.

    In the order of the stages, and in each the fast ones first; one that takes much longer than it did has failed.
    """

    def __init__(
        self, stages: Sequence[Sequence[Path]], ids: frozenset[str] | None, seconds: Mapping[str, float]
    ) -> None:
        self.ids = ids
        self.timed_out = False
        self._seconds = seconds
        self._stage = {file: number for number, stage in enumerate(stages) for file in stage}

    @property
    def files(self) -> list[Path]:
        """Those of the files that have any of the tests."""
        names = None if self.ids is None else {test.partition("::")[0] for test in self.ids}
        return [
            file for file in self._stage if names is None or any(file.as_posix().endswith(f"/{name}") for name in names)
        ]

    def of(self, items: Sequence[pytest.Item]) -> list[pytest.Item]:
        """These tests, those of other mutants left out."""
        chosen = [item for item in items if item.path in self._stage and (self.ids is None or item.nodeid in self.ids)]
        for item in chosen:
            item.add_marker(pytest.mark.timeout(GRACE + 5 * self._seconds.get(item.nodeid, 0.0)))
        return sorted(chosen, key=lambda item: (self._stage[item.path], self._seconds.get(item.nodeid, 0.0)))

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave the others out."""
        items[:] = self.of(items)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note that a test took too long."""
        self.timed_out |= report.failed and "from pytest-timeout" in report.longreprtext


@dataclass(frozen=True, slots=True)
class Reach:
    """What is known of the tests."""

    tests: Mapping[tuple[str, int], frozenset[str]] | None
    """Those that executed each line, by file and line; None where that is not known."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """How long each took."""

    @classmethod
    def read(cls, paths: Iterable[Path]) -> Reach:
        """What `Recorder`s have written. Raises RuntimeError where that is nothing: the package was another."""
        tests: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
        seconds: dict[str, float] = {}
        for path in paths:
            known = json.loads(path.read_text("utf-8"))
            seconds |= known["seconds"]
            for file, line, numbers in known["lines"]:
                tests[file, line].update(known["tests"][number] for number in numbers)
        if sys.version_info < (3, 12):
            return cls(None, seconds)
        if not tests:
            raise RuntimeError("the tests executed no line of the package")
        return cls({place: frozenset(found) for place, found in tests.items()}, seconds)

    def of(self, file: str, source: str, code: str) -> frozenset[str] | None:
        """The tests that execute what differs between a file's source and other code for it.

        None stands for all: an import executes it.
        """
        tests = self.tests
        statements = None if tests is None else _changed(source, code)
        if tests is None or statements is None:
            return None
        found = {test for lines in statements for line in lines for test in tests.get((file, line), ())}
        return None if OUTSIDE in found else frozenset(found)


OUTSIDE = ""
"""Stands for what is executed while no test runs."""


class Recorder:
    """A plugin of pytest: notes which lines below a folder each test executes, its fixtures included, and its time."""

    def __init__(self, folder: Path) -> None:
        self._folder = f"{folder}/"
        self._lines: dict[tuple[str, int], set[str]] = defaultdict(set)
        self._seconds: dict[str, float] = {}
        self._test = OUTSIDE
        if sys.version_info >= (3, 12):
            monitoring = sys.monitoring
            monitoring.use_tool_id(monitoring.COVERAGE_ID, "mutation")
            monitoring.register_callback(monitoring.COVERAGE_ID, monitoring.events.LINE, self._note)
            monitoring.set_events(monitoring.COVERAGE_ID, monitoring.events.LINE)

    def _note(self, code: CodeType, line: int) -> Any:
        if code.co_filename.startswith(self._folder):
            self._lines[code.co_filename, line].add(self._test)
        if sys.version_info >= (3, 12):
            return sys.monitoring.DISABLE  # until the next test
        return None

    def _enter(self, test: str) -> None:
        self._test = test
        if sys.version_info >= (3, 12):
            sys.monitoring.restart_events()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Note what follows under this test."""
        self._enter(item.nodeid)
        began = time.monotonic()
        result = yield
        self._seconds[item.nodeid] = time.monotonic() - began
        self._enter(OUTSIDE)
        return result

    def write(self, path: Path) -> None:
        """What was noted, for `Reach.read`."""
        names = sorted({name for found in self._lines.values() for name in found})
        number = {name: at for at, name in enumerate(names)}
        lines = [[*place, sorted(number[name] for name in found)] for place, found in self._lines.items()]
        path.write_text(json.dumps({"tests": names, "lines": lines, "seconds": self._seconds}), "utf-8")


def _changed(source: str, code: str) -> list[range] | None:
    """The lines of the statements of functions that differ; None where something else does, as what an import runs."""
    statements = list(_statements(ast.parse(source)))
    matcher = SequenceMatcher(None, source.splitlines(), code.splitlines(), autojunk=False)
    found = []
    for tag, first, end, *_ in matcher.get_opcodes():
        if tag == "equal":
            continue
        for line in range(first + 1, max(end, first + 1) + 1):
            around = [lines for lines in statements if line in lines]
            if not around:
                return None
            found.append(min(around, key=len))
    return found or None


def _statements(tree: ast.AST) -> Iterator[range]:
    """The lines of each statement in a function, of one that holds others its head alone."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for statement in function.body:
                for node in ast.walk(statement):
                    if isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case):
                        yield _lines(node)


def _lines(node: ast.stmt | ast.ExceptHandler | ast.match_case) -> range:
    start = node.pattern.lineno if isinstance(node, ast.match_case) else node.lineno
    decorators = getattr(node, "decorator_list", [])
    start = min([start, *(decorator.lineno for decorator in decorators)])
    body = getattr(node, "body", None)
    if isinstance(node, ast.match_case):
        return range(start, max(start + 1, node.body[0].lineno))
    end = (node.end_lineno or start) + 1 if body is None else max(node.lineno + 1, body[0].lineno)
    return range(start, end)
