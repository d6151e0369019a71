"""The tables of `tests/cases`: rows of expected behaviour, kept as data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "cases"


def rows(name: str) -> list[dict[str, Any]]:
    """The rows of a JSON table, `name` without its ending."""
    table: list[dict[str, Any]] = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    return table
