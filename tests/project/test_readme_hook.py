"""The README on a package index links to the files of the repository if its address is known."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

import sidekey

ROOT = Path(__file__).parents[2]
ADDRESS = "https://forge.example/owner/sidekey"
RELATIVE = re.compile(r"\]\((?!https?:|#)[^)]*\)")


def metadata(folder: Path) -> Any:
    """Build the metadata in a copy without PKG-INFO, which a source distribution has; reject unknown classifiers."""
    for name in ("pyproject.toml", "hatch_readme.py", "README.md", "LICENSE", "proxy/sidekey/__init__.py"):
        copy = folder / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy)
    return ProjectMetadata(str(folder), PluginManager()).core


@pytest.fixture(autouse=True)
def without_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the address from the developer's environment."""
    monkeypatch.delenv("SIDEKEY_REPOSITORY_URL", raising=False)


def test_with_an_address_links_lead_to_the_files_of_the_version(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SIDEKEY_REPOSITORY_URL", f"{ADDRESS}/")
    core = metadata(tmp_path)
    assert RELATIVE.findall(core.readme) == []
    files = re.escape(f"v{sidekey.__version__}")
    links = re.findall(rf"(!?)\[[^\]]*\]\({ADDRESS}/(blob|raw)/{files}/([^)#]+)(?:#[^)]*)?\)", core.readme)
    assert {("!", "raw"), ("", "blob")} == {(mark, kind) for mark, kind, _ in links}
    assert [path for _, _, path in links if not (ROOT / path).exists()] == []
    assert all(url.startswith(ADDRESS) for url in core.urls.values())
    assert "Repository" in core.urls


def test_without_an_address_a_link_is_its_text(tmp_path: Path) -> None:
    core = metadata(tmp_path)
    assert RELATIVE.findall(core.readme) == []
    assert "**docs/README.md** lists" in core.readme
    assert "https://github.com/superfly/tokenizer" in core.readme
    assert core.urls == {}


def test_metadata_has_licence_python_and_keywords(tmp_path: Path) -> None:
    core = metadata(tmp_path)
    assert core.license_expression == "Apache-2.0"
    assert core.authors == [{"name": "The Sidekey authors"}]
    assert core.readme_content_type == "text/markdown"
    assert {"credentials", "sidecar"} <= set(core.keywords)
    supported = [name for name in core.classifiers if re.search(r":: 3\.\d+$", name)]
    assert core.requires_python == ">=" + supported[0].rpartition(" ")[2]
