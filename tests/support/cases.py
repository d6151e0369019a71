"""Tables of expected behavior in `tests/cases`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "cases"


def rows(name: str) -> list[dict[str, Any]]:
    """Return the rows of a JSON table. `name` has no suffix."""
    table: list[dict[str, Any]] = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    return table
