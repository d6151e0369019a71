"""The report on the store: metrics always, and the log for each change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import structlog

from sidekey.observe.metrics import Metrics
from sidekey.store.state import Name, State, StateMark
from sidekey.store.store import Health
from sidekey.store_manager import StoreReport
from support.scraping import samples, scrape

OLDER: dict[Name, tuple[int, int]] = {("caller", "billing"): (7, 3)}


async def page(metrics: Metrics) -> dict[str, float]:
    """Scrape the samples of the store."""
    scraped = samples(await scrape(metrics))
    return {name: value for (name, _), value in scraped.items() if name.startswith("sidekey_store_")}


async def test_process_without_a_store_has_no_series() -> None:
    assert await page(Metrics()) == {}


async def test_series_have_the_last_report() -> None:
    metrics = Metrics()
    report = StoreReport(metrics)
    report.note(Health(up=True), State(StateMark(1, 7, "7")))
    assert await page(metrics) == {"sidekey_store_up": 1, "sidekey_store_revision": 7, "sidekey_store_rolled_back": 0}
    report.note(Health(up=False, problem="x"), State(StateMark(1, 7, "7"), rolled_back=OLDER))
    assert await page(metrics) == {"sidekey_store_up": 0, "sidekey_store_revision": 7, "sidekey_store_rolled_back": 1}


@pytest.fixture
def logged() -> Any:
    with structlog.testing.capture_logs() as lines:
        yield lines


def test_log_has_each_change_once(logged: list[Mapping[str, Any]]) -> None:
    report = StoreReport(Metrics())
    for problem, read in (("", True), ("gone", True), ("", True), ("away", False)):
        for _ in range(2):
            report.note(Health(not problem, problem), State(), read=read)
    assert [(line["log_level"], line["event"], line.get("reason")) for line in logged] == [
        ("warning", "the store cannot be used: what is loaded stays in use", "gone"),
        ("info", "the store is in use", None),
        ("warning", "the store cannot be used: only what is in files is served", "away"),
    ]


def test_altered_row_is_logged_once(logged: list[Mapping[str, Any]]) -> None:
    report = StoreReport(Metrics())
    one: Name = ("caller", "b")
    for altered in ({("token", "ops"), one}, {one, ("token", "ops")}, set[Name](), {one}):
        report.note(Health(up=True), State(altered=frozenset(altered)))
    assert [(line["kind"], line["id"]) for line in logged] == [("caller", "b"), ("token", "ops"), ("caller", "b")]


def test_older_row_is_logged_once_with_its_versions(logged: list[Mapping[str, Any]]) -> None:
    report = StoreReport(Metrics())
    for rolled_back in ({}, OLDER, OLDER, {**OLDER, ("preset", "hook"): (2, 0)}):
        report.note(Health(up=True), State(rolled_back=rolled_back))
    assert [(line["kind"], line["id"], line["seen"], line["found"]) for line in logged] == [
        ("caller", "billing", 7, 3),
        ("preset", "hook", 2, 0),
    ]
