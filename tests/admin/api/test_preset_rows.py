"""admin/api/presets.py: the row that is made of a preset's document."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sidekey.admin.api.presets import PresetMembers, PresetSaving, preset_draft_of
from sidekey.admin.api.problems import ApiProblem, ItemError
from sidekey.admin.api.resources import document_in
from sidekey.runtime.snapshot import Snapshot
from sidekey.store.records import PresetRow
from support.plane import base_url, integration

SNAPSHOT = Snapshot({"h": integration("h", base_url(1))})
DOCUMENT: dict[str, Any] = {"integration": "h", "url": base_url(1, "/api/x"), "content_type": "text/plain"}
ABOUT = {"id": "hook", "source": "store", "version": 7, "status": "ok", "problem": None, "updated_by": "x"}


def saving(row: PresetRow | None = None, *wrong: ItemError) -> PresetSaving:
    """Of the preset that every test here is about."""
    return PresetSaving(SNAPSHOT, "hook", row, wrong=wrong, by="bob")


def test_what_is_said_about_a_preset_is_no_part_of_its_document() -> None:
    """So that what was read can be edited and sent back."""
    made = saving().written(document_in({**ABOUT, **DOCUMENT}, PresetMembers))
    assert made.row.document == saving().written(DOCUMENT).row.document
    assert (made.row.updated_by, made.row.created_at) == ("bob", made.row.updated_at)
    assert made.fields == ("/content_type", "/integration", "/url")


def test_all_that_is_wrong_is_said_at_once() -> None:
    """What is known already, and what is found."""
    known = ItemError("/id", "why")
    with pytest.raises(ApiProblem) as refused:
        saving(None, known).written({**DOCUMENT, "more": 1})
    assert [each.pointer for each in refused.value.errors] == ["/id", "/more"]
    with pytest.raises(ApiProblem) as refused:
        preset_draft_of("hook", DOCUMENT, SNAPSHOT, [known])
    assert refused.value.errors == (known,)


def test_a_row_keeps_what_it_lasts_by() -> None:
    """Its ID and its making; who has changed it is said."""
    row = replace(saving().written(DOCUMENT).row, version=3, created_at=5)
    made = saving(row).patched({"description": "x"})
    assert (made.row.row, made.row.created_at) == (row.row, 5)
    assert (made.row.updated_by, made.fields) == ("bob", ("/description",))
    assert saving(row).written(DOCUMENT).fields == ()


def test_nothing_of_an_altered_row_is_kept() -> None:
    """It is not there for a patch; a whole document takes its place."""
    row = replace(saving().written(DOCUMENT).row, verified=False, created_at=0)
    with pytest.raises(ApiProblem, match="by PUT"):
        saving(row).patched({"description": "x"})
    made = saving(row).written(DOCUMENT)
    assert (made.row.row, made.row.verified, made.row.created_at) == (row.row, True, made.row.updated_at)
    assert made.fields
