"""What the lists of integrations and of presets have in common: filters, pages, and what was done before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from sidekey.admin.console.page import Visit
from sidekey.admin.console.words import DONE


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
