"""The lock: hashed, free of addresses, consistent, and above every advisory that concerns a proxy."""

from __future__ import annotations

import csv
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LOCKS = sorted(ROOT.glob("requirements*.txt"))
"""Of environments that hold Sidekey."""
OF_PEERS = sorted(ROOT.glob("tests/peers/*/requirements.txt"))
"""Of environments that hold one tool only, and may lag behind."""
PINNED = re.compile(r"(?P<name>[a-z0-9-]+)==(?P<version>\S+)(?: ; (?P<marker>.+?))?(?: --hash=sha256:[0-9a-f]{64})+")


def logical_lines(lock: Path) -> list[str]:
    """A lock's lines without comments, continuation lines joined."""
    text = re.sub(r"\s*\\\n\s*", " ", lock.read_text())
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def pins(lock: Path) -> dict[str, Version]:
    """The version of each package in a lock."""
    found = [match for line in logical_lines(lock) if (match := PINNED.fullmatch(line))]
    return {match["name"]: Version(match["version"]) for match in found}


@pytest.mark.parametrize("lock", [*LOCKS, *OF_PEERS], ids=lambda lock: str(lock.relative_to(ROOT)))
def test_every_line_is_one_pinned_and_hashed_package(lock: Path) -> None:
    """`pip install --require-hashes` takes nothing that is not in the lock, byte for byte."""
    assert [line for line in logical_lines(lock) if not PINNED.fullmatch(line)] == []
    assert logical_lines(lock)


@pytest.mark.parametrize("lock", [*LOCKS, *OF_PEERS], ids=lambda lock: str(lock.relative_to(ROOT)))
def test_no_lock_holds_an_address(lock: Path) -> None:
    """Where packages come from is the user's pip configuration, never the lock's choice."""
    assert "://" not in lock.read_text()
    assert "--index" not in lock.read_text()
    assert "--find-links" not in lock.read_text()


def test_all_locks_agree_on_every_version() -> None:
    """What runs in production is what was tested."""
    tested = pins(ROOT / "requirements-dev.txt")
    for lock in LOCKS:
        shared = pins(lock).keys() & tested.keys()
        assert {name: pins(lock)[name] for name in shared} == {name: tested[name] for name in shared}
    assert pins(ROOT / "requirements.txt").keys() <= tested.keys()
    assert pins(ROOT / "requirements-build.txt").keys() <= tested.keys()


def test_the_lock_satisfies_what_the_project_declares() -> None:
    """Each dependency of pyproject.toml is locked at a version it allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = pins(ROOT / "requirements.txt")
    for text in project["dependencies"]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(locked[requirement.name.lower()]), text


def test_a_library_whose_private_parts_are_used_has_a_ceiling() -> None:
    """Its next release may change them: that is tried before anybody installs it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {found.name: found.specifier for found in map(Requirement, project["dependencies"])}
    assert not declared["aiohttp"].contains("3.15.0")


def test_aiohttp_is_above_every_known_advisory() -> None:
    """Each row of the advisory table is fixed in the locked version and in the lowest one that is allowed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    aiohttp = next(Requirement(text) for text in project["dependencies"] if text.startswith("aiohttp"))
    floor = min(Version(clause.version) for clause in aiohttp.specifier if clause.operator == ">=")
    locked = pins(ROOT / "requirements.txt")["aiohttp"]
    table = ROOT / "tests" / "cases" / "aiohttp_advisories.tsv"
    with table.open(newline="") as rows:
        fixed = [Version(row["fixed_in"]) for row in csv.DictReader(rows, delimiter="\t")]
    assert len(fixed) > 40
    assert max(fixed) <= floor <= locked
