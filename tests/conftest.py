"""Fixtures for all tests, and how pytest and Hypothesis run them."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator, Iterator
from itertools import count
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

from sidekey.build import build
from support.postgres import Postgres
from support.private_ca import Authority

# Every run tries the same examples, whatever the load of the machine: the fuzz targets look for new ones.
settings.register_profile("repeatable", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("repeatable")


def pytest_configure(config: pytest.Config) -> None:
    """Ignore what only a compiled Sidekey warns of."""
    if build() == "compiled":
        # mypyc's runtime hands an exception on to what a compiled coroutine awaits in the three arguments of old.
        config.addinivalue_line("filterwarnings", r"ignore:the \(type, exc, tb\) signature of throw:DeprecationWarning")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Let `-n auto` start more workers than cores: tests wait for sockets, timers and other processes."""
    return 2 * len(os.sched_getaffinity(0))


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
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server, one for all the tests of a worker."""
    with Postgres() as running:
        yield running


@pytest.fixture
def state_home() -> Path:
    """Where Sidekey keeps its local CA by default: for each test its own, which is made only where it is needed."""
    return Path(os.environ["XDG_STATE_HOME"])


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the programs of `support.compiled`."""
    return tmp_path_factory.mktemp("compiled")


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
