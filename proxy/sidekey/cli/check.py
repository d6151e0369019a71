"""`sidekey check`: every error of a config, at once."""

from __future__ import annotations

import click

from sidekey.cli.loading import load
from sidekey.cli.options import config_option, json_option
from sidekey.cli.terminal import print_json
from sidekey.settings.loaded import LACKING


@click.command()
@config_option
@json_option
def command(config: str | None, as_json: bool) -> None:
    """List every error of the config and of its secrets.

    For this command, a secret that cannot be read is an error. It also fetches and checks certificates at URLs.
    """
    loaded = load(config)
    certificates = () if loaded.files is None else (each.certificate for each in loaded.files.integrations.values())
    if any(each is not None and each.urls for each in certificates):
        # What fetches a certificate takes 25 MiB more, in the container of the service: few configs name a URL.
        from sidekey.cli.check_urls import check_urls  # noqa: PLC0415 - as the lines above say

        check_urls(loaded)
    errors, warnings = loaded.of("error", "unwritable", *LACKING), loaded.of("warning", "absent")
    integrations = len(loaded.snapshot.integrations) if loaded.snapshot is not None else 0
    if as_json:
        print_json(
            {
                "ok": not errors,
                "integrations": integrations,
                "faults": [error._asdict() for error in errors],
                "warnings": [warning._asdict() for warning in warnings],
            }
        )
    else:
        for error in errors:
            click.echo(str(error))
        for warning in warnings:
            click.echo(f"warning: {warning}")
        if not errors:
            managed = loaded.snapshot is not None and loaded.snapshot.store is not None
            beside = "; of the store: sidekey store verify" if managed else ""
            click.echo(f"ok: {integrations} integration{'' if integrations == 1 else 's'}{beside}")
    raise SystemExit(1 if errors else 0)
