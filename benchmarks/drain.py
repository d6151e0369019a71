"""`python -m benchmarks.drain 200` runs the row `drain` with this many signals."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.arena import Arena
from benchmarks.machine import claim_cores, raise_open_files
from benchmarks.rows.drain import Drain


def main(signals: int) -> None:
    """Run the row, and print its lines."""
    with (
        tempfile.TemporaryDirectory(prefix="sidekey-bench-") as folder,
        Arena(Path(folder), claim_cores(), raise_open_files()) as arena,
    ):
        for line in Drain(signals).run(arena).lines:
            print(f"{line.label}: {line.values}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
