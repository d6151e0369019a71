"""States: rows that are older or gone compared with the previous state."""

from __future__ import annotations

from sidekey.store.integrity import RowHeader, VerifiedRow
from sidekey.store.records import Record
from sidekey.store.state import Name, State, StateMark

MARK = StateMark(1, 7, "7")


def verified_row(name: str, version: int, record: Record | None = None, *, verified: bool = True) -> VerifiedRow:
    return VerifiedRow(RowHeader("caller", "1", name, version, "", "", 0), record, verified)


def rows(*verified_rows: VerifiedRow) -> dict[Name, VerifiedRow]:
    return {row.header.name: row for row in verified_rows}


def test_older_and_removed_rows_are_remembered() -> None:
    state = State().next_state(
        MARK, rows(verified_row("a", 3), verified_row("b", 2), verified_row("c", 1), verified_row("d", 5))
    )
    state = state.next_state(
        MARK, rows(verified_row("a", 2), verified_row("c", 2), verified_row("d", 1, verified=False))
    )
    assert state.rolled_back == {("caller", "a"): (3, 2), ("caller", "b"): (2, 0)}
    state = state.next_state(
        MARK, rows(verified_row("a", 4), verified_row("b", 3), verified_row("c", 2), verified_row("d", 5))
    )
    assert set(state.rolled_back) == {("caller", "a"), ("caller", "b")}
