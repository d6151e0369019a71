"""What comes of a form: it was saved, and tested where that was asked for; or messages go beside its fields."""

from __future__ import annotations

from sidekey.admin.api.problems import ApiProblem
from sidekey.admin.console.form.entries import Entries, without_field
from sidekey.admin.console.page import Redirect, Refused, View, Visit


async def saved(visit: Visit, name: str) -> Redirect:
    """Go to what was saved, once it was tested where that was asked for: the page shows the last test."""
    if visit.form.get("then") != "test":
        return Redirect(f"/integrations/{name}?done=saved")
    try:
        await visit.backend.ask("testIntegration", {"id": name})
    except ApiProblem as problem:
        if problem.code not in {"invalid", "too_many", "not_found"}:
            raise
        return Redirect(f"/integrations/{name}?done=untested")
    return Redirect(f"/integrations/{name}?done=tried")


def refused(visit: Visit, problem: ApiProblem, entries: Entries, view: View) -> View | Refused:
    """What was typed stays in the page where a script has sent it; else the page is shown again, without secrets."""
    rest = without_field(entries.form, problem.errors)
    if visit.by_script:
        return Refused(problem, rest, entries.version)
    return View(view.template, {**view.values, "entries": entries, "problem": problem, "rest": rest})


def version_of(visit: Visit) -> int:
    """The version that a form was made of; 0, which none has, where it says none."""
    version = visit.form.get("version", "")
    return int(version) if version.isascii() and version.isdigit() and len(version) < 16 else 0
