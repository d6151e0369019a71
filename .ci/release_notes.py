"""Print the notes of a release: the section of CHANGELOG.md for the version of the code.

Fail where TAG is not the tag of that version, or where the section has no date yet, so that a release cannot begin.

Usage: release_notes.py TAG
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSION = re.compile(r'^__version__ = "(.+)"$', re.M)
DATED = re.compile(r"\d{4}-\d\d-\d\d")


def notes(tag: str) -> str:
    """Return the text below the heading of this version; raise ValueError where it cannot be released as `tag`."""
    source = (ROOT / "proxy" / "sidekey" / "__init__.py").read_text("utf-8")
    (version,) = VERSION.findall(source)
    if tag != f"v{version}":
        raise ValueError(
            f"the tag is {tag}, but proxy/sidekey/__init__.py has version {version}: its tag is v{version}"
        )
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    heading, _, text = changelog.partition("\n## [")[2].partition("\n")
    section, _, date = heading.partition("] - ")
    if section != version:
        raise ValueError(f"the first section of CHANGELOG.md is {section}: add one for {version} above it")
    if not DATED.fullmatch(date):
        raise ValueError(f"CHANGELOG.md, section {version}: replace {date!r} with the date of the release (YYYY-MM-DD)")
    return text.partition("\n## [")[0].strip() + "\n"


def main(tag: str) -> int:
    """Print the notes; return 1 where there are none for this tag."""
    try:
        sys.stdout.write(notes(tag))
    except ValueError as error:
        sys.stderr.write(f"release: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
