"""Groups of commands: their lists say all of each summary, and what is in them may be imported at its first use."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
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
    """A group whose list of commands has the first paragraph of each one's help whole, where click cuts it."""

    group_class = type

    def summaries(self) -> dict[str, str]:
        """What each command does, in one line, by its name."""
        helps = {name: (command.help or "").partition("\n\n")[0] for name, command in sorted(self.commands.items())}
        return {name: " ".join(text.split()) for name, text in helps.items()}

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(self.summaries().items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """What completes the name of a command, or an option of the group."""
        found = [CompletionItem(name, help=text) for name, text in self.summaries().items()]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(each for each in found if each.value.startswith(incomplete)), *options]


class LazyCommand(NamedTuple):
    """A command that is imported when it is used: `command` of a module beside this. Its summary is known before."""

    module: str
    summary: str


class LazyGroup(Group):
    """A group of such commands."""

    def __init__(self, *args: Any, deferred: Mapping[str, LazyCommand], **options: Any) -> None:
        super().__init__(*args, **options)
        self._deferred = deferred

    def summaries(self) -> dict[str, str]:
        """Return what each command does, in one line, by its name."""
        return {name: each.summary for name, each in sorted(self._deferred.items())}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands."""
        del ctx
        return sorted(self._deferred)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, imported now."""
        del ctx
        deferred = self._deferred.get(cmd_name)
        if deferred is None:
            return None
        found: click.Command = import_module(f"sidekey.cli.{deferred.module}").command
        return found

    def main(self, *args: Any, **options: Any) -> Any:
        """Run as a program. Print one line when the memory runs out, or the output cannot be written: a full disk."""
        try:
            return super().main(*args, **options)
        except MemoryError:
            # Print it below: here, the exception's frames still hold the memory.
            message = _OUT_OF_MEMORY
        except OSError as error:
            if not is_output_error(error):
                raise
            message = f"the output cannot be written: {os.strerror(error.errno or 0)}"
            # What could not be written would be tried once more at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        with suppress(OSError):
            click.echo(message, err=True)
        raise SystemExit(1)
