"""Command groups that show complete summaries, and import their commands lazily."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Final, NamedTuple

import click
from click.shell_completion import CompletionItem

from sidekey.observe.exceptions import is_output_error

_OUT_OF_MEMORY: Final = (
    "Not enough memory for this command. In a container, raise the memory limit, or run the command elsewhere with the "
    "same files."
)


class Group(click.Group):
    """Group that lists the complete first paragraph of each command's help, which click would cut."""

    # Click creates subgroups as this class, too.
    group_class = type

    def summaries(self) -> dict[str, str]:
        """Return the summary of each command by name."""
        helps = {name: (command.help or "").partition("\n\n")[0] for name, command in sorted(self.commands.items())}
        return {name: " ".join(text.split()) for name, text in helps.items()}

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(self.summaries().items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or suggest the most similar one."""
        name = args[0]
        close = get_close_matches(name, self.list_commands(ctx), n=1)
        if close and close[0] != name and not name.startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"No such command '{name}'. Did you mean '{close[0]}'?")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the name of a command, or an option of the group."""
        summaries = self.summaries().items()
        commands = [CompletionItem(name, help=text) for name, text in summaries if name.startswith(incomplete)]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]


class LazyCommand(NamedTuple):
    """A module of `sidekey.cli` that defines `command`, and the summary that help shows without importing it."""

    module: str
    summary: str


class LazyGroup(Group):
    """Group whose commands are imported when they are used."""

    def __init__(self, *args: Any, lazy_commands: Mapping[str, LazyCommand], **options: Any) -> None:
        super().__init__(*args, **options)
        self._lazy_commands = lazy_commands

    def summaries(self) -> dict[str, str]:
        """Return the summary of each command by name, without an import."""
        return {name: command.summary for name, command in sorted(self._lazy_commands.items())}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        del ctx
        return sorted(self._lazy_commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command of this name, or return None if there is none."""
        del ctx
        lazy = self._lazy_commands.get(cmd_name)
        if lazy is None:
            return None
        command: click.Command = import_module(f"sidekey.cli.{lazy.module}").command
        return command

    def main(self, *args: Any, **options: Any) -> Any:
        """Run as a program. Print one line if the memory runs out, or if the output cannot be written."""
        try:
            return super().main(*args, **options)
        except MemoryError:
            # Print it below: here, the exception's frames still hold the memory.
            message = _OUT_OF_MEMORY
        except OSError as error:
            if not is_output_error(error):
                raise
            message = f"the output cannot be written: {os.strerror(error.errno or 0)}"
            # At exit, Python would try to write the rest of the output again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        with suppress(OSError):
            click.echo(message, err=True)
        raise SystemExit(1)
