"""`sidekey run`: serves."""

from __future__ import annotations

import gc

import click

from sidekey.cli.options import config_option
from sidekey.cli.terminal import fail


@click.command()
@config_option
@click.option(
    "--strict",
    is_flag=True,
    help="Do not start while a secret or CA file cannot be read, a preset does not fit its integration, or something "
    "of one can never work.",
)
def command(config: str | None, strict: bool) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    A second signal exits at once.
    """
    # Imports and loading make no garbage worth a search; App.start turns the collector on (saves some 20 ms).
    gc.disable()
    from sidekey.process import ignore_early_signals, keep_one_heap

    ignore_early_signals()
    keep_one_heap()
    from sidekey.cli.loading import loader_of

    loader = loader_of(config)
    loaded = loader.load()
    errors = [*loaded.errors, *loaded.absent, *loaded.unwritable]
    if errors or (strict and loaded.lacking):
        fail(*errors, *loaded.lacking)
    from sidekey import app
    from sidekey.errors import StartError

    try:
        app.run(loader, loaded, strict=strict)
    except StartError as error:
        fail(error)
