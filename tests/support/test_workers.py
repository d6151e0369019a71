from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

CONFTEST = """
import os
import pytest
from support.workers import SHARED, Workers

def pytest_configure(config):
    config.addinivalue_line("markers", "long: one")
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

DEAD = """
import os

def test_dies():
    os._exit(3)
"""


def run(folder: Path, text: str, *options: str) -> tuple[subprocess.CompletedProcess[str], dict[str, str]]:
    """What pytest printed with two workers, and what became of each test."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_it.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    report = folder / "report.xml"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *options],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    cases = ElementTree.parse(report).iter("testcase")
    return done, {str(case.get("name")): case[0].tag if len(case) else "passed" for case in cases}


def test_each_test_runs_once_in_one_of_several_processes(tmp_path: Path) -> None:
    """They are there at the same time, each ends its fixtures, and all that they say arrives."""
    done, outcomes = run(tmp_path, GOOD, f"--basetemp={tmp_path / 'run'}")
    assert done.returncode == 1, done.stderr
    failed = {name for name, outcome in outcomes.items() if outcome != "passed"}
    assert (len(outcomes), failed) == (44, {"test_fails", "test_is_skipped"})
    assert sorted((tmp_path / "run" / "runs").read_text().split(), key=int) == [str(number) for number in range(40)]
    assert {path.name for path in (tmp_path / "run").glob("ended-*")} == {"ended-worker-0", "ended-worker-1"}
    assert "what it printed" in done.stdout
    assert "1 failed, 42 passed, 1 skipped" in done.stdout


def test_a_worker_that_dies_is_told_with_its_test(tmp_path: Path) -> None:
    done, outcomes = run(tmp_path, DEAD)
    assert outcomes == {"test_dies": "failure"}
    assert "ended with status 3 in this test" in done.stdout
    assert done.returncode != 0


def test_no_test_begins_after_as_many_failures_as_are_allowed(tmp_path: Path) -> None:
    text = "import pytest\n@pytest.mark.parametrize('n', range(2000))\ndef test_fails(n): assert n < 0\n"
    done, outcomes = run(tmp_path, text, "--maxfail=1", "--no-header", "--tb=no")
    assert done.returncode == 1
    assert "stopping after" in done.stdout
    assert len(outcomes) < 1000
