"""The words of pages: statuses, by word and by shape; what was done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

from sidekey.admin.api.presets import STATUSES as PRESET_STATUSES
from sidekey.credentials.registry import KINDS
from sidekey.runtime.standing import Status

Mood = Literal["good", "warning", "bad", "quiet"]
"""How much attention a status needs; each has its own shape, since some people cannot tell colours apart."""


class Standing(NamedTuple):
    """The status of an integration or a preset, and its problem."""

    mood: Mood
    word: str
    problem: str


_STATUSES: Final[Mapping[Status, tuple[Mood, str]]] = {
    "ok": ("good", "OK"),
    "expiring": ("warning", "Expires soon"),
    "failing": ("bad", "Failing"),
    "unusable": ("bad", "Unusable"),
}

STATUSES: Final = {status: word for status, (_, word) in _STATUSES.items()}
"""The statuses to filter by, with their words."""

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
    "unmade": "Deleted: whoever sends by it is refused.",
}
"""What a page says after a change, by the word that its address has."""


def title_of(kind: str | None) -> str:
    """What a kind is called; one that this version does not know, as it is written."""
    found = KINDS.get(kind or "")
    return kind or "" if found is None else found.title


def standing_of(item: Mapping[str, Any], now: datetime) -> Standing:
    """Return the status of an integration of the API in words."""
    status: Status = item["status"]
    mood, word = _STATUSES[status]
    if status == "expiring":
        word = f"Expires {_within(datetime.fromisoformat(item['expires_at']) - now)}"
    elif status == "failing":
        since = datetime.fromisoformat(item["failing_since"])
        word = f"Failing since {since:%H:%M}" if since.date() == now.date() else f"Failing since {since:%d %b, %H:%M}"
        word = f"{word} UTC"
    return Standing(mood, word, item["problem"] or "")


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


PRESET_WORDS: Final = {status: STATUSES[status] for status in PRESET_STATUSES}
"""The statuses of presets to filter by, with their words."""


def preset_standing(item: Mapping[str, Any]) -> Standing:
    """Return the status of a preset of the API in words."""
    mood, word = _STATUSES[item["status"]]
    return Standing(mood, word, str(item["problem"] or ""))
