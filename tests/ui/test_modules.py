"""The modules of the pages that need no browser, by node's own test runner; and the libraries that are vendored."""

from __future__ import annotations

import subprocess
from pathlib import Path

from support.peers import require

FOLDER = Path(__file__).parent
VENDOR = FOLDER.parents[1] / "proxy" / "sidekey" / "admin" / "ui" / "vendor"


def test_modules() -> None:
    tests = sorted(map(str, FOLDER.glob("*.test.mjs")))
    found = subprocess.run([require("node"), "--test", *tests], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


def test_vendored_libraries_come_with_their_licences() -> None:
    text = (VENDOR / "LICENSES.txt").read_text()
    for name in ("preact", "@preact/signals", "@preact/signals-core", "htm"):
        assert f"{name} " in text
    assert text.count("Permission is hereby granted") == 3
    assert "Apache License" in text
