"""admin/api/presets.py: the row that is made of a preset's document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from sidekey.admin.api.collection import Edit, NewRow
from sidekey.admin.api.presets import PRESETS, PresetMembers
from sidekey.admin.api.problems import ApiProblem, ItemError
from sidekey.admin.api.resources import document_in
from sidekey.runtime.snapshot import Snapshot
from sidekey.store.records import PresetRow
from support.plane import base_url, integration
from support.stored import VAULT

SNAPSHOT = Snapshot({"h": integration("h", base_url(1))})
DOCUMENT: dict[str, Any] = {"integration": "h", "url": base_url(1, "/api/x"), "content_type": "text/plain"}
ABOUT = {"id": "hook", "source": "store", "version": 7, "status": "ok", "problem": None, "updated_by": "x"}


def made(
    sent: Mapping[str, Any], row: PresetRow | None = None, *wrong: ItemError, patch: bool = False
) -> NewRow[PresetRow]:
    """Return the row of a change by bob."""
    return PRESETS.make(Edit("hook", row, sent, patch, wrong, "bob"), SNAPSHOT, VAULT)


def test_what_is_said_about_a_preset_is_no_part_of_its_document() -> None:
    """So that what was read can be edited and sent back."""
    row, fields, _ = made(document_in({**ABOUT, **DOCUMENT}, PresetMembers))
    assert row.document == made(DOCUMENT).row.document
    assert (row.updated_by, row.created_at) == ("bob", row.updated_at)
    assert fields == ("/content_type", "/integration", "/url")


def test_all_that_is_wrong_is_said_at_once() -> None:
    """What is known already, and what is found."""
    known = ItemError("/id", "why")
    with pytest.raises(ApiProblem) as refused:
        made({**DOCUMENT, "more": 1}, None, known)
    assert [each.pointer for each in refused.value.errors] == ["/id", "/more"]
    with pytest.raises(ApiProblem) as refused:
        made(DOCUMENT, None, known)
    assert refused.value.errors == (known,)


def test_a_row_keeps_what_it_lasts_by() -> None:
    """Its ID and its making; who has changed it is said."""
    row = replace(made(DOCUMENT).row, version=3, created_at=5)
    changed, fields, _ = made({"description": "x"}, row, patch=True)
    assert (changed.row, changed.created_at) == (row.row, 5)
    assert (changed.updated_by, fields) == ("bob", ("/description",))
    assert made(DOCUMENT, row).fields == ()


def test_nothing_of_an_altered_row_is_kept() -> None:
    """It is not there for a patch; a whole document takes its place."""
    row = replace(made(DOCUMENT).row, verified=False, created_at=0)
    with pytest.raises(ApiProblem, match="by PUT"):
        made({"description": "x"}, row, patch=True)
    saved, fields, _ = made(DOCUMENT, row)
    assert (saved.row, saved.verified, saved.created_at) == (row.row, True, saved.updated_at)
    assert fields
