"""The metrics page: every series, valid for Prometheus' parser and linter."""

from __future__ import annotations

import asyncio
import gzip
import math
import platform
import subprocess
from dataclasses import replace
from time import process_time, thread_time, time

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics

import sidekey
from sidekey.build import build
from sidekey.credentials.base import CredentialTraits, FixedCredential, Grant, InjectionPoints
from sidekey.observe.metrics import BOUNDS, Metrics
from sidekey.policy.targets import Policy
from sidekey.process import GARBAGE_COLLECTOR
from sidekey.snapshot.secret_loader import SecretLoader
from sidekey.snapshot.snapshot import Integration, Snapshot, StoredObjects
from sidekey.snapshot.status import STATUSES, FailingSince
from support.plane import callers_of, integration
from support.presets import preset
from support.programs import require
from support.scraping import OPENMETRICS, listening, samples, scrape, series
from support.statuses import with_certificate, with_unreadable_secrets

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,"
    "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)


def busy() -> Metrics:
    """Build metrics with a sample in every family."""
    metrics = Metrics()
    secrets = SecretLoader(lambda: FixedCredential(Grant()))
    metrics.integrations = {
        "crm": Integration("crm", "basic", Policy(), None, secrets, CredentialTraits(InjectionPoints()))
    }
    metrics.stats("crm").record("2xx", 0.004)
    metrics.stats("crm").record("2xx", 40.0)
    metrics.stats("crm").record("upstream_timeout", 30.0)
    metrics.unknown.record("integration_denied", 0.0002)
    metrics.in_flight, metrics.in_flight_limit = 3, 10_000
    metrics.utilization = lambda: (0.5, 0.75, 0.0)
    metrics.upstream_open, metrics.count_idle, metrics.upstream_connecting = 7, lambda: 4, 1
    for outcome in ["ok"] * 5 + ["connection_refused"]:
        metrics.stats("crm").count_connect(outcome)
    metrics.stats("crm").count_denial("outside_prefix")
    metrics.unknown.count_denial("integration_unlisted")
    metrics.calls["crm", "ok"] += 1
    metrics.grants.record(0.5)
    metrics.first_bytes.record(0.25)
    metrics.first_bytes.record(40.0)
    metrics.prepare(Snapshot(metrics.integrations, callers_of({"t": None}), {"welcome": preset("welcome")}))()
    metrics.count_caller("caller0", "2xx")
    for name, outcome in [("welcome", "2xx")] * 3 + [("unknown", "preset_denied")]:
        metrics.count_preset(name, outcome)
    metrics.calls["crm", "rate_limited"] += 1
    metrics.expiries["crm", "token"] = 1_700_003_600.5
    metrics.reload_failures["crm", "certificate"] += 2
    metrics.failing = lambda: {"crm": FailingSince(1_700_000_000)}
    metrics.config_loaded, metrics.config_loaded_at = True, 1_700_000_000.25
    return metrics


async def test_every_series_reads_back_with_its_value() -> None:
    result = samples(await scrape(busy()))
    crm = ("integration", "crm")
    expected = {
        ("sidekey_requests_total", (crm, ("outcome", "2xx"))): 2,
        ("sidekey_requests_total", (crm, ("outcome", "upstream_timeout"))): 1,
        ("sidekey_requests_total", (("integration", "unknown"), ("outcome", "integration_denied"))): 1,
        ("sidekey_request_duration_seconds_count", (crm,)): 3,
        ("sidekey_request_duration_seconds_sum", (crm,)): 70.004,
        ("sidekey_phase_duration_seconds_sum", (("phase", "grant"),)): 0.5,
        ("sidekey_phase_duration_seconds_bucket", (("le", "0.25"), ("phase", "first_byte"))): 1,
        ("sidekey_phase_duration_seconds_bucket", (("le", "30.0"), ("phase", "first_byte"))): 1,
        ("sidekey_phase_duration_seconds_bucket", (("le", "+Inf"), ("phase", "first_byte"))): 2,
        ("sidekey_phase_duration_seconds_count", (("phase", "first_byte"),)): 2,
        ("sidekey_requests_in_flight", ()): 3,
        ("sidekey_in_flight_limit", ()): 10_000,
        ("sidekey_in_flight_share", ()): 0.75,
        ("sidekey_upstream_connections", (("state", "idle"),)): 4,
        ("sidekey_upstream_connections", (("state", "active"),)): 3,
        ("sidekey_upstream_connections", (("state", "connecting"),)): 1,
        ("sidekey_upstream_connects_total", (crm, ("outcome", "ok"))): 5,
        ("sidekey_upstream_connects_total", (crm, ("outcome", "connection_refused"))): 1,
        ("sidekey_denials_total", (crm, ("reason", "outside_prefix"))): 1,
        ("sidekey_denials_total", (("integration", "unknown"), ("reason", "integration_unlisted"))): 1,
        ("sidekey_token_requests_total", (crm, ("outcome", "ok"))): 1,
        ("sidekey_token_requests_total", (crm, ("outcome", "rate_limited"))): 1,
        ("sidekey_caller_requests_total", (("caller", "caller0"), ("outcome", "2xx"))): 1,
        ("sidekey_preset_requests_total", (("outcome", "2xx"), ("preset", "welcome"))): 3,
        ("sidekey_preset_requests_total", (("outcome", "preset_denied"), ("preset", "unknown"))): 1,
        ("sidekey_credential_expiry_timestamp_seconds", (("credential", "token"), crm)): 1_700_003_600.5,
        ("sidekey_credential_reload_failures_total", (("credential", "certificate"), crm)): 2,
        ("sidekey_integration_info", (crm, ("kind", "basic"))): 1,
        ("sidekey_integration_failing_since_timestamp_seconds", (crm,)): 1_700_000_000,
        ("sidekey_config_last_reload_successful", ()): 1,
        ("sidekey_config_last_reload_success_timestamp_seconds", ()): 1_700_000_000.25,
    }
    assert {key: result.get(key) for key in expected} == pytest.approx(expected)
    build_labels = {("version", sidekey.__version__), ("python", platform.python_version()), ("build", build())}
    assert [set(labels) for name, labels in result if name == "sidekey_build_info"] == [build_labels]
    assert any(name == "process_cpu_seconds_total" for name, _ in result)


