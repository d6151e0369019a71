"""What callers and operators' tokens have in common: names, and pages by them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sidekey.admin.api.problems import ItemError, invalid
from sidekey.settings.values import check_name

PAGE: Final = 50


def name_in(document: Mapping[str, Any]) -> str:
    """The name of what is to be made. Raises ApiProblem."""
    name = document.get("name")
    try:
        return check_name(name if isinstance(name, str) else "")
    except ValueError as error:
        raise invalid([ItemError("/name", str(error))]) from None


def page_of(items: Mapping[str, dict[str, Any]], after: str) -> dict[str, Any]:
    """A page of items by name; `after` is the last of the page before."""
    names = [name for name in sorted(items) if name > after]
    rest = len(names) > PAGE
    return {"items": [items[name] for name in names[:PAGE]], "next": names[PAGE - 1] if rest else None}
