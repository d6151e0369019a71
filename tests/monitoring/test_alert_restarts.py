"""Alerts fire on through a restart, whatever the interval of scrapes and however late the first of them is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from support.prometheus import promtool, rules_for, rules_of

ALERTS = Path(__file__).parents[2] / "helm" / "sidekey" / "files" / "alerts.yaml"
MINUTES = 60
DIED, STARTED = 20 * 60, 20 * 60 + 25
"""Seconds: the old process is scraped for the last time, and the new one starts."""


def labels(instance: str, **more: str) -> str:
    named = {"namespace": "shop", "job": "sidekey", "instance": instance, **more}
    return ",".join(f"{name}={json.dumps(value)}" for name, value in named.items())


def scraped(interval: int, since: int, until: int, value: Any) -> list[str]:
    """What each scrape finds of a process between two moments; `value` is asked with the seconds since its start."""
    found = []
    for now in range(0, MINUTES * 60 + 1, interval):
        there = since <= now <= until
        found.append(f"{value(now):g}" if there else "_" if now < since or now - interval > until else "stale")
    return found


def lives(interval: int, first: int, *, moved: bool) -> list[tuple[str, int, int, int]]:
    """Two processes, one after the other: instance, when it started, when it was scraped first and last."""
    second = "10.0.0.2:15091" if moved else "10.0.0.1:15091"
    return [("10.0.0.1:15091", 0, 0, DIED), (second, STARTED, STARTED + first, MINUTES * 60)]


def series(interval: int, first: int, *, moved: bool, counters: dict[str, Any]) -> list[dict[str, str]]:
    """What Prometheus has stored; counters by their selectors, each asked with the age of its process."""
    stored: dict[str, list[str]] = {}
    for instance, started, since, until in lives(interval, first, moved=moved):
        values = {
            f"sidekey_build_info{{{labels(instance, version='0.1.0')}}}": lambda _now: 1,
            f"process_start_time_seconds{{{labels(instance)}}}": lambda _now, started=started: started,
            **{
                f"{name.partition('{')[0]}{{{labels(instance)},{name.partition('{')[2]}": (
                    lambda now, started=started, count=count: count(now - started)
                )
                for name, count in counters.items()
            },
        }
        for name, value in values.items():
            found = scraped(interval, since, until, value)
            before = stored.get(name)
            stored[name] = (
                found if before is None else [a if b == "_" else b for a, b in zip(before, found, strict=True)]
            )
    return [{"series": name, "values": " ".join(values)} for name, values in stored.items()]


CASES: dict[str, tuple[int, dict[str, Callable[[int], float]]]] = {
    "SidekeyUpstreamErrors": (
        16,
        {'sidekey_requests_total{integration="crm",outcome="5xx"}': lambda age: 1 + age // 2},
    ),
    "SidekeyCredentialRejected": (
        11,
        {'sidekey_requests_total{integration="crm",outcome="401"}': lambda age: 2 + age // 30},
    ),
    "SidekeyTokenEndpointRefused": (
        8,
        {'sidekey_token_requests_total{integration="crm",outcome="refused"}': lambda age: 1 + age // 60},
    ),
    "SidekeyCredentialReloadFailed": (
        2,
        {'sidekey_credential_reload_failures_total{integration="crm",credential="certificate"}': lambda age: 1},
    ),
}
"""An alert for each recorded window, and one that waits: the minute at which it fires, and its counter."""


def test_denials_are_recorded_as_requests_are() -> None:
    """So what holds below for those holds for them."""
    recorded = {rule["record"]: rule["expr"] for rule in rules_of(ALERTS) if "record" in rule}
    denials = recorded["integration_reason:sidekey_denials:increase5m"]
    requests = denials.replace("sidekey_denials_total", "sidekey_requests_total").replace("reason", "outcome")
    assert requests == recorded["integration_outcome:sidekey_requests:increase5m"]


def histories(alert: str) -> Iterator[dict[str, Any]]:
    """A test of promtool for each interval and each way to restart: the alert fires at every half minute.

    From before the restart until long after its window has passed.
    """
    fires, counters = CASES[alert]
    check = {
        "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)',
        "exp_samples": [{"labels": "{}", "value": 1}],
    }
    for interval, late, moved in product((15, 30, 60), (0, 90), (False, True)):
        first = -(-(STARTED + late) // interval) * interval - STARTED
        yield {
            "name": f"every {interval} s, first after {first} s, {'another' if moved else 'same'} instance",
            "interval": f"{interval}s",
            "input_series": series(interval, first, moved=moved, counters=counters),
            "promql_expr_test": [check | {"eval_time": f"{second}s"} for second in range(fires * 60, MINUTES * 60, 30)],
        }


@pytest.mark.parametrize("alert", CASES)
def test_an_alert_fires_on_through_a_restart(alert: str, tmp_path: Path) -> None:
    """By the rules that it needs."""
    (tmp_path / "alerts.yaml").write_text(json.dumps(rules_for(ALERTS, alert)))
    tests = [*histories(alert)]
    path = tmp_path / "restarts.yaml"
    path.write_text(json.dumps({"rule_files": ["alerts.yaml"], "evaluation_interval": "30s", "tests": tests}))
    run = promtool("test", "rules", str(path))
    assert run.returncode == 0, (run.stdout + run.stderr)[:2000]
