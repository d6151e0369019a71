"""The command line. Exit status: 0 success, 1 error, 2 wrong usage.

Each command has a module, which is imported only when the command runs. So `--help` and the completion of a word take
0.1 s of CPU instead of 0.8 s, and `healthcheck` takes 0.5 s and 50 MiB of the container instead of 80 MiB.
"""

from __future__ import annotations

import signal
from typing import Final

import click

from sidekey.build import describe_version
from sidekey.cli.groups import LazyCommand, LazyGroup
from sidekey.cli.memory_limit import limit_memory, prefer_oom_kill

COMMANDS: Final = {
    "ca": LazyCommand("ca", "Show and replace the local CA, which signs for tunnels."),
    "check": LazyCommand("check", "List every error of the config and of its secrets."),
    "completion": LazyCommand("completion", "Print the completion script for bash, zsh or fish."),
    "demo": LazyCommand("demo", "Show what Sidekey does, on loopback, without a config."),
    "env": LazyCommand("env", "Print the variables that a service needs to use Sidekey."),
    "errors": LazyCommand("errors", "Explain the codes of Sidekey's own responses."),
    "exec": LazyCommand("exec", "Run a command whose HTTP clients use Sidekey."),
    "explain": LazyCommand("explain", "Show whether a target is allowed, why, and what is signed."),
    "export": LazyCommand("export", "Print the content of the store as a config, without secrets."),
    "healthcheck": LazyCommand("healthcheck", "Ask the running Sidekey whether it is ready."),
    "help": LazyCommand("help", "Print the help of a command, or the list of commands."),
    "import": LazyCommand("import_config", "Import config files into the store."),
    "list": LazyCommand("list", "List the integrations with their status."),
    "preset": LazyCommand("preset", "List webhook presets, show their requests, and send one."),
    "run": LazyCommand("run", "Serve until SIGTERM or SIGINT, then drain."),
    "schema": LazyCommand("schema", "Print the JSON schema of the config file, for editors."),
    "store": LazyCommand("store", "Create and rotate keys of the store, and verify its content."),
    "test": LazyCommand("test", "Send an integration's test request to its upstream."),
    "token": LazyCommand("token", "Create, list and revoke operators' tokens of the API."),
    "version": LazyCommand("version", "Print the version, and whether the hot path is compiled."),
}
"""Commands with the first line of their help."""

_SHORT_LIVED: Final = COMMANDS.keys() - {"demo", "exec", "run"}
"""Commands that neither serve nor become the user's program."""


class _Commands(LazyGroup):
    """Command group that leaves the container's memory to the service that runs in it."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Limit the memory of a short-lived command, then import it, which needs most of that memory."""
        if args[0] == "run" and not ctx.resilient_parsing:
            # By default these signals end the process. Until App installs its handlers, a reload and a reopened log
            # file are not needed: the config is loaded and the log is opened after this.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        if args[0] in _SHORT_LIVED and not ctx.resilient_parsing:
            prefer_oom_kill()
            # A probe that fails because of the reserve would restart a working service.
            if args[0] != "healthcheck":
                limit_memory()
        return super().resolve_command(ctx, args)


def _show_version(context: click.Context, _: click.Parameter, requested: bool) -> None:
    if requested and not context.resilient_parsing:
        click.echo(describe_version())
        context.exit()


@click.group(cls=_Commands, lazy_commands=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
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
