"""`pytest --workers N`: the tests that one process has collected, run by N that are forked from it.

Collecting takes seconds of processor time, which a worker that imports and collects by itself takes once more. What is
collected is never written to again, so that the workers share its memory too.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import struct
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import IO, Any, Final, Literal, TypeAlias

import pytest

from support import ports

SHARED: Final = pytest.StashKey[Path]()
"""The folder that all workers share, in the config of each."""

Place: TypeAlias = tuple[str, int | None, str]
"""A test's file, line and name, as reports have it: asking for it costs something once in each process."""

Phase: TypeAlias = tuple[Literal["setup", "call", "teardown"], float, float, float]
"""A phase of a test that passed and printed nothing: its name, how long it took, when it began and when it ended."""

_FORKS: Final = multiprocessing.get_context("fork")
_CHUNK: Final = struct.Struct("=II")
_LARGEST: Final = 24
"""How many tests a worker takes at a time, at most: the next ones, mostly of the same module."""
_KEPT: Final = 0.1
"""For how many seconds a worker keeps what passed, at most, so that it tells of many tests at once."""


class Workers:
    """Runs what was collected in `count` processes, and reports what they tell."""

    def __init__(self, count: int) -> None:
        self._count = count
        # One byte that all processes see: whether no test is to begin any more.
        self._stop = mmap.mmap(-1, 1)
        # And of each the number of the test that it is in, from 1.
        self._within = memoryview(mmap.mmap(-1, 4 * count)).cast("I")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Begin with those that share something, and those that are long: else all workers wait for them at the end."""
        items.sort(key=lambda item: (_shared(item) is None, _shared(item) or "", _is_short(item)))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Instead of pytest's own loop, unless that would run no test."""
        if session.testsfailed or session.config.option.collectonly or not session.items:
            return None
        folder = session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]  # made before the forks
        _assert_one_thread()
        running: dict[Connection, Running] = {}
        sys.stdout.flush()
        sys.stderr.flush()
        with tempfile.TemporaryFile(buffering=0) as chunks:
            self._cut(session.items, chunks)
            for number in range(self._count):
                reader, writer = _FORKS.Pipe(duplex=False)
                within = self._within[number : number + 1]
                worker = Worker(session, folder / f"worker-{number}", chunks.fileno(), writer, self._stop, within)
                process = _FORKS.Process(target=worker.work, args=(number, self._count), name=f"worker-{number}")
                process.start()
                writer.close()
                running[reader] = Running(process, within)
        try:
            self._report(session, running)
        finally:
            self._stop[0] = 1
            for each in running.values():
                each.process.join()
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        return True

    def _cut(self, items: Sequence[pytest.Item], chunks: IO[bytes]) -> None:
        """Write all chunks into a file, whose position is that of all: each read gives one to one worker.

        Tests that share something are a chunk, however many, and so is a long test. The last chunks are of single
        tests, so that all workers end at the same time.
        """
        start = 0
        while start < len(items):
            first = items[start]
            left = len(items) - start
            size = left if _shared(first) else min(_LARGEST, left // (4 * self._count))
            end = start + 1
            while end < start + size and _together(first, items[end]):
                end += 1
            chunks.write(_CHUNK.pack(start, end))
            start = end
        chunks.seek(0)

    def _report(self, session: pytest.Session, running: dict[Connection, Running]) -> None:
        """Hand on what the workers say, until all have ended."""
        left = dict(running)
        while left:
            # What a test has started may hold the pipe of a worker that is gone, so that its file never ends.
            gone = (reader for reader, each in left.items() if not each.process.is_alive())
            for reader in wait(list(left), timeout=1) or [*gone]:
                assert isinstance(reader, Connection)
                try:
                    told: Told | None = reader.recv() if reader.poll() else None
                except EOFError:
                    told = None
                if told is None or told.last:
                    left.pop(reader).end(session, well=told is not None)
                else:
                    told.hand_on(session)
                if session.shouldfail or session.shouldstop:
                    self._stop[0] = 1


@dataclass(frozen=True, slots=True)
class Told:
    """What a worker says to the process that reports."""

    tests: Sequence[tuple[int, Place, Sequence[Phase | dict[str, Any]]]] = ()
    """Numbers of tests, their places, and what became of their phases: a serialised report where more is to be said."""
    warned: Sequence[Mapping[str, Any]] = ()
    last: bool = False
    """Whether it has ended its fixtures, and says no more."""

    def hand_on(self, session: pytest.Session) -> None:
        """Call the hooks that pytest would have called here."""
        config, hook = session.config, session.config.hook
        for warning in self.warned:
            hook.pytest_warning_recorded.call_historic(kwargs=warning)
        for number, place, phases in self.tests:
            name = session.items[number].nodeid
            for phase in phases:
                if isinstance(phase, dict):
                    report = hook.pytest_report_from_serializable(config=config, data=phase)
                else:
                    when, duration, start, stop = phase
                    report = pytest.TestReport(name, place, {}, "passed", None, when, (), duration, start, stop)
                hook.pytest_runtest_logreport(report=report)
            hook.pytest_runtest_logfinish(nodeid=name, location=place)


class Running:
    """A worker as the process that reports sees it."""

    def __init__(self, process: multiprocessing.context.ForkProcess, within: memoryview[int]) -> None:
        self.process = process
        self._within = within

    def end(self, session: pytest.Session, *, well: bool) -> None:
        """Let the run fail where a worker did not end well; the test that it was in is told, and no more are begun."""
        self.process.join()
        if well and self.process.exitcode == 0:
            return
        said = f"{self.process.name} ended with status {self.process.exitcode}"
        if self._within[0]:
            item = session.items[self._within[0] - 1]
            report = pytest.TestReport(item.nodeid, item.location, {}, "failed", f"{said} in this test", "call")
            session.config.hook.pytest_runtest_logreport(report=report)
        session.shouldfail = said


class Worker:
    """A forked process that takes tests until there are no more."""

    def __init__(
        self,
        session: pytest.Session,
        folder: Path,
        chunks: int,
        connection: Connection,
        stop: mmap.mmap,
        within: memoryview[int],
    ) -> None:
        self._session = session
        self._folder = folder
        self._chunks = chunks
        self._connection = connection
        self._stop = stop
        self._within = within
        self._phases: list[Phase | dict[str, Any]] = []
        self._tests: list[tuple[int, Place, list[Phase | dict[str, Any]]]] = []
        self._warned: list[Mapping[str, Any]] = []
        self._told = time.monotonic()
        # Where pytest and its plugins write beside the reports: Config.get_terminal_writer takes it from here.
        self._tw = session.config.get_terminal_writer()

    def work(self, number: int, count: int) -> None:
        """Run tests, in the process of its own."""
        config = self._session.config
        self._folder.mkdir(mode=0o700)
        config.stash[SHARED] = self._folder.parent
        # What --basetemp says is deleted where it is there.
        config._tmp_path_factory._basetemp = self._folder  # type: ignore[attr-defined]
        ports.take_share(number, count)
        # What prints does so in the process that this one tells.
        for name in ("terminalreporter", "terminalprogress-plugin"):
            if config.pluginmanager.has_plugin(name):
                config.pluginmanager.unregister(name=name)
        config.pluginmanager.register(self, "terminalreporter")
        # What the files of captured output say of their position is shared by all who inherit them.
        capture: Any = config.pluginmanager.get_plugin("capturemanager")
        capture.stop_global_capturing()
        capture.start_global_capturing()
        capture.suspend_global_capture()
        try:
            for number, item, following in self._items():
                self._within[0] = number + 1
                self._phases = []
                config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                self._tests.append((number, item.location, self._phases))
                if time.monotonic() - self._told >= _KEPT or not self._passed():
                    self._tell()
                self._within[0] = 0
        finally:
            self._tell()
            # As the end of a session does, beside what the process that reports does at its own.
            self._session._setupstate.teardown_exact(None)
            # Which also tells of exceptions that only a last search for garbage finds.
            config._ensure_unconfigure()
        self._connection.send(Told(last=True))

    def _passed(self) -> bool:
        """Whether nothing is to be said of the last test but this, which a worker that dies may fail to tell."""
        return not self._warned and not any(isinstance(phase, dict) for phase in self._phases)

    def _tell(self) -> None:
        self._connection.send(Told(self._tests, self._warned))
        self._tests.clear()
        self._warned.clear()
        self._told = time.monotonic()

    def _items(self) -> Iterator[tuple[int, pytest.Item, Any]]:
        """Each test by its number, and what is still needed after it: the session alone where no other is taken yet."""
        while chunk := os.read(self._chunks, _CHUNK.size):
            start, end = _CHUNK.unpack(chunk)
            nodes: list[Any] = [*self._session.items[start:end], self._session]
            for number, (item, following) in enumerate(pairwise(nodes), start):
                if self._stop[0]:
                    return
                yield number, item, following

    def pytest_warning_recorded(
        self, warning_message: warnings.WarningMessage, when: str, nodeid: str, location: Any
    ) -> None:
        """Keep what is to be told, of the tests alone: as text, since what a warning holds may not be sent."""
        if when == "runtest":
            found = warning_message
            said = warnings.WarningMessage(str(found.message), found.category, found.filename, found.lineno)
            self._warned.append({"warning_message": said, "when": when, "nodeid": nodeid, "location": location})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what is to be told once the test is over."""
        plain = type(report) is pytest.TestReport and report.passed and not hasattr(report, "wasxfail")
        if plain and not report.sections and not report.user_properties:
            self._phases.append((report.when, report.duration, report.start, report.stop))
        else:
            hook = self._session.config.hook
            data = hook.pytest_report_to_serializable(config=self._session.config, report=report)
            self._phases.append(data)


def _shared(item: pytest.Item) -> str | None:
    """The name of what a test shares with others that one worker is to take with it."""
    marker = item.get_closest_marker("shared")
    return None if marker is None else str(marker.args[0])


def _is_short(item: pytest.Item) -> bool:
    return item.get_closest_marker("long") is None


def _together(item: pytest.Item, other: pytest.Item) -> bool:
    """Whether one worker takes both at once."""
    if _shared(item) or _shared(other):
        return _shared(item) == _shared(other)
    return _is_short(item) and _is_short(other) and item.path == other.path


def _assert_one_thread() -> None:
    """No thread is lost by a fork, which workers would wait for: not even one that Python does not know."""
    threads = Path("/proc/self/task")
    if threads.is_dir() and len(list(threads.iterdir())) > 1:
        raise pytest.UsageError("a thread runs once tests are collected: import what starts it in a fixture or a test")
