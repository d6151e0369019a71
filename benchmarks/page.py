"""Pages built from results.json: benchmarks/README.md, and the plot and the six lines in README.md."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.figures import Reach
from benchmarks.plot import Bar, Group, draw, say
from benchmarks.table import align

ROOT: Final = Path(__file__).parent.parent
RESULTS: Final = Path("benchmarks", "results.json")
README: Final = Path("README.md")
PERFORMANCE: Final = Path("benchmarks", "README.md")
PLOT: Final = Path("benchmarks", "speed.svg")

BEGIN, END = "<!-- speed:begin -->", "<!-- speed:end -->"
TITLE: Final = "Requests per second on one core, 32 connections"

RUNS: Final = 5
"""How many runs of all rows are kept."""

_SIDEKEY: Final = "sidekey"
_PURE: Final = "sidekey pure"
_NAMES: Final = {
    _SIDEKEY: "Sidekey",
    _PURE: "Sidekey (pure)",
    "envoy": "Envoy",
    "nginx": "nginx",
    "haproxy": "HAProxy",
    "mitmproxy": "mitmproxy",
}
_MISSED: Final = "not reached"
_STYLES: Final = {_SIDEKEY: "first", _PURE: "second"}

_PLOTTED: Final = {
    "http32": "http upstream",
    "https32": "https upstream",
    "mtls32": "https upstream that demands a client certificate",
    "tunnel32": "https:// URLs through HTTPS_PROXY (Envoy: TLS without CONNECT)",
}

_RATE: Final = "requests/s"
_LINES: Final = (
    ("CPU for a request, http upstream", "http32", "CPU us a request", "{} µs"),
    ("Median latency at one connection", "conns1", "p50 ms", "{} ms"),
    ("Memory for a request in flight", "inflight5000", "KiB a request in flight", "{} KiB"),
    ("Memory when idle (RSS)", "idle", "RSS idle MB", "{} MB"),
    ("Private memory when idle, not shared between instances", "idle", "private memory idle MB", "{} MB"),
    ("Start to first response", "idle", "start to first response s", "{} s"),
)
"""The six lines: they tell where others are better, too."""

Results = Mapping[str, Any]
Line = Mapping[str, Any]


def with_runs(results: Results, previous: Results) -> dict[str, Any]:
    """Add a run to the previous runs on the same machine with the same programs."""
    conditions = {name: results["machine"][name] for name in ("processor", "cores", "python", "python_build")}
    conditions["versions"] = results["versions"]
    run = {
        "date": results["date"],
        "conditions": conditions,
        "rows": {
            name: {
                "title": row["title"],
                "tls": row["tls"],
                "figures": {line["figure"]: line["values"] for line in row["lines"]},
            }
            for name, row in results["rows"].items()
        },
    }
    comparable = [other for other in previous["runs"] if other["conditions"] == conditions]
    return {**results, "runs": [*comparable, run][-RUNS:]}


def publish(results: Results, root: Path = ROOT) -> None:
    """Write every file that shows these results."""
    for path, text in pages(results, root).items():
        (root / path).write_text(text, encoding="utf-8")


def pages(results: Results, root: Path = ROOT) -> dict[Path, str]:
    """Return the content of each file that shows results. In the two documents, only marked parts change."""
    groups = _groups(results)
    return {
        README: _between((root / README).read_text(encoding="utf-8"), _summary(results, groups)),
        PERFORMANCE: _between((root / PERFORMANCE).read_text(encoding="utf-8"), _tables(results)),
        PLOT: draw(TITLE, groups),
    }


def _between(document: str, text: str) -> str:
    intro, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document must contain {BEGIN} and {END}")
    return f"{intro}{begin}\n\n{text}\n\n{end}{after}"


def _groups(results: Results) -> list[Group]:
    return [
        Group(
            heading,
            [
                Bar(_NAMES[name], statistics.median(values), _STYLES.get(name, "other"))
                for name, values in _by_column(results, row, _RATE).items()
            ],
        )
        for row, heading in _PLOTTED.items()
        if _line(results, row, _RATE) is not None
    ]


def _summary(results: Results, groups: Sequence[Group]) -> str:
    lines = [
        f"- {text}: {_compared(_by_column(results, row, figure), unit, len(results['runs']))}."
        for text, row, figure, unit in _LINES
        if _line(results, row, figure) is not None
    ]
    return "\n\n".join((f"![{TITLE}. {say(groups)}]({PLOT.as_posix()})", f"{_say_runs(results)}:", "\n".join(lines)))


def _say_runs(results: Results) -> str:
    count = len(results["runs"])
    if count == 1:
        return f"From one run of the whole benchmark, on {results['runs'][0]['date']}"
    return f"Medians of the last {count} runs of the whole benchmark, in brackets the lowest and the highest"


def _compared(by_column: Mapping[str, Sequence[float]], unit: str, runs: int) -> str:
    """Format a comparison: `23.7 µs (23.1 to 24), pure 36.1 µs (35.9 to 37); Envoy 57.8 µs (55 to 60.1)`."""
    values = {
        name: unit.format(number(statistics.median(values))) + spread(values, runs)
        for name, values in by_column.items()
    }
    sidekey, pure = values.pop(_SIDEKEY, "not measured"), values.pop(_PURE, None)
    peers = ", ".join(f"{_NAMES[name]} {value}" for name, value in values.items())
    return "".join((sidekey, f", pure {pure}" if pure else "", f"; {peers}" if peers else ""))


def _tables(results: Results) -> str:
    """Format the machine, the missed goals, and each row with all its figures."""
    machine, versions = results["machine"], results["versions"]
    peers = ", ".join(f"{_NAMES[name]} {version}" for name, version in versions.items() if name in _NAMES)
    rows = results["rows"]
    compared = [name for name, row in rows.items() if any(_is_compared(line) for line in row["lines"])]
    minutes = round(results["seconds"] / 60)
    return "\n\n".join(
        (
            f"{machine['processor']}, Linux {machine['kernel']}; {machine['cores']}. "
            f"Python {machine['python']} ({machine['python_build']}). The last run took {minutes} minutes.",
            f"Versions: {peers}.",
            f"{_say_runs(results)}.",
            "## Goals that were not reached",
            "\n".join(_missed(results)) or "None.",
            "## Beside other proxies",
            *(_row(results, name) for name in compared),
            "## Sidekey alone",
            *(_row(results, name) for name in rows if name not in compared),
        )
    )


def _is_compared(line: Line) -> bool:
    return any(name not in _STYLES for name in line["values"])


def _missed(results: Results) -> Iterator[str]:
    for name, row in results["rows"].items():
        for line in row["lines"]:
            goal, measured = _goal(results, name, line)
            if measured.endswith(_MISSED):
                yield f"- `{name}`, {line['figure']}: {goal}, measured {measured.removesuffix(_MISSED).strip()}"


def _row(results: Results, name: str) -> str:
    row, runs = results["rows"][name], len(results["runs"])
    lines = row["lines"]
    measured = {column for line in lines for column in line["values"]}
    columns = [column for column in _NAMES if column in measured]
    with_goals = any(line["reach"] is not None for line in lines)
    header = ["figure", *(_NAMES[column] for column in columns), *(["goal", "measured"] if with_goals else [])]
    body = []
    for line in lines:
        values_by_column = _by_column(results, name, line["figure"])
        cells = [_cell(values_by_column.get(column, ()), runs) for column in columns]
        body.append([line["figure"], *cells, *(_goal(results, name, line) if with_goals else ())])
    tls = [f"TLS to the upstream: {say_tls(row['tls'])}."] if row["tls"] else []
    failures = [f"Not measured: {subject}: {reason}." for subject, reason in row["failures"].items()]
    return "\n\n".join((f"### `{name}`: {row['title']}", *([align(header, body)] if body else []), *tls, *failures))


def say_tls(tls: Mapping[str, str]) -> str:
    """Format TLS version and group of each subject."""
    return "; ".join(f"{_NAMES.get(subject, subject)} {negotiated}" for subject, negotiated in tls.items())


def _goal(results: Results, row: str, line: Line) -> tuple[str, str]:
    """Format the goal of a line, with the measured value and the verdict unless the goal was reached."""
    if line["reach"] is None:
        return "", ""
    reach = Reach(**line["reach"])
    measured = [reach.measured(values) for values in _history(results, row, line["figure"])]
    known = [value for value in measured if value is not None]
    verdict = reach.judge(statistics.median(known) if known else None)
    cell = _cell(known, len(results["runs"]))
    return str(reach), cell if verdict == "ok" else f"{cell} {verdict}".strip()


def _line(results: Results, row: str, figure: str) -> Line | None:
    lines = results["rows"].get(row, {"lines": ()})["lines"]
    return next((line for line in lines if line["figure"] == figure), None)


def _history(results: Results, row: str, figure: str) -> list[Mapping[str, float]]:
    """Return the values of a figure in each run, by column.

    Of runs whose row had the title and negotiated the TLS that it has in the last run: others measured something else.
    """
    last = results["rows"][row]
    runs = (run["rows"].get(row) for run in results["runs"])
    return [
        run["figures"][figure]
        for run in runs
        if run is not None and (run["title"], run["tls"]) == (last["title"], last["tls"]) and figure in run["figures"]
    ]


def _by_column(results: Results, row: str, figure: str) -> dict[str, list[float]]:
    history = _history(results, row, figure)
    columns = {name: [values[name] for values in history if name in values] for name in _NAMES}
    return {name: values for name, values in columns.items() if values}


def _cell(values: Sequence[float], runs: int) -> str:
    return f"{number(statistics.median(values))}{spread(values, runs)}" if values else ""


def spread(values: Sequence[float], runs: int) -> str:
    """Format the lowest and highest value in parentheses, with their number if it is below the number of runs."""
    parts = [f"{number(min(values))} to {number(max(values))}"] if len(values) > 1 else []
    if len(values) < runs:
        parts.append("1 run" if len(values) == 1 else f"{len(values)} runs")
    return f" ({', '.join(parts)})" if parts else ""


def number(value: float) -> str:
    """Format a value with three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 or value == round(value) else f"{value:.3g}"


if __name__ == "__main__":
    publish(json.loads((ROOT / RESULTS).read_text(encoding="utf-8")))
