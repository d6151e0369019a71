"""`sidekey exec`: becomes a command whose HTTP clients send through Sidekey."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

import click

from sidekey.cli.config import complete_first_id
from sidekey.cli.environment import Proxy, environment, find_way_in, way_in_options
from sidekey.cli.terminal import fail
from sidekey.cli.trust_variables import KeptTrustError
from sidekey.config.secrets import SecretReader
from sidekey.credentials.fields import Reference

TOKEN: Final = "SIDEKEY_TOKEN"  # noqa: S105 - the name of a variable
"""Holds the caller's token, where no file does."""

NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""Exit statuses, as of a shell and env(1)."""

_COERCED: Final = frozenset({"C.UTF-8", "C.utf8", "UTF-8"})


class Started(NamedTuple):
    """An environment, and how large a core dump may be: the soft and the hard limit."""

    environment: dict[str, str]
    core: tuple[int, int]


class TokenError(ValueError):
    """The caller's token cannot be read; the message says from where, and why."""


class NotStarted(Exception):
    """The command cannot be started; the message says why."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class _ReaderHere(SecretReader):
    """Reads what an option names, as a shell's user writes it."""

    __slots__ = ()

    start = "the current folder"


def read_token(file: str | None, environ: Mapping[str, str]) -> str | None:
    """The caller's token, from the file if one is named, else from the environment. Raises TokenError."""
    if file is None and TOKEN not in environ:
        return None
    reference = Reference("env", TOKEN) if file is None else Reference("file", file)
    try:
        return _ReaderHere(Path(), environ)(reference)
    except ValueError as error:
        raise TokenError(str(error)) from None


def started() -> Started:
    """What this process was started with, to be asked before `process.protect_memory`."""
    environment = dict(os.environ)
    # Python sets it for itself where no locale is set (PEP 538), and a command would behave otherwise than without us.
    if environment.get("LC_CTYPE") in _COERCED and not _was_set("LC_CTYPE"):
        del environment["LC_CTYPE"]
    return Started(environment, resource.getrlimit(resource.RLIMIT_CORE))


def _was_set(name: str) -> bool:
    try:
        # As execve(2) has put it there; what is set later is elsewhere.
        before = Path("/proc/self/environ").read_bytes()
    except OSError:
        return True
    return any(each.startswith(f"{name}=".encode()) for each in before.split(b"\0"))


def become(command: tuple[str, ...], variables: Mapping[str, str], before: Started) -> NoReturn:
    """Replace this process (execve(2)), so that signals and the exit status are the command's. Raises NotStarted.

    It gets what an exec hands on as this process got it, and the variables: Python ignores two signals, and the core
    limit was lowered.
    """
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, before.core)
    environment = {**before.environment, **variables}
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606 - to run it is what was asked for
    except FileNotFoundError:
        raise NotStarted(f"{command[0]}: not found, or the interpreter that it names is not", NOT_FOUND) from None
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else "invalid"
        raise NotStarted(f"{command[0]}: cannot be run: {reason}", NOT_EXECUTABLE) from None


@click.command()
@way_in_options
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
        raise click.UsageError("name an integration, or say --by-host; then -- and the command")
    before = started()
    way = find_way_in(config, integration_id, proxy, trust)
    try:
        token = read_token(token_file, os.environ)
        if way.callers and token is None:
            fail(f"callers need a token: set {TOKEN}, or name its file with --token-file")
        way.check_trust()
        address = Proxy.of(way.address, integration_id, token)
        variables = environment(address, way.trust, before.environment, java=java, policies=way.policies)
    except (KeptTrustError, TokenError) as error:
        fail(error)
    for note in variables.notes:
        click.echo(f"warning: {note}", err=True)
    try:
        become(program, variables.values, before)
    except NotStarted as error:
        click.echo(str(error), err=True)
        raise SystemExit(error.status) from None
