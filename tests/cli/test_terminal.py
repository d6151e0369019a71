"""terminal.py: what others have written does not move the columns of a table."""

from __future__ import annotations

from sidekey.cli.terminal import table


def test_columns_are_aligned_by_what_is_shown() -> None:
    assert table([("a\x07", "b", "c", "d"), ("a", "b", "c", "")]) == ["a\\x07  b  c  d", "a      b  c"]
    assert table([]) == []
