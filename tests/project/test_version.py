"""The version is in one place, and the tests run the expected package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path

import sidekey
from support import programs

ROOT = Path(__file__).parents[2]


def test_newest_release_of_the_changelog_is_the_version_of_the_code() -> None:
    releases = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert releases[0] == sidekey.__version__

    assert re.fullmatch(r"\d+\.\d+\.\d+", sidekey.__version__), "Helm and Python both need X.Y.Z"


def test_one_line_and_one_command_change_every_copy_of_the_version(tmp_path: Path) -> None:
    """Set another version in a copy of the project and run `make charts`: no document or chart has the old one."""
    for name in ("proxy", "helm", "config", "docs", "examples", "prometheus", "tests/helm", "tests/support", "tools"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    for path in (*ROOT.glob("*.md"), ROOT / "Dockerfile", ROOT / "Makefile", ROOT / "pyproject.toml"):
        shutil.copy(path, tmp_path)
    source = tmp_path / "proxy" / "sidekey" / "__init__.py"
    source.write_text(source.read_text().replace(f'"{sidekey.__version__}"', '"12.34.56"'))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "tests"), str(tmp_path / "proxy")])}
    subprocess.run([sys.executable, "-m", "tools.charts"], cwd=tmp_path, env=environment, check=True)

    previous = re.compile(rf"(?<![\w.]){re.escape(sidekey.__version__)}(?![\w.]*\w)")
    texts = {str(path.relative_to(tmp_path)): path for path in tmp_path.rglob("*") if path.is_file()}
    unchanged = [name for name, path in texts.items() if previous.search(path.read_text("utf-8", "ignore"))]
    assert set(unchanged) - {"CHANGELOG.md"} == set()
    assert "sidekey-12.34.56" in (tmp_path / "tests/helm/golden/gateway-bare.yaml").read_text()
    assert "sidekey:12.34.56" in (tmp_path / "helm/examples/plain/sidecar.yaml").read_text()


def test_image_is_labelled_with_the_version() -> None:
    command = [programs.require("make"), "--dry-run", "image"]
    planned = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert f"--build-arg VERSION={sidekey.__version__} " in planned


def test_installed_package_is_the_code_under_test() -> None:
    """`make test WHEEL=...` tests only the wheel, a plain `make test` the checkout."""
    expected = Path(sysconfig.get_path("purelib")) if os.environ.get("SIDEKEY_EXPECT_BUILD") else ROOT / "proxy"
    assert Path(sidekey.__file__).parent == expected / "sidekey"


def test_distribution_has_the_version_of_the_code() -> None:
    assert version("sidekey") == sidekey.__version__
