"""The shape of the source tree: a test file for each module, small modules, nothing of a build machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import sidekey

ROOT = Path(__file__).parents[2]
PACKAGE = Path(sidekey.__file__).parent
MODULES = sorted(
    path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path.name not in ("__init__.py", "__main__.py")
)

FOREIGN = {
    "a path of somebody's machine": re.compile(r"(?<![\w.~-])/(?:work|tmp/w|home|root|Users|mnt)/(?!\W)"),
    "the address of a package registry": re.compile(
        r"\b(?:pypi|pythonhosted|npmjs|crates|rubygems|golang)\.(?:org|io)\b"
    ),
}
GENERATED = {".venv", ".venv-compiled", ".venv-wheel", "dist", "__pycache__", "node_modules"}


def project_files() -> Iterator[Path]:
    """Every text file that belongs to the project; hidden folders but `.ci` hold what tools leave behind."""
    for path in sorted(ROOT.rglob("*")):
        folders = path.relative_to(ROOT).parts[:-1]
        hidden = any(folder.startswith(".") and folder != ".ci" for folder in folders)
        if path.is_file() and not hidden and GENERATED.isdisjoint(folders) and path.suffix != ".pyc":
            yield path


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_has_its_test_file(module: Path) -> None:
    """tests/ mirrors the package: `core/policy.py` is tested by `core/test_policy.py` (or `test_policy_*.py`)."""
    folder = ROOT / "tests" / module.parent
    found = [*folder.glob(f"test_{module.stem}.py"), *folder.glob(f"test_{module.stem}_*.py")]
    assert found, f"{folder}/test_{module.stem}.py does not exist"


def test_no_module_is_longer_than_400_lines() -> None:
    """A module has one subject and can be read in one go."""
    sizes = {str(module): len((PACKAGE / module).read_text().splitlines()) for module in MODULES}
    assert {module: size for module, size in sizes.items() if size > 400} == {}


@pytest.mark.parametrize("what", FOREIGN)
def test_no_file_names_what_only_one_machine_has(what: str) -> None:
    """Neither paths of a build machine nor registry addresses stand in any file: users have their own mirrors."""
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in project_files()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="ignore").splitlines(), 1)
        if FOREIGN[what].search(line)
    ]
    assert found == []
