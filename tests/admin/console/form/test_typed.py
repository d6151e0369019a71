"""admin/console/form/typed.py: what was typed, by the names of inputs."""

from __future__ import annotations

import pytest

from sidekey.admin.console.form.typed import flag_in, kept_in, number_in, rows_in, secret_in, whole_in


@pytest.mark.parametrize(
    ("text", "number", "whole"),
    [("5", 5, 5), ("-7", -7, -7), ("0.5", 0.5, None), ("1e5", None, None), ("", None, None), ("9" * 16, None, None)],
)
def test_what_is_no_number_is_none(text: str, number: float | None, whole: int | None) -> None:
    """And no text that would be saved as if it were meant."""
    assert (number_in(text), whole_in(text)) == (number, whole)
    assert type(number_in(text)) is type(number)


def test_true_and_false_are_words() -> None:
    assert [flag_in(text) for text in ("true", "false", "True", "1")] == [True, False, None, None]


def test_rows_come_in_the_order_of_their_numbers() -> None:
    """Those of another field, and what only looks like a row, do not count."""
    names = [
        "/a#10#name",
        "/a#2#name",
        "/a#2#kind",
        "/a#x#name",
        "/a#02#name",
        "/a#0#name#do",
        "/ab#1#name",
        "/a#\u0663#name",
    ]
    assert rows_in(dict.fromkeys(names, ""), "/a", "name") == [2, 10]


def test_a_secret_is_typed_kept_or_not_there() -> None:
    """What was typed and is to be removed all the same is not there."""
    former = {"set": True}
    assert secret_in({"k": "a\r\nb"}, "k", former) == {"value": "a\nb"}
    assert secret_in({"k": "", "k#do": "keep"}, "k", former) is former
    assert secret_in({"k": "x", "k#do": "remove"}, "k", former) is None
    assert kept_in({"k#do": "replace"}, "k", former) is None


def test_a_secret_that_is_replaced_by_nothing_is_not_removed() -> None:
    """Its value is said to be empty, which is an error where it is read."""
    sent = {"k": "", "k#do": "replace"}
    assert secret_in(sent, "k", {"set": True}) == secret_in({"k#do": "replace"}, "k", {"set": True}) == {"value": ""}
    assert secret_in(sent, "k", None) is None
