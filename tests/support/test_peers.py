"""Missing peers: skipped with a reason, failed where they are required, and named at the end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import peers

TESTS = Path(__file__).parents[1]
MODULE = """
import pytest
from support import peers

@pytest.mark.parametrize("number", range(2))
def test_absent(number):
    peers.missing("haproxy", "not on this machine")

def test_another_skip():
    pytest.skip("not today")
"""


def run_pytest(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on MODULE with the project's conftest."""
    (folder / "test_module.py").write_text(MODULE)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "SIDEKEY"))}
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "pytest", "-p", "conftest", "-c", os.devnull, *arguments]
    return subprocess.run(
        [*command, f"--rootdir={folder}", "test_module.py"],
        cwd=folder,
        env=inherited | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_run_ends_by_naming_the_missing_peers(workers: str, tmp_path: Path) -> None:
    """The last line names each peer with the number of tests skipped, also where workers ran them."""
    result = run_pytest(tmp_path, "-n", workers)
    assert result.returncode == 0
    assert result.stdout.splitlines()[-1].startswith("peers: missing haproxy (2 skipped);")


def test_the_run_ends_by_saying_that_no_peer_was_missing(tmp_path: Path) -> None:
    """Other skips are no missing peers."""
    result = run_pytest(tmp_path, "-k", "another")
    assert result.stdout.splitlines()[-1] == "peers: none was missing"


def test_a_required_peer_fails_its_tests(tmp_path: Path) -> None:
    """In CI a test never passes for want of its peer."""
    result = run_pytest(tmp_path, SIDEKEY_REQUIRE_PEERS="1")
    assert result.returncode == 1
    assert "2 failed, 1 skipped" in result.stdout


def test_an_unknown_peer_is_a_mistake_of_the_test() -> None:
    """A misspelt name never turns into a skip."""
    with pytest.raises(ValueError, match="ngnix"):
        peers.require("ngnix")
