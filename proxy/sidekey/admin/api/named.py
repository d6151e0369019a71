"""What callers and operators' tokens have in common: names, and pages by them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sidekey.admin.api.problems import ApiProblem, ItemError, invalid
from sidekey.core.routing import valid_id
from sidekey.settings.values import check_name
from sidekey.store.integrity import Line
from sidekey.store.state import State

PAGE: Final = 50


def name_in(document: Mapping[str, Any]) -> str:
    """The name of what is to be made. Raises ApiProblem."""
    name = document.get("name")
    try:
        return check_name(name if isinstance(name, str) else "")
    except ValueError as error:
        raise invalid([ItemError("/name", str(error))]) from None


def altered_in(state: State, kind: str) -> dict[str, Line]:
    """What is left of rows of a kind that were changed by other means: enough to delete them, by name."""
    if all(each != kind for each, _ in state.altered):
        return {}
    lines = (held.line for held in state.rows.values() if not held.intact)
    return {line.id: line for line in lines if line.kind == kind and valid_id(line.id)}


def is_altered() -> ApiProblem:
    """The 409 of what only can be deleted."""
    return ApiProblem("read_only", "its row was changed by other means than Sidekey's: delete it, and make it again")


def page_of(items: Mapping[str, dict[str, Any]], after: str) -> dict[str, Any]:
    """A page of items by name; `after` is the last of the page before."""
    names = [name for name in sorted(items) if name > after]
    rest = len(names) > PAGE
    return {"items": [items[name] for name in names[:PAGE]], "next": names[PAGE - 1] if rest else None}
