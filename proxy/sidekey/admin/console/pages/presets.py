"""Presets: the list, and one of them with its document, a trial, and how it is called."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from sidekey.admin.api.messages import JSON
from sidekey.admin.api.preset_trials import sample_of
from sidekey.admin.api.presets import PresetMembers
from sidekey.admin.api.resources import document_in
from sidekey.admin.api.starting import starting_preset
from sidekey.admin.console.calling import Way, ways_to_send
from sidekey.admin.console.page import Page, Redirect, View, Visit
from sidekey.admin.console.pages.browsing import listed, version_of
from sidekey.admin.console.words import DONE, PRESET_WORDS, preset_standing
from sidekey.settings.writing import write

_IN_A_FILE: Final = """\
presets:
  welcome:
    integration: crm
    url: https://api.example.com/v1/users/{{user}}/mails
    parameters: {user: {type: text}}
    body: {json: {text: "Hello {{user}}"}}"""


async def browse(visit: Visit) -> View:
    """A page of the list."""
    values = await listed(visit, "listPresets", "/presets", ("q", "tag", "integration", "status"))
    items = [{**each, "standing": preset_standing(each)} for each in values["items"]]
    return View("presets.html", {**values, "items": items, "states": PRESET_WORDS, "example": _IN_A_FILE})


async def begin(visit: Visit) -> View:
    """The editor for a new one."""
    return View("preset_add.html", {"text": await visit.service.run(starting_preset)})


async def show(visit: Visit) -> View:
    """One of them."""
    given = await visit.backend.ask("getPreset", visit.names)
    found = given.value
    served = visit.service.snapshot.presets.get(found["id"])
    is_served = served is not None and served.stored == (found["source"] == "store")
    is_stored = found["source"] == "store"
    values = {
        "it": {"description": "", "tags": [], "integration": None, **found},
        "standing": preset_standing(found),
        "text": await visit.service.run(_text_of, found),
        "version": given.version,
        "sample": await visit.service.run(_sample, found) if is_served else None,
        "takes_parameters": found.get("body") is not None,
        "may_edit": visit.may("editor") and is_stored,
        "may_delete": visit.may("editor") and is_stored,
        "may_send": visit.may("editor") and is_served,
        "calls": await visit.service.run(_calls, visit, found) if is_served else (),
        "tested": None if served is None or not is_served else visit.service.last_preset_tests.of(served),
        "done": DONE.get(_done(visit, found), ""),
    }
    return View("preset.html", values)


async def delete(visit: Visit) -> Redirect:
    """Delete it."""
    await visit.backend.ask("deletePreset", visit.names, version=version_of(visit))
    return Redirect("/presets?done=unmade")


def _text_of(found: Mapping[str, Any]) -> str:
    return write({"id": found["id"], **document_in(found, PresetMembers)})


def _done(visit: Visit, found: Mapping[str, Any]) -> str:
    done = visit.query.get("done", "")
    return "unserved" if done == "saved" and found["status"] != "ok" else done


def _sample(document: Mapping[str, Any]) -> str:
    """The text that a trial starts with: parameters as JSON, or a payload."""
    sample = sample_of(document)
    return str(sample["payload"]) if "payload" in sample else json.dumps(sample["parameters"], indent=2)


def _calls(visit: Visit, document: Mapping[str, Any]) -> tuple[Way, ...]:
    sample = sample_of(document)
    content_type = JSON if "parameters" in sample else str(document.get("content_type") or JSON)
    (example,) = sample.values()
    return ways_to_send(visit.service.snapshot, visit.proxy, visit.names["id"], content_type, example)


PAGES: Final = (
    Page("GET", "/presets", browse),
    Page("GET", "/presets/{id}", show),
    Page("POST", "/presets/{id}/delete", delete, "editor"),
    Page("GET", "/add/preset", begin, "editor"),
)
