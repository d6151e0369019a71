"""What operators are told of the store: by metrics always, by the log where it changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import structlog

from sidekey.observe.metrics import Metrics
from sidekey.observe.store_report import StoreReport
from support.scraping import samples, scrape


async def page(metrics: Metrics) -> dict[str, float]:
    """Scrape the samples of the store."""
    found = samples(await scrape(metrics))
    return {name: value for (name, _), value in found.items() if name.startswith("sidekey_store_")}


async def test_without_a_store_there_is_no_series() -> None:
    assert await page(Metrics()) == {}


async def test_the_series_say_how_it_was_last() -> None:
    metrics = Metrics()
    report = StoreReport(metrics)
    report.note(up=True, revision=7, rolled_back=False, problem="")
    assert await page(metrics) == {"sidekey_store_up": 1, "sidekey_store_revision": 7, "sidekey_store_rolled_back": 0}
    report.note(up=False, revision=7, rolled_back=True, problem="x")
    assert await page(metrics) == {"sidekey_store_up": 0, "sidekey_store_revision": 7, "sidekey_store_rolled_back": 1}


@pytest.fixture
def logged() -> Any:
    with structlog.testing.capture_logs() as lines:
        yield lines


def test_the_log_says_what_changes_and_nothing_twice(logged: list[Mapping[str, Any]]) -> None:
    report = StoreReport(Metrics())
    for _ in range(2):
        report.note(up=True, revision=1, rolled_back=False, problem="")
        assert logged == []
    for _ in range(2):
        report.note(up=False, revision=1, rolled_back=False, problem="gone")
    for _ in range(2):
        report.note(up=True, revision=2, rolled_back=True, problem="older")
    for _ in range(2):
        report.note(up=True, revision=3, rolled_back=False, problem="")
    assert [(line["log_level"], line["event"].partition(":")[0], line.get("reason")) for line in logged] == [
        ("warning", "the store cannot be used", "gone"),
        ("error", "the store is not used", "older"),
        ("info", "the store is in use", None),
    ]


def test_an_altered_row_is_named_once(logged: list[Mapping[str, Any]]) -> None:
    report = StoreReport(Metrics())
    for altered in ([("token", "ops"), ("caller", "b")], [("caller", "b"), ("token", "ops")], [], [("caller", "b")]):
        report.note_altered(altered)
    assert [(line["kind"], line["id"]) for line in logged] == [("caller", "b"), ("token", "ops"), ("caller", "b")]
