"""Print the table as Markdown: a line for each figure of a row, a column for each peer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.figures import Line, Outcome

_LEFT = ("row", "figure", "goal", "verdict")


def render(outcomes: Mapping[str, Outcome], columns: Sequence[str], absent: frozenset[str]) -> str:
    """Format the table of all rows. An absent peer has a column that says so."""
    header = ["row", "figure", *columns, "goal", "measured", "verdict"]
    body = [
        _cells(row if index == 0 else "", line, outcome, columns, absent)
        for row, outcome in outcomes.items()
        for index, line in enumerate(outcome.lines)
    ]
    return align(header, body)


def _cells(row: str, line: Line, outcome: Outcome, columns: Sequence[str], absent: frozenset[str]) -> list[str]:
    reach = line.reach
    measured = None if reach is None else reach.measured(line.values)
    return [
        row,
        line.label,
        *(_cell(column, line, outcome, absent) for column in columns),
        "" if reach is None else str(reach),
        "" if measured is None else f"{measured:.3g}" if measured < 1000 else f"{measured:,.0f}",
        "" if reach is None else reach.verdict(line.values),
    ]


def _cell(column: str, line: Line, outcome: Outcome, absent: frozenset[str]) -> str:
    value = line.values.get(column)
    if value is not None:
        return line.figure.format(value)
    if column in absent:
        return "absent"
    # A row may measure a peer in several configurations: "envoy, all".
    failed = {subject.partition(",")[0] for subject in outcome.failures}
    return "failed" if column in failed else ""


def align(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table with aligned source: text to the left, numbers to the right."""
    widths = [max(3, *(len(cells[index]) for cells in (header, *body))) for index in range(len(header))]
    is_text = [name in _LEFT for name in header]

    def write(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if is_left else cell.rjust(width)
            for cell, width, is_left in zip(cells, widths, is_text, strict=True)
        )
        return f"| {' | '.join(padded)} |"

    rule = "|".join(
        "-" * (width + 2) if is_left else "-" * (width + 1) + ":"
        for width, is_left in zip(widths, is_text, strict=True)
    )
    return "\n".join([write(header), f"|{rule}|", *(write(cells) for cells in body)])
