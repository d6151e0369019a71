"""Presets: the list, and one of them with what it makes of what callers send, looked at while it is typed, and sent."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sidekey.admin.api.preset_documents import ABOUT
from sidekey.admin.api.problems import ApiProblem, ItemError, invalid
from sidekey.admin.console.calling import Way, ways_to_send
from sidekey.admin.console.form.presets import (
    METHODS,
    Typed,
    entries_of,
    example_of,
    example_payload,
    placed_errors,
    read_document,
    sample_in,
    samples_of,
    typed_of,
)
from sidekey.admin.console.page import Page, Redirect, Refused, View, Visit
from sidekey.admin.console.pages.browsing import listed
from sidekey.admin.console.pages.saving import version_of
from sidekey.admin.console.words import DONE, PRESET_WORDS, label_of_preset, overtaken_preset, preset_standing
from sidekey.core.parameters import JSON
from sidekey.core.preset_parameters import TYPES

_NEW: Final[Mapping[str, Any]] = {}
_IN_A_FILE: Final = """\
presets:
  welcome:
    integration: crm
    url: https://api.example.com/v1/users/{{user}}/mails
    content_type: application/json
    parameters: {user: {type: text}}
    body: {text: "Hello {{user}}"}"""


async def browse(visit: Visit) -> View:
    """A page of the list."""
    values = await listed(visit, "listPresets", "/presets", ("q", "tag", "integration", "status"))
    items = [{**each, "standing": preset_standing(each)} for each in values["items"]]
    return View("presets.html", {**values, "items": items, "states": PRESET_WORDS, "example": _IN_A_FILE})


# What a preset makes of samples.


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What came of samples: the request, or what is wrong, each with what it is about. `sent`: it was sent as well."""

    shown: Mapping[str, Any] | None = None
    wrong: tuple[tuple[str, str], ...] = ()
    sent: Mapping[str, Any] | None = None
    refused: str = ""

    @property
    def said(self) -> str:
        """The same in a sentence, for who does not see it."""
        if self.sent is not None:
            return f"Sent: {self.sent['status'] or self.sent['code'] or 'no response'}"
        if self.refused or self.wrong:
            return (
                self.refused
                or f"No preview: {len(self.wrong)} {'thing is' if len(self.wrong) == 1 else 'things are'} wrong"
            )
        request = None if self.shown is None else self.shown["request"]
        return "No request would be made" if request is None else f"Preview: {request['method']} {request['url']}"


_NONE: Final = Trial()


class _Samples(NamedTuple):
    """What a caller would send, as the API takes it, and what is wrong with what was typed for it."""

    body: Mapping[str, Any]
    errors: Sequence[ItemError]


def _samples(document: Mapping[str, Any], typed: Typed) -> _Samples:
    if document.get("body") is None:
        content_type = document.get("content_type")
        payload = typed.get("payload") or example_payload(content_type if isinstance(content_type, str) else "")
        return _Samples({"payload": payload}, ())
    parameters = document.get("parameters")
    declared = parameters if isinstance(parameters, Mapping) else {}
    values, errors = samples_of(declared, {name: sample_in(typed, name) for name in declared})
    wrong = [ItemError(f"/sample{each.pointer}", each.detail) for each in errors]
    return _Samples({"parameters": values}, wrong)


async def _tried(visit: Visit, former: Mapping[str, Any], *, send: bool) -> Trial:
    """What comes of the form that was sent: of a draft where the preset can be edited in it, else of what is served."""
    local: list[ItemError] = []
    document: Mapping[str, Any] = former
    is_draft = "/url" in visit.form
    typed: Typed = visit.form
    if is_draft:
        read = await visit.service.validate(read_document, typed, former)
        document, local = read.document, list(read.errors)
    else:
        # Its rows are known, and only samples are in the form.
        typed = {**typed_of(former), **typed}
    samples = await visit.service.validate(_samples, document, typed)
    local += samples.errors
    body = samples.body
    if is_draft:
        # Which ID it is to have matters once it is saved.
        draft = {key: value for key, value in document.items() if key != "id" or value}
        body = {"preset": draft, **body}
    word = "test" if send and not local else "preview"
    name = f"{word}Preset{'Draft' if is_draft else ''}"
    try:
        given = (await visit.backend.ask(name, {} if is_draft else visit.names, body=body)).value
    except ApiProblem as problem:
        if problem.code != "invalid":
            return Trial(refused=problem.detail)
        return Trial(wrong=_listed(typed, [*local, *_others(problem.errors, local)]))
    if local:
        return Trial(wrong=_listed(typed, local))
    return Trial(sent=given) if send else Trial(shown=given)


