"""Prometheus' own tool on rules and expressions, and what an expression is made of."""

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


class Documented(NamedTuple):
    """A row of the table in docs/metrics.md."""

    type: str
    meaning: str


def documented() -> dict[str, Documented]:
    """Read the metric families of docs/metrics.md, in their order."""
    rows = re.findall(r"^\| `(sidekey_\w+)` \| (\w+) \|[^|]*\| (.*) \|$", METRICS_PAGE.read_text("utf-8"), re.M)
    return {name: Documented(kind, meaning) for name, kind, meaning in rows}


def promtool(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """One run of promtool to its end."""
    # It ends within seconds, so that collecting garbage is a waste, and so are threads beside those of other tests.
    environment = os.environ | {"GOGC": "off", "GOMAXPROCS": "1"}
    command = [require("promtool"), *arguments]
    return subprocess.run(command, env=environment, input=text, capture_output=True, text=True, timeout=60, check=False)


def metrics_of(expression: str) -> set[str]:
    """The names of the metrics and recorded series that a PromQL expression reads."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", expression)
    bare = re.sub(r"\{[^{}]*\}|\[[^\]]*\]", " ", bare)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    names = re.findall(r"(?<![\w.:])[a-zA-Z_:][\w:]*(?!\s*\(|[\w:])", bare)
    return {name for name in names if name not in _SET_OPERATORS_AND_MODIFIERS}


def values_of(expression: str, label: str) -> set[str]:
    """What an expression compares a label with: each alternative of a pattern, any other pattern as it is."""
    found = re.findall(rf'\b{label}\s*(?:=|!=|=~|!~)\s*"([^"]*)"', expression)
    return {value for pattern in found for value in pattern.split("|")}


def examples_of(page: Path) -> list[str]:
    """The expressions in the text of a page, each a line."""
    text = page.read_text("utf-8")
    return [line for block in re.findall(r"^```promql\n(.*?)^```", text, re.M | re.S) for line in block.splitlines()]


def rules_of(path: Path) -> list[dict[str, Any]]:
    """Every rule of a rules file, in its order."""
    return [rule for group in _groups_of(path) for rule in group["rules"]]


@cache
def _groups_of(path: Path) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = libyaml.load(path.read_text("utf-8"))["groups"]
    return groups


def rules_for(path: Path, alert: str) -> dict[str, Any]:
    """The content of a rules file with those of one alert alone, and the recorded series that it reads.

    promtool evaluates every rule of a file at every step of days.
    """
    every = rules_of(path)
    needed: set[str] = set()
    wanted = [rule for rule in every if rule.get("alert") == alert]
    while wanted:
        read = {name for rule in wanted for name in metrics_of(rule["expr"])} - needed
        needed |= read
        wanted = [rule for rule in every if rule.get("record") in read]
    groups = [
        group
        | {"rules": [rule for rule in group["rules"] if rule.get("alert") == alert or rule.get("record") in needed]}
        for group in _groups_of(path)
    ]
    return {"groups": [group for group in groups if group["rules"]]}


def expressions_of(dashboard: dict[str, Any]) -> Iterator[str]:
    """Every PromQL expression of panels and annotations, as Grafana sends it with everything chosen."""
    chosen = {variable["name"]: variable.get("allValue", "") for variable in dashboard["templating"]["list"]}
    chosen["__rate_interval"] = "5m"
    asking = [target for panel in dashboard["panels"] for target in panel.get("targets", ())]
    for asked in (*asking, *dashboard["annotations"]["list"]):
        if "expr" in asked:
            yield re.sub(r"\$(\w+)", lambda match: chosen[match[1]], asked["expr"])


def series_of(page: str) -> Iterator[dict[str, str]]:
    """A scraped page as input of `promtool test rules`: counters that grow, everything else as it stands."""
    for family in text_string_to_metric_families(page):
        grows = family.type in {"counter", "histogram"}
        for sample in family.samples:
            labels = ",".join([TARGET, *(f"{name}={json.dumps(value)}" for name, value in sample.labels.items())])
            step = f"+{max(sample.value, 1):g}" if grows else "+0"
            yield {"series": f"{sample.name}{{{labels}}}", "values": f"{sample.value:f}{step}x60"}


def without_data(expressions: Iterable[str], page: str, folder: Path, rules: Path) -> list[str]:
    """Those expressions that find nothing in a scraped page, half an hour after it was scraped first."""
    wanted = list(expressions)
    checks = [
        {"expr": f"count({expression}) > bool 0", "eval_time": "30m", "exp_samples": [{"labels": "{}", "value": 1}]}
        for expression in wanted
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
    said = run.stdout + run.stderr
    # An expression is repeated as a Go string, which for these is a JSON one.
    missed = [text for text, check in zip(wanted, checks, strict=True) if json.dumps(check["expr"]) in said]
    assert (run.returncode == 0) is not bool(missed), said
    return missed
