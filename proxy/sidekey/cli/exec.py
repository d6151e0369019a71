"""`sidekey exec`: replace this process by a command whose HTTP clients use Sidekey."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

import click

from sidekey.cli.config import complete_first_id
from sidekey.cli.environment import Proxy, build_variables, find_proxy, proxy_options
from sidekey.cli.terminal import fail
from sidekey.cli.trust_variables import TrustError
from sidekey.config.secrets import SecretReader
from sidekey.credentials.fields import Reference

TOKEN: Final = "SIDEKEY_TOKEN"  # noqa: S105 - the name of a variable
"""Variable with the caller's token, unless a file has it."""

NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""Exit statuses of a shell and of env(1)."""

_COERCED_LOCALES: Final = frozenset({"C.UTF-8", "C.utf8", "UTF-8"})


class StartState(NamedTuple):
    """Environment and core dump limits (soft, hard) at the start of this process."""

    environment: dict[str, str]
    core_limits: tuple[int, int]


class TokenError(ValueError):
    """The caller's token cannot be read. The message names its source and the reason."""


class CommandNotStarted(Exception):
    """The command cannot be started. The message has the reason, and `status` is the exit status of a shell."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class _OptionReader(SecretReader):
    """Reads the file of an option. Its path is relative to the current folder."""

    __slots__ = ()

    folder_name = "the current folder"


def read_token(file: str | None, environ: Mapping[str, str]) -> str | None:
    """Read the caller's token from the file if it is named, else from the environment. Raises TokenError."""
    if file is None and TOKEN not in environ:
        return None
    reference = Reference("env", TOKEN) if file is None else Reference("file", file)
    try:
        return _OptionReader(Path(), environ)(reference)
    except ValueError as error:
        raise TokenError(str(error)) from None


def capture_start() -> StartState:
    """Record the environment and core limits of this process, before `process.protect_memory` lowers the limits."""
    environment = dict(os.environ)
    # Without a locale, Python sets LC_CTYPE for itself (PEP 538). The command must not inherit it.
    if environment.get("LC_CTYPE") in _COERCED_LOCALES and not _was_set("LC_CTYPE"):
        del environment["LC_CTYPE"]
    return StartState(environment, resource.getrlimit(resource.RLIMIT_CORE))


def _was_set(name: str) -> bool:
    try:
        # The kernel's copy of the environment at execve(2): later changes do not appear in it.
        initial = Path("/proc/self/environ").read_bytes()
    except OSError:
        return True
    return any(variable.startswith(f"{name}=".encode()) for variable in initial.split(b"\0"))


def replace_process(command: tuple[str, ...], variables: Mapping[str, str], start: StartState) -> NoReturn:
    """Replace this process by a command (execve(2)), which then gets its signals and sets its exit status.

    The command inherits the environment and core limit in `start`, the variables, and the default action of the two
    signals that Python ignores. Raises CommandNotStarted.
    """
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, start.core_limits)
    environment = {**start.environment, **variables}
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606 - the user's own command
    except FileNotFoundError:
        raise CommandNotStarted(
            f"{command[0]}: not found, or the interpreter that it names is not", NOT_FOUND
        ) from None
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else "invalid"
        raise CommandNotStarted(f"{command[0]}: cannot be run: {reason}", NOT_EXECUTABLE) from None


@click.command()
@proxy_options
@click.option("--token-file", metavar="FILE", help="File with the caller's token. Default: $SIDEKEY_TOKEN.")
@click.argument(
    "words", metavar="[ID] -- COMMAND...", nargs=-1, type=click.UNPROCESSED, shell_complete=complete_first_id
)
def command(
    *,
    words: tuple[str, ...],
    by_host: bool,
    proxy: str | None,
    trust: str | None,
    java: bool,
    config: str | None,
    token_file: str | None,
) -> None:
    """Run a command whose HTTP clients use Sidekey.

    For example: `sidekey exec crm -- node app.js`. Sidekey adds the variables of `sidekey env` to the command's
    environment, with the caller's token. The command replaces this process, so it gets the signals and sets the exit
    status.
    """
    integration_id = None if by_host else next(iter(words), None)
    program = words if by_host else words[1:]
    if not program:
        raise click.UsageError("name an integration, or use --by-host; then -- and the command")
    start = capture_start()
    location = find_proxy(config, integration_id, proxy, trust)
    try:
        token = read_token(token_file, os.environ)
        if token is None and location.caller_keys is not None:
            if "certificate" not in location.caller_keys:
                fail(f"callers need a token: set {TOKEN}, or name its file with --token-file")
            token = ""
        location.check_trust()
        address = Proxy.of(location.address, integration_id, token, location.scheme)
        variables = build_variables(address, location.trust, start.environment, java=java, policies=location.policies)
    except (TrustError, TokenError) as error:
        fail(error)
    for note in (*([location.note] if location.note else []), *variables.notes):
        click.echo(f"warning: {note}", err=True)
    try:
        replace_process(program, variables.values, start)
    except CommandNotStarted as error:
        click.echo(str(error), err=True)
        raise SystemExit(error.status) from None
