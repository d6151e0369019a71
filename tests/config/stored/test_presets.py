"""Stored presets: building them from rows, and validating documents."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from sidekey.config.stored.document import MAX_SIZE, MAX_VALUES, MalformedError
from sidekey.config.stored.presets import PresetDraft, build_preset, integration_id, load_document, prepare_preset
from sidekey.config.stored.validate import InvalidPreset
from sidekey.snapshot.snapshot import NO_INTEGRATION
from sidekey.store.records import PresetRow
from support.plane import base_url, integration
from support.unresolved import UnresolvedIntegration

DOCUMENT: dict[str, Any] = {"integration": "h", "url": base_url(1, "/api/x")}
INTEGRATIONS = {"h": integration("h", base_url(1, "/api"))}
ROW = PresetRow(row_id="r", id="hook", version=1, document=json.dumps(DOCUMENT))


def errors(**keys: Any) -> dict[str, str]:
    """Return the errors of an invalid document, by pointer."""
    result = prepare_preset("hook", {**DOCUMENT, **keys}, INTEGRATIONS, 0.0)
    assert isinstance(result, InvalidPreset), result
    return {error.pointer: error.detail for error in result.errors}


def test_unchanged_row_is_not_built_again() -> None:
    """A row may be rewritten with another key or version."""
    built = build_preset(ROW)
    assert (built.invalid, built.stored, built.row) == ("", True, "r")
    assert (built.document, built.rules.integration) == (ROW.document, "h")
    assert build_preset(replace(ROW), built) is built
    assert build_preset(replace(ROW, version=2), built) is built
    assert build_preset(replace(ROW, verified=False), built).invalid
    other = replace(ROW, document=ROW.document.replace("/api/x", "/api/y"))
    assert build_preset(other, built) is not built


@pytest.mark.parametrize(
    ("row", "problem", "of"),
    [
        (replace(ROW, verified=False), "changed its row: save it again", NO_INTEGRATION),
        (replace(ROW, document="{"), "is not what this version of Sidekey saves", NO_INTEGRATION),
        (replace(ROW, document="[]"), "is not what this version of Sidekey saves", NO_INTEGRATION),
        (replace(ROW, document='{"integration":"Not an ID"}'), "integration: ", NO_INTEGRATION),
        (replace(ROW, document=json.dumps({**DOCUMENT, "of_a_later_version": 1})), "of_a_later_version: ", "h"),
    ],
)
def test_unusable_preset_exists_with_its_problem(row: PresetRow, problem: str, of: str) -> None:
    """Callers get an error about the preset instead of "no such preset"."""
    built = build_preset(row)
    assert (built.id, built.rules.integration) == ("hook", of)
    assert problem in built.invalid


def test_problem_of_an_unusable_preset_follows_its_row() -> None:
    """Its document may equal the placeholder of an altered row."""
    altered = build_preset(replace(ROW, document="{}", verified=False))
    assert "integration: " in build_preset(replace(ROW, document="{}"), altered).invalid


def test_altered_row_has_no_document() -> None:
    with pytest.raises(MalformedError):
        load_document(replace(ROW, verified=False))
    assert integration_id({"integration": ["h"]}) == integration_id({}) == NO_INTEGRATION


def test_draft_keeps_the_order_of_keys() -> None:
    """Bodies are sent in this order."""
    draft = prepare_preset("hook", {**DOCUMENT, "body": {"json": {"b": 1.50, "a": "é"}}}, INTEGRATIONS, 0.0)
    assert isinstance(draft, PresetDraft)
    assert draft.text.endswith('"body":{"json":{"b":1.5,"a":"é"}}}')
    assert build_preset(replace(ROW, document=draft.text)).invalid == ""


def test_all_errors_of_a_preset_are_reported_together() -> None:
    reported = errors(url=base_url(1, "/other"), headers={"Host": "x"}, tags=["x" * 101], description="d" * 2001)
    assert reported.keys() == {"/headers/Host", "/tags", "/description"}
    assert errors(url=base_url(1, "/other"), tags=["x" * 101]).keys() == {"/url", "/tags"}
    assert errors(integration="nobody") == {"/integration": "no integration has this ID, or it is not served"}


def test_document_larger_than_a_request_is_refused() -> None:
    """A patch can make a document larger than any request."""
    assert errors(body={"json": ["x" * 1000] * (MAX_SIZE // 1000)}) == {"": f"must have at most {MAX_SIZE >> 10} KiB"}
    assert "values" in errors(body={"json": [1] * MAX_VALUES})[""]


def test_preset_cannot_use_an_integration_with_a_missing_secret() -> None:
    missing = UnresolvedIntegration(INTEGRATIONS["h"])
    result = prepare_preset("hook", DOCUMENT, {"h": missing.integration()}, 0.0)
    assert isinstance(result, InvalidPreset)
    assert [error.pointer for error in result.errors] == ["/integration"]
