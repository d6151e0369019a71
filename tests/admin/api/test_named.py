"""admin/api/named.py: names, and pages by them."""

from __future__ import annotations

import pytest

from sidekey.admin.api.named import PAGE, name_in, page_of
from sidekey.admin.api.problems import ApiProblem


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
