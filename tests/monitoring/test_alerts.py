"""helm/sidekey/files/alerts.yaml: when alerts fire, and what each needs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from sidekey.credentials.base import Outcome
from sidekey.errors import DENIAL_REASONS, RESPONSE_KINDS
from sidekey.observe.metrics import SEPARATE_STATUSES
from sidekey.snapshot.status import STATUSES
from support import libyaml
from support.prometheus import (
    documented,
    examples_of,
    expressions_of,
    metrics_of,
    promtool,
    rules_for,
    rules_of,
    values_of,
)

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "helm" / "sidekey" / "files" / "alerts.yaml"
CASES = sorted((Path(__file__).parent / "rules").glob("*.yaml"))
RUNBOOKS = (ROOT / "docs" / "runbooks.md").read_text("utf-8")
RULES = rules_of(ALERTS)
NAMES = sorted({rule["alert"] for rule in RULES if "alert" in rule})

EXPORTED_BY_PROMETHEUS = {"up", "process_start_time_seconds", "process_open_fds", "process_max_fds"}
"""Metrics in rules that are not Sidekey's own: those of Prometheus and of the process collector."""


def cases_of(path: Path) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = libyaml.load(path.read_text("utf-8"))["tests"]
    return cases


def test_promtool_accepts_the_rules_without_a_finding() -> None:
    result = promtool("check", "rules", "--lint=all", "--lint-fatal", str(ALERTS))
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_alerts_fire_as_their_cases_expect(path: Path, tmp_path: Path) -> None:
    cases = libyaml.load(path.read_text("utf-8"))
    assert [(path.parent / name).resolve() for name in cases["rule_files"]] == [ALERTS]
    (tmp_path / "alerts.yaml").write_text(json.dumps(rules_for(ALERTS, path.stem)), "utf-8")
    (tmp_path / "cases.yaml").write_text(json.dumps(cases | {"rule_files": ["alerts.yaml"]}), "utf-8")
    result = promtool("test", "rules", str(tmp_path / "cases.yaml"))
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_alert_has_a_file_of_cases() -> None:
    assert [path.stem for path in CASES] == NAMES


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_cases_of_an_alert_show_it_firing_and_quiet(path: Path) -> None:
    """The cases cover each severity of the alert."""
    checked = [check for test in cases_of(path) for check in test["alert_rule_test"]]
    assert {check["alertname"] for check in checked} == {path.stem}
    fired = {alert["exp_labels"]["severity"] for check in checked for alert in check["exp_alerts"]}
    assert fired == {rule["labels"]["severity"] for rule in RULES if rule.get("alert") == path.stem}
    assert any(not check["exp_alerts"] for check in checked)


@pytest.mark.parametrize("rule", [rule for rule in RULES if "alert" in rule], ids=lambda rule: rule["alert"])
def test_alert_has_a_severity_two_texts_and_a_runbook(rule: dict[str, Any]) -> None:
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    assert rule["annotations"]["runbook"] == f"docs/runbooks.md#{rule['alert'].lower()}"


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    assert sorted(re.findall(r"^### (Sidekey\w+)$", RUNBOOKS, re.M)) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_runbook_has_all_sections_and_the_severity(name: str) -> None:
    section = RUNBOOKS.partition(f"\n### {name}\n")[2].partition("\n### ")[0].partition("\n## ")[0]
    assert re.findall(r"^- \*\*(\w+)\.\*\*", section, re.M) == ["Meaning", "Check", "Fix", "Verify"]
    severities = {rule["labels"]["severity"] for rule in RULES if rule.get("alert") == name}
    assert set(re.findall(r"\b(warning|critical)\b", section.partition("\n- ")[0])) == severities


def test_every_metric_of_the_rules_exists() -> None:
    known = documented().keys() | EXPORTED_BY_PROMETHEUS
    known |= {rule["record"] for rule in RULES if "record" in rule}
    assert {name for rule in RULES for name in metrics_of(rule["expr"])} - known == set()


def test_every_outcome_of_the_rules_exists() -> None:
    known = {"2xx", "3xx", "4xx", "5xx", *map(str, SEPARATE_STATUSES), *RESPONSE_KINDS, *get_args(Outcome)}
    assert {value for rule in RULES for value in values_of(rule["expr"], "outcome")} - known == set()


def test_every_reason_of_the_rules_and_of_the_dashboard_exists() -> None:
    dashboard = json.loads((ALERTS.parent / "dashboard.json").read_text("utf-8"))
    expressions = [*(rule["expr"] for rule in RULES), *expressions_of(dashboard)]
    assert {value for text in expressions for value in values_of(text, "reason")} - {*DENIAL_REASONS, ".*"} == set()


def test_statuses_of_integrations_exist() -> None:
    """Rules, dashboard and docs use no other status. An alert is for the status `unusable`."""
    pages = [text for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")] for text in examples_of(path)]
    dashboard = json.loads((ALERTS.parent / "dashboard.json").read_text("utf-8"))
    expressions = [*(rule["expr"] for rule in RULES), *expressions_of(dashboard), *pages]
    for metric, label in (("sidekey_store_integrations", "state"), ("sidekey_integration_status", "status")):
        compared = [values_of(text, label) for text in expressions if metric in metrics_of(text)]
        assert {value for values in compared for value in values} - {*STATUSES} == set()
    checked = [values_of(rule["expr"], "status") for rule in RULES if "sidekey_integration_status" in rule["expr"]]
    assert checked == [{"unusable"}]


def test_expressions_for_upstream_responses_include_every_outcome_of_an_upstream() -> None:
    """This concerns rules, dashboard and docs."""
    pages = [text for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")] for text in examples_of(path)]
    dashboard = json.loads((ALERTS.parent / "dashboard.json").read_text("utf-8"))
    expressions = [*(rule["expr"] for rule in RULES), *expressions_of(dashboard), *pages]
    patterns = [match for text in expressions for match in re.findall(r'\boutcome\s*[=!]~\s*"([^"]*)"', text)]
    general = [pattern for pattern in patterns if re.fullmatch(pattern, "4xx")]
    assert len(general) >= 2
    incomplete = [
        pattern for pattern in general if not all(re.fullmatch(pattern, str(status)) for status in SEPARATE_STATUSES)
    ]
    assert incomplete == []


def test_every_denial_and_every_failure_of_an_upstream_is_in_an_alert() -> None:
    checked = {value for rule in RULES for value in values_of(rule["expr"], "outcome")}
    assert {
        code for code in RESPONSE_KINDS if code.endswith("_denied") or code.startswith("upstream_")
    } - checked == set()
    assert set(get_args(Outcome)) - checked == set()
