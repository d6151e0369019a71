"""`make fuzz`: run each target for so many seconds, guided by coverage, and print how many inputs it was given.

`python -m fuzz NAME FILE` runs one target with the input in a file instead, such as one that was found.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

from fuzz.target import BUDGET, NAMES, cost_of, load

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".cache" / "fuzz"
"""Inputs that reached new code, and those that failed, by target: the next run begins with them."""

_EXECUTIONS = re.compile(r"^stat::number_of_executed_units:\s*(\d+)$", re.M)


def run(name: str, seconds: int) -> bool:
    """Run one target in its own process and print the result. Return True if it found nothing."""
    kept = KEPT / name
    kept.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "fuzz.guided", name, str(kept), str(seconds)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    executions = _EXECUTIONS.search(ended.stderr)
    if ended.returncode == 0 and executions is not None:
        sys.stdout.write(f"{name:<10} {int(executions[1]):>9,} executions\n")
        return True
    sys.stdout.write(f"{name}: failed\n{ended.stdout}{ended.stderr[-6000:]}\n")
    return False


def replay(name: str, path: Path) -> int:
    """Check one input without instrumentation."""
    target, data = load(name), path.read_bytes()
    target.check(data)
    cost = cost_of(target, data)
    sys.stdout.write(f"{name}: {len(data)} bytes, {cost * 1000:.1f} ms\n")
    return int(cost > BUDGET)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("name", nargs="?", choices=NAMES, default=os.environ.get("TARGET") or None)
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--seconds", type=int, default=15)
    given = parser.parse_args()
    if given.file is not None:
        return replay(given.name, given.file)
    result = [run(name, given.seconds) for name in NAMES if given.name in (None, name)]
    return int(not all(result))


if __name__ == "__main__":
    sys.exit(main())
