"""admin/console/words.py: how an integration stands, and what people are told."""

from __future__ import annotations

from typing import Any

import pytest

from sidekey.admin.api.problems import ApiProblem, ItemError, invalid
from sidekey.admin.console.words import STATES, for_people, line_of, overtaken, standing_of, title_of
from sidekey.observe.traffic import Seen
from sidekey.runtime.snapshot import STORED_STATES

FAILING = Seen((0,) * 48, (0,) * 48, 0, 1_800_000_000, ())


def item(status: str = "ok", *, usable: bool = True) -> dict[str, Any]:
    return {"status": status, "usable": usable, "reason": None if status == "ok" else "why"}


def test_every_state_has_a_word_and_a_mood() -> None:
    assert list(STATES) == list(STORED_STATES)
    assert [standing_of(item(state)).word for state in STORED_STATES] == list(STATES.values())
    assert standing_of(item("hidden")) == ("warning", "Hidden", "why")


@pytest.mark.parametrize(
    ("given", "seen", "word"),
    [
        (item(), None, "OK"),
        (item(usable=False), None, "Secret missing"),
        (item(), FAILING, "Failing since 08:00 UTC"),
        (item("invalid"), FAILING, "Invalid"),
        (item(usable=False), FAILING, "Secret missing"),
    ],
)
def test_the_worst_is_told(given: dict[str, Any], seen: Seen | None, word: str) -> None:
    assert standing_of(given, seen).word == word


def test_a_kind_is_told_by_its_title() -> None:
    assert [title_of(kind) for kind in ("oauth2", "of-later", None)] == ["OAuth 2.0", "of-later", ""]


def test_secrets_that_must_be_entered_again_are_told_in_words() -> None:
    problem = for_people(ApiProblem("reenter", "x", errors=[ItemError("/auth/password", "must be {value: ...}")]))
    assert "{value" not in problem.detail + problem.errors[0].detail
    assert problem.errors[0].pointer == "/auth/password"
    other = ApiProblem("changed", "x")
    assert for_people(other) is other


def test_errors_are_where_a_person_sees_them() -> None:
    """A form has no `errors`."""
    problem = for_people(invalid([ItemError("/a", "must be")]))
    assert (problem.detail, problem.errors) == ("one value is not valid: see what is marked", (("/a", "must be"),))


def test_whoever_was_faster_is_named_with_what_they_changed() -> None:
    activity = [
        {"who": "ann", "outcome": "ok", "fields": ["/auth/password", "/description"]},
        {"who": "eve", "outcome": "forbidden", "fields": []},
        {"who": "bob", "outcome": "ok", "fields": [""]},
        {"who": "old", "outcome": "ok", "fields": ["/tags"]},
    ]
    said = overtaken(activity, 4, 2, lambda where: where or "all")
    assert "ann changed /auth/password, /description; bob changed all." in said
    assert "old" not in said


def test_a_line_of_counts_stays_in_its_picture() -> None:
    assert line_of((0, 10, 5), 10, width=10, height=12) == "0,11 5,1 10,6"
    assert line_of((0,), 0) == "0,21"
