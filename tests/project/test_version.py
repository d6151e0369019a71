"""One version, wherever it stands, and the package under test is the one that was asked for."""

from __future__ import annotations

import os
import re
import sysconfig
from importlib.metadata import version
from pathlib import Path

import sidekey

ROOT = Path(__file__).parents[2]


def test_the_newest_release_of_the_changelog_is_the_package() -> None:
    """The first numbered heading of CHANGELOG.md is the version of the code."""
    released = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert released[0] == sidekey.__version__


def test_the_installed_package_is_the_code_under_test() -> None:
    """`make test WHEEL=...` tests the wheel and never the checkout; a plain `make test` tests the checkout."""
    wanted = Path(sysconfig.get_path("purelib")) if os.environ.get("SIDEKEY_EXPECT_BUILD") else ROOT / "proxy"
    assert Path(sidekey.__file__).parent == wanted / "sidekey"


def test_the_distribution_has_the_version_of_the_code() -> None:
    """The metadata that pip shows was built from this version."""
    assert version("sidekey") == sidekey.__version__
