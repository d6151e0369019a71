"""admin/console/form/secret_rows.py: secrets of a list, each in its place."""

from __future__ import annotations

from typing import Any

import pytest

from sidekey.admin.console.form.secret_rows import read_secrets, shown_secrets

WHERE = "/auth/secret"
ALONE = {"set": True, "updated_by": "ann"}
ONE, TWO = ({"set": True, "row": row, "updated_by": "ann"} for row in ("r_1", "r_2"))


def sent(former: Any, *new: tuple[str, str], **parts: str) -> dict[str, str]:
    """What a browser sends of what is stored, and of new secrets with their places; `parts` are sent instead."""
    found: dict[str, str] = {}
    rows = shown_secrets(former, WHERE)
    for each in rows:
        base = f"{WHERE}#{each.number}"
        found |= {f"{base}#name": each.name, f"{base}#was": each.was, f"{base}#value": "", f"{base}#value#do": "keep"}
        found |= {f"{base}#row": each.row} if each.row else {}
    for number, (place, value) in enumerate(new, len(rows)):
        found |= {f"{WHERE}#{number}#name": place, f"{WHERE}#{number}#value": value}
    return found | {
        f"{WHERE}#{part[1:].replace('_', '#', 1)}".replace("_do", "#do"): text for part, text in parts.items()
    }


@pytest.mark.parametrize("former", [None, ALONE, ONE, [ONE], [ONE, TWO], [ALONE, TWO], []])
def test_what_is_shown_and_sent_back_is_what_is_stored(former: Any) -> None:
    """A list of one stays a list, one that is alone stays alone."""
    found = read_secrets(WHERE, sent(former, ("", "")), former)
    assert found == (former or None)


def test_secrets_stand_where_they_are_put() -> None:
    """Those without a place behind all others."""
    former = [ONE, TWO]
    assert read_secrets(WHERE, sent(former, ("0", "new")), former) == [{"value": "new"}, ONE, TWO]
    assert read_secrets(WHERE, sent(former, ("", "new")), former) == [ONE, TWO, {"value": "new"}]
    assert read_secrets(WHERE, sent(former, n0_name="5"), former) == [TWO, ONE]
    assert read_secrets(WHERE, sent(former, n0_value_do="remove"), former) == [TWO]
    assert read_secrets(WHERE, sent(ALONE, ("0", "new")), ALONE) == [{"value": "new"}, ALONE]
    assert read_secrets(WHERE, sent(ALONE, n0_value_do="remove"), ALONE) is None
    replaced = sent(former, n0_value_do="replace", n0_value="new")
    assert read_secrets(WHERE, replaced, former) == [{"value": "new"}, TWO]
    assert read_secrets(WHERE, sent(former, n0_value_do="replace"), former) == [{"value": ""}, TWO]


def test_a_secret_is_found_by_its_row_although_others_were_moved_meanwhile() -> None:
    """Another operator has changed the list since the page was made; what is gone is not kept."""
    made = sent([ONE, TWO])
    assert read_secrets(WHERE, made, [TWO, ONE]) == [ONE, TWO]
    assert read_secrets(WHERE, made, [TWO]) == [TWO]
    assert read_secrets(WHERE, sent([ALONE, TWO]), [ONE, TWO]) == [TWO]


def test_the_rows_of_what_was_typed_are_where_the_list_has_them() -> None:
    """Without what was typed for them."""
    found = read_secrets(WHERE, sent([ONE, TWO], ("0", "new")), [ONE, TWO])
    assert [(each.number, each.pointer) for each in found.rows] == [  # type: ignore[union-attr]
        (2, f"{WHERE}/0"),
        (0, f"{WHERE}/1"),
        (1, f"{WHERE}/2"),
    ]
    assert "new" not in repr(found.rows)  # type: ignore[union-attr]
    alone = read_secrets(WHERE, sent(None, ("", "new")), None)
    assert (alone, [each.pointer for each in alone.rows]) == ({"value": "new"}, [WHERE])  # type: ignore[union-attr]
