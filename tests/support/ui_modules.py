"""Run modules of the console in node, without a browser."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Final

from support import programs

UI: Final = Path(__file__).parents[2] / "proxy/sidekey/console/static"

_RUN: Final = """
let text = "";
for await (const part of process.stdin) text += part;
const input = JSON.parse(text);
const output = await (async () => { BODY })();
process.stdout.write(JSON.stringify(output));
"""


def run_module(body: str, value: Any) -> Any:
    """Run JavaScript in a function with the parameter `input`. Imports are relative to the folder of the console."""
    command = [programs.require("node"), "--input-type=module", "--eval", _RUN.replace("BODY", body)]
    data = json.dumps(value).encode()
    result = subprocess.run(command, cwd=UI, input=data, capture_output=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)
