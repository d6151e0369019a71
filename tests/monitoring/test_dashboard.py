"""helm/sidekey/files/dashboard.json: what Grafana needs of it, and expressions that Prometheus takes."""

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
    """Each as the expression of a rule."""
    rules = [{"record": f"panel:{number}", "expr": text} for number, text in enumerate(expressions_of(DASHBOARD))]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    run = promtool("check", "rules", str(path))
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"{len(rules)} rules found" in run.stdout
    assert len(rules) > 30


def test_every_metric_of_the_dashboard_exists() -> None:
    """It is a family of ours, or comes from the process collector."""
    families = documented()
    known = families.keys() | PROCESS | {"ALERTS"}
    histograms = [name for name, family in families.items() if family.type == "histogram"]
    known |= {f"{name}_{part}" for name in histograms for part in ("bucket", "sum", "count")}
    assert {name for text in expressions_of(DASHBOARD) for name in metrics_of(text)} - known == set()


def test_every_family_is_on_the_dashboard() -> None:
    """What is measured can be looked at."""
    shown = {
        re.sub(r"_(bucket|sum|count)$", "", name) for text in expressions_of(DASHBOARD) for name in metrics_of(text)
    }
    assert documented().keys() - shown == set()


def test_every_panel_asks_the_chosen_data_source() -> None:
    """None is bound to the data source of whoever drew it."""
    for panel in PANELS:
        if panel["type"] != "row":
            assert [panel["datasource"], *(target["datasource"] for target in panel["targets"])] == [DATASOURCE] * (
                1 + len(panel["targets"])
            )


def test_every_panel_has_a_title_and_says_what_it_shows() -> None:
    """A row has a title."""
    assert [panel["id"] for panel in PANELS if not panel["title"]] == []
    assert [panel["title"] for panel in PANELS if panel["type"] != "row" and not panel["description"]] == []


def test_panels_have_ids_of_their_own_and_no_two_overlap() -> None:
    """Grafana would draw one over the other."""
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in PANELS)
    assert [(a["title"], b["title"]) for a, b in combinations(PANELS, 2) if overlap(a["gridPos"], b["gridPos"])] == []


def overlap(a: dict[str, int], b: dict[str, int]) -> bool:
    across = a["x"] < b["x"] + b["w"] and b["x"] < a["x"] + a["w"]
    return across and a["y"] < b["y"] + b["h"] and b["y"] < a["y"] + a["h"]


def test_the_variables_choose_what_is_looked_at() -> None:
    """Each narrows those after it, and everything is chosen at first."""
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
    """A choice of a namespace holds for the whole dashboard."""
    texts = [target["expr"] for panel in PANELS for target in panel.get("targets", ())]
    for text in texts:
        selectors = re.findall(r"\b(?:sidekey|process)_\w+(\{[^}]*\})?", text)
        assert all('namespace=~"$namespace", job=~"$job"' in selector for selector in selectors), text


def test_it_is_a_dashboard_that_grafana_11_takes() -> None:
    """The classic model, schema 39, with a uid that links can rely on, and no id of somebody's database."""
    assert (DASHBOARD["uid"], DASHBOARD["schemaVersion"], "id" in DASHBOARD) == ("sidekey", 39, False)
