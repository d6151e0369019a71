"""`sidekey completion`: print the script that completes words of the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete


class _FishComplete(FishComplete):
    """Completion for fish with complete help texts, which click's script cuts at a comma."""

    source_template = FishComplete.source_template.replace("string split", "string split --max 1")


_SHELLS: Final[Mapping[str, type[ShellComplete]]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": _FishComplete}


@click.command()
@click.argument("shell", metavar="SHELL", type=click.Choice(list(_SHELLS)))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the completion script for bash, zsh or fish.

    It completes commands, options and IDs. Put `eval "$(sidekey completion bash)"` into ~/.bashrc, or the same with
    zsh into ~/.zshrc. For fish, run `sidekey completion fish > ~/.config/fish/completions/sidekey.fish`.
    """
    click.echo(_SHELLS[shell](context.find_root().command, {}, "sidekey", "_SIDEKEY_COMPLETE").source())
