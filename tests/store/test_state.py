"""States: rows by kind and ID, and which of them are older than before."""

from __future__ import annotations

from sidekey.store.integrity import Held, Line
from sidekey.store.records import CallerRow, IntegrationRow, PresetRow, Record, TokenRow
from sidekey.store.state import Mark, Name, State

MARK = Mark(1, 7, "7")


def held(name: str, version: int, record: Record | None = None, *, verified: bool = True) -> Held:
    return Held(Line("caller", "1", name, version, "", "", 0), record, verified)


def rows(*found: Held) -> dict[Name, Held]:
    return {each.line.name: each for each in found}


def test_rows_are_found_by_kind_and_id() -> None:
    records = [
        IntegrationRow(row="1", id="one", version=1),
        IntegrationRow(row="2", id="two", version=1, verified=False),
        CallerRow(row="3", id="one", version=1, token_sha256=""),
        TokenRow(row="4", id="one", version=1, role="admin", token_sha256=""),
        PresetRow(row="6", id="one", version=1),
    ]
    found = {
        (each.kind, each.id): Held(Line(each.kind, each.row, each.id, 1, "", "", 0), each, each.id != "two")
        for each in records
    }
    found |= rows(held("gone", 1, verified=False), held("deleted", 1))
    state = State().following(MARK, found)
    assert (state.integrations, state.presets, state.callers, state.tokens) == (
        {"one": records[0], "two": records[1]},
        {"one": records[4]},
        {"one": records[2]},
        {"one": records[3]},
    )
    assert state.altered == {("integration", "two"), ("caller", "gone")}
    assert (state.revision, state.rolled_back) == (7, {})


def test_nothing_is_known_before_the_first_reading() -> None:
    assert (State().revision, State().mark, dict(State().integrations)) == (0, None, {})


def test_rows_that_are_older_than_before_or_gone_are_remembered() -> None:
    state = State().following(MARK, rows(held("a", 3), held("b", 2), held("c", 1), held("d", 5)))
    state = state.following(MARK, rows(held("a", 2), held("c", 2), held("d", 1, verified=False)))
    assert state.rolled_back == {("caller", "a"): (3, 2), ("caller", "b"): (2, 0)}
    state = state.following(MARK, rows(held("a", 4), held("b", 3), held("c", 2), held("d", 5)))
    assert set(state.rolled_back) == {("caller", "a"), ("caller", "b")}
