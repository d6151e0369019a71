"""Missing peers: skipped with a reason, failed where they are required, and named at the end of the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import MissingPeers
from support import peers


def reported(reason: str) -> pytest.TestReport:
    """The report of a test that was skipped for this reason."""
    skipped = (str(Path(__file__)), 1, f"Skipped: {reason}")
    return pytest.TestReport("test_x", ("test_x.py", 1, "test_x"), {}, "skipped", skipped, "call")


@pytest.mark.parametrize(("required", "outcome"), [("0", pytest.skip.Exception), ("1", pytest.fail.Exception)])
def test_a_missing_peer_skips_its_tests_or_fails_them_where_it_is_required(
    required: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In CI a test never passes for want of its peer."""
    monkeypatch.setenv(peers.STRICT, required)
    monkeypatch.setattr(peers, "find", lambda name: None)
    with pytest.raises(outcome, match=r"^peer haproxy is missing: install haproxy"):
        peers.require("haproxy")


def test_the_summary_names_each_missing_peer_with_its_tests() -> None:
    """Other skips are no missing peers."""
    missing = MissingPeers()
    missing.count(reported("not today"))
    assert missing.summary() == "peers: none was missing"
    for _ in range(2):
        missing.count(reported("peer haproxy is missing: not on this machine"))
    assert missing.summary().startswith("peers: missing haproxy (2 skipped);")


def test_an_unknown_peer_is_a_mistake_of_the_test() -> None:
    """A misspelt name never turns into a skip."""
    with pytest.raises(ValueError, match="ngnix"):
        peers.require("ngnix")


def test_a_peer_below_tests_peers_is_found_once_it_can_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the platform that its package is for."""
    monkeypatch.setattr(peers, "OF_FOLDERS", tmp_path)
    program = tmp_path / "clients/node_modules/node-linux-riscv64/bin/node"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o644)
    assert peers.find("node24") is None
    program.chmod(0o755)
    assert peers.find("node24") == str(program)
