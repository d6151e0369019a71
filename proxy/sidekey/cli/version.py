"""`sidekey version`: print the version and the build."""

from __future__ import annotations

import click

from sidekey.build import describe_version


@click.command()
def command() -> None:
    """Print the version, and whether the hot path is compiled."""
    click.echo(describe_version())
