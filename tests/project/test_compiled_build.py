"""The reported build is the installed one, in every compiled module."""

from __future__ import annotations

import importlib
import os
import tomllib
from importlib.machinery import ExtensionFileLoader, SourceFileLoader
from pathlib import Path

import pytest

from sidekey.build import build

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "proxy" / "sidekey"
WHEEL = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
GLOBS = WHEEL["hooks"]["custom"]["modules"]


def name_of(path: Path) -> str:
    return ".".join(("sidekey", *path.relative_to(PACKAGE).with_suffix("").parts))


HOT = sorted(name_of(path) for glob in GLOBS for path in PACKAGE.glob(glob) if path.name != "__init__.py")


def test_build_is_the_expected_one() -> None:
    """`make test` tests a checkout, which is pure. `make test WHEEL=...` sets the build of that wheel."""
    assert build() == os.environ.get("SIDEKEY_EXPECT_BUILD", "pure")


@pytest.mark.parametrize("name", HOT)
def test_every_compiled_module_has_that_build(name: str) -> None:
    """A half-compiled wheel would report the wrong build."""
    loader = importlib.import_module(name).__loader__
    assert isinstance(loader, ExtensionFileLoader if build() == "compiled" else SourceFileLoader)


@pytest.mark.parametrize("glob", GLOBS)
def test_every_glob_of_compiled_modules_matches_files(glob: str) -> None:
    """A renamed folder must not silently drop out of the compiled build."""
    assert list(PACKAGE.glob(glob))
