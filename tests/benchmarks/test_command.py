"""`python -m benchmarks` as a command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import benchmarks

ROOT = Path(benchmarks.__file__).parent.parent


def test_an_unknown_row_is_a_usage_error_that_names_the_rows() -> None:
    """Nothing is measured then."""
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks", "http33"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 2
    assert ran.stderr.startswith("no row is called http33; there are: http32, http256, https32, ")
    assert ran.stdout == ""
