"""admin/console/form/rows.py: rows, and which of them a place is about."""

from __future__ import annotations

import json

import pytest

from sidekey.admin.console.form.rows import (
    SPARE,
    Row,
    RowIndex,
    TypedList,
    TypedMapping,
    is_at,
    row_id,
    spared,
    stored_in,
)

ROWS = (
    Row(name="user.name", number=4, pointer="/body/user/name"),
    Row(name="user", number=7, pointer="/body/user"),
    Row(name="keys.0", number=9, pointer="/body/keys/0"),
    Row(name="wrong..path", number=12),
)


@pytest.mark.parametrize(
    ("where", "number"),
    [
        ("/body/user/name", 4),
        ("/body/user/name/deeper", 4),
        ("/body/user/other", 7),
        ("/body/keys", 9),
        ("/body#12", 12),
        ("/body#7", 7),
        ("/body", None),
        ("/body/keys/01", None),
        ("/body#1", None),
    ],
)
def test_a_place_is_about_the_nearest_row(where: str, number: int | None) -> None:
    """Or about the field, which no row is then."""
    found = RowIndex(ROWS, "/body").row_at(where)
    assert (None if found is None else found.number) == number


def test_a_row_is_below_its_field() -> None:
    assert is_at("/body#3", "/body")
    assert is_at("/body/a", "/body")
    assert not is_at("/bodyguard", "/body")


def test_spare_rows_have_numbers_that_no_other_has() -> None:
    assert [each.number for each in spared(ROWS)] == [4, 7, 9, 12, *range(13, 13 + SPARE)]
    assert [each.number for each in spared(())] == [*range(SPARE)]


def test_what_was_typed_is_the_document_with_its_rows() -> None:
    """As JSON it is the document alone."""
    assert json.dumps([TypedMapping({"a": 1}, ROWS), TypedList([1], ROWS)]) == '[{"a": 1}, [1]]'
    assert TypedList([1], ROWS).rows == TypedMapping({}, ROWS).rows == ROWS


def test_what_a_secret_reads_as_is_told_from_all_else() -> None:
    read = {"set": True, "row": "r_1"}
    assert stored_in({"url": read}) == stored_in(read)
    assert [stored_in(each) for each in ({"set": 1}, {"value": "x"}, "text", None, [])] == [None] * 5
    assert [row_id(each) for each in (read, {"row": 5}, {}, None)] == ["r_1", "", "", ""]
