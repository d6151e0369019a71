"""The metadata hook: a package index shows README.md, where links to files of the project lead nowhere.

SIDEKEY_REPOSITORY_URL, the address of a repository such as https://forge.example/owner/sidekey, makes them absolute, to
the files of this version's tag, and becomes the project's URLs. Without it a link is only its text.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

ADDRESS = "SIDEKEY_REPOSITORY_URL"

PICTURE = re.compile(r"!\[([^\]]*)\]\((?!https?:)([^)\s#]+)\)")
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:|#)([^)\s]+)\)")
"""Relative ones; a link within the page stays. (GitHub's and GitLab's paths: `blob` shows a file, `raw` is one.)"""


class ReadmeHook(MetadataHookInterface):
    """Sets `readme` and `urls`; there are none without an address."""

    def update(self, metadata: dict[str, Any]) -> None:
        """A wheel that is built from an sdist has its metadata already."""
        if "readme" in metadata:
            return
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        address = os.environ.get(ADDRESS, "").rstrip("/")
        files = f"v{metadata['version']}"
        metadata["readme"] = {"content-type": "text/markdown", "text": portable(text, address, files)}
        urls = {
            "Repository": address,
            "Documentation": f"{address}/blob/{files}/docs/README.md",
            "Changelog": f"{address}/blob/{files}/CHANGELOG.md",
            "Issues": f"{address}/issues",
        }
        metadata["urls"] = urls if address else {}


def portable(text: str, address: str, files: str) -> str:
    """The README for readers who do not have the project's files: they are at `files`, a tag, below the address."""
    if not address:
        return LINK.sub(r"\1", PICTURE.sub(r"*\1*", text))
    return LINK.sub(rf"[\1]({address}/blob/{files}/\2)", PICTURE.sub(rf"![\1]({address}/raw/{files}/\2)", text))
