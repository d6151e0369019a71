"""What is published of results.json: the README's figures, docs/performance.md and the plot."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from benchmarks.figures import Reach, at_least
from benchmarks.page import BEGIN, END, PERFORMANCE, PLOT, README, RESULTS, ROOT, number, pages, publish, with_runs


def run(**rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What a run with these rows measured."""
    machine = {
        "processor": "AMD EPYC",
        "kernel": "6.18",
        "cores": "proxy alone on core 1",
        "python": "3.13.5",
        "python_build": "optimised",
    }
    return {
        "date": "2026-01-02",
        "machine": machine,
        "versions": {"sidekey": "0.1.0 compiled", "sidekey pure": "0.1.0 pure", "envoy": "1.40.0"},
        "seconds": 1180,
        "rows": {
            name: {"title": f"title of {name}", "lines": lines, "failures": {}, "tls": {}}
            for name, lines in rows.items()
        },
    }


def results(*runs: dict[str, Any]) -> dict[str, Any]:
    """The results after these runs."""
    found: dict[str, Any] = {"runs": []}
    for one in runs:
        found = with_runs(one, found)
    return found


def line(figure: str, values: dict[str, float], reach: Reach | None = None) -> dict[str, Any]:
    """A line of a row."""
    return {"figure": figure, "values": values, "reach": None if reach is None else asdict(reach)}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the two documents, and nothing between their marks."""
    (tmp_path / PLOT).parent.mkdir(parents=True)
    for path in (README, PERFORMANCE):
        (tmp_path / path).write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    return tmp_path


def table(text: str) -> list[list[str]]:
    """The cells of all tables, line by line, without rules."""
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines() if row.startswith("| ")]


def test_what_is_published_is_in_step_with_the_last_whole_run() -> None:
    """Nothing is copied by hand: `make bench-page` writes what is out of date."""
    found = pages(json.loads((ROOT / RESULTS).read_text("utf-8")))
    assert [str(path) for path, text in found.items() if (ROOT / path).read_text("utf-8") != text] == []


def test_the_last_whole_run_has_every_line_and_every_group_of_the_plot() -> None:
    """A row that is renamed does not go missing silently."""
    text = (ROOT / README).read_text("utf-8").partition(BEGIN)[2].partition(END)[0]
    assert text.count("\n- ") == 6
    assert (ROOT / PLOT).read_text("utf-8").count('class="heading"') == 4


def test_every_row_of_the_last_whole_run_is_in_the_tables() -> None:
    """Also one that is added later."""
    rows = json.loads((ROOT / RESULTS).read_text("utf-8"))["rows"]
    text = (ROOT / PERFORMANCE).read_text("utf-8")
    assert [name for name in rows if f"\n### `{name}`: " not in text] == []


def test_a_row_shows_each_build_and_peer_and_a_goal_that_was_missed(project: Path) -> None:
    """A peer that was not measured has no column; a row without goals has no column for them."""
    rows = {
        "http32": [
            line(
                "requests/s",
                {"sidekey": 50_000.4, "envoy": 30_000},
                at_least(1.8, over="envoy"),
            ),
            line("p50 ms", {"sidekey": 0.70126}),
        ],
        "core": [line("us an exchange", {"sidekey": 4.489, "sidekey pure": 11.491})],
    }
    publish(results(run(**rows)), project)
    text = (project / PERFORMANCE).read_text()
    assert table(text) == [
        ["figure", "Sidekey", "Envoy", "goal", "measured"],
        ["requests/s", "50,000", "30,000", "sidekey / envoy at least 1.8", "1.67 not reached"],
        ["p50 ms", "0.701", "", "", ""],
        ["figure", "Sidekey", "Sidekey (pure)"],
        ["us an exchange", "4.49", "11.5"],
    ]
    assert "- `http32`, requests/s: sidekey / envoy at least 1.8, measured 1.67\n" in text
    assert text.index("## Beside other proxies") < text.index("`http32`: title") < text.index("## Sidekey alone")
    assert text.index("## Sidekey alone") < text.index("`core`: title of core")


def test_published_values_are_medians_and_ranges_of_the_last_five_runs(project: Path) -> None:
    """Also of a goal's ratio, which is taken in each run. A value of fewer runs says so."""
    sidekey = (99, 20, 22, 21, 24, 23)
    runs = [
        run(http32=[line("CPU us a request", {"sidekey": us, "envoy": 44}, at_least(2, "envoy", over="sidekey"))])
        for us in sidekey
    ]
    runs[-1]["rows"]["http32"]["lines"].append(line("p50 ms", {"sidekey": 0.5}))
    publish(results(*runs), project)
    assert table((project / PERFORMANCE).read_text())[1:] == [
        ["CPU us a request", "22 (20 to 24)", "44 (44 to 44)", "envoy / sidekey at least 2", "2 (1.83 to 2.2)"],
        ["p50 ms", "0.5 (1 run)", "", "", ""],
    ]
    readme = (project / README).read_text()
    assert "Medians of the last 5 runs of the whole benchmark, in brackets the lowest and the highest:" in readme
    assert "\n- CPU for a request, http upstream: 22 µs (20 to 24); Envoy 44 µs (44 to 44).\n" in readme


