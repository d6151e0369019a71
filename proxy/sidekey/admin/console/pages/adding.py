"""Adding an integration: what kind, and its form."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sidekey.admin.api.problems import ApiProblem, invalid
from sidekey.admin.console.form.entries import Entries, entries_of, sent_document, wrong_files, wrong_rows
from sidekey.admin.console.form.forms import Form, form_for
from sidekey.admin.console.page import Checked, Page, Redirect, Refused, View, Visit
from sidekey.admin.console.pages.saving import check, checked, refused, saved, wants_check
from sidekey.admin.console.words import title_of
from sidekey.credentials.registry import KINDS
from sidekey.settings import profiles


async def choose(visit: Visit) -> View:
    """Kinds and providers to choose from; or the empty form of one."""
    form = _form(visit.query.get("kind", ""), visit.query.get("provider", ""))
    if form is not None:
        return _view(form, entries_of(form, {}, None))
    return View("choose.html", await visit.service.run(_choices))


def _choices() -> dict[str, Any]:
    """What there is to choose from, each with what one needs at hand."""
    found = [(name, profiles.profile(name)) for name in profiles.names()]
    providers = [
        Choice("provider", name, each.title, title_of(each.kind), _needed(form_for(each.kind, name)))
        for name, each in sorted(found, key=lambda pair: pair[1].title.casefold())
    ]
    kinds = [
        Choice("kind", name, kind.title, (kind.__doc__ or "").partition("\n")[0], _needed(form_for(name)))
        for name, kind in KINDS.items()
    ]
    return {"groups": (("Providers", providers), ("By kind of credential", kinds))}


class Choice(NamedTuple):
    """A kind or a provider. `by` is the parameter of its address, `needed` what its form asks for first."""

    by: str
    name: str
    title: str
    text: str
    needed: str


def _needed(form: Form) -> str:
    """What must be at hand; of a group, what must be in it."""
    found = ([part for part in each.parts if part.required] or [each] for each in form.first)
    return ", ".join(each.label for fields in found for each in fields)


async def add(visit: Visit) -> View | Redirect | Refused | Checked:
    """Save a new one."""
    form = _form(visit.form.get("kind", ""), visit.form.get("provider", ""))
    if form is None:
        raise ApiProblem("malformed", "the form must name a kind, or a provider")
    document = await visit.service.validate(sent_document, form, visit.form, {})
    wrong = (*wrong_files(form, visit.form), *wrong_rows(form, document))
    if wrong or wants_check(visit):
        preview = await check(visit, form, document, wrong, None)
        entries = await visit.service.validate(entries_of, form, document, None, preview.errors, preview)
        if wants_check(visit):
            return checked(visit, preview, entries, _view(form, entries))
        return refused(visit, invalid(preview.errors), entries, _view(form, entries))
    try:
        given = await visit.backend.ask("createIntegration", body=document)
    except ApiProblem as problem:
        entries = await visit.service.validate(entries_of, form, document, None, problem.errors)
        return refused(visit, problem, entries, _view(form, entries))
    return await saved(visit, given.value["id"])


def _form(kind: str, provider: str) -> Form | None:
    if provider in profiles.names():
        return form_for(profiles.profile(provider).kind, provider)
    return form_for(kind) if kind in KINDS and not provider else None


def _view(form: Form, entries: Entries) -> View:
    profile = profiles.profile(form.provider) if form.provider else None
    values = {
        "entries": entries,
        "title": title_of(form.kind) if profile is None else profile.title,
        "profile": profile,
        "problem": None,
        "rest": (),
    }
    return View("add.html", values)


PAGES: Final = (
    Page("GET", "/add", choose, "editor"),
    Page("POST", "/add", add, "editor"),
)
