"""The types of the console's modules, checked against the API's OpenAPI document."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Final

from sidekey.api.openapi import document
from sidekey.api.routes import ROUTES
from sidekey.console.static_files import FOLDER
from support.programs import require

CONFIG: Final = Path(__file__).parents[2] / "tools" / "ui" / "tsconfig.json"


def test_modules_have_the_types_of_the_api(tmp_path: Path) -> None:
    generator, compiler = require("openapi-typescript"), require("tsc")
    (tmp_path / "openapi.json").write_text(json.dumps(document(ROUTES)))
    run(generator, "openapi.json", "--output", "openapi.d.ts", folder=tmp_path)
    # Modules import the generated types from their own folder.
    config = {
        "extends": os.path.relpath(CONFIG, tmp_path),
        "compilerOptions": {"rootDirs": [str(FOLDER), str(tmp_path)]},
        "include": [str(FOLDER), str(tmp_path / "openapi.d.ts")],
        "exclude": [str(FOLDER / "vendor")],
    }
    (tmp_path / "tsconfig.json").write_text(json.dumps(config))
    # The compiler's own types of the browser need no check.
    run(compiler, "--project", ".", "--pretty", "false", "--skipDefaultLibCheck", folder=tmp_path)


def run(*command: str, folder: Path) -> None:
    """Run a program that must succeed."""
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert result.returncode == 0, result.stdout + result.stderr
