"""admin/console/words.py: how an integration stands, and what people are told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from sidekey.admin.console.words import (
    PRESET_WORDS,
    STATUSES,
    line_of,
    preset_standing,
    standing_of,
    title_of,
)
from sidekey.runtime import standing

NOW = datetime(2027, 1, 15, 8, 0, tzinfo=UTC)


def item(status: str = "ok", **more: str) -> dict[str, Any]:
    return {"status": status, "problem": None if status == "ok" else "why", "expires_at": None, **more}


def test_every_state_has_a_word_and_a_mood() -> None:
    assert list(STATUSES) == list(standing.STATUSES)
    same = [state for state in STATUSES if state not in ("expiring", "failing")]
    assert [standing_of(item(state), NOW).word for state in same] == [STATUSES[state] for state in same]
    assert standing_of(item("unusable"), NOW) == ("bad", "Unusable", "why")
    assert standing_of(item(), NOW) == ("good", "OK", "")


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (item("expiring", expires_at="2027-01-18T09:00:00Z"), "Expires in 3 days"),
        (item("expiring", expires_at="2027-01-16T08:00:00Z"), "Expires in 1 day"),
        (item("expiring", expires_at="2027-01-15T20:00:00Z"), "Expires within a day"),
        (item("failing", failing_since="2027-01-15T07:10:00Z"), "Failing since 07:10 UTC"),
        (item("failing", failing_since="2027-01-14T23:10:00Z"), "Failing since 14 Jan, 23:10 UTC"),
    ],
)
def test_times_are_told_as_people_say_them(given: dict[str, Any], word: str) -> None:
    assert standing_of(given, NOW).word == word


def test_a_kind_is_told_by_its_title() -> None:
    assert [title_of(kind) for kind in ("oauth2", "of-later", None)] == ["OAuth 2.0", "of-later", ""]


def test_a_line_of_counts_stays_in_its_picture() -> None:
    assert line_of((0, 10, 5), 10, width=10, height=12) == "0,11 5,1 10,6"
    assert line_of((0,), 0) == "0,21"


def test_every_state_of_a_preset_has_a_word() -> None:
    assert list(PRESET_WORDS) == ["ok", "unusable"]
    assert [preset_standing(item(state)).word for state in PRESET_WORDS] == list(PRESET_WORDS.values())
    assert preset_standing(item("unusable")) == ("bad", "Unusable", "why")
