"""A document for a row whose MAC does not verify replaces the row completely."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sidekey.api.collection import ResourceChange
from sidekey.api.errors import ApiProblem
from sidekey.api.handlers.presets import PRESETS
from sidekey.api.integration_rows import build_integration
from sidekey.snapshot.snapshot import Snapshot
from support.plane import base_url, integration
from support.stored import BASIC, VAULT, former, stored

SNAPSHOT = Snapshot({"h": integration("h", base_url(1))})
PRESET: dict[str, Any] = {"integration": "h", "url": base_url(1, "/api/x"), "content_type": "text/plain"}


def test_altered_integration_is_replaced_completely() -> None:
    """Its secrets must be sent again, and a patch is refused."""
    row = replace(stored(BASIC), verified=False)

    def make(sent: Any, *, patch: bool = False) -> Any:
        return build_integration(ResourceChange("crm", row, sent, patch, (), "bob"), Snapshot({}), VAULT)

    with pytest.raises(ApiProblem, match="with PUT"):
        make({"description": "x"}, patch=True)
    with pytest.raises(ApiProblem) as refused:
        make(former(stored(BASIC)).saved.content)
    assert [error.pointer for error in refused.value.errors] == ["/auth/username", "/auth/password"]
    assert make(BASIC).row.row == row.row


def test_altered_preset_is_replaced_completely() -> None:
    def make(sent: Any, row: Any, *, patch: bool = False) -> Any:
        return PRESETS.build(ResourceChange("hook", row, sent, patch, (), "bob"), SNAPSHOT, VAULT)

    row = replace(make(PRESET, None).row, verified=False, created_at=0)
    with pytest.raises(ApiProblem, match="with PUT"):
        make({"description": "x"}, row, patch=True)
    saved, fields, _ = make(PRESET, row)
    assert (saved.row, saved.verified, saved.created_at) == (row.row, True, saved.updated_at)
    assert fields
