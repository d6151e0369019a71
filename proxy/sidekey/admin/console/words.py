"""What pages call things: how an integration stands, by word and by shape; what was done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

from sidekey.credentials.registry import KINDS
from sidekey.runtime.snapshot import STORED_STATES

Mood = Literal["good", "warning", "bad", "quiet"]
"""How much attention a state wants; each has a shape of its own, since colour alone tells some people nothing."""


class Standing(NamedTuple):
    """How an integration stands."""

    mood: Mood
    word: str
    reason: str


_STATES: Final[Mapping[str, tuple[Mood, str]]] = {
    "ok": ("good", "OK"),
    "hidden": ("warning", "Hidden"),
    "invalid": ("bad", "Invalid"),
    "altered": ("bad", "Altered"),
    "sealed": ("bad", "Sealed"),
}

STATES: Final = {state: _STATES[state][1] for state in STORED_STATES}
"""The states to filter by, with their words."""

DONE: Final[Mapping[str, str]] = {
    "saved": "Saved, and in use.",
    "untested": "Saved, and in use. It was not tested: it needs a test request, and at most one test a second is sent.",
    "deleted": "Deleted, with its secrets.",
    "released": "Served again.",
}
"""What a page says after a change, by the word that its address has."""


def title_of(kind: str | None) -> str:
    """What a kind is called; one that this version does not know, as it is written."""
    found = KINDS.get(kind or "")
    return kind or "" if found is None else found.title


def standing_of(item: Mapping[str, Any]) -> Standing:
    """How an integration of the API's stands."""
    status = str(item["status"])
    reason = str(item["reason"] or "")
    if status == "ok" and not item["usable"]:
        return Standing("bad", "Secret missing", reason or "what it needs cannot be read")
    mood, word = _STATES[status]
    return Standing(mood, word, reason)
