"""Print tables, JSON and errors. Tables escape control characters, because other people may have written the texts."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from itertools import repeat, zip_longest
from typing import Final, NoReturn, TextIO

import click

from sidekey.observe.output import printable

_GAP: Final = "  "
_INDENT: Final = "    "
_MIN_WIDTH: Final = 8


def terminal_width() -> int | None:
    """Return the columns of the terminal, or None if standard output is a file, a pipe or closed."""
    # Despite its type, `sys.stdout` is None in a process that was started without standard output.
    out: TextIO | None = sys.stdout
    return shutil.get_terminal_size().columns if out is not None and out.isatty() else None


def table(
    rows: Sequence[Sequence[str]], width: int | None = None, below: Sequence[Sequence[str]] | None = None
) -> list[str]:
    """Align columns. Cells wrap if the table is wider than `width`. `below` has texts to print below each row."""
    if not rows:
        return []
    safe = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*safe, strict=True)]
    if width is not None:
        widths = _fit(widths, width - len(_GAP) * (len(widths) - 1))
    lines = []
    for row, texts in zip(safe, repeat(()) if below is None else below, strict=below is not None):
        cells = [_wrap(cell, room) for cell, room in zip(row, widths, strict=True)]
        for line in zip_longest(*cells, fillvalue=""):
            lines.append(_GAP.join([*map(str.ljust, line[:-1], widths), line[-1]]).rstrip())
        for text in map(printable, texts):
            lines += [f"{_INDENT}{line}" for line in _wrap(text, (width or len(text)) - len(_INDENT))]
    return lines


def _fit(widths: Sequence[int], room: int) -> list[int]:
    """Narrow the widest columns until they fit or have the minimum width."""
    fitted = list(widths)
    while sum(fitted) > room and max(fitted) > _MIN_WIDTH:
        fitted[fitted.index(max(fitted))] -= 1
    return fitted


def _wrap(cell: str, width: int) -> list[str]:
    return textwrap.wrap(cell, max(width, _MIN_WIDTH), break_on_hyphens=False) if len(cell) > width else [cell]


def print_json(value: object) -> None:
    """Print indented JSON."""
    click.echo(json.dumps(value, indent=2))


def print_result(value: object, lines: Iterable[str], *, as_json: bool) -> None:
    """Print `value` as JSON, or the lines."""
    if as_json:
        print_json(value)
        return
    for line in lines:
        click.echo(line)


def fail(*errors: object) -> NoReturn:
    """Print the errors and exit with status 1."""
    for error in errors:
        click.echo(str(error), err=True)
    raise SystemExit(1)
