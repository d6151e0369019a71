"""`sidekey run`: serve until a signal."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from types import FrameType
from typing import NoReturn

import click

from sidekey import app
from sidekey.cli.command_options import allow_commands_option, create_commands
from sidekey.cli.config import create_loader
from sidekey.cli.options import config_option
from sidekey.cli.terminal import fail
from sidekey.config.errors import ConfigError
from sidekey.errors import StartError
from sidekey.observe.log import configure, get_logger
from sidekey.observe.output import Format, open_standard_error
from sidekey.observe.writer import LineWriter


@click.command()
@config_option
@click.option(
    "--strict",
    is_flag=True,
    help="Do not start if a secret or CA file cannot be read, other users can change one, or a preset does not fit "
    "its integration.",
)
@allow_commands_option
def command(config: str | None, strict: bool, allowed: tuple[str, ...]) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    On a second signal, Sidekey exits at once.
    """
    commands = create_commands(allowed)
    if commands is not None:
        # The load may wait for programs, which must not outlive it. The app replaces this handler.
        signal.signal(signal.SIGTERM, _exit_at_signal)
    loader = create_loader(config, commands)
    try:
        loaded = loader.load()
        if loaded.blocking(strict=strict):
            _fail(loaded.log_format, loaded.blocking(strict=True))
        try:
            app.run(loader, loaded, strict=strict)
        except StartError as error:
            _fail(loaded.log_format, [error])
    finally:
        if commands is not None:
            commands.close()


def _exit_at_signal(number: int, frame: FrameType | None) -> NoReturn:
    del frame
    raise SystemExit(128 + number)


def _fail(log_format: Format, errors: Iterable[ConfigError | StartError]) -> NoReturn:
    """Exit with these errors, as JSON lines if the log on standard error has that format."""
    output = open_standard_error(log_format)
    if output.render is not None:
        fail(*errors)
    writer = LineWriter(output)
    configure("error", writer)
    log = get_logger()
    for error in errors:
        if isinstance(error, StartError):
            log.error("Sidekey cannot start", reason=str(error))
        else:
            log.error("config error", place=str(error))
    writer.close()
    raise SystemExit(1)
