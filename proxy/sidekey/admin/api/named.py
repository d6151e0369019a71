"""What integrations, presets, callers and tokens have in common: names, where they come from, and pages of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from sidekey.admin.api.problems import ApiProblem, ItemError
from sidekey.core.routing import valid_id
from sidekey.runtime.snapshot import file_wins
from sidekey.settings.values import NAME_PATTERN, check_name
from sidekey.store.integrity import Line
from sidekey.store.state import State

PAGE: Final = 50

ALTERED: Final = "something other than Sidekey changed its row: delete it, and create it again"
"""Problem of a caller or token whose MAC does not verify."""

AFTER: Final[Mapping[str, Any]] = {
    "type": "string",
    "pattern": f"^{NAME_PATTERN}:(file|store)$",
    "description": "`next` of the page before.",
}


class Key(NamedTuple):
    """What a list is sorted by: a file and the store may have the same name, and then it has both."""

    name: str
    source: str

    @classmethod
    def parse(cls, after: str) -> Key:
        """Where a page ended; empty: nowhere yet."""
        return cls(*after.partition(":")[::2])

    def __str__(self) -> str:
        return f"{self.name}:{self.source}"


def keys(files: Iterable[str], stored: Iterable[str]) -> list[Key]:
    """The keys of what files and the store have."""
    return [*(Key(name, "file") for name in files), *(Key(name, "store") for name in stored)]


def page_of(found: Iterable[Key], after: str, make: Callable[[Key], dict[str, Any] | None]) -> dict[str, Any]:
    """A page of what `make` makes of keys: None where it is not wanted. `after` is `next` of the page before."""
    begin = Key.parse(after)
    items: list[dict[str, Any]] = []
    last = begin
    for key in sorted(found):
        if key > begin and (item := make(key)) is not None:
            if len(items) == PAGE:
                return {"items": items, "next": str(last)}
            items.append(item)
            last = key
    return {"items": items, "next": None}


def contains(q: str, texts: Iterable[str]) -> bool:
    """Whether one of the texts contains what is searched for, in any case."""
    return q.casefold() in "\n".join(texts).casefold()


def name_in(document: Mapping[str, Any], key: str) -> tuple[str, list[ItemError]]:
    """The name of what is to be made; empty, with why, where it is none."""
    if key not in document:
        return "", [ItemError(f"/{key}", "this key is missing")]
    name = document[key]
    try:
        return check_name(name if isinstance(name, str) else ""), []
    except ValueError as error:
        return "", [ItemError(f"/{key}", str(error))]


def other_name(document: Mapping[str, Any], key: str, name: str) -> list[ItemError]:
    """What is wrong where what is to be changed is sent with another name."""
    if document.get(key, name) == name:
        return []
    return [ItemError(f"/{key}", "must be the one in the path: what is there keeps it")]


def altered_in(state: State, kind: str) -> dict[str, Line]:
    """What is left of rows of a kind that were changed by other means: enough to delete them, by name."""
    if all(each != kind for each, _ in state.altered):
        return {}
    lines = (held.line for held in state.rows.values() if not held.verified)
    return {line.id: line for line in lines if line.kind == kind and valid_id(line.id)}


def is_altered() -> ApiProblem:
    """Return the 409 of what can only be deleted."""
    return ApiProblem("read_only", ALTERED)


def about(*, altered: bool, file: bool, kind: str) -> dict[str, Any]:
    """Return status and problem of a stored caller or token; `file`: a config file has the same name."""
    problem = ALTERED if altered else file_wins(f"{kind} name") if file else None
    return {"status": "unusable" if problem else "ok", "problem": problem}
