"""Shared by pages: lists with their filters, and the version that a form was made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from sidekey.admin.console.page import Visit
from sidekey.admin.console.words import DONE


def version_of(visit: Visit) -> int:
    """The version that a form was made of; 0, which none has, where it says none."""
    version = visit.form.get("version", "")
    return int(version) if version.isascii() and version.isdigit() and len(version) < 16 else 0


async def listed(visit: Visit, operation: str, path: str, filters: Sequence[str]) -> dict[str, Any]:
    """The values of a list's page: its `items` are as the API gives them. The list is at `path`."""
    wanted = {name: visit.query[name] for name in (*filters, "after") if visit.query.get(name)}
    found = (await visit.backend.ask(operation, query=wanted)).value

    def page(after: str) -> str:
        return f"{path}?{urlencode({**wanted, 'after': after})}"

    return {
        "items": found["items"],
        "wanted": {name: wanted.get(name, "") for name in filters},
        "filtered": any(name in wanted for name in filters),
        "following": page(found["next"]) if found["next"] else "",
        "first": page("") if "after" in wanted else "",
        "done": DONE.get(visit.query.get("done", ""), ""),
        "may_edit": visit.may("editor"),
    }
