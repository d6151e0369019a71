"""What pages call things: how an integration stands, by word and by shape; what was done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

from sidekey.credentials.registry import KINDS
from sidekey.runtime.snapshot import PRESET_STATES
from sidekey.runtime.standing import STATES as STATES_OF_ALL
from sidekey.runtime.standing import State

Mood = Literal["good", "warning", "bad", "quiet"]
"""How much attention a state wants; each has a shape of its own, since colour alone tells some people nothing."""


class Standing(NamedTuple):
    """How an integration stands."""

    mood: Mood
    word: str
    reason: str


_STATES: Final[Mapping[State, tuple[Mood, str]]] = {
    "ok": ("good", "OK"),
    "expiring": ("warning", "Expires soon"),
    "failing": ("bad", "Failing"),
    "not_fetched": ("bad", "Not fetched"),
    "secret_missing": ("bad", "Secret missing"),
    "expired": ("bad", "Expired"),
    "hidden": ("warning", "Hidden"),
    "invalid": ("bad", "Invalid"),
    "sealed": ("bad", "Sealed"),
    "altered": ("bad", "Altered"),
}

STATES: Final = {state: _STATES[state][1] for state in STATES_OF_ALL}
"""The states to filter by, with their words."""

DONE: Final[Mapping[str, str]] = {
    "saved": "Saved, and in use.",
    "unserved": "Saved. It is not in use: see why.",
    "tested": "Tested: see the result.",
    "tried": "Saved, and in use. It was tested: see the result.",
    "untested": "Saved, and in use. It was not tested: it needs a test request, and at most one test a second is sent.",
    "deleted": "Deleted, with its secrets.",
    "revoked": "Revoked: whoever has the token is out.",
    "changed": "Saved, and in use.",
    "removed": "Deleted: its token lets nobody in any more.",
    "released": "Served again.",
    "unmade": "Deleted: whoever sends by it is refused.",
}
"""What a page says after a change, by the word that its address has."""


def title_of(kind: str | None) -> str:
    """What a kind is called; one that this version does not know, as it is written."""
    found = KINDS.get(kind or "")
    return kind or "" if found is None else found.title


def standing_of(item: Mapping[str, Any], now: datetime) -> Standing:
    """How an integration of the API's stands, in words for people."""
    state: State = item["status"]
    mood, word = _STATES[state]
    if state == "expiring":
        word = f"Expires {_within(datetime.fromisoformat(item['expires_at']) - now)}"
    elif state == "failing":
        since = datetime.fromisoformat(item["failing_since"])
        word = f"Failing since {since:%H:%M}" if since.date() == now.date() else f"Failing since {since:%d %b, %H:%M}"
        word = f"{word} UTC"
    return Standing(mood, word, item["reason"] or "")


def _within(left: timedelta) -> str:
    if left.days < 1:
        return "within a day"
    return "in 1 day" if left.days == 1 else f"in {left.days} days"


def line_of(counts: Sequence[int], most: int, width: int = 94, height: int = 22) -> str:
    """Where a small line of counts goes, as the points of an SVG; `most` is what reaches its top."""
    step = width / max(1, len(counts) - 1)
    points = (
        f"{number * step:.0f},{height - 1 - count * (height - 2) / max(1, most):.0f}"
        for number, count in enumerate(counts)
    )
    return " ".join(points)


PRESET_WORDS: Final = {state: _STATES[state][1] for state in PRESET_STATES}
"""The states of presets to filter by, with their words."""


def preset_standing(item: Mapping[str, Any]) -> Standing:
    """How a preset of the API's stands."""
    mood, word = _STATES[item["status"]]
    return Standing(mood, word, str(item["reason"] or ""))
