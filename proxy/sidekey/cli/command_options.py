"""The option `--allow-commands`. It has its own module because `healthcheck` must not load what runs commands."""

from __future__ import annotations

from typing import Final

import click

from sidekey.cli.options import F
from sidekey.config.commands import Commands

_ANY_PROGRAM: Final = "*"


def allow_commands_option(command: F) -> F:
    """Add `--allow-commands`, whose value `allowed` is for `create_commands`."""
    return click.option(
        "--allow-commands",
        "allowed",
        metavar="[PROGRAM]",
        is_flag=False,
        flag_value=_ANY_PROGRAM,
        multiple=True,
        callback=_check_programs,
        help="Run this program if the config names it as the source of a secret. Repeat it for each program. Without a "
        "program, run all of them.",
    )(command)


def create_commands(allowed: tuple[str, ...], integration: str | None = None) -> Commands | None:
    """Create the commands that `--allow-commands` permits, only of one `integration` if it is set. None without any."""
    if not allowed:
        return None
    return Commands(None if _ANY_PROGRAM in allowed else frozenset(allowed), integration=integration)


def _check_programs(context: click.Context, parameter: click.Parameter, programs: tuple[str, ...]) -> tuple[str, ...]:
    del context, parameter
    if any(program != _ANY_PROGRAM and not program.startswith("/") for program in programs):
        # Click takes an argument that follows the option for its value.
        raise click.BadParameter(
            "write --allow-commands=PROGRAM with an absolute path, or --allow-commands at the end of the line"
        )
    return programs
