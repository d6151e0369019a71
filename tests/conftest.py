"""What every test gets: the summary of missing peers, the session's CA, a state folder, Hypothesis untimed."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator, Iterator
from itertools import count
from pathlib import Path
from typing import Final

import pytest
import structlog
from hypothesis import HealthCheck, settings

from sidekey.core.build import build
from support import peers
from support.ca import Authority
from support.examples import ALL, examples
from support.forked import SERVER
from support.postgres import Postgres
from support.workers import SHARED, Workers

# No test judges time, so Hypothesis shall not either. In CI it loads its own profile, which is repeatable as well.
settings.register_profile(
    "untimed", max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
if not os.environ.get("CI"):
    settings.load_profile("untimed")


NOT_OF_THE_PRODUCT: Final = ("benchmarks", "mutation", "project", "support")
"""Folders whose tests are of tools, or of the form of the project, which `make lint` checks."""


class MissingPeers:
    """Counts, from the reports of all workers, the tests that were skipped for a missing peer."""

    def __init__(self) -> None:
        self.skipped: dict[str, int] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.count(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.count(report)

    def count(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        """Note a skipped test or module whose reason names a peer."""
        if report.skipped and isinstance(report.longrepr, tuple):
            name = peers.named_in(report.longrepr[2])
            if name is not None:
                self.skipped[name] = self.skipped.get(name, 0) + 1

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        """Print below everything else: the terminal reporter ends its summary inside this wrapper."""
        yield
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(self.summary())

    def summary(self) -> str:
        """One line on what was skipped for want of a peer."""
        if not self.skipped:
            return "peers: none was missing"
        names = ", ".join(f"{name} ({count} skipped)" for name, count in sorted(self.skipped.items()))
        return f"peers: missing {names}; `make peers` installs those of Debian"


def pytest_configure(config: pytest.Config) -> None:
    """Count what is missing, and run the tests in as many processes as are asked for."""
    if build() == "compiled":
        # mypyc's runtime hands an exception on to what a compiled coroutine awaits in the three arguments of old.
        config.addinivalue_line("filterwarnings", r"ignore:the \(type, exc, tb\) signature of throw:DeprecationWarning")
    config.pluginmanager.register(MissingPeers(), "missing-peers")
    count = config.getoption("--workers", 0)
    # Who debugs types into a terminal that one process can have.
    if count and not config.getoption("usepdb"):
        config.pluginmanager.register(Workers(count), "workers")
        if not config.option.collectonly:
            # One for all workers, which has imported Sidekey by the time that the first test needs it.
            SERVER.start()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave to CI what tells nothing of the product, unless a folder or file is named."""
    named = config.args_source is not pytest.Config.ArgsSource.TESTPATHS
    if ALL or named or collection_path.parent != Path(__file__).parent:
        return None
    return True if collection_path.name in NOT_OF_THE_PRODUCT else None


def pytest_addoption(parser: pytest.Parser) -> None:
    """How many processes run tests; none but this one by default."""
    parser.addoption("--workers", type=workers, default=0, metavar="N", help="run tests in N processes, or in `auto`")


def workers(text: str) -> int:
    """Four a core, eight at most: tests wait for sockets, timers and other processes longer than they compute."""
    if text != "auto":
        return int(text)
    return min(8, 4 * (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """Spare what is imported and collected from searches for garbage, these and all later: many tests ask for one."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A throw-away certificate authority."""
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def postgres(of_the_run: Path) -> Iterator[Postgres]:
    """A PostgreSQL server, one for all the tests of a worker."""
    with Postgres(of_the_run) as running:
        yield running


@pytest.fixture(scope="session")
def of_the_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run share, for `support.once`."""
    return request.config.stash.get(SHARED, tmp_path_factory.getbasetemp())


@pytest.fixture
def state_home() -> Path:
    """Where Sidekey keeps its local CA by default: for each test its own, which is made only where it is needed."""
    return Path(os.environ["XDG_STATE_HOME"])


@pytest.fixture(scope="session")
def of_all_runs(request: pytest.FixtureRequest, of_the_run: Path) -> Path:
    """A folder that later runs share too, for what is made of sources alone: pytest's cache, where there is one."""
    cache = getattr(request.config, "cache", None)
    return of_the_run if cache is None else Path(cache.mkdir("compiled"))


_STATES = count()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Give each test its own state folder and unconfigured logs: a fixture for all costs as much as a small test."""
    base: Path = item.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    # Every test sets it, so that nothing has to be put back after one.
    os.environ["XDG_STATE_HOME"] = f"{base}/state-{next(_STATES)}"
    os.environ.pop("STATE_DIRECTORY", None)
    try:
        return (yield)
    finally:
        # What a test sets for the process's log ends with it: a level, or a writer that is closed by then.
        structlog.reset_defaults()