def _others(errors: Sequence[ItemError], known: Sequence[ItemError]) -> list[ItemError]:
    """What the API says beside what is known already; a draft's document is a part of what it was sent."""
    found = [_own(each) for each in errors]
    return [each for each in found if not any(_is_at(each.pointer, one.pointer) for one in known)]


def _own(error: ItemError) -> ItemError:
    if error.pointer.startswith("/preset/"):
        return ItemError(error.pointer.removeprefix("/preset"), error.detail)
    if error.pointer.startswith("/parameters"):
        return ItemError(f"/sample{error.pointer.removeprefix('/parameters')}", error.detail)
    return error


def _is_at(where: str, other: str) -> bool:
    return where == other or where.startswith(f"{other}/")


def _listed(typed: Typed, errors: Sequence[ItemError]) -> tuple[tuple[str, str], ...]:
    return tuple((label_of_preset(each.pointer), each.detail) for each in placed_errors(typed, errors))


async def _first_look(visit: Visit, document: Mapping[str, Any]) -> Trial:
    """What a preset that is served makes of examples."""
    samples = await visit.service.validate(_samples, document, {})
    try:
        return Trial(shown=(await visit.backend.ask("previewPreset", visit.names, body=samples.body)).value)
    except ApiProblem as problem:
        return Trial(wrong=_listed({}, _others(problem.errors, ())), refused="" if problem.errors else problem.detail)


# Which integrations can be chosen.


@dataclass(frozen=True, slots=True)
class Choices:
    """IDs of integrations that a preset may go by; and others, each with why not. `whole`: there are no more."""

    usable: tuple[str, ...]
    others: tuple[tuple[str, str], ...] = ()
    whole: bool = True


async def _choices(visit: Visit) -> Choices:
    given = (await visit.backend.ask("listIntegrations", query={})).value
    if given["next"] is not None:
        return Choices(await _found(visit, ""), whole=False)
    usable = tuple(dict.fromkeys(each["id"] for each in given["items"] if each["usable"]))
    others = {each["id"]: each["reason"] for each in given["items"] if each["id"] not in usable}
    return Choices(usable, tuple(others.items()))


async def _found(visit: Visit, text: str) -> tuple[str, ...]:
    """Those that contain a text, as many as a page has."""
    query = {"usable": "true", **({"q": text} if text else {})}
    given = (await visit.backend.ask("listIntegrations", query=query)).value
    return tuple(dict.fromkeys(each["id"] for each in given["items"]))


async def find(visit: Visit) -> View:
    """Integrations to choose from, for the script that asks while an ID is typed."""
    return View("preset_choices.html", {"usable": await _found(visit, visit.query.get("q", "")[:200])})


# A new one.


async def begin(visit: Visit) -> View:
    """The empty form."""
    typed = {**typed_of(_NEW), "/method": METHODS[0], "/content_type": JSON, "/sends": "parameters"}
    integration = visit.query.get("integration", "")
    return await _adding(visit, {**typed, "/integration": integration})


async def add(visit: Visit) -> View | Redirect | Refused:
    """Save a new one."""
    read = await visit.service.validate(read_document, visit.form, _NEW)
    try:
        if read.errors:
            await _refuse(visit, read.document, read.errors)
        given = await visit.backend.ask("createPreset", body=read.document)
    except ApiProblem as problem:
        if visit.by_script:
            return _for_script(visit, problem, None)
        return await _adding(visit, visit.form, problem=problem)
    return Redirect(f"/presets/{given.value['id']}?done=saved")


