"""Tables escape control characters and fit into the terminal."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidekey.cli.terminal import fail, table, terminal_width


def test_columns_are_aligned_by_their_escaped_text() -> None:
    assert table([("a\x07", "b", "c", "d"), ("a", "b", "c", "")]) == ["a\\x07  b  c  d", "a      b  c"]
    assert table([]) == []


def test_closed_standard_output_is_not_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """`sys.stdout` is None."""
    monkeypatch.setattr(sys, "stdout", None)
    assert terminal_width() is None


def test_cells_wrap_on_a_narrow_terminal() -> None:
    """The widest column becomes narrower first."""
    rows = [("crm", "https://crm.example.com/api", "ok"), ("sms", "https://sms.example.com", "not usable")]
    assert table(rows, 34) == [
        "crm  https://crm.examp  ok",
        "     le.com/api",
        "sms  https://sms.examp  not usable",
        "     le.com",
    ]
    assert table(rows, 80) == table(rows)


def test_texts_below_a_row_wrap() -> None:
    rows = [("crm", "ok"), ("sms", "ok")]
    assert table(rows, 20, [["a text that is longer\x07"], []]) == [
        "crm  ok",
        "    a text that is",
        "    longer\\x07",
        "sms  ok",
    ]


@given(
    st.lists(st.tuples(st.text("ab /\x07", max_size=30), st.text("c d", max_size=30)), max_size=5), st.integers(20, 90)
)
@settings(max_examples=50)
def test_nothing_is_lost_and_nothing_is_wider_than_the_terminal(rows: list[tuple[str, str]], width: int) -> None:
    def letters(text: str) -> str:
        return "".join(text.split())

    narrow = table(rows, width)
    assert max(map(len, narrow), default=0) <= width
    assert sorted(letters("".join(narrow))) == sorted(letters("".join(table(rows))))


def test_errors_end_the_command_with_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_error:
        fail("first", ValueError("second"))
    assert (exit_error.value.code, capsys.readouterr().err) == (1, "first\nsecond\n")
