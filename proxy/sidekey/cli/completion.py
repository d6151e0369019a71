"""`sidekey completion`: what makes a shell complete words of the command line."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print what makes bash, zsh or fish complete words.

    Commands, options and IDs are completed. In ~/.bashrc: `eval "$(sidekey completion bash)"`; in ~/.zshrc likewise,
    with zsh. fish: `sidekey completion fish > ~/.config/fish/completions/sidekey.fish`.
    """
    found = get_completion_class(shell)
    if found is None:
        raise RuntimeError(f"click knows no {shell}")
    click.echo(found(context.find_root().command, {}, "sidekey", "_SIDEKEY_COMPLETE").source())
