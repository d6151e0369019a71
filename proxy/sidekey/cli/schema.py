"""`sidekey schema`: print the JSON schema of the config."""

from __future__ import annotations

import click

from sidekey.cli.terminal import print_json
from sidekey.config.schema import schema


@click.command()
def command() -> None:
    """Print the JSON schema of the config file, for editors."""
    print_json(schema())
