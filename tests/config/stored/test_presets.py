"""Stored presets: what is built of rows, and which documents may be saved."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from sidekey.config.stored.document import MAX_SIZE, MAX_VALUES, MalformedError
from sidekey.config.stored.presets import PresetDraft, build_preset, integration_id, load_document, prepare_preset
from sidekey.config.stored.validate import Invalid
from sidekey.snapshot.snapshot import NOBODY
from sidekey.store.records import PresetRow
from support.plane import base_url, integration
from support.unresolved import Missing

DOCUMENT: dict[str, Any] = {"integration": "h", "url": base_url(1, "/api/x")}
INTEGRATIONS = {"h": integration("h", base_url(1, "/api"))}
ROW = PresetRow(row="r", id="hook", version=1, document=json.dumps(DOCUMENT))


def errors(**keys: Any) -> dict[str, str]:
    """What is wrong with a document, by pointer."""
    found = prepare_preset("hook", {**DOCUMENT, **keys}, INTEGRATIONS, 0.0)
    assert isinstance(found, Invalid), found
    return {each.pointer: each.detail for each in found.errors}


def test_a_row_is_built_once() -> None:
    """Also if it is written again, with another key or under a new version."""
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
        (replace(ROW, verified=False), "changed its row: save it again", NOBODY),
        (replace(ROW, document="{"), "is not what this version of Sidekey saves", NOBODY),
        (replace(ROW, document="[]"), "is not what this version of Sidekey saves", NOBODY),
        (replace(ROW, document='{"integration":"Not an ID"}'), "integration: ", NOBODY),
        (replace(ROW, document=json.dumps({**DOCUMENT, "of_a_later_version": 1})), "of_a_later_version: ", "h"),
    ],
)
def test_what_cannot_be_used_is_there_and_says_why(row: PresetRow, problem: str, of: str) -> None:
    """Its callers are told that it cannot be used, not that there is none."""
    built = build_preset(row)
    assert (built.id, built.rules.integration) == ("hook", of)
    assert problem in built.invalid


def test_a_preset_that_cannot_be_used_says_why_its_present_row_cannot() -> None:
    """Also if its document is the one that stands for a row of which nothing is read."""
    altered = build_preset(replace(ROW, document="{}", verified=False))
    assert "integration: " in build_preset(replace(ROW, document="{}"), altered).invalid


def test_nothing_is_read_of_an_altered_row() -> None:
    """Whatever it says."""
    with pytest.raises(MalformedError):
        load_document(replace(ROW, verified=False))
    assert integration_id({"integration": ["h"]}) == integration_id({}) == NOBODY


def test_a_draft_is_what_was_sent_as_it_was_sent() -> None:
    """The order of keys stays: a body's are sent so."""
    found = prepare_preset("hook", {**DOCUMENT, "body": {"json": {"b": 1.50, "a": "é"}}}, INTEGRATIONS, 0.0)
    assert isinstance(found, PresetDraft)
    assert found.text.endswith('"body":{"json":{"b":1.5,"a":"é"}}}')
    assert build_preset(replace(ROW, document=found.text)).invalid == ""


def test_everything_that_is_wrong_is_said_at_once() -> None:
    """With the document, its texts, and the integration that it names."""
    found = errors(url=base_url(1, "/other"), headers={"Host": "x"}, tags=["x" * 101], description="d" * 2001)
    assert found.keys() == {"/headers/Host", "/tags", "/description"}
    assert errors(url=base_url(1, "/other"), tags=["x" * 101]).keys() == {"/url", "/tags"}
    assert errors(integration="nobody") == {"/integration": "no integration has this ID, or it is not served"}


def test_what_cannot_be_sent_back_is_not_saved() -> None:
    """A patch makes more of a document than is sent."""
    assert errors(body={"json": ["x" * 1000] * (MAX_SIZE // 1000)}) == {"": f"must have at most {MAX_SIZE >> 10} KiB"}
    assert "values" in errors(body={"json": [1] * MAX_VALUES})[""]


def test_an_integration_whose_secret_is_missing_cannot_be_chosen() -> None:
    """Until it is there."""
    missing = Missing(INTEGRATIONS["h"])
    found = prepare_preset("hook", DOCUMENT, {"h": missing.integration()}, 0.0)
    assert isinstance(found, Invalid)
    assert [each.pointer for each in found.errors] == ["/integration"]
