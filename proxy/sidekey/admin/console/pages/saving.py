"""What comes of a form: it was saved, and tested where that was asked for; or messages go beside its fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sidekey.admin.api.problems import ApiProblem, ItemError
from sidekey.admin.console.form.entries import Entries, without_field
from sidekey.admin.console.form.forms import Form
from sidekey.admin.console.form.preview import Preview, preview_of, worded
from sidekey.admin.console.page import Checked, Redirect, Refused, View, Visit
from sidekey.admin.console.words import for_people


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
    problem = for_people(problem)
    rest = without_field(entries.form, problem.errors)
    if visit.by_script:
        errors = worded(entries.form, problem.errors)
        places = entries.placed(each.pointer for each in errors)
        said = [ItemError(where, each.detail) for where, each in zip(places, errors, strict=True)]
        return Refused(ApiProblem(problem.code, problem.detail, errors=said), rest, entries.version)
    return View(view.template, {**view.values, "entries": entries, "problem": problem, "rest": rest})


async def check(
    visit: Visit, form: Form, document: Mapping[str, Any], wrong: Sequence[ItemError], name: str | None
) -> Preview:
    """What saving a form would do beside what is `wrong` with it; `name` is of its integration, None: a new one."""
    given = await visit.backend.ask("previewDraft", body={"id": "", **document, **({"id": name} if name else {})})
    return await visit.service.validate(preview_of, form, given.value, wrong, name is None)


def checked(visit: Visit, preview: Preview, entries: Entries, view: View) -> View | Checked:
    """Show what saving would do: in the page that is there, or in the page made again, without secrets."""
    if visit.by_script:
        return Checked(replace(preview, again=tuple(entries.placed(preview.again))))
    return View(view.template, {**view.values, "entries": entries, "rest": preview.rest})


def wants_check(visit: Visit) -> bool:
    """Whether a form only asks what saving would do."""
    return visit.form.get("then") == "check"


def version_of(visit: Visit) -> int:
    """The version that a form was made of; 0, which none has, where it says none."""
    version = visit.form.get("version", "")
    return int(version) if version.isascii() and version.isdigit() and len(version) < 16 else 0
