"""`/drafts/integration/preview`: what saving a document would do, without anything being saved."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Final

from sidekey.admin.api.answer import Answer
from sidekey.admin.api.ask import Ask
from sidekey.admin.api.named import name_in
from sidekey.admin.api.problems import ItemError, listed
from sidekey.admin.api.route import Route
from sidekey.admin.api.saving import document_in, overlap_in
from sidekey.admin.api.service import Service
from sidekey.admin.api.standings import served
from sidekey.runtime.snapshot import Snapshot, Stored
from sidekey.settings.config_errors import MOST_ERRORS
from sidekey.settings.stored.certificates import Material, material_of
from sidekey.settings.stored.reading import instant
from sidekey.settings.stored.rows import former_of
from sidekey.settings.stored.saving import Assessment, assess
from sidekey.settings.stored.source import build_unserved
from sidekey.store.records import IntegrationRow

_DRAFT: Final = "draft"
"""The ID of a document that has none."""

_MORE_WARNINGS: Final = ItemError("", f"there are more warnings than the first {MOST_ERRORS}")

OF_A_FILE: Final = "a config file has an integration of this ID: choose another"


async def preview(service: Service, ask: Ask) -> Answer:
    """Say what saving a document would do. What is stored is the one that is loaded: nothing is asked of the store."""
    sent = ask.document
    name, wrong = name_in(sent, "id") if "id" in sent else (_DRAFT, [])
    if served(service.snapshot, name, stored=False) is not None:
        wrong.append(ItemError("/id", OF_A_FILE))
    row = service.store.state.integrations.get(name)
    return await service.validate(_preview, document_in(sent), name, row, wrong, service.snapshot)


def _preview(
    document: Mapping[str, Any],
    name: str,
    row: IntegrationRow | None,
    wrong: Sequence[ItemError],
    snapshot: Snapshot,
) -> Answer:
    now, former = time.time(), former_of(row)
    found = assess(document, former, in_flight=snapshot.limits.in_flight, now=now)
    material = material_of(document, former, now)
    errors = [*wrong, *(ItemError(*each) for each in (*found.errors, *material.errors))]
    if found.draft is not None:
        overlap = overlap_in(snapshot, name, found.draft)
        errors += [] if overlap is None else [ItemError("", overlap)]
    warnings = (ItemError(*each) for each in (*found.warnings, *material.warnings))
    again = islice(sorted(found.again.items()), MOST_ERRORS)
    result = {
        "valid": not errors and not found.again,
        "version": None if row is None else row.version,
        "errors": [each._asdict() for each in listed(errors)],
        "warnings": [each._asdict() for each in listed(warnings, _MORE_WARNINGS)],
        "reenter": [{"pointer": where, "because": list(changes)} for where, changes in again],
        "filled": [{"key": key, "value": value} for key, value in found.filled],
        "destination": None if found.settings is None or found.errors else _destination(name, found, snapshot, now),
        "certificates": _certificates(material),
    }
    return Answer.of(result)


def _destination(name: str, found: Assessment, snapshot: Snapshot, now: float) -> dict[str, Any] | None:
    """Where the credential would go; None where a document that is not valid does not say so."""
    if found.settings is None:
        return None
    built = build_unserved(name, found.settings, found.entered, snapshot.stored or Stored(), now)
    return {
        "base": None if built.base is None or built.traits.learns else str(built.base),
        "prefixes": [str(each) for each in built.policy.prefixes],
        "domains": [str(each) for each in built.policy.domains],
        "learns": built.traits.learns,
    }


def _certificates(material: Material) -> list[dict[str, Any]]:
    seen = material.certificate
    if seen is None:
        return []
    return [
        {
            "pointer": seen.pointer,
            "subject": seen.subject,
            "issuer": seen.issuer,
            "not_before": instant(seen.not_before.timestamp()),
            "not_after": instant(seen.not_after.timestamp()),
            "days_left": seen.days_left,
            "chain": seen.chain,
            "key_belongs": seen.belongs,
        }
    ]


ROUTES: Final = (
    Route(
        method="POST",
        path="/drafts/integration/preview",
        name="previewDraft",
        summary="Show the result of saving a document, without saving it. With the `id` of a stored integration, "
        "the document replaces it.",
        role="editor",
        handle=preview,
        body="IntegrationDocument",
        gives="Preview",
    ),
)
