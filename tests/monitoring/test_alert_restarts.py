"""Alerts keep firing through a restart, for every scrape interval and a late first scrape."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from support.prometheus import promtool, rules_for, rules_of

ALERTS = Path(__file__).parents[2] / "helm" / "sidekey" / "files" / "alerts.yaml"
MINUTES = 60
DIED, STARTED = 20 * 60, 20 * 60 + 25
"""The seconds of the last scrape of the old process and of the start of the new one."""


STEP = 15
"""The seconds between two samples of a series. Some are empty if the scrape interval is longer."""


def labels(namespace: str, instance: str, **more: str) -> str:
    named = {"namespace": namespace, "job": "sidekey", "instance": instance, **more}
    return ",".join(f"{name}={json.dumps(value)}" for name, value in named.items())


def scraped(interval: int, since: int, until: int, value: Any) -> list[str]:
    """Return the samples of a process that is scraped between two moments. `value` maps a moment to a sample."""
    values = []
    for now in range(0, MINUTES * 60 + 1, STEP):
        scrapes = now % interval == 0
        if scrapes and since <= now <= until:
            values.append(f"{value(now):g}")
        else:
            values.append("stale" if scrapes and until < now <= until + interval else "_")
    return values


def processes(interval: int, first: int, *, moved: bool) -> list[tuple[str, int, int, int]]:
    """Return two processes, one after the other: instance, start, first and last scrape."""
    second = "10.0.0.2:15091" if moved else "10.0.0.1:15091"
    return [("10.0.0.1:15091", 0, 0, DIED), (second, STARTED, STARTED + first, MINUTES * 60)]


def series(namespace: str, interval: int, first: int, *, moved: bool, counters: dict[str, Any]) -> list[dict[str, str]]:
    """Return the stored series: counters by selector, each computed from the age of its process."""
    stored: dict[str, list[str]] = {}
    for instance, started, since, until in processes(interval, first, moved=moved):
        values = {
            f"sidekey_build_info{{{labels(namespace, instance, version='0.1.0')}}}": lambda _now: 1,
            f"process_start_time_seconds{{{labels(namespace, instance)}}}": lambda _now, started=started: started,
            **{
                f"{name.partition('{')[0]}{{{labels(namespace, instance)},{name.partition('{')[2]}": (
                    lambda now, started=started, count=count: count(now - started)
                )
                for name, count in counters.items()
            },
        }
        for name, value in values.items():
            samples = scraped(interval, since, until, value)
            before = stored.get(name)
            stored[name] = (
                samples if before is None else [a if b == "_" else b for a, b in zip(before, samples, strict=True)]
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


def test_denials_have_the_same_recording_rule_as_requests() -> None:
    """The tests of requests therefore apply to denials too."""
    recorded = {rule["record"]: rule["expr"] for rule in rules_of(ALERTS) if "record" in rule}
    denials = recorded["integration_reason:sidekey_denials:increase5m"]
    requests = denials.replace("sidekey_denials_total", "sidekey_requests_total").replace("reason", "outcome")
    assert requests == recorded["integration_outcome:sidekey_requests:increase5m"]


def restart_test(alert: str) -> dict[str, Any]:
    """Build a promtool test in which the alert fires each half minute, from before the restart until long after.

    Each interval and each kind of restart has its own namespace, so that promtool evaluates the rules only once.
    """
    fires, counters = CASES[alert]
    stored, namespaces = [], []
    for interval, late, moved in product((15, 30, 60), (0, 90), (False, True)):
        first = -(-(STARTED + late) // interval) * interval - STARTED
        namespace = f"every {interval} s, first after {first} s, {'another' if moved else 'same'} instance"
        namespaces.append(namespace)
        stored += series(namespace, interval, first, moved=moved, counters=counters)
    check = {
        "expr": f'count by (namespace) (ALERTS{{alertname="{alert}",alertstate="firing"}})',
        "exp_samples": [{"labels": f"{{namespace={json.dumps(namespace)}}}", "value": 1} for namespace in namespaces],
    }
    checks = [check | {"eval_time": f"{second}s"} for second in range(fires * 60, MINUTES * 60, 30)]
    return {"interval": f"{STEP}s", "input_series": stored, "promql_expr_test": checks}


@pytest.mark.parametrize("alert", CASES)
def test_alert_keeps_firing_through_a_restart(alert: str, tmp_path: Path) -> None:
    (tmp_path / "alerts.yaml").write_text(json.dumps(rules_for(ALERTS, alert)))
    tests = [restart_test(alert)]
    path = tmp_path / "restarts.yaml"
    path.write_text(json.dumps({"rule_files": ["alerts.yaml"], "evaluation_interval": "30s", "tests": tests}))
    result = promtool("test", "rules", str(path))
    assert result.returncode == 0, (result.stdout + result.stderr)[:2000]
