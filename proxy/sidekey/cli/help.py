"""`sidekey help`: print the help of a command."""

from __future__ import annotations

import click


@click.command()
@click.argument("names", metavar="[COMMAND...]", nargs=-1)
@click.pass_context
def command(context: click.Context, names: tuple[str, ...]) -> None:
    """Print the help of a command, or the list of commands."""
    current = context.find_root()
    for name in names:
        group = current.command
        if not isinstance(group, click.Group):
            raise click.UsageError(f"{current.command_path} has no commands", current)
        _, subcommand, _ = group.resolve_command(current, [name])
        if subcommand is not None:
            current = click.Context(subcommand, current, name)
    click.echo(current.get_help())
