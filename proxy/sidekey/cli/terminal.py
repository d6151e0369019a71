"""What commands print: tables of texts that others may have written, JSON, and errors, which end the command."""

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
_NARROWEST: Final = 8


def terminal_width() -> int | None:
    """How many columns the terminal has to which is printed; None where it is a file or a pipe, or closed."""
    # Python has none where the process was started without one, whatever its type says.
    out: TextIO | None = sys.stdout
    return shutil.get_terminal_size().columns if out is not None and out.isatty() else None


def table(
    rows: Sequence[Sequence[str]], width: int | None = None, below: Sequence[Sequence[str]] | None = None
) -> list[str]:
    """Aligned columns. Where they are wider than a terminal of this `width`, cells go on in further lines.

    `below` has texts for each row, which follow it.
    """
    if not rows:
        return []
    safe = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*safe, strict=True)]
    if width is not None:
        widths = _fitted(widths, width - len(_GAP) * (len(widths) - 1))
    lines = []
    for row, texts in zip(safe, repeat(()) if below is None else below, strict=below is not None):
        cells = [_wrapped(*each) for each in zip(row, widths, strict=True)]
        for line in zip_longest(*cells, fillvalue=""):
            lines.append(_GAP.join([*map(str.ljust, line[:-1], widths), line[-1]]).rstrip())
        for text in map(printable, texts):
            lines += [f"{_INDENT}{line}" for line in _wrapped(text, (width or len(text)) - len(_INDENT))]
    return lines


def _fitted(widths: Sequence[int], room: int) -> list[int]:
    """These widths, the widest narrowed until they have room, or are as narrow as can be read."""
    found = list(widths)
    while sum(found) > room and max(found) > _NARROWEST:
        found[found.index(max(found))] -= 1
    return found


def _wrapped(cell: str, width: int) -> list[str]:
    return textwrap.wrap(cell, max(width, _NARROWEST), break_on_hyphens=False) if len(cell) > width else [cell]


def print_json(value: object) -> None:
    """Print for machines."""
    click.echo(json.dumps(value, indent=2))


def print_result(value: object, lines: Iterable[str], *, as_json: bool) -> None:
    """Print `value` for machines, or the same in lines for people."""
    if as_json:
        print_json(value)
        return
    for line in lines:
        click.echo(line)


def fail(*errors: object) -> NoReturn:
    """End the command with these errors, by exit status 1."""
    for error in errors:
        click.echo(str(error), err=True)
    raise SystemExit(1)
