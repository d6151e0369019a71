from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

CONFTEST = """
import os
import pytest
from support.workers import SHARED, Workers

def pytest_configure(config):
    config.addinivalue_line("markers", "long: one")
    config.addinivalue_line("markers", "shared: one")
    config.pluginmanager.register(Workers(2), "workers")

def pytest_collection_finish(session):
    os.mkfifo(session.config._tmp_path_factory.getbasetemp() / "fifo")

@pytest.fixture(scope="session")
def server(request, tmp_path_factory):
    yield request.config.stash[SHARED]
    (request.config.stash[SHARED] / f"ended-{tmp_path_factory.getbasetemp().name}").touch()
"""

GOOD = """
import os, sys
import pytest

@pytest.mark.long
def test_writes(server):
    with open(server / "fifo", "w") as fifo:   # which waits for who reads, and the other way round
        fifo.write("met")

@pytest.mark.long
def test_reads(server):
    with open(server / "fifo") as fifo:
        assert fifo.read() == "met"

@pytest.mark.parametrize("number", range(40))
def test_runs_once(number, server, tmp_path):
    with open(server / "runs", "a") as runs:
        runs.write(f"{number} ")

def test_fails(server):
    print("what it printed")
    assert "this" == "that"

def test_is_skipped():
    pytest.skip("for a reason")
"""

SHARED_BY_NAME = """
import os
import pytest

@pytest.fixture(scope="session")
def worker(tmp_path_factory):
    return tmp_path_factory.getbasetemp().name + ".notes"

@pytest.mark.parametrize("number", range(90))
@pytest.mark.parametrize("name", [None, pytest.param("a", marks=pytest.mark.shared("a")),
                                  pytest.param("b", marks=pytest.mark.shared("b"))])
def test_notes_where_it_runs(server, worker, name, number):
    if (name, number) == ("a", 0):             # which waits for who reads, and the other way round
        with open(server / "fifo", "w") as fifo:
            fifo.write("met")
    if (name, number) == ("b", 0):
        with open(server / "fifo") as fifo:
            fifo.read()
    with open(server / worker, "a") as notes:
        notes.write(f"{name} ")
"""

DEAD = """
import os, signal, time

def test_dies():
    if {child} and os.fork() == 0:   # which holds all that a worker has open
        while not os.path.exists("over"):
            time.sleep(0.05)
        os._exit(0)
    {how}
"""

STRICT = ("-W", "error::ResourceWarning", "-W", "error::pytest.PytestUnraisableExceptionWarning")

WRONG_AT_THE_END = """
import socket, warnings
import pytest

@pytest.fixture(scope="session")
def wrong():
    yield
    {how}

def test_passes(wrong):
    warnings.warn("what was warned of")
"""


def run(folder: Path, text: str, *options: str) -> tuple[int, str, dict[str, str]]:
    """The status and the output of pytest with two workers, and what became of each test."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_it.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\n")
    report, printed = folder / "report.xml", folder / "printed"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *options]
    # Other plugins take longer to import than all else that happens here.
    environ = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    # Not into a pipe, whose end would wait for the children of tests.
    with printed.open("w") as file:
        done = subprocess.run(command, cwd=folder, env=environ, stdout=file, stderr=file, timeout=60, check=False)
    (folder / "over").touch()
    cases = ElementTree.parse(report).iter("testcase")
    became = {str(case.get("name")): case[0].tag if len(case) else "passed" for case in cases}
    return done.returncode, printed.read_text(), became


def test_each_test_runs_once_in_one_of_several_processes(tmp_path: Path) -> None:
    """They are there at the same time, each ends its fixtures, and all that they say arrives."""
    status, printed, outcomes = run(tmp_path, GOOD, f"--basetemp={tmp_path / 'run'}")
    assert status == 1, printed
    failed = {name for name, outcome in outcomes.items() if outcome != "passed"}
    assert (len(outcomes), failed) == (44, {"test_fails", "test_is_skipped"})
    assert sorted((tmp_path / "run" / "runs").read_text().split(), key=int) == [str(number) for number in range(40)]
    assert {path.name for path in (tmp_path / "run").glob("ended-*")} == {"ended-worker-0", "ended-worker-1"}
    assert "what it printed" in printed
    assert "1 failed, 42 passed, 1 skipped" in printed


def test_one_worker_takes_all_tests_that_share_something_and_takes_them_first(tmp_path: Path) -> None:
    """Another takes those that share something else, at the same time."""
    status, printed, outcomes = run(tmp_path, SHARED_BY_NAME, f"--basetemp={tmp_path / 'run'}")
    assert (status, set(outcomes.values())) == (0, {"passed"}), printed
    notes = [(tmp_path / "run" / f"worker-{number}").with_suffix(".notes").read_text().split() for number in range(2)]
    assert sorted(each[:90] for each in notes) == [["a"] * 90, ["b"] * 90]
    assert [name for each in notes for name in each[90:]] == ["None"] * 90


@pytest.mark.parametrize("child", [False, True])
@pytest.mark.parametrize(
    ("how", "ended"), [("os._exit(3)", 3), ("os._exit(0)", 0), ("os.kill(os.getpid(), signal.SIGKILL)", -9)]
)
def test_a_worker_that_dies_is_told_with_its_test(tmp_path: Path, how: str, ended: int, child: bool) -> None:
    """Whatever it says of itself by then, and though a child of its own lives on."""
    status, printed, outcomes = run(tmp_path, DEAD.format(how=how, child=child))
    assert outcomes == {"test_dies": "failure"}
    assert f"ended with status {ended} in this test" in printed
    assert status != 0


@pytest.mark.parametrize("how", ["raise ValueError", "a = [socket.socket()]; a.append(a)"])
def test_what_is_wrong_once_all_tests_are_over_fails_the_run(tmp_path: Path, how: str) -> None:
    """A fixture of the session, and what only a search for garbage finds; and what tests warned of is told."""
    status, printed, outcomes = run(tmp_path, WRONG_AT_THE_END.format(how=how), *STRICT)
    assert outcomes == {"test_passes": "passed"}
    assert "worker-0 ended with status 1" in printed or "worker-1 ended with status 1" in printed
    assert "UserWarning: what was warned of" in printed
    assert status != 0


def test_no_test_begins_after_as_many_failures_as_are_allowed(tmp_path: Path) -> None:
    text = "import pytest\n@pytest.mark.parametrize('n', range(2000))\ndef test_fails(n): assert n < 0\n"
    status, printed, outcomes = run(tmp_path, text, "--maxfail=1", "--no-header", "--tb=no")
    assert status == 1
    assert "stopping after" in printed
    assert len(outcomes) < 1000


def test_no_worker_is_forked_beside_a_thread(tmp_path: Path) -> None:
    """It would not be there, and may hold a lock."""
    text = "import threading\nthreading.Thread(target=threading.Event().wait, args=(5,)).start()\ndef test_it(): pass\n"
    status, printed, outcomes = run(tmp_path, text)
    assert "a thread runs once tests are collected" in printed
    assert (status, outcomes) == (4, {})
