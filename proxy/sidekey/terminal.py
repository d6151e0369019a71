"""What commands print for people: tables, of texts that others may have written."""

from __future__ import annotations

from collections.abc import Sequence

from sidekey.core.printable import printable


def table(rows: Sequence[tuple[str, str, str, str]]) -> list[str]:
    """Four columns, the first three aligned."""
    safe = [tuple(map(printable, row)) for row in rows]
    widths = [max((len(row[column]) for row in safe), default=0) for column in range(3)]
    return ["  ".join([*map(str.ljust, row[:3], widths), row[3]]).rstrip() for row in safe]
