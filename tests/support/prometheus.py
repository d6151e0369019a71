"""Run Prometheus' promtool on rules and expressions, and analyze expressions."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from support import libyaml
from support.programs import require

TARGET = 'namespace="shop",job="sidekey",instance="10.0.0.1:15091"'
"""The labels that Prometheus gives to what it scrapes."""

METRICS_PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"

_SET_OPERATORS_AND_MODIFIERS = frozenset({"and", "or", "unless", "bool", "offset"})


class DocumentedMetric(NamedTuple):
    """A row of the table in docs/metrics.md."""

    type: str
    meaning: str


def documented() -> dict[str, DocumentedMetric]:
    """Read the metric families of docs/metrics.md in order."""
    rows = re.findall(r"^\| `(sidekey_\w+)` \| (\w+) \|[^|]*\| (.*) \|$", METRICS_PAGE.read_text("utf-8"), re.M)
    return {name: DocumentedMetric(kind, meaning) for name, kind, meaning in rows}


def promtool(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run promtool to its end."""
    # It ends within seconds, so that collecting garbage is a waste, and so are threads beside those of other tests.
    environment = os.environ | {"GOGC": "off", "GOMAXPROCS": "1"}
    command = [require("promtool"), *arguments]
    return subprocess.run(command, env=environment, input=text, capture_output=True, text=True, timeout=60, check=False)


def metrics_of(expression: str) -> set[str]:
    """Return the metrics and recorded series that a PromQL expression reads."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", expression)
    bare = re.sub(r"\{[^{}]*\}|\[[^\]]*\]", " ", bare)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    names = re.findall(r"(?<![\w.:])[a-zA-Z_:][\w:]*(?!\s*\(|[\w:])", bare)
    return {name for name in names if name not in _SET_OPERATORS_AND_MODIFIERS}


def values_of(expression: str, label: str) -> set[str]:
    """Return the values that an expression compares a label with: the alternatives of a pattern, or the pattern."""
    patterns = re.findall(rf'\b{label}\s*(?:=|!=|=~|!~)\s*"([^"]*)"', expression)
    return {value for pattern in patterns for value in pattern.split("|")}


def examples_of(page: Path) -> list[str]:
    """Return the expressions in the text of a page, one a line."""
    text = page.read_text("utf-8")
    return [line for block in re.findall(r"^```promql\n(.*?)^```", text, re.M | re.S) for line in block.splitlines()]


def rules_of(path: Path) -> list[dict[str, Any]]:
    """Return every rule of a rules file in order."""
    return [rule for group in _groups_of(path) for rule in group["rules"]]


@cache
def _groups_of(path: Path) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = libyaml.load(path.read_text("utf-8"))["groups"]
    return groups


def rules_for(path: Path, alert: str) -> dict[str, Any]:
    """Build a rules file with one alert and the recorded series that it reads.

    With all rules, promtool would take long: it evaluates each at every step of days.
    """
    every = rules_of(path)
    needed: set[str] = set()
    alerts = [rule for rule in every if rule.get("alert") == alert]
    while alerts:
        read = {name for rule in alerts for name in metrics_of(rule["expr"])} - needed
        needed |= read
        alerts = [rule for rule in every if rule.get("record") in read]
    groups = [
        group
        | {"rules": [rule for rule in group["rules"] if rule.get("alert") == alert or rule.get("record") in needed]}
        for group in _groups_of(path)
    ]
    return {"groups": [group for group in groups if group["rules"]]}


def expressions_of(dashboard: dict[str, Any]) -> Iterator[str]:
    """Return every PromQL expression of panels and annotations, as Grafana sends it with all values selected."""
    chosen = {variable["name"]: variable.get("allValue", "") for variable in dashboard["templating"]["list"]}
    chosen["__rate_interval"] = "5m"
    asking = [target for panel in dashboard["panels"] for target in panel.get("targets", ())]
    for item in (*asking, *dashboard["annotations"]["list"]):
        if "expr" in item:
            yield re.sub(r"\$(\w+)", lambda match: chosen[match[1]], item["expr"])


def series_of(page: str) -> Iterator[dict[str, str]]:
    """Convert a scraped page to input of `promtool test rules`: counters grow, other values stay."""
    for family in text_string_to_metric_families(page):
        grows = family.type in {"counter", "histogram"}
        for sample in family.samples:
            labels = ",".join([TARGET, *(f"{name}={json.dumps(value)}" for name, value in sample.labels.items())])
            step = f"+{max(sample.value, 1):g}" if grows else "+0"
            yield {"series": f"{sample.name}{{{labels}}}", "values": f"{sample.value:f}{step}x60"}


def without_data(expressions: Iterable[str], page: str, folder: Path, rules: Path) -> list[str]:
    """Return the expressions without a result half an hour after the first scrape of a page."""
    remaining = list(expressions)
    checks = [
        {"expr": f"count({expression}) > bool 0", "eval_time": "30m", "exp_samples": [{"labels": "{}", "value": 1}]}
        for expression in remaining
    ]
    tests = folder / "data.yaml"
    series = list(series_of(page))
    tests.write_text(
        json.dumps(
            {
                "rule_files": [str(rules)],
                "evaluation_interval": "1m",
                "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": checks}],
            }
        )
    )
    run = promtool("test", "rules", str(tests))
    output = run.stdout + run.stderr
    # An expression is repeated as a Go string, which for these is a JSON one.
    missed = [text for text, check in zip(remaining, checks, strict=True) if json.dumps(check["expr"]) in output]
    assert (run.returncode == 0) is not bool(missed), output
    return missed
