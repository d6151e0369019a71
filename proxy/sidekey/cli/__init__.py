"""The command line. Exit status: 0 success, 1 an error was found, 2 wrong usage.

A command's module has its options and what it does. It is imported when the command is used: `--help`, and the
completion of a word, take 0.1 s of CPU and not 0.8 s, `healthcheck` 0.5 s and 50 MiB of the container and not 80 MiB.
"""

from __future__ import annotations

import signal
from typing import Final

import click

from sidekey import __version__
from sidekey.build import build
from sidekey.cli.groups import LazyCommand, LazyGroup
from sidekey.cli.memory_limit import limit_memory, prefer_oom_kill

COMMANDS: Final = {
    "ca": LazyCommand("ca", "Show and replace the local CA, which signs for tunnels."),
    "check": LazyCommand("check", "List every error of the config and of its secrets."),
    "completion": LazyCommand("completion", "Print the completion script for bash, zsh or fish."),
    "demo": LazyCommand("demo", "Show what Sidekey does, on loopback, without a config."),
    "env": LazyCommand("env", "Print the variables that a service needs to use Sidekey."),
    "exec": LazyCommand("exec", "Run a command whose HTTP clients use Sidekey."),
    "explain": LazyCommand("explain", "Show whether a target is allowed, why, and what is signed."),
    "export": LazyCommand("export", "Print the content of the store as a config, without secrets."),
    "healthcheck": LazyCommand("healthcheck", "Ask the running Sidekey whether it is ready."),
    "import": LazyCommand("import_config", "Import config files into the store."),
    "list": LazyCommand("list", "List the integrations with their status."),
    "preset": LazyCommand("preset", "List webhook presets, show their requests, and send one."),
    "run": LazyCommand("run", "Serve until SIGTERM or SIGINT, then drain."),
    "schema": LazyCommand("schema", "Print the JSON schema of the config file, for editors."),
    "store": LazyCommand("store", "Create and rotate keys of the store, and verify its content."),
    "test": LazyCommand("test", "Send an integration's test request to its upstream."),
    "token": LazyCommand("token", "Create, list and revoke operators' tokens of the API."),
}
"""Each with the first line of its help."""

_GUESTS: Final = COMMANDS.keys() - {"demo", "exec", "run"}
"""Commands that neither serve nor become the user's program."""


class _Commands(LazyGroup):
    """Commands that leave the memory of a container to the service in it."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Import the command that runs, which takes most of the memory of many."""
        if args[0] == "run" and not ctx.resilient_parsing:
            # They ask for a reload and for another log file, and by default end the process: it is about to load the
            # config, and to open the log. App installs their handlers.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        if args[0] in _GUESTS and not ctx.resilient_parsing:
            prefer_oom_kill()
            # A probe that fails for the reserve would restart a service that works.
            if args[0] != "healthcheck":
                limit_memory()
        return super().resolve_command(ctx, args)


def _show_version(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not context.resilient_parsing:
        click.echo(f"sidekey {__version__} ({build()})")
        context.exit()


@click.group(cls=_Commands, deferred=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version, and whether the hot path is compiled, and exit.",
)
def main() -> None:
    """Sidekey, the sidecar proxy that holds the keys: services send plain requests, Sidekey adds the credential."""
