"""admin/api/named.py: names, and pages by them."""

from __future__ import annotations

import pytest

from sidekey.admin.api.named import PAGE, altered_in, name_in, page_of
from sidekey.admin.api.problems import ApiProblem
from sidekey.store.integrity import Held, Line
from sidekey.store.state import State


def test_a_page_ends_with_the_name_that_the_next_begins_after() -> None:
    """None where it is the last."""
    items = {f"n{number:03}": {"number": number} for number in range(PAGE + 1)}
    first = page_of(items, "")
    assert (len(first["items"]), first["next"]) == (PAGE, "n049")
    assert page_of(items, first["next"]) == {"items": [{"number": PAGE}], "next": None}
    assert page_of({}, "") == {"items": [], "next": None}


@pytest.mark.parametrize("name", ["", "Ann", "a b", None, 7, "unknown", "x" * 64])
def test_a_name_is_what_a_path_can_hold(name: object) -> None:
    """The error is at /name."""
    assert name_in({"name": "ann-1"}) == "ann-1"
    with pytest.raises(ApiProblem) as refused:
        name_in({"name": name})
    assert [each.pointer for each in refused.value.errors] == ["/name"]


def test_an_altered_row_is_known_by_a_name_that_is_one() -> None:
    """Whoever wrote to the database may have written anything; a row of another kind is none of these."""
    lines = [Line("caller", "r1", "billing", 3, "k1", ""), Line("caller", "r2", "Not a name", 1, "k1", "")]
    lines.append(Line("token", "r3", "ann", 1, "k1", ""))
    rows = {line.row: Held(line, "", None, intact=False) for line in lines}
    state = State(rows=rows, altered=frozenset((line.kind, line.id) for line in lines))
    assert altered_in(state, "caller") == {"billing": lines[0]}
    assert altered_in(State(rows=rows), "caller") == {}