async def test_buckets_are_cumulative_and_agree_with_the_count() -> None:
    result = samples(await scrape(busy()))
    buckets = {
        float(dict(labels)["le"]): value
        for (name, labels), value in result.items()
        if name == "sidekey_request_duration_seconds_bucket" and ("integration", "crm") in labels
    }
    assert sorted(buckets) == [*BOUNDS, math.inf]
    assert (buckets[0.0025], buckets[0.005], buckets[10.0], buckets[30.0], buckets[math.inf]) == (0, 1, 1, 2, 3)


async def test_openmetrics_has_the_same_samples_as_the_text_format() -> None:
    """Prometheus' parser of OpenMetrics is stricter."""
    async with listening(busy()) as scraper:
        text = await scraper.page()
        page = await scraper.page({"Accept": OPENMETRICS})
    expected = {key: value for key, value in samples(text).items() if not key[0].startswith("process_")}
    result = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in openmetrics(page)
        for sample in family.samples
    }
    assert {key: value for key, value in result.items() if not key[0].startswith("process_")} == expected
    assert page.endswith("\n# EOF\n")


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, TEXT_TYPE),
        ("*/*", TEXT_TYPE),
        ("text/plain;version=1.0.0;escaping=dots", TEXT_TYPE),
        ("application/openmetrics-text-2", TEXT_TYPE),
        (OPENMETRICS, OPENMETRICS_TYPE),
        ("text/html, Application/OpenMetrics-Text ;q=0.5", OPENMETRICS_TYPE),
        ("application/openmetrics-text;version=x", OPENMETRICS_TYPE),
        (PROMETHEUS_2, OPENMETRICS_TYPE),
        (PROMETHEUS_3, OPENMETRICS_TYPE),
    ],
)
async def test_scraper_selects_openmetrics(accept: str | None, content_type: str) -> None:
    """Any version is accepted."""
    fields = {} if accept is None else {"Accept": accept}
    async with (
        listening(busy()) as scraper,
        scraper.client.get("/metrics", headers=fields) as page,
        scraper.client.head("/metrics", headers=fields) as head,
    ):
        assert (page.status, page.headers["Content-Type"]) == (200, content_type)
        assert (head.status, head.headers["Content-Type"]) == (200, content_type)
        assert page.headers["Vary"] == "Accept, Accept-Encoding"


@pytest.mark.parametrize(
    ("accepted", "coding"), [("gzip", "gzip"), ("deflate, GZIP;q=0.5, br", "gzip"), ("identity", None), ("br", None)]
)
async def test_page_is_compressed_if_the_scraper_accepts_gzip(accepted: str, coding: str | None) -> None:
    """Compression saves more than 90 %."""
    metrics = Metrics()
    for number in range(200):
        metrics.stats(f"i{number}").record("2xx", 0.1)
    async with listening(metrics) as scraper:
        plain = await scraper.page({"Accept-Encoding": "identity"})
        async with scraper.client.get("/metrics", headers={"Accept-Encoding": accepted}, auto_decompress=False) as page:
            assert page.headers.get("Content-Encoding") == coding
            body = await page.read()
        async with scraper.client.head("/metrics", headers={"Accept-Encoding": accepted}) as head:
            assert head.headers.get("Content-Encoding") == coding
    text = body if coding is None else gzip.decompress(body)
    assert lines_of(text.decode()) == lines_of(plain)
    assert coding is None or len(body) < len(text) / 10


def lines_of(page: str) -> list[str]:
    """Return the lines of Sidekey's families. Values of the process change all the time."""
    return [line for line in page.splitlines() if "process_" not in line]