async def preview_new(visit: Visit) -> View:
    """What a preset that is being made would send."""
    return await _try_new(visit, send=False)


async def test_new(visit: Visit) -> View:
    """Send it."""
    return await _try_new(visit, send=True)


async def _try_new(visit: Visit, *, send: bool) -> View:
    trial = await _tried(visit, _NEW, send=send)
    return _told(trial) if visit.by_script else await _adding(visit, visit.form, trial=trial)


async def _adding(visit: Visit, typed: Typed, **more: Any) -> View:
    problem = more.get("problem")
    values = {
        "entries": await visit.service.run(entries_of, typed, None, () if problem is None else problem.errors),
        "choices": await _choices(visit),
        "trial": _NONE,
        "problem": None,
        "rest": () if problem is None else _unplaced(problem.errors),
        **_CONSTANT,
        **more,
    }
    return View("preset_add.html", values)


# One that is there.


async def show(visit: Visit) -> View:
    """One of them."""
    return await _shown(visit)


async def save(visit: Visit) -> View | Redirect | Refused:
    """Save it changed."""
    given = await visit.backend.ask("getPreset", visit.names)
    former = _document(given.value)
    read = await visit.service.validate(read_document, visit.form, former)
    try:
        if read.errors:
            await _refuse(visit, read.document, read.errors)
        await visit.backend.ask("replacePreset", visit.names, body=read.document, version=version_of(visit))
    except ApiProblem as error:
        problem, version = error, version_of(visit)
        if problem.code == "changed":
            given = await visit.backend.ask("getPreset", visit.names)
            who = given.value["updated_by"] or "somebody"
            problem = ApiProblem("changed", overtaken_preset(_document(given.value), read.document, who))
            version = given.version or 0
        if visit.by_script:
            return _for_script(visit, problem, version)
        return await _shown(visit, typed=visit.form, problem=problem, version=version)
    return Redirect(f"/presets/{visit.names['id']}?done=saved")


async def preview(visit: Visit) -> View:
    """What it makes of samples, as it is served or as it was typed."""
    return await _try(visit, send=False)


async def test(visit: Visit) -> View:
    """Send that."""
    return await _try(visit, send=True)


async def _try(visit: Visit, *, send: bool) -> View:
    given = await visit.backend.ask("getPreset", visit.names)
    trial = await _tried(visit, _document(given.value), send=send)
    if visit.by_script:
        return _told(trial)
    return await _shown(visit, typed=visit.form, trial=trial, version=version_of(visit))


async def delete(visit: Visit) -> Redirect:
    """Delete it."""
    await visit.backend.ask("deletePreset", visit.names, version=version_of(visit))
    return Redirect("/presets?done=unmade")


async def release(visit: Visit) -> Redirect:
    """Serve it again."""
    await visit.backend.ask("releasePreset", visit.names, version=version_of(visit))
    return Redirect(f"/presets/{visit.names['id']}?done=released")


def _document(shown: Mapping[str, Any]) -> dict[str, Any]:
    """What is a preset's document of what the API shows."""
    return {key: value for key, value in shown.items() if key not in ABOUT}


