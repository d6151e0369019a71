"""The scripts of a release: tag, notes, wheels. `make release-check` builds and tries the rest."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

import sidekey
from support import helm

ROOT = Path(__file__).parents[2]
TAG = f"v{sidekey.__version__}"


def run(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script of .ci in the folder above it."""
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(command, cwd=script.parents[1], capture_output=True, text=True, check=False)


def release_notes(folder: Path, tag: str, heading: str) -> subprocess.CompletedProcess[str]:
    """Print the notes for a tag if the newest section of the changelog has this heading."""
    script, source = folder / ".ci" / "release_notes.py", folder / "proxy" / "sidekey" / "__init__.py"
    for path in (script, source):
        path.parent.mkdir(parents=True)
        shutil.copy(ROOT / path.relative_to(folder), path)
    changelog = (
        f"# Changelog\n\nIntroduction.\n\n## {heading}\n\n- New: [a] (b).\n\n## [0.0.1] - 2020-01-01\n\n- Old.\n"
    )
    (folder / "CHANGELOG.md").write_text(changelog)
    return run(script, tag)


def test_notes_are_the_section_of_the_version(tmp_path: Path) -> None:
    result = release_notes(tmp_path, TAG, f"[{sidekey.__version__}] - 2026-12-01")
    assert (result.returncode, result.stdout, result.stderr) == (0, "- New: [a] (b).\n", "")


@pytest.mark.parametrize(
    ("tag", "heading", "error"),
    [
        ("v9.9.9", f"[{sidekey.__version__}] - 2026-12-01", f"the tag is v9.9.9, .* its tag is {TAG}"),
        (TAG, f"[{sidekey.__version__}] - not released yet", "replace 'not released yet' with the date"),
        (TAG, "[9.9.9] - 2026-12-01", "the first section of CHANGELOG.md is 9.9.9"),
    ],
)
def test_wrong_tag_or_changelog_fails_with_a_remedy(tag: str, heading: str, error: str, tmp_path: Path) -> None:
    result = release_notes(tmp_path, tag, heading)
    assert (result.returncode, result.stdout) == (1, "")
    assert re.search(error, result.stderr)


def test_compiled_wheels_are_built_for_each_python_of_the_classifiers() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    supported = re.findall(r":: (3\.\d+)$", "\n".join(pyproject["project"]["classifiers"]), re.M)
    tags = [f"cp{version.replace('.', '')}-manylinux_*" for version in supported]
    assert pyproject["tool"]["cibuildwheel"]["build"] == tags


@pytest.mark.parametrize("image", ["", "registry.example.com/team/sidekey"])
def test_chart_of_a_release_runs_the_image_of_the_release(
    image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without SIDEKEY_IMAGE the chart has no image, like that of the checkout."""
    monkeypatch.setenv("SIDEKEY_IMAGE", image)
    result = run(ROOT / ".ci" / "pack_chart.py", str(tmp_path))
    assert (result.returncode, result.stderr) == (0, "")
    chart = tmp_path / f"sidekey-{sidekey.__version__}.tgz"
    values = {**helm.values_of("gateway"), "image": {}}
    if image:
        (deployment,) = helm.of_kind(helm.objects(chart, values), "Deployment")
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert container["image"] == f"{image}:{sidekey.__version__}"
    else:
        assert "image.repository: is required" in helm.refusal(chart, values)


def test_workflows_name_no_address_of_the_project() -> None:
    """Registry and links follow from the repository that runs the workflow."""
    for path in (ROOT / ".github").rglob("*.y*ml"):
        text = path.read_text("utf-8")
        assert not re.search(r"https?://(?!json\.)", text), path
        assert len(re.findall(r"ghcr\.io/", text)) == len(re.findall(r"ghcr\.io/\$\{GITHUB_REPOSITORY,,\}", text)), path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the pure wheel with an entry for each folder, as auditwheel writes them."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    (path,) = folder.glob("*.whl")
    with ZipFile(path, "a") as archive:
        archive.mkdir("sidekey")
    return path


def test_wheel_has_py_typed(wheel: Path) -> None:
    """Otherwise mypy ignores the types of an installed package (PEP 561)."""
    assert "sidekey/py.typed" in ZipFile(wheel).namelist()


@pytest.mark.parametrize("address", ["", "https://forge.example/owner/sidekey"])
def test_links_of_the_chart_lead_to_the_repository_of_the_release(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an address the chart has no links."""
    monkeypatch.setenv("SIDEKEY_REPOSITORY_URL", address and f"{address}/")
    result = run(ROOT / ".ci" / "pack_chart.py", str(tmp_path))
    assert (result.returncode, result.stderr) == (0, "")
    with tarfile.open(tmp_path / f"sidekey-{sidekey.__version__}.tgz") as package:
        file = package.extractfile("sidekey/Chart.yaml")
        assert file is not None
        chart = yaml.safe_load(file)
    assert chart["maintainers"] == [{"name": "The Sidekey authors"}]
    assert chart["annotations"]["artifacthub.io/license"] == "Apache-2.0"
    links = {key: chart[key] for key in ("home", "icon", "sources") if key in chart}
    icon = "docs/images/icon.svg"
    assert (ROOT / icon).is_file()
    expected = {"home": address, "icon": f"{address}/raw/{TAG}/{icon}", "sources": [address]}
    assert links == (expected if address else {})


def test_wheel_may_have_entries_of_folders(wheel: Path) -> None:
    result = run(ROOT / ".ci" / "check_wheel.py", str(wheel))
    assert (result.returncode, result.stderr) == (0, ""), result.stdout


@pytest.mark.parametrize("name", ["sidekey/left.txt", "tools/docs.py"])
def test_foreign_file_in_a_wheel_is_refused(name: str, wheel: Path, tmp_path: Path) -> None:
    copy = shutil.copy(wheel, tmp_path)
    with ZipFile(copy, "a") as archive:
        archive.writestr(name, "")
    result = run(ROOT / ".ci" / "check_wheel.py", str(copy))
    assert (result.returncode, result.stdout) == (1, f"{copy}: {name} does not belong there\n")


def test_manylinux_wheel_must_have_its_extensions(wheel: Path, tmp_path: Path) -> None:
    """auditwheel gives a wheel several platform tags."""
    name = f"sidekey-{sidekey.__version__}-cp313-cp313-manylinux2014_x86_64.manylinux_2_17_x86_64.whl"
    result = run(ROOT / ".ci" / "check_wheel.py", str(shutil.copy(wheel, tmp_path / name)))
    assert result.returncode == 1
    assert "the extension sidekey/compiled__mypyc of Python 313 is missing" in result.stdout
