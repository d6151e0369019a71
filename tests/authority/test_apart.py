"""The process that serves never loads cryptography for a CA that nobody uses."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sidekey.authority import apart
from sidekey.authority.folder import read
from support.authorities import NOW, rules_in
from support.child import run_code

CODE = f"""
import sys
from pathlib import Path
from sidekey.authority.apart import settle
from sidekey.authority.rules import CaRules
from sidekey.authority.scope import Scope
folder = Path(sys.argv[1])
rules = CaRules(folder=folder, trust_folder=folder / "trust", scope=Scope(frozenset(sys.argv[2:])))
found = settle(rules, {NOW})
print(len(found.made), found.first, bool(found.problem or found.untold), "cryptography" in sys.modules)
"""


def settled(folder: Path, *names: str) -> str:
    done = run_code(CODE, str(folder), *names)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_child_makes_what_is_missing(tmp_path: Path) -> None:
    """The first CA, a further one, and a trust folder that was lost."""
    assert settled(tmp_path, "a.test") == "1 True False False"
    assert settled(tmp_path, "a.test") == "0 False False False"
    assert settled(tmp_path, "a.test", "b.test") == "1 False False False"
    whole = (tmp_path / "trust" / "bundle.pem").read_bytes()
    (tmp_path / "trust" / "bundle.pem").unlink()
    assert settled(tmp_path, "a.test", "b.test") == "0 False False False"
    assert (tmp_path / "trust" / "bundle.pem").read_bytes() == whole


def test_a_folder_that_cannot_be_used_is_said_as_ever(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert settled(tmp_path / "file", "a.test") == "0 False True False"


def test_where_no_child_can_be_made_the_process_does_it_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "absent"))
    monkeypatch.delitem(sys.modules, "cryptography")
    found = apart.settle(rules_in(tmp_path, "https://a.test"), NOW)
    assert (len(found.made), found.first) == (1, True)
    assert read(tmp_path) == found.authorities


def test_what_is_loaded_already_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child would cost more."""

    def fail(*_: object) -> None:
        raise AssertionError("a child was made")

    monkeypatch.setattr(apart, "_run", fail)
    assert len(apart.settle(rules_in(tmp_path, "https://a.test"), NOW).made) == 1
    assert apart.settle(replace(rules_in(tmp_path), folder=None), NOW).problem
