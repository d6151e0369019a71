"""admin/api/dispatch.py: role, audit and counters of an operation, which the console uses too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from admin.api.test_service import ASK, serviced
from sidekey.admin.api.dispatch import perform
from sidekey.admin.api.messages import ApiRequest
from sidekey.admin.api.operators import Operator
from sidekey.admin.api.problems import ApiProblem
from sidekey.admin.api.routes import ROUTES

ROUTE = next(route for route in ROUTES if route.name == "createCaller")


async def test_who_may_not_is_refused_before_anything_is_read_and_that_is_noted(tmp_path: Path) -> None:
    """In the audit, and in the counters."""

    async def read(_: ApiRequest) -> ApiRequest:
        raise AssertionError("nothing may be read")

    viewer = replace(ASK, known=Operator("vic", "viewer", "digest-of-vic", "token:row-of-vic"))
    async with serviced(tmp_path) as (service, _):
        with pytest.raises(ApiProblem) as refused:
            await perform(service, ROUTE, viewer, read)
        assert (refused.value.code, "needs the role admin" in refused.value.detail) == ("forbidden", True)
        assert service.metrics.admin_changes["caller", "forbidden"] == 1
        ((_, entry),) = (await service.store.audit_page()).entries
        assert (entry.who, entry.action, entry.outcome) == ("vic", "create", "forbidden")


async def test_who_may_is_given_what_the_route_gives(tmp_path: Path) -> None:
    """And the change is counted."""

    async def read(request: ApiRequest) -> ApiRequest:
        return replace(request, body={"name": "billing"})

    async with serviced(tmp_path) as (service, _):
        answer = await perform(service, ROUTE, replace(ASK, body=None), read)
        assert answer.status == 201
        assert service.metrics.admin_changes["caller", "ok"] == 1
        with pytest.raises(ApiProblem, match="in use"):
            await perform(service, ROUTE, replace(ASK, body=None), read)
        assert service.metrics.admin_changes["caller", "exists"] == 1
