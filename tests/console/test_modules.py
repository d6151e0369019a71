"""Modules that need no browser, in node's test runner, and the vendored libraries."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from support.programs import require

FOLDER = Path(__file__).parent
VENDOR = FOLDER.parents[1] / "proxy" / "sidekey" / "console" / "static" / "vendor"


def test_modules_pass_their_tests_in_node() -> None:
    tests = sorted(map(str, FOLDER.glob("*.test.mjs")))
    # `node --test` would start a process for each file.
    script = "".join(f"import {json.dumps(path)};" for path in tests)
    command = [require("node"), "--input-type=module", "--eval", script]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_vendored_libraries_come_with_their_licences() -> None:
    text = (VENDOR / "LICENSES.txt").read_text()
    for name in ("preact", "@preact/signals", "@preact/signals-core", "htm"):
        assert f"{name} " in text
    assert text.count("Permission is hereby granted") == 3
    assert "Apache License" in text
