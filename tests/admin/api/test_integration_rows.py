"""admin/api/saving.py: the row that is made of an integration's document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from sidekey.admin.api.collection import Edit, NewRow
from sidekey.admin.api.integrations import IntegrationMembers
from sidekey.admin.api.problems import ApiProblem, ItemError
from sidekey.admin.api.resources import document_in
from sidekey.admin.api.saving import draft_of, make_integration
from sidekey.runtime.snapshot import Snapshot
from sidekey.store.records import IntegrationRow
from support.stored import BASIC, VAULT, former, stored

ROW = stored(BASIC)


def made(sent: Mapping[str, Any], row: IntegrationRow = ROW, *, patch: bool = False) -> NewRow[IntegrationRow]:
    """Return the row of a change by bob."""
    return make_integration(Edit("crm", row, sent, patch, (), "bob"), Snapshot({}), VAULT)


def test_what_is_said_about_an_integration_is_no_part_of_its_document() -> None:
    """So that what was read can be edited and sent back."""
    sent = {
        **dict.fromkeys(IntegrationMembers.model_fields, "as it was read"),
        "description": "d",
        "auth": {"id": "of the kind"},
    }
    assert document_in(sent, IntegrationMembers) == {"description": "d", "auth": {"id": "of the kind"}}


def test_all_that_is_wrong_is_said_at_once() -> None:
    """What is known already, and what is found; secrets that must be sent again, once nothing else is."""
    known = [ItemError("/id", "why")]
    with pytest.raises(ApiProblem) as refused:
        draft_of({**BASIC, "more": 1}, None, Snapshot({}), known)
    assert (refused.value.code, [each.pointer for each in refused.value.errors]) == ("invalid", ["/id", "/more"])
    with pytest.raises(ApiProblem) as refused:
        draft_of(BASIC, None, Snapshot({}), known)
    assert refused.value.errors == tuple(known)
    moved = {**former(ROW).saved.written, "endpoint_prefix": "https://other.example"}
    with pytest.raises(ApiProblem) as refused:
        draft_of(moved, former(ROW), Snapshot({}))
    assert (refused.value.code, [each.pointer for each in refused.value.errors]) == (
        "reenter",
        ["/auth/username", "/auth/password"],
    )


def test_a_row_keeps_what_it_lasts_by() -> None:
    """Its ID, its making, and the secrets that were not sent; who has changed it is said."""
    row, fields, _ = made({"description": "x"}, patch=True)
    assert (row.row, row.created_at, row.secrets) == (ROW.row, ROW.created_at, ROW.secrets)
    assert (row.updated_by, fields) == ("bob", ("/description",))
    assert made(former(ROW).saved.written).fields == ()


def test_nothing_of_an_altered_row_is_kept() -> None:
    """It is not there for a patch; a whole document takes its place, secrets and all."""
    altered = replace(ROW, verified=False)
    with pytest.raises(ApiProblem, match="by PUT"):
        made({"description": "x"}, altered, patch=True)
    with pytest.raises(ApiProblem) as refused:
        made(former(ROW).saved.written, altered)
    assert [each.pointer for each in refused.value.errors] == ["/auth/username", "/auth/password"]
    assert made(BASIC, altered).row.row == ROW.row
