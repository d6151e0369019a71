"""admin/console/backend.py: operations of the API by their names, with what they give."""

from __future__ import annotations

from pathlib import Path

import pytest

from admin.api.test_service import OPERATOR, serviced
from sidekey.admin.api.problems import ApiProblem
from sidekey.admin.api.routes import ROUTES
from sidekey.admin.console.backend import Backend

NAMES = {route.name: route for route in ROUTES}


async def test_an_operation_is_asked_with_names_query_body_and_version(tmp_path: Path) -> None:
    """What it gives is JSON and a version; a 204 gives nothing."""
    async with serviced(tmp_path) as (service, _):
        backend = Backend(service, NAMES, OPERATOR, "10.0.0.7")
        made = await backend.ask("createCaller", body={"name": "billing", "integrations": "*"})
        assert (made.value["name"], made.version) == ("billing", 1)
        listed = await backend.ask("listCallers", query={})
        assert ([each["name"] for each in listed.value["items"]], listed.version) == (["billing"], None)
        with pytest.raises(ApiProblem) as refused:
            await backend.ask("deleteCaller", {"name": "billing"}, version=7)
        assert refused.value.code == "changed"
        gone = await backend.ask("deleteCaller", {"name": "billing"}, version=1)
        assert (gone.value, gone.version) == (None, None)
        sources = {entry.source for _, entry in (await service.store.audit_page()).entries}
        assert sources == {"10.0.0.7"}
