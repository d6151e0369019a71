"""Generated clients and schemathesis, with the OpenAPI document of a running Sidekey."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

from sidekey.api.routes import ROUTES
from support import programs
from support.api import TOKENS, Api, ApiSetup, serving

PEERS = programs.OF_FOLDERS / "openapi"


def run(*command: object, cwd: Path) -> None:
    """Run a program that must succeed."""
    result = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, cwd=cwd)
    assert result.returncode == 0, result.stdout + result.stderr


def arguments_of_client(running: ApiSetup) -> tuple[str, str, str]:
    """Return the arguments of a client that creates, reads, changes and deletes an integration and a preset."""
    address = f"http://127.0.0.1:{running.child.admin_port}"
    return address, TOKENS["editor"], f"http://127.0.0.1:{running.upstream}/v1"


def test_client_from_openapi_python_client_has_every_operation(viewer: Api, running: ApiSetup, tmp_path: Path) -> None:
    """The generator drops operations with unknown schemas."""
    generator = Path(programs.require("openapi-python-client"))
    document, config, client = tmp_path / "openapi.json", tmp_path / "config.json", tmp_path / "client"
    document.write_text(json.dumps(viewer.get("/openapi.json")))
    config.write_text('{"post_hooks": []}')
    options = ("--path", document, "--config", config, "--output-path", client, "--meta", "none")
    run(generator, "generate", *options, cwd=tmp_path)
    operations = {path.stem for path in (client / "api" / "default").glob("*.py")} - {"__init__"}
    assert operations == {re.sub("[A-Z]", lambda match: f"_{match[0].lower()}", route.name) for route in ROUTES}
    run(generator.parent / "python", PEERS / "trip.py", *arguments_of_client(running), cwd=tmp_path)


def test_client_from_openapi_typescript_compiles_and_works(viewer: Api, running: ApiSetup, tmp_path: Path) -> None:
    generator, compiler, node = (programs.require(name) for name in ("openapi-typescript", "tsc", "node"))
    (tmp_path / "node_modules").symlink_to(PEERS / "node_modules")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "openapi.json").write_text(json.dumps(viewer.get("/openapi.json")))
    shutil.copy(PEERS / "trip.ts", tmp_path)
    run(generator, "openapi.json", "--output", "schema.d.ts", cwd=tmp_path)
    options = ("--strict", "--target", "es2022", "--module", "nodenext", "--outDir", "built", "--skipDefaultLibCheck")
    run(compiler, *options, "trip.ts", cwd=tmp_path)
    run(node, "built/trip.js", *arguments_of_client(running), cwd=tmp_path)


def test_schemathesis_finds_no_error(tmp_path: Path) -> None:
    """It also finds no 5xx and no accepted request that violates a schema."""
    program = programs.require("schemathesis")
    with serving(tmp_path) as own:
        address = f"http://127.0.0.1:{own.child.admin_port}/api/v1/openapi.json"
        options = ("--header", f"Authorization: Bearer {TOKENS['admin']}", "--no-color")
        bounds = ("--phases", "coverage,fuzzing", "--seed", "1", "--generation-deterministic", "--max-time", "60")
        config = ("--config-file", PEERS / "schemathesis.toml")
        run(program, *config, "run", address, *options, *bounds, "--max-examples", "5", cwd=tmp_path)
        assert not [line for line in own.child.lines if "defect" in line]