async def test_concurrent_scrapes_are_all_served() -> None:
    metrics = busy()
    async with listening(metrics) as scraper:
        before = metrics.leaves_issued
        scraping = asyncio.gather(*(scraper.page() for _ in range(10)))
        while not scraping.done():
            metrics.leaves_issued += 1
            await asyncio.sleep(0)
        counts = [samples(page)["sidekey_leaves_issued_total", ()] for page in await scraping]
    assert all(before <= count <= metrics.leaves_issued for count in counts)


async def test_series_begins_with_its_first_request() -> None:
    metrics = busy()
    idle = Metrics()
    idle.integrations = metrics.integrations
    text = await scrape(idle)
    assert {line.partition("{")[0] for line in text.splitlines() if "integration=" in line} == {
        "sidekey_integration_status"
    }
    assert "sidekey_upstream_connects_total" not in text
    assert "sidekey_token_requests_total" not in text
    assert "sidekey_credential_" not in text
    result = samples(text)
    assert result["sidekey_requests_in_flight", ()] == 0
    assert result["sidekey_in_flight_share", ()] == 0
    assert result["sidekey_upstream_connections", (("state", "idle"),)] == 0


async def test_samples_of_a_family_follow_its_type_line() -> None:
    metrics = busy()
    for number in range(300):
        metrics.stats(f"i{number}").record("2xx", 0.1)
    families = [line.split()[2] for line in (await scrape(metrics)).splitlines() if line.startswith("# TYPE")]
    assert len(families) == len(set(families))
    assert len(samples(await scrape(metrics))) > 300 * 18


async def test_promtool_has_no_findings() -> None:
    promtool = require("promtool")
    text = await scrape(busy())
    result = await asyncio.to_thread(
        subprocess.run, [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


async def test_scrape_does_not_block_the_event_loop() -> None:
    """Rendering takes most of a scrape's CPU time, and no step of the event loop takes that long.

    The collector is off: to collect what earlier tests left takes 0.1 s by itself.
    """
    metrics = Metrics()
    for number in range(5000):
        metrics.stats(f"i{number}").record("2xx", 0.1)
    async with listening(metrics) as scraper:
        with GARBAGE_COLLECTOR.paused():
            started = process_time()
            scraping = asyncio.create_task(scraper.page())
            longest, before = 0.0, thread_time()
            while not scraping.done():
                await asyncio.sleep(0)
                now = thread_time()
                longest, before = max(longest, now - before), now
            await scraping
            used = process_time() - started
    assert longest < used / 5


async def test_requests_during_a_scrape_do_not_break_the_page() -> None:
    """The count of each histogram agrees with its buckets."""
    metrics = Metrics()
    for number in range(2000):
        metrics.stats(f"i{number}").record("2xx", 1.0)
    async with listening(metrics) as scraper:
        scraping = asyncio.create_task(scraper.page())
        number = 0
        while not scraping.done():
            number += 1
            for name in (f"late{number}", "i1999"):
                stats = metrics.stats(name)
                stats.record(f"late{number}", 1.0)
                stats.count_connect(f"late{number}")
            await asyncio.sleep(0)
        result = samples(await scraping)
    assert number > 3
    name = "sidekey_request_duration_seconds"
    for series_name, labels in list(result):
        if series_name == f"{name}_count":
            count = result[series_name, labels]
            # Each request took a second.
            assert result[f"{name}_sum", labels] == count
            assert result[f"{name}_bucket", (*labels, ("le", "+Inf"))] == count


async def test_local_ca_has_two_families() -> None:
    metrics = Metrics()
    result = samples(await scrape(metrics))
    assert result["sidekey_leaves_issued_total", ()] == 0
    assert ("sidekey_ca_expiry_timestamp_seconds", ()) not in result
    metrics.leaves_issued, metrics.ca_expires = 3, 1_790_000_000.0
    result = samples(await scrape(metrics))
    assert result["sidekey_leaves_issued_total", ()] == 3
    assert result["sidekey_ca_expiry_timestamp_seconds", ()] == 1_790_000_000


async def test_stored_integrations_are_counted_by_status() -> None:
    metrics = Metrics()
    assert "sidekey_store_integrations" not in await scrape(metrics)
    names = ("a", "expired", "expiring", "fails", "unread")
    served = {name: replace(integration(name, "https://up.test"), stored=True) for name in names}
    served["expired"] = with_certificate(served["expired"], time() - 1)
    served["expiring"] = with_certificate(served["expiring"], time() + 86_400)
    served["unread"] = with_unreadable_secrets(served["unread"], "auth.password: is empty")
    problems = dict.fromkeys(served, "") | {"b": "its row was changed", "c": "it does not open"}
    metrics.prepare(Snapshot(served, stored=StoredObjects(problems=problems, integrations=served)))()
    metrics.failing = lambda: dict.fromkeys(("fails", "of-a-file", "c"), FailingSince(1))
    assert series(await scrape(metrics), "sidekey_store_integrations") == [
        ({"state": state}, count) for state, count in zip(STATUSES, (1, 1, 1, 4), strict=True)
    ]
    metrics.prepare(Snapshot({}))()
    assert "sidekey_store_integrations" not in await scrape(metrics)
