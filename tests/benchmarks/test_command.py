"""`python -m benchmarks` as a command."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import main


def test_an_unknown_row_is_a_usage_error_that_names_the_rows(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is measured then."""
    assert main(["http32", "http33"]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("no such row: http33; the rows are: http32, http256, https32, ")
    assert printed.out == ""
