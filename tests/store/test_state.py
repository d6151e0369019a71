"""States: rows by kind and ID, and which of them are older than before."""

from __future__ import annotations

from sidekey.store.integrity import RowHeader, VerifiedRow
from sidekey.store.records import Record
from sidekey.store.state import Name, State, StateMark

MARK = StateMark(1, 7, "7")


def held(name: str, version: int, record: Record | None = None, *, verified: bool = True) -> VerifiedRow:
    return VerifiedRow(RowHeader("caller", "1", name, version, "", "", 0), record, verified)


def rows(*found: VerifiedRow) -> dict[Name, VerifiedRow]:
    return {each.header.name: each for each in found}


def test_rows_that_are_older_than_before_or_gone_are_remembered() -> None:
    state = State().following(MARK, rows(held("a", 3), held("b", 2), held("c", 1), held("d", 5)))
    state = state.following(MARK, rows(held("a", 2), held("c", 2), held("d", 1, verified=False)))
    assert state.rolled_back == {("caller", "a"): (3, 2), ("caller", "b"): (2, 0)}
    state = state.following(MARK, rows(held("a", 4), held("b", 3), held("c", 2), held("d", 5)))
    assert set(state.rolled_back) == {("caller", "a"), ("caller", "b")}
