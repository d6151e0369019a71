"""The command: measure the rows, print the table, write results.json beside this file.

Rows are named as arguments or in the variable ROWS, apart by spaces or commas; none means all. Exit 0: measured, whatever
was reached; 1: something could not be measured; 2: usage.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.arena import Arena
from benchmarks.figures import Outcome
from benchmarks.machine import Cores, claim_cores, describe, raise_open_files
from benchmarks.peers import PEERS
from benchmarks.processes import MeasureFailed
from benchmarks.rows import ROWS
from benchmarks.table import render

RESULTS = Path(__file__).with_name("results.json")
_TOOLS = {"taskset": "util-linux", "wrk": "wrk", "nginx": "nginx"}


def main(arguments: Sequence[str]) -> int:
    """Run the rows that `arguments` or ROWS name."""
    names = list(arguments) or re.findall(r"[^\s,]+", os.environ.get("ROWS", "")) or list(ROWS)
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        print(f"no row is called {', '.join(unknown)}; there are: {', '.join(ROWS)}", file=sys.stderr)
        return 2
    missing = [f"{tool} (package {package})" for tool, package in _TOOLS.items() if _find(tool) is None]
    if missing:
        print(f"the benchmarks need {', '.join(missing)}; on Debian `make peers` installs them", file=sys.stderr)
        return 1
    # A terminated run must stop its programs as an interrupted one does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    cores, versions = claim_cores(), {name: _version(name) for name in PEERS}
    machine = describe(cores)
    outcomes, seconds = _measure(names, cores)
    report(outcomes, seconds, machine, versions)
    return 1 if any(outcome.failures for outcome in outcomes.values()) else 0
