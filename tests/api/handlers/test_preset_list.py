"""api/handlers/presets.py: presets that the snapshot does not serve."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sidekey.api.handlers.presets import PRESETS, PresetFilter
from sidekey.api.integration_rows import is_preset_served
from sidekey.api.statuses import StatusView
from sidekey.config.stored.presets import build_preset
from sidekey.snapshot.snapshot import Preset, Snapshot, StoredObjects
from sidekey.store.records import PresetRow
from sidekey.store.state import State

ROW = PresetRow(
    row_id="r",
    id="hook",
    version=2,
    document='{"integration":"crm","url":"https://a.example/x","content_type":"text/plain","description":"Ours"}',
    created_at=1,
    updated_at=2,
    updated_by="ann",
)


def snapshot(row: PresetRow = ROW, of_file: Preset | None = None) -> Snapshot:
    """Build a snapshot with the preset of a row, or with a file's preset of the same ID."""
    built = build_preset(row)
    stored = StoredObjects(1, presets={} if of_file else {row.id: built})
    return Snapshot({}, presets={row.id: of_file or built}, stored=stored)


def items(row: PresetRow, served: Snapshot, **query: str) -> list[dict[str, Any]]:
    """List the presets of a store with this row."""
    listed = PRESETS.page(State(presets={row.id: row}), StatusView(served), PresetFilter(**query))
    return [item.model_dump(mode="json") for item in listed.items]


def response_of(row: PresetRow, served: Snapshot) -> dict[str, Any]:
    """Return a stored preset as the API shows it."""
    members, document = PRESETS.view(row.id, row, StatusView(served))
    return {**members.model_dump(mode="json"), **document}


def test_document_of_another_version_is_shown() -> None:
    for text in ("not json", "[]"):
        row = replace(ROW, document=text)
        shown = response_of(row, snapshot(row))
        assert (shown["status"], "integration" in shown) == ("unusable", False), text
        assert items(row, snapshot(row))[0]["integration"] is None
    row = replace(ROW, document='{"integration":"crm","url":7,"tags":["a",7],"later":1}')
    assert response_of(row, snapshot(row))["later"] == 1
    (item,) = items(row, snapshot(row), integration="crm", tag="a", status="unusable")
    assert (item["tags"], item["url"]) == (["a"], None)


def test_list_has_presets_that_are_not_served() -> None:
    in_use = snapshot(of_file=replace(build_preset(ROW), stored=False, row=""))
    (_, item) = items(ROW, in_use, q="OURS", integration="crm")
    assert (item["description"], item["url"], item["status"]) == ("Ours", "https://a.example/x", "unusable")
    assert item["problem"].startswith("a config file has the same preset ID")
    for query in ({"integration": "sms"}, {"tag": "a"}, {"q": "theirs"}):
        assert items(ROW, in_use, **query) == []


def test_new_preset_is_ok_before_the_next_snapshot() -> None:
    assert response_of(ROW, Snapshot({}))["status"] == "ok"
    assert not is_preset_served(ROW, Snapshot({}))
    assert is_preset_served(ROW, snapshot())
    assert not is_preset_served(replace(ROW, document="{}"), snapshot())