def test_runs_that_measured_something_else_are_left_out(project: Path) -> None:
    """Another machine or another program for all rows, another TLS or another title for one row."""
    runs = [run(https32=[line("requests/s", {"sidekey": value})]) for value in (1_000, 2_000, 3_000, 4_000)]
    runs[0]["versions"]["envoy"] = "1.30.0"
    runs[1]["rows"]["https32"]["title"] = "another load"
    for late in runs[2:]:
        late["rows"]["https32"]["tls"] = {"sidekey": "TLSv1.3 X25519"}
    found = results(*runs)
    assert len(found["runs"]) == 3
    publish(found, project)
    text = (project / PERFORMANCE).read_text()
    assert table(text)[1] == ["requests/s", "3,500 (3,000 to 4,000, 2 runs)"]
    assert "\n\nTLS to the upstream: Sidekey TLSv1.3 X25519.\n\n" in text


def test_a_row_that_could_not_be_measured_says_why(project: Path) -> None:
    """It has no table."""
    found = results(run(http32=[]))
    found["rows"]["http32"]["failures"] = {"envoy": "it ended"}
    publish(found, project)
    text = (project / PERFORMANCE).read_text()
    assert "### `http32`: title of http32\n\nNot measured: envoy: it ended." in text
    assert table(text) == []


def test_the_lines_of_the_readme_name_the_peers_that_were_measured(project: Path) -> None:
    """A line without figures is left out."""
    cpu = line("CPU us a request", {"sidekey": 23.664, "sidekey pure": 36.1, "envoy": 57.8, "nginx": 19.79})
    publish(results(run(http32=[cpu], conns1=[line("p50 ms", {"sidekey": 0.183})])), project)
    text = (project / README).read_text()
    assert [row for row in text.splitlines() if row.startswith("- ")] == [
        "- CPU for a request, http upstream: 23.7 µs, pure 36.1 µs; Envoy 57.8 µs, nginx 19.8 µs.",
        "- Median latency at one connection: 0.183 ms.",
    ]


def test_the_plot_is_shown_with_its_figures_in_words(project: Path) -> None:
    """Whoever does not see it reads the same."""
    publish(results(run(http32=[line("requests/s", {"envoy": 17_155.1, "sidekey": 41_103.5})])), project)
    assert "http upstream: Sidekey 41,104, Envoy 17,155.](docs/images/speed.svg)" in (project / README).read_text()
    assert ">41,104</text>" in (project / PLOT).read_text()


def test_only_what_is_between_the_marks_is_replaced(project: Path) -> None:
    """A document without them is an error."""
    publish(results(run()), project)
    for path in (README, PERFORMANCE):
        text = (project / path).read_text()
        assert text.startswith(f"before\n{BEGIN}\n\n")
        assert text.endswith(f"\n\n{END}\nafter\n")
        assert "old" not in text
    (project / README).write_text("before")
    with pytest.raises(ValueError, match="must contain"):
        publish(results(run()), project)


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.0, "0"), (0.92149, "0.921"), (23.664, "23.7"), (71.0, "71"), (114.4, "114"), (41_103.5, "41,104")],
)
def test_a_number_has_three_digits_or_all_before_the_point(value: float, written: str) -> None:
    """Whole numbers have no more than they need."""
    assert number(value) == written
