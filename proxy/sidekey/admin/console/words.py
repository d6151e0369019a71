"""What pages call things: how an integration stands, by word and by shape; what was done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

from sidekey.admin.api.problems import ApiProblem, ItemError
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


_AGAIN: Final = (
    "You changed where the credential goes. Enter the marked secrets again, or put the address back: a stored secret "
    "only ever goes to the place it was entered for"
)


def for_people(problem: ApiProblem) -> ApiProblem:
    """A problem in the words of a form, where the API's are those of a document."""
    if problem.code == "invalid":
        return ApiProblem("invalid", problem.detail.replace("see errors", "see what is marked"), errors=problem.errors)
    if problem.code != "reenter":
        return problem
    errors = [ItemError(each.pointer, "Enter it again for where it goes now.") for each in problem.errors]
    return ApiProblem("reenter", _AGAIN, errors=errors)


def overtaken(
    activity: Sequence[Mapping[str, Any]], version: int | None, sent: int, name_of: Callable[[str], str]
) -> str:
    """Who has changed what since the version that a form was made of; `activity` is from the newest on.

    `name_of` gives what people call the field at a pointer.
    """
    newer = [each for each in activity if each["outcome"] == "ok"][: max(1, (version or 0) - sent)]
    said = "; ".join(
        f"{each['who']} changed {', '.join(dict.fromkeys(map(name_of, each['fields'])))}" for each in newer
    )
    return (
        f"It was changed after this page was loaded: {said}. Save again to put yours in place of that, or load the "
        "page again to see theirs"
    )


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


_LABELS: Final[Mapping[str, str]] = {
    "id": "ID",
    "url": "URL",
    "content_type": "Content type",
    "headers": "Header",
    "parameters": "Parameter",
    "payload": "Sample payload",
}


def label_of_preset(pointer: str) -> str:
    """What a place in the document of a preset is called."""
    top, _, below = pointer.removeprefix("/").partition("/")
    name = below.replace("~1", "/").replace("~0", "~")
    return f"{_LABELS.get(top, top.capitalize())} {name}".strip()


def overtaken_preset(theirs: Mapping[str, Any], yours: Mapping[str, Any], who: str) -> str:
    """Who has changed a preset since a form was made of it, and in what it differs from what was typed."""
    differing = [label_of_preset(key) for key in sorted({*theirs, *yours}) if theirs.get(key) != yours.get(key)]
    where = f"theirs differs from yours in {', '.join(differing)}" if differing else "theirs says what yours says"
    return (
        f"It was changed by {who} after this page was loaded: {where}. Save again to put yours in place of that, or "
        "load the page again to see theirs"
    )
