"""The build that is told is the one that was installed, and it is so in every hot module."""

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


def test_it_is_the_build_that_was_asked_for() -> None:
    """`make test` runs a checkout, which is pure; `make test WHEEL=...` says what that wheel must be."""
    assert build() == os.environ.get("SIDEKEY_EXPECT_BUILD", "pure")


@pytest.mark.parametrize("name", HOT)
def test_every_hot_module_is_of_that_build(name: str) -> None:
    """A wheel of which one half is compiled would tell a lie."""
    loader = importlib.import_module(name).__loader__
    assert isinstance(loader, ExtensionFileLoader if build() == "compiled" else SourceFileLoader)


@pytest.mark.parametrize("glob", GLOBS)
def test_every_glob_of_hot_modules_finds_some(glob: str) -> None:
    """A folder that is renamed must not drop out of the compiled build unseen."""
    assert list(PACKAGE.glob(glob))
