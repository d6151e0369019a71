"""api/service.py: concurrent changes, and the limit of audit entries."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from sidekey.api.auth.operators import Operator
from sidekey.api.errors import ApiProblem
from sidekey.api.handlers.integrations import INTEGRATIONS
from sidekey.api.handlers.preset_tests import preview_draft
from sidekey.api.messages import ApiRequest, Condition
from sidekey.api.service import ApiServices, AuditBudget, require_version
from sidekey.diagnostics.probe import ProbeResult
from sidekey.network.dial import Dialer
from sidekey.network.fetch import Fetcher
from sidekey.observe.history import History
from sidekey.store.audit import AuditEntry
from sidekey.store.errors import Changed
from sidekey.store.records import CallerRow, new_row_id
from sidekey.store.state import Put
from support.api import config
from support.managed import process
from support.stored import BASIC

OPERATOR = Operator("ann", "admin", "digest", "token:row-of-ann", "row-of-ann")
ANY_VERSION = Condition(versions=None)
REQUEST = ApiRequest(OPERATOR, "create", "caller", body={"name": "billing"})


async def unused(name: object, *_: object) -> ProbeResult:
    """Fail: no test here calls it."""
    raise AssertionError(f"a test request was sent: {name}")


@asynccontextmanager
async def api_services(folder: Path) -> AsyncIterator[tuple[ApiServices, list[BaseException]]]:
    """Services over a store in this process."""
    (folder / "sidekey.yaml").write_text(f"version: 1\n{config(folder)}")
    async with process(folder) as running:
        dialer = Dialer(running.snapshot.network)
        service = ApiServices(
            running.managed,
            snapshot=lambda: running.snapshot,
            probe=unused,
            probe_draft=unused,
            probe_preset=unused,
            find_denial=dialer.find_denial,
            metrics=running.metrics,
            history=History(running.metrics, lambda: running.snapshot),
            fetcher=Fetcher(dialer, 1),
            report=running.report,
        )
        try:
            yield service, running.defects
        finally:
            service.close()


def caller(name: str = "billing") -> Put:
    return Put(CallerRow(row_id=new_row_id(), id=name, token_sha256="0" * 64), None)


async def test_concurrent_creation_of_a_name_is_409(tmp_path: Path) -> None:
    """A change of a row with a newer version fails, too."""
    async with api_services(tmp_path) as (service, _):
        first, second = await asyncio.gather(
            service.commit(REQUEST, [caller()]), service.commit(REQUEST, [caller()]), return_exceptions=True
        )
        assert isinstance(second, ApiProblem)
        assert second.code == "exists"
        assert not isinstance(first, BaseException)
        row = first.callers["billing"]
        with pytest.raises(Changed):
            await service.commit(REQUEST, [Put(row, 7)])
        assert require_version(row, ANY_VERSION) == 1
        for condition in (Condition(), Condition(absent=True), Condition(frozenset({2}))):
            with pytest.raises(ApiProblem):
                require_version(row, condition)


async def test_draft_is_previewed_with_the_snapshot_that_validated_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reload between validation and preview may remove the integration."""
    async with api_services(tmp_path) as (service, _):
        await INTEGRATIONS.create(service, ApiRequest(OPERATOR, "create", "integration", body={"id": "crm", **BASIC}))
        snapshots = iter([service.snapshot])
        gone = replace(service.snapshot, integrations={})
        monkeypatch.setattr(service, "_snapshot", lambda: next(snapshots, gone))
        draft = {"integration": "crm", "url": "https://api.example.com/v1/x", "content_type": "text/plain"}
        result = await preview_draft.handle(service, ApiRequest(OPERATOR, body={**draft, "sample": {"payload": "x"}}))
        assert json.loads(result.body)["request"]["url"] == draft["url"]


ENTRY = AuditEntry(who="ann", action="login", source="192.0.2.1")
MORE = AuditEntry(who="ann", action="login", outcome="more not listed")


def test_last_entry_says_that_further_events_are_not_listed() -> None:
    """Each token has a limit for each hour."""
    now = 0.0
    budget = AuditBudget("login", 2, lambda: now)
    assert [budget.admit("a", ENTRY) for _ in range(5)] == [ENTRY, ENTRY, MORE, None, None]
    assert budget.admit("b", ENTRY) == ENTRY
    now = 3599.0
    assert budget.admit("a", ENTRY) is None
    now = 3600.0
    assert [budget.admit("a", ENTRY) for _ in range(4)] == [ENTRY, ENTRY, MORE, None]
