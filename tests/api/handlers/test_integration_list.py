"""api/handlers/integrations.py: how integrations are shown and listed that are not ok."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

from sidekey.api.handlers.integrations import INTEGRATIONS, IntegrationFilter
from sidekey.api.statuses import StatusView
from sidekey.snapshot.snapshot import Snapshot, Stored
from sidekey.store.records import IntegrationRow
from sidekey.store.state import State as StoreState
from support.stored import BASIC, CANARY, ids, stored

ROW = stored(BASIC)


NOW = 1_800_000_000.0


def standings(problem: str = "why") -> StatusView:
    """Those of a snapshot in which the row has this problem, and nothing is served."""
    return StatusView(Snapshot({}, stored=Stored(1, problems={"crm": problem})), {}, NOW)


def whole(row: IntegrationRow, now: StatusView) -> dict[str, Any]:
    """A stored integration in a response."""
    members, document = INTEGRATIONS.shown(row.id, row, now)
    return {**members.model_dump(mode="json"), **document}


def page(state: StoreState, now: StatusView, **query: str) -> list[dict[str, Any]]:
    """The items of a list."""
    found = INTEGRATIONS.page(state, now, IntegrationFilter(**query))
    return [each.model_dump(mode="json") for each in found.items]


def test_what_cannot_be_used_says_why() -> None:
    """With its document, so that it can be put right."""
    shown = whole(ROW, standings())
    assert (shown["status"], shown["problem"]) == ("unusable", "why")
    assert shown["auth"]["password"] == {
        "set": True,
        "id": ids(ROW)["/auth/password"],
        "set_at": "1970-01-01T00:00:01Z",
        "set_by": "ann",
    }
    assert (shown["kind"], shown["base"]) == ("basic", None)


def test_nothing_of_an_altered_row_is_believed() -> None:
    """Only that it is there, and which version a change must name."""
    shown = whole(replace(ROW, verified=False), standings())
    assert (shown["status"], shown["version"], shown["kind"]) == ("unusable", 1, None)
    assert "auth" not in shown


def test_a_document_of_another_version_is_left_out() -> None:
    """It is no reason not to show the rest."""
    for text in ("not json", "[]", "{}", '{"integration": {"auth": 7}}'):
        shown = whole(replace(ROW, document=text), standings())
        assert (shown["status"], shown["kind"]) == ("unusable", None), text


def test_a_list_has_what_is_not_served_as_well() -> None:
    """By what was written."""
    row = stored({**BASIC, "title": "The CRM", "description": "Ours", "tags": ["a"]})
    state = StoreState(integrations=MappingProxyType({"crm": row}))
    (item,) = page(state, standings(), q="ours HTTP the", tag="a", kind="basic", status="unusable")
    assert (item["id"], item["title"], item["description"], item["tags"]) == ("crm", "The CRM", "Ours", ["a"])
    assert item["hosts"] == ["api.example.com"]
    assert page(state, standings(), status="ok") == []
    other = StoreState(
        integrations=MappingProxyType({"crm": replace(ROW, document='{"integration":{"tags":[7],"auth":{}}}')})
    )
    (item,) = page(other, standings())
    assert (item["kind"], item["description"], item["tags"]) == (None, "", [])
    broken = StoreState(integrations=MappingProxyType({"crm": IntegrationRow(row="r", id="crm", document="broken")}))
    assert page(broken, standings())[0]["kind"] is None


def test_no_secret_is_in_what_is_shown() -> None:
    """Not even sealed."""
    shown = str(whole(ROW, standings("")))
    assert CANARY not in shown
    assert not [each for each in ROW.secrets.values() if each.sealed in shown]


def test_an_integration_is_found_by_where_it_sends() -> None:
    """By host, in any case, as far as it is written."""
    row = stored({**BASIC, "endpoint_prefix": ["https://a.test", "https://b.test/v1"]})
    state = StoreState(integrations=MappingProxyType({"crm": row}))
    assert [each["id"] for each in page(state, standings(), q="B.test")] == ["crm"]
