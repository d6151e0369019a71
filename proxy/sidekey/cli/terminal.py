"""What commands print: tables of texts that others may have written, JSON, and errors, which end the command."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final, NoReturn

import click

_UNSAFE: Final = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]"
)
"""Controls, which command a terminal (ECMA-48); separators of lines; marks that turn the direction of what follows, so
that it reads as something else (Unicode TR 36, 2.1); and what UTF-8 cannot write."""


def printable(text: str) -> str:
    """A text for a terminal: what would command it, or would turn its direction, is written as an escape."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def table(rows: Sequence[tuple[str, str, str, str]]) -> list[str]:
    """Four columns, the first three aligned."""
    safe = [tuple(map(printable, row)) for row in rows]
    widths = [max((len(row[column]) for row in safe), default=0) for column in range(3)]
    return ["  ".join([*map(str.ljust, row[:3], widths), row[3]]).rstrip() for row in safe]


def print_json(value: object) -> None:
    """Print for machines."""
    click.echo(json.dumps(value, indent=2))


def fail(*errors: object) -> NoReturn:
    """End the command with these errors, by exit status 1."""
    for error in errors:
        click.echo(str(error), err=True)
    raise SystemExit(1)
