"""The row that a document is saved in."""

from __future__ import annotations

from dataclasses import replace

from sidekey.settings.stored.rows import former_of, saved_row
from support.stored import BASIC, VAULT, draft, opened, stored


def test_a_new_row_is_that_of_its_maker() -> None:
    row, fields, _ = saved_row(VAULT, "crm", draft(BASIC), None, None, by="ann", now=7)
    assert (row.created_at, row.updated_at, row.updated_by) == (7, 7, "ann")
    assert fields == ("/auth", "/auth/password", "/auth/username", "/endpoint_prefix")
    assert opened(row).refused == {}


def test_a_change_keeps_what_the_row_is() -> None:
    """Its lasting ID, and when it was made."""
    before = replace(stored(BASIC), created_at=3)
    document = {**BASIC, "description": "x"}
    row, fields, _ = saved_row(VAULT, "crm", draft(document), before, former_of(before), by="bob", now=9)
    assert (row.row, row.created_at, row.updated_at) == (before.row, 3, 9)
    assert fields == ("/auth/password", "/auth/username", "/description")


def test_nothing_of_an_altered_row_is_relied_upon() -> None:
    before = replace(stored(BASIC), verified=False, created_at=3)
    assert former_of(before) is None
    assert former_of(replace(before, verified=True, document="x")) is None
    assert former_of(None) is None
    row, fields, _ = saved_row(VAULT, "crm", draft({**BASIC}), before, None, by="bob", now=9)
    assert (row.row, row.created_at) == (before.row, 9)
    assert fields == ("/auth", "/auth/password", "/auth/username", "/endpoint_prefix")
