"""helm/sidekey/files/dashboard.json: valid for Grafana, with expressions that Prometheus accepts."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from support.prometheus import documented, expressions_of, metrics_of, promtool

FILE = Path(__file__).parents[2] / "helm" / "sidekey" / "files" / "dashboard.json"
DASHBOARD: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
VARIABLES: list[dict[str, Any]] = DASHBOARD["templating"]["list"]
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

PROCESS = {
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
}


def test_promtool_accepts_every_expression(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{number}", "expr": text} for number, text in enumerate(expressions_of(DASHBOARD))]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    result = promtool("check", "rules", str(path))
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len(rules)} rules found" in result.stdout
    assert len(rules) > 30


def test_every_metric_of_the_dashboard_exists() -> None:
    families = documented()
    known = families.keys() | PROCESS | {"ALERTS"}
    histograms = [name for name, family in families.items() if family.type == "histogram"]
    known |= {f"{name}_{part}" for name in histograms for part in ("bucket", "sum", "count")}
    assert {name for text in expressions_of(DASHBOARD) for name in metrics_of(text)} - known == set()


def test_every_family_is_on_the_dashboard() -> None:
    shown = {
        re.sub(r"_(bucket|sum|count)$", "", name) for text in expressions_of(DASHBOARD) for name in metrics_of(text)
    }
    assert documented().keys() - shown == set()


def test_every_panel_uses_the_selected_data_source() -> None:
    for panel in PANELS:
        if panel["type"] != "row":
            assert [panel["datasource"], *(target["datasource"] for target in panel["targets"])] == [DATASOURCE] * (
                1 + len(panel["targets"])
            )


def test_every_panel_has_a_title_and_a_description() -> None:
    assert [panel["id"] for panel in PANELS if not panel["title"]] == []
    assert [panel["title"] for panel in PANELS if panel["type"] != "row" and not panel["description"]] == []


def test_panels_have_unique_ids_and_do_not_overlap() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in PANELS)
    assert [(a["title"], b["title"]) for a, b in combinations(PANELS, 2) if overlap(a["gridPos"], b["gridPos"])] == []


def overlap(a: dict[str, int], b: dict[str, int]) -> bool:
    across = a["x"] < b["x"] + b["w"] and b["x"] < a["x"] + a["w"]
    return across and a["y"] < b["y"] + b["h"] and b["y"] < a["y"] + a["h"]


def test_variables_filter_each_other_and_default_to_all() -> None:
    assert [variable["name"] for variable in VARIABLES] == ["datasource", "namespace", "job", "integration"]
    for variable in VARIABLES[1:]:
        assert (variable["datasource"], variable["multi"], variable["current"]["value"]) == (
            DATASOURCE,
            True,
            ["$__all"],
        )
    assert "$namespace" in VARIABLES[2]["query"]["query"]
    assert "$job" in VARIABLES[3]["query"]["query"]


def test_every_expression_filters_by_namespace_and_job() -> None:
    texts = [target["expr"] for panel in PANELS for target in panel.get("targets", ())]
    for text in texts:
        selectors = re.findall(r"\b(?:sidekey|process)_\w+(\{[^}]*\})?", text)
        assert all('namespace=~"$namespace", job=~"$job"' in selector for selector in selectors), text


def test_dashboard_has_the_format_of_grafana_11() -> None:
    """The classic model, schema 39, with a uid for links and without a database ID."""
    assert (DASHBOARD["uid"], DASHBOARD["schemaVersion"], "id" in DASHBOARD) == ("sidekey", 39, False)
