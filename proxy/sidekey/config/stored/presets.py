"""Stored presets: build them from rows, and validate documents before they are saved. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sidekey.config.build.presets import document_json, pairing_errors, parse_preset
from sidekey.config.errors import Finding, format_loc
from sidekey.config.stored.document import MAX_SIZE, MalformedError, parse
from sidekey.config.stored.validate import DocumentError, InvalidPreset, refuse_preset, text_errors
from sidekey.policy.identifiers import valid_id
from sidekey.presets.preset import PresetRules
from sidekey.presets.template import UrlTemplate
from sidekey.snapshot.snapshot import NO_INTEGRATION, Integration, Preset
from sidekey.snapshot.status import UNVERIFIED
from sidekey.store.records import PresetRow


def build_preset(row: PresetRow, previous: Preset | None = None) -> Preset:
    """Build the preset of a row, or return the `previous` one if nothing changed.

    `Preset.invalid` says why a preset cannot be used. Such a preset refuses its requests.
    """
    identity = row.row_id, row.document, ""
    if previous is not None and row.verified and (previous.row, previous.document, previous.invalid) == identity:
        return previous
    if not row.verified:
        return _unusable(row, {}, UNVERIFIED)
    try:
        document = load_document(row)
    except MalformedError as error:
        return _unusable(row, {}, f"its document {error}: save it again")
    built = parse_preset(row.id, document)
    if built.preset is None:
        reason = "; ".join(f"{format_loc(error.loc)}: {error.message}" for error in built.errors)
        return _unusable(row, document, reason)
    return replace(built.preset, document=row.document, stored=True, row=row.row_id)


def load_document(row: PresetRow) -> dict[str, Any]:
    """Parse the document of a row. Raises MalformedError, also for an altered row."""
    try:
        document = json.loads(row.document)
    except ValueError:
        document = None
    if not isinstance(document, dict) or not row.verified:
        raise MalformedError("is not what this version of Sidekey saves")
    return document


def integration_id(document: Mapping[str, Any]) -> str:
    """Return the ID of the integration that a document names, or NO_INTEGRATION."""
    name = document.get("integration")
    return name if isinstance(name, str) and valid_id(name) else NO_INTEGRATION


def _unusable(row: PresetRow, document: Mapping[str, Any], problem: str) -> Preset:
    """Build a preset that refuses its requests. Without it, callers would get "no such preset"."""
    rules = PresetRules(row.id, integration_id(document), "POST", UrlTemplate.parse("https://host.invalid", ()), "")
    return Preset(row.id, rules, "", "", invalid=problem, stored=True, row=row.row_id)


@dataclass(frozen=True, slots=True)
class PresetDraft:
    """A preset that may be saved, and the document of its row."""

    preset: Preset
    text: str


def prepare_preset(
    name: str,
    document: Mapping[str, Any],
    integrations: Mapping[str, Integration],
    now: float,
    *,
    require_fetched: bool = False,
) -> PresetDraft | InvalidPreset:
    """Validate a document to save under an ID, against the integrations at `now` (seconds since the epoch).

    `require_fetched` is passed to `pairing_errors`.
    """
    built = parse_preset(name, document)
    findings = [*built.errors, *(Finding(*error) for error in text_errors(document))]
    if built.preset is not None:
        findings += (
            Finding(*error)
            for error in _integration_errors(built.preset, integrations, now, require_fetched=require_fetched)
        )
    if findings or built.preset is None:
        return refuse_preset(findings)
    text = document_json(document)
    try:
        # A client must be able to send the document back, but a patch may have made it larger than any request.
        parse(text.encode())
    except MalformedError as error:
        return InvalidPreset((DocumentError("", f"{error} once it is saved"),))
    if len(text.encode()) > MAX_SIZE:
        return InvalidPreset((DocumentError("", f"must have at most {MAX_SIZE >> 10} KiB"),))
    return PresetDraft(replace(built.preset, document=text), text)


def _integration_errors(
    preset: Preset, integrations: Mapping[str, Integration], now: float, *, require_fetched: bool
) -> list[tuple[tuple[str | int, ...], str]]:
    integration = integrations.get(preset.rules.integration)
    if integration is None:
        return [(("integration",), "no integration has this ID, or it is not served")]
    return pairing_errors(preset, integration, now, require_fetched=require_fetched)
