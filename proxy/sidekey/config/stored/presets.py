"""Stored presets: what is built of their rows, and what becomes of a document that is sent. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sidekey.config.build.presets import choice_errors, read_preset, written
from sidekey.config.errors import Finding, show
from sidekey.config.stored.document import MAX_SIZE, MalformedError, parse
from sidekey.config.stored.validate import DocumentError, Invalid, invalid, text_errors
from sidekey.policy.naming import valid_id
from sidekey.presets.preset import Preset as PresetRules
from sidekey.presets.template import UrlTemplate
from sidekey.snapshot.snapshot import NOBODY, Integration, Preset
from sidekey.snapshot.status import UNVERIFIED
from sidekey.store.records import PresetRow


def build_preset(row: PresetRow, previous: Preset | None = None) -> Preset:
    """Build the preset of a row, or return the previous one if it says the same.

    `invalid` of the preset says why it cannot be used by itself: then it refuses its requests.
    """
    present = row.row, row.document, ""
    if previous is not None and row.verified and (previous.row, previous.document, previous.invalid) == present:
        return previous
    if not row.verified:
        return _unusable(row, {}, UNVERIFIED)
    try:
        document = document_of(row)
    except MalformedError as error:
        return _unusable(row, {}, f"its document {error}: save it again")
    built = read_preset(row.id, document)
    if built.preset is None:
        reason = "; ".join(f"{show(each.loc)}: {each.message}" for each in built.errors)
        return _unusable(row, document, reason)
    return replace(built.preset, document=row.document, stored=True, row=row.row)


def document_of(row: PresetRow) -> dict[str, Any]:
    """The document of a row. Raises MalformedError, also where nothing of it is to be relied upon."""
    try:
        document = json.loads(row.document)
    except ValueError:
        document = None
    if not isinstance(document, dict) or not row.verified:
        raise MalformedError("is not what this version of Sidekey saves")
    return document


def integration_in(document: Mapping[str, Any]) -> str:
    """The ID of the integration that a document names; NOBODY where it names none."""
    name = document.get("integration")
    return name if isinstance(name, str) and valid_id(name) else NOBODY


def _unusable(row: PresetRow, document: Mapping[str, Any], problem: str) -> Preset:
    """Build one that refuses its requests: without it, callers would be told that there is no such preset."""
    rules = PresetRules(row.id, integration_in(document), "POST", UrlTemplate.read("https://host.invalid", ()), "")
    return Preset(row.id, rules, "", "", invalid=problem, stored=True, row=row.row)


@dataclass(frozen=True, slots=True)
class PresetDraft:
    """A preset that may be saved, and its document as it is saved."""

    preset: Preset
    text: str


def prepare_preset(
    name: str,
    given: Mapping[str, Any],
    integrations: Mapping[str, Integration],
    now: float,
    *,
    require_fetched: bool = False,
) -> PresetDraft | Invalid:
    """Judge a document that is to be saved under an ID, beside the integrations of `now`, seconds since the epoch.

    `require_fetched` as for `choice_errors`.
    """
    built = read_preset(name, given)
    findings = [*built.errors, *(Finding(*each) for each in text_errors(given))]
    if built.preset is not None:
        findings += (
            Finding(*each) for each in _choice_errors(built.preset, integrations, now, require_fetched=require_fetched)
        )
    if findings or built.preset is None:
        return invalid(findings)
    text = written(given)
    try:
        # What cannot be sent back could not be edited: a patch may make more of a document than is ever sent.
        parse(text.encode())
    except MalformedError as error:
        return Invalid((DocumentError("", f"{error} once it is saved"),))
    if len(text.encode()) > MAX_SIZE:
        return Invalid((DocumentError("", f"must have at most {MAX_SIZE >> 10} KiB"),))
    return PresetDraft(replace(built.preset, document=text), text)


def _choice_errors(
    preset: Preset, integrations: Mapping[str, Integration], now: float, *, require_fetched: bool
) -> list[tuple[tuple[str | int, ...], str]]:
    integration = integrations.get(preset.rules.integration)
    if integration is None:
        return [(("integration",), "no integration has this ID, or it is not served")]
    return choice_errors(preset, integration, now, require_fetched=require_fetched)