async def _shown(
    visit: Visit,
    *,
    typed: Typed | None = None,
    trial: Trial | None = None,
    problem: ApiProblem | None = None,
    version: int | None = None,
) -> View:
    given = await visit.backend.ask("getPreset", visit.names)
    found = {"description": "", "tags": [], "integration": None, "method": "POST", "url": None, **given.value}
    document = _document(given.value)
    may_edit = visit.may("editor") and found["source"] == "store" and found["status"] != "altered"
    served = visit.service.snapshot.presets.get(found["id"])
    is_served = served is not None and served.stored == (found["source"] == "store")
    if trial is None:
        trial = await _first_look(visit, document) if is_served and found["status"] == "ok" else _NONE
    errors = () if problem is None else problem.errors
    shown = typed_of(document)
    if typed is not None:
        kept = typed if may_edit else {key: text for key, text in typed.items() if key.endswith("#sample")}
        shown = {**typed_of(_NEW), **kept} if "/url" in kept else {**shown, **kept}
    entries = await visit.service.run(entries_of, shown, given.version if version is None else version, errors)
    values = {
        "it": found,
        "standing": preset_standing(found),
        "entries": entries,
        "samples": {} if typed is None else typed,
        "choices": await _choices(visit) if may_edit else None,
        "trial": trial,
        "problem": problem,
        "rest": _unplaced(errors),
        "version": given.version,
        "is_served": is_served,
        "may_edit": may_edit,
        "may_delete": visit.may("editor") and found["source"] == "store",
        "may_send": visit.may("editor") and is_served,
        "calls": await visit.service.run(_calls, visit, document) if is_served else (),
        "tested": None if served is None or not is_served else visit.service.last_preset_tests.of(served),
        "done": DONE.get(_done(visit, found), ""),
        **_CONSTANT,
    }
    return View("preset.html", values)


def _done(visit: Visit, found: Mapping[str, Any]) -> str:
    done = visit.query.get("done", "")
    return "unserved" if done == "saved" and found["status"] != "ok" else done


def _calls(visit: Visit, document: Mapping[str, Any]) -> tuple[Way, ...]:
    body = _samples(document, {}).body
    example = body.get("payload", body.get("parameters"))
    content_type = JSON if "parameters" in body else str(document["content_type"])
    return ways_to_send(visit.service.snapshot, visit.proxy, visit.names["id"], content_type, example)


# What is wrong with a form.


async def _refuse(visit: Visit, document: Mapping[str, Any], errors: Sequence[ItemError]) -> None:
    """Raise ApiProblem with what no document can say, and what the API says of the rest."""
    body: Mapping[str, Any] = {"preset": document, **_samples(document, {}).body}
    found: list[ItemError] = []
    try:
        await visit.backend.ask("previewPresetDraft", body=body)
    except ApiProblem as problem:
        found = [each for each in _others(problem.errors, errors) if not each.pointer.startswith("/sample")]
    raise invalid([*errors, *found])


def _for_script(visit: Visit, problem: ApiProblem, version: int | None) -> Refused:
    placed = placed_errors(visit.form, problem.errors)
    return Refused(ApiProblem(problem.code, problem.detail, errors=placed), _unplaced(placed), version)


_PLACES: Final = frozenset(
    ("id", "description", "tags", "integration", "method", "url", "headers", "content_type", "parameters", "body")
)


def _unplaced(errors: Sequence[ItemError]) -> tuple[ItemError, ...]:
    """The errors of what the form has no input for."""
    return tuple(each for each in errors if each.pointer.split("/")[1:2] not in [[place] for place in _PLACES])


def _told(trial: Trial) -> View:
    """A trial alone, for the script that puts it into the page."""
    return View("preset_trial.html", {"trial": trial})


_CONSTANT: Final[Mapping[str, Any]] = {
    "methods": [(name, name) for name in METHODS],
    "types": [(name, name) for name in TYPES],
    "examples": {name: json.dumps(example_of("", {"type": name})) for name in TYPES if name != "text"},
}

PAGES: Final = (
    Page("GET", "/presets", browse),
    Page("GET", "/presets/{id}", show),
    Page("POST", "/presets/{id}", save, "editor"),
    Page("POST", "/presets/{id}/preview", preview),
    Page("POST", "/presets/{id}/test", test, "editor"),
    Page("POST", "/presets/{id}/delete", delete, "editor"),
    Page("POST", "/presets/{id}/release", release, "editor"),
    Page("GET", "/add/preset", begin, "editor"),
    Page("POST", "/add/preset", add, "editor"),
    Page("POST", "/add/preset/preview", preview_new, "editor"),
    Page("POST", "/add/preset/test", test_new, "editor"),
    Page("GET", "/add/preset/integrations", find, "editor"),
)
