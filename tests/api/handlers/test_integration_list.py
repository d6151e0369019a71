"""api/handlers/integrations.py: integrations that are unusable, altered or not in the snapshot."""

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


def statuses(problem: str = "why") -> StatusView:
    """A snapshot in which the row has this problem, and no integration is served."""
    return StatusView(Snapshot({}, stored=Stored(1, problems={"crm": problem})), {}, NOW)


def response_of(row: IntegrationRow, now: StatusView) -> dict[str, Any]:
    """A stored integration in a response."""
    members, document = INTEGRATIONS.view(row.id, row, now)
    return {**members.model_dump(mode="json"), **document}


def page(state: StoreState, now: StatusView, **query: str) -> list[dict[str, Any]]:
    """The items of a list."""
    result = INTEGRATIONS.page(state, now, IntegrationFilter(**query))
    return [item.model_dump(mode="json") for item in result.items]


def test_unusable_integration_has_a_problem_and_its_document() -> None:
    """An operator needs the document to correct it."""
    shown = response_of(ROW, statuses())
    assert (shown["status"], shown["problem"]) == ("unusable", "why")
    assert shown["auth"]["password"] == {
        "set": True,
        "id": ids(ROW)["/auth/password"],
        "set_at": "1970-01-01T00:00:01Z",
        "set_by": "ann",
    }
    assert (shown["kind"], shown["base"]) == ("basic", None)


def test_altered_row_is_shown_without_its_document() -> None:
    """A change needs its version."""
    shown = response_of(replace(ROW, verified=False), statuses())
    assert (shown["status"], shown["version"], shown["kind"]) == ("unusable", 1, None)
    assert "auth" not in shown


def test_document_of_another_version_is_omitted() -> None:
    """The members are shown."""
    for text in ("not json", "[]", "{}", '{"integration": {"auth": 7}}'):
        shown = response_of(replace(ROW, document=text), statuses())
        assert (shown["status"], shown["kind"]) == ("unusable", None), text


def test_list_has_integrations_that_are_not_served() -> None:
    """With texts and hosts of the document."""
    row = stored({**BASIC, "title": "The CRM", "description": "Ours", "tags": ["a"]})
    state = StoreState(integrations=MappingProxyType({"crm": row}))
    (item,) = page(state, statuses(), q="ours HTTP the", tag="a", kind="basic", status="unusable")
    assert (item["id"], item["title"], item["description"], item["tags"]) == ("crm", "The CRM", "Ours", ["a"])
    assert item["hosts"] == ["api.example.com"]
    assert page(state, statuses(), status="ok") == []
    other = StoreState(
        integrations=MappingProxyType({"crm": replace(ROW, document='{"integration":{"tags":[7],"auth":{}}}')})
    )
    (item,) = page(other, statuses())
    assert (item["kind"], item["description"], item["tags"]) == (None, "", [])
    broken = StoreState(integrations=MappingProxyType({"crm": IntegrationRow(row="r", id="crm", document="broken")}))
    assert page(broken, statuses())[0]["kind"] is None


def test_response_contains_no_secret() -> None:
    """Not even a sealed one."""
    shown = str(response_of(ROW, statuses("")))
    assert CANARY not in shown
    assert not [value for value in ROW.secrets.values() if value.sealed in shown]


def test_search_finds_an_integration_by_host() -> None:
    """In any case, also in a document that is not served."""
    row = stored({**BASIC, "endpoint_prefix": ["https://a.test", "https://b.test/v1"]})
    state = StoreState(integrations=MappingProxyType({"crm": row}))
    assert [item["id"] for item in page(state, statuses(), q="B.test")] == ["crm"]
