"""The lock files have hashes, no addresses, and no version with a known advisory."""

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
"""Locks of environments that contain Sidekey."""
OF_PEERS = sorted(ROOT.glob("tests/peers/*/requirements.txt"))
"""Locks of environments that contain only one tool, and may have older versions."""
PINNED = re.compile(r"(?P<name>[a-z0-9-]+)==(?P<version>\S+)(?: ; (?P<marker>.+?))?(?: --hash=sha256:[0-9a-f]{64})+")


def logical_lines(lock: Path) -> list[str]:
    """Return a lock's lines without comments, with continuation lines joined."""
    text = re.sub(r"\s*\\\n\s*", " ", lock.read_text())
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def pins(lock: Path) -> dict[str, Version]:
    """Return the version of each package in a lock."""
    matches = [match for line in logical_lines(lock) if (match := PINNED.fullmatch(line))]
    return {match["name"]: Version(match["version"]) for match in matches}


@pytest.mark.parametrize("lock", [*LOCKS, *OF_PEERS], ids=lambda lock: str(lock.relative_to(ROOT)))
def test_every_line_is_one_pinned_and_hashed_package(lock: Path) -> None:
    assert [line for line in logical_lines(lock) if not PINNED.fullmatch(line)] == []
    assert logical_lines(lock)


@pytest.mark.parametrize("lock", [*LOCKS, *OF_PEERS], ids=lambda lock: str(lock.relative_to(ROOT)))
def test_no_lock_has_an_address(lock: Path) -> None:
    """The user's pip configuration decides where packages come from."""
    assert "://" not in lock.read_text()
    assert "--index" not in lock.read_text()
    assert "--find-links" not in lock.read_text()


def test_all_locks_agree_on_every_version() -> None:
    tested = pins(ROOT / "requirements-dev.txt")
    for lock in LOCKS:
        shared = pins(lock).keys() & tested.keys()
        assert {name: pins(lock)[name] for name in shared} == {name: tested[name] for name in shared}
    assert pins(ROOT / "requirements.txt").keys() <= tested.keys()
    assert pins(ROOT / "requirements-build.txt").keys() <= tested.keys()


def test_lock_satisfies_the_dependencies_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = pins(ROOT / "requirements.txt")
    for text in project["dependencies"]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(locked[requirement.name.lower()]), text


def test_library_with_private_parts_in_use_has_a_maximum_version() -> None:
    """The next release may change the private parts."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {requirement.name: requirement.specifier for requirement in map(Requirement, project["dependencies"])}
    assert not declared["aiohttp"].contains("3.15.0")


def test_aiohttp_has_no_known_advisory() -> None:
    """This holds for the locked and the lowest allowed version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    aiohttp = next(Requirement(text) for text in project["dependencies"] if text.startswith("aiohttp"))
    floor = min(Version(clause.version) for clause in aiohttp.specifier if clause.operator == ">=")
    locked = pins(ROOT / "requirements.txt")["aiohttp"]
    table = ROOT / "tests" / "cases" / "aiohttp_advisories.tsv"
    with table.open(newline="") as rows:
        fixed = [Version(row["fixed_in"]) for row in csv.DictReader(rows, delimiter="\t")]
    assert len(fixed) > 40
    assert max(fixed) <= floor <= locked
