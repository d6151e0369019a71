"""What is published of results.json: docs/performance.md, and the plot and the five lines in README.md.

`make bench-page` writes them again from the results that are there; a run of all rows writes them with its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.plot import Bar, Group, draw, say
from benchmarks.table import align

ROOT: Final = Path(__file__).parent.parent
RESULTS: Final = Path("benchmarks", "results.json")
README: Final = Path("README.md")
PERFORMANCE: Final = Path("docs", "performance.md")
PLOT: Final = Path("docs", "images", "speed.svg")

BEGIN, END = "<!-- speed:begin -->", "<!-- speed:end -->"
TITLE: Final = "Requests per second on one core, 32 connections"

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
_STYLES: Final = {_SIDEKEY: "first", _PURE: "second"}

_PLOTTED: Final = {
    "http32": "http upstream",
    "https32": "https upstream",
    "mtls32": "https upstream that demands a client certificate",
    "tunnel32": "https:// URLs by HTTPS_PROXY (Envoy: TLS without CONNECT)",
}

_RATE: Final = "requests/s"
_LINES: Final = (
    ("CPU for a request, http upstream", "http32", "CPU us a request", "{} µs"),
    ("Median latency at one connection", "conns1", "p50 ms", "{} ms"),
    ("Memory for a request in flight", "inflight5000", "KiB a request in flight", "{} KiB"),
    ("Memory when idle", "idle", "RSS idle MB", "{} MB"),
    ("Start to first response", "idle", "start to first response s", "{} s"),
)
"""The five lines: they tell where others are better, too."""

Results = Mapping[str, Any]
Line = Mapping[str, Any]


def publish(results: Results, root: Path = ROOT) -> None:
    """Write all that shows these results."""
    for path, text in pages(results, root).items():
        (root / path).write_text(text, encoding="utf-8")


def pages(results: Results, root: Path = ROOT) -> dict[Path, str]:
    """Each file that shows results, as it must be; of the two documents only what is between the marks changes."""
    found = _groups(results)
    return {
        README: _between((root / README).read_text(encoding="utf-8"), _summary(results, found)),
        PERFORMANCE: _between((root / PERFORMANCE).read_text(encoding="utf-8"), _tables(results)),
        PLOT: draw(TITLE, found),
    }


def _between(document: str, text: str) -> str:
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document must contain {BEGIN} and {END}")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


def _groups(results: Results) -> list[Group]:
    return [
        Group(heading, [Bar(_NAMES[name], value, _STYLES.get(name, "other")) for name, value in _values(line)])
        for row, heading in _PLOTTED.items()
        if (line := _line(results, row, _RATE)) is not None
    ]


def _summary(results: Results, groups: Sequence[Group]) -> str:
    lines = [
        f"- {text}: {_compared(line, unit)}."
        for text, row, figure, unit in _LINES
        if (line := _line(results, row, figure)) is not None
    ]
    return "\n\n".join((f"![{TITLE}. {say(groups)}]({PLOT.as_posix()})", "\n".join(lines)))


def _compared(line: Line, unit: str) -> str:
    """`23.7 µs (pure 36.1 µs); Envoy 57.8 µs, nginx 19.8 µs`."""
    values = {name: unit.format(number(value)) for name, value in _values(line)}
    sidekey, pure = values.pop(_SIDEKEY, "not measured"), values.pop(_PURE, None)
    peers = ", ".join(f"{_NAMES[name]} {value}" for name, value in values.items())
    return "".join((sidekey, f" (pure {pure})" if pure else "", f"; {peers}" if peers else ""))


def _tables(results: Results) -> str:
    """The machine, the goals that were missed, and each row with all its figures."""
    machine, versions = results["machine"], results["versions"]
    peers = ", ".join(f"{_NAMES[name]} {version}" for name, version in versions.items() if name in _NAMES)
    rows = results["rows"]
    compared = [name for name, row in rows.items() if any(_is_compared(line) for line in row["lines"])]
    minutes = round(results["seconds"] / 60)
    return "\n\n".join(
        (
            f"{machine['processor']}, Linux {machine['kernel']}; {machine['cores']}. "
            f"Python {machine['python']} ({machine['python_build']}). The run took {minutes} minutes.",
            f"Versions: {peers}.",
            "## Goals that were not reached",
            "\n".join(_missed(results)) or "None.",
            "## Beside other proxies",
            *(_row(name, rows[name]) for name in compared),
            "## Sidekey alone",
            *(_row(name, row) for name, row in rows.items() if name not in compared),
        )
    )


def _is_compared(line: Line) -> bool:
    return any(name not in _STYLES for name in line["values"])


def _missed(results: Results) -> Iterator[str]:
    for name, row in results["rows"].items():
        for line in row["lines"]:
            if line["verdict"] == "not reached":
                yield f"- `{name}`, {line['figure']}: {line['reach']}, measured {number(line['measured'])}"


def _row(name: str, row: Mapping[str, Any]) -> str:
    lines = row["lines"]
    measured = {column for line in lines for column in line["values"]}
    columns = [column for column in _NAMES if column in measured]
    with_goals = any(line["reach"] is not None for line in lines)
    header = ["figure", *(_NAMES[column] for column in columns), *(["goal", "measured"] if with_goals else [])]
    body = [
        [
            line["figure"],
            *(number(line["values"].get(column)) for column in columns),
            *(_goal(line) if with_goals else ()),
        ]
        for line in lines
    ]
    failures = [f"Not measured: {subject}: {reason}." for subject, reason in row["failures"].items()]
    return "\n\n".join((f"### `{name}`: {row['title']}", *([align(header, body)] if body else []), *failures))


def _goal(line: Line) -> tuple[str, str]:
    if line["reach"] is None:
        return "", ""
    measured = number(line["measured"])
    return line["reach"], measured if line["verdict"] == "ok" else f"{measured} {line['verdict']}".strip()


def _line(results: Results, row: str, figure: str) -> Line | None:
    lines = results["rows"].get(row, {"lines": ()})["lines"]
    return next((line for line in lines if line["figure"] == figure), None)


def _values(line: Line) -> list[tuple[str, float]]:
    values = line["values"]
    return [(name, values[name]) for name in _NAMES if name in values]


def number(value: float | None) -> str:
    """A value with three digits, or all before the point."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 or value == round(value) else f"{value:.3g}"


if __name__ == "__main__":
    publish(json.loads((ROOT / RESULTS).read_text(encoding="utf-8")))
