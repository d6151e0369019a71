"""`sidekey healthcheck`: asks a running Sidekey whether it is ready, or has started, for a container's health check.

It runs every few seconds, so it reads nothing of the config but where the listeners are: no secret, no integration.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from sidekey.cli.admin_client import NoResponse, get
from sidekey.cli.options import config_option
from sidekey.cli.terminal import fail
from sidekey.config.files import NAME_CONFIG, ConfigDocuments, default_config_path, read_config
from sidekey.config.models import ListenSettings
from sidekey.credentials.fields import mapping
from sidekey.snapshot.snapshot import Address

TIMEOUT = 3.0
"""Seconds to wait for a response."""


class NotReady(Exception):
    """Sidekey is not ready, or does not respond; the message says which."""


def ask(config: str, path: str = "/readyz") -> None:
    """GET a probe's path on the admin listener, or on the metrics one where only its address is fixed.

    Raises NotReady.
    """
    joined = read_config(Path(config), remedy=NAME_CONFIG)
    where, tls = _address(joined)
    try:
        response = get(where, path, tls=tls, timeout=TIMEOUT)
    except NoResponse as error:
        raise NotReady(str(error)) from None
    if response.status != 200:
        raise NotReady(f"not ready: {response.body[:200].decode('ascii', 'replace').strip()}")


def _address(joined: ConfigDocuments) -> tuple[Address, bool]:
    """Where to ask, and whether by TLS."""
    if joined.errors:
        raise NotReady("\n".join(map(str, joined.errors)))
    listen: dict[str, Any] = joined.globals.get("listen") or {}
    try:
        settings = ListenSettings.model_validate(listen)
    except ValidationError:
        raise NotReady("the config has errors under listen: run `sidekey check`") from None
    admin = mapping(joined.globals.get("admin"))
    secured = joined.globals.get("store") is not None and admin.get("tls") is not None
    for address, tls in ((settings.admin, secured), (settings.metrics, False)):
        if address is not None and address.path is not None:
            return Address(path=str(joined.folder / address.path)), tls
        if address is not None and address.port != 0:
            return address, tls
    raise NotReady("listen.admin: port 0 is chosen at start: write another port")


@click.command()
@config_option
@click.option(
    "--startup",
    is_flag=True,
    help="Ask whether Sidekey has started and serves the integrations of files (GET /startupz), even without a store.",
)
def command(config: str | None, startup: bool) -> None:
    """Ask the running Sidekey whether it is ready.

    The command sends GET /readyz to this config's admin or metrics listener.
    """
    try:
        ask(config or default_config_path(os.environ), "/startupz" if startup else "/readyz")
    except NotReady as error:
        fail(error)
    click.echo("ok")
