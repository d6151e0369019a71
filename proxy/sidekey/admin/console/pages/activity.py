"""Activity, for admins: what operators did, the newest first."""

from __future__ import annotations

from typing import Final

from sidekey.admin.console.page import Page, View, Visit


async def browse(visit: Visit) -> View:
    """A page of it."""
    before = visit.query.get("before", "")
    found = (await visit.backend.ask("listAudit", query={"before": before} if before else {})).value
    return View("activity.html", {"items": found["items"], "following": found["next"], "first": bool(before)})


PAGES: Final = (Page("GET", "/activity", browse, "admin"),)
