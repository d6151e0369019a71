"""States: rows by kind and ID, and why a database is not believed."""

from __future__ import annotations

from sidekey.store.integrity import Head, Held, Line
from sidekey.store.records import CallerRow, IntegrationRow, PresetRow, TokenRow
from sidekey.store.state import State

HEAD = Head(1, 7, "d", "k1", "m")


def test_rows_are_found_by_kind_and_id() -> None:
    records = [
        IntegrationRow(row="1", id="one", version=1),
        IntegrationRow(row="2", id="two", version=1, state="altered"),
        CallerRow(row="3", id="one", version=1, token_sha256=""),
        TokenRow(row="4", id="one", version=1, role="admin", token_sha256=""),
        PresetRow(row="6", id="one", version=1),
    ]
    rows = {
        each.row: Held(Line(each.kind, each.row, each.id, 1, "", ""), "", each, each.row != "2") for each in records
    }
    rows["5"] = Held(Line("caller", "5", "gone", 1, "", ""), "", None, False)
    state = State.of(HEAD, rows)
    assert (state.integrations, state.presets, state.callers, state.tokens) == (
        {"one": records[0], "two": records[1]},
        {"one": records[4]},
        {"one": records[2]},
        {"one": records[3]},
    )
    assert state.altered == {("integration", "two"), ("caller", "gone")}
    assert (state.documents("integration"), state.documents("preset")) == (state.integrations, state.presets)
    assert (state.revision, state.rolled_back) == (7, False)


def test_a_state_of_which_nothing_was_verified_is_empty() -> None:
    state = State(problem="no head")
    assert (state.revision, state.rolled_back, dict(state.integrations)) == (0, True, {})
