"""What commands print: tables of texts that others may have written, JSON, and errors, which end the command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NoReturn

import click

from sidekey.core.printable import printable


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
