"""api/handlers/integrations.py: stored integrations that the snapshot does not serve."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

from sidekey.api.handlers.integrations import INTEGRATIONS, IntegrationFilter
from sidekey.api.statuses import StatusView, integration_problem
from sidekey.snapshot.snapshot import Snapshot, StoredObjects
from sidekey.store.records import IntegrationRow
from sidekey.store.state import State as StoreState
from support.plane import integration
from support.stored import BASIC, stored

ROW = stored(BASIC)


NOW = 1_800_000_000.0


def statuses(problem: str = "why") -> StatusView:
    """Return the statuses of a snapshot in which the row has this problem, and which serves no integration."""
    return StatusView(Snapshot({}, stored=StoredObjects(1, problems={"crm": problem})), {}, NOW)


def response_of(row: IntegrationRow, now: StatusView) -> dict[str, Any]:
    """Return a stored integration as the API shows it."""
    members, document = INTEGRATIONS.view(row.id, row, now)
    return {**members.model_dump(mode="json"), **document}


def page(state: StoreState, now: StatusView, **query: str) -> list[dict[str, Any]]:
    """Return the items of a list."""
    result = INTEGRATIONS.page(state, now, IntegrationFilter(**query))
    return [item.model_dump(mode="json") for item in result.items]


def test_document_of_another_version_is_omitted() -> None:
    for text in ("not json", "[]", "{}", '{"integration": {"auth": 7}}'):
        shown = response_of(replace(ROW, document=text), statuses())
        assert (shown["status"], shown["kind"]) == ("unusable", None), text


def test_list_has_integrations_with_unreadable_documents() -> None:
    invalid = StoreState(
        integrations=MappingProxyType({"crm": replace(ROW, document='{"integration":{"tags":[7],"auth":{}}}')})
    )
    (item,) = page(invalid, statuses())
    assert (item["kind"], item["description"], item["tags"]) == (None, "", [])
    broken = StoreState(integrations=MappingProxyType({"crm": IntegrationRow(row_id="r", id="crm", document="broken")}))
    assert page(broken, statuses())[0]["kind"] is None


def test_search_finds_an_integration_by_host() -> None:
    row = stored({**BASIC, "endpoint_prefix": ["https://a.test", "https://b.test/v1"]})
    state = StoreState(integrations=MappingProxyType({"crm": row}))
    assert [item["id"] for item in page(state, statuses(), q="B.test")] == ["crm"]


OF_STORE = replace(integration("crm", "https://crm.test"), stored=True)


def test_row_that_the_snapshot_lacks_is_ok() -> None:
    """The row was saved a moment ago. A row that does not verify is unusable at once."""
    for snapshot in (Snapshot({}), Snapshot({}, stored=StoredObjects())):
        result = StatusView(snapshot, now=NOW).of_stored(ROW)
        assert (result.status, result.problem, integration_problem(snapshot, "crm")) == ("ok", "", "")
    known = StoredObjects(problems={"crm": ""}, integrations={"crm": OF_STORE})
    snapshot = Snapshot({"crm": OF_STORE}, stored=known)
    result = StatusView(snapshot, now=NOW).of_stored(replace(ROW, verified=False))
    assert (result.status, "something other than Sidekey" in result.problem) == ("unusable", True)
