"""Whether a wheel holds the package, all of it, and nothing else.

Usage: check_wheel.py WHEEL
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from zipfile import ZipFile

SOURCE = Path("proxy")
METADATA = re.compile(r"sidekey-[^/]+\.dist-info/(METADATA|RECORD|WHEEL|entry_points\.txt|licenses/LICENSE)")


def faults(wheel: Path) -> list[str]:
    """What is missing and what does not belong, one line each."""
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
    expected = {
        path.relative_to(SOURCE).as_posix()
        for path in (SOURCE / "sidekey").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    metadata = {name for name in names if METADATA.fullmatch(name)}
    return [
        *(f"{name} is missing" for name in sorted(expected - names)),
        *(f"{name} does not belong there" for name in sorted(names - expected - metadata)),
        *([] if len(metadata) == 5 else [f"the metadata is not whole: {sorted(metadata)}"]),
    ]


def main(wheel: str) -> int:
    """Print what was found; 1 if there are faults."""
    found = faults(Path(wheel))
    sys.stdout.write(
        "".join(f"{wheel}: {fault}\n" for fault in found) or f"{wheel}: holds the package and nothing else\n"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
