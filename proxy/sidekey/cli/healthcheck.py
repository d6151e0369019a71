"""`sidekey healthcheck`: check whether a running Sidekey is ready, or has started, for a container's health check.

It runs every few seconds, so it reads only the addresses of the listeners from the config.
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
from sidekey.config.files import MISSING_CONFIG_REMEDY, ConfigDocuments, default_config_path, read_config
from sidekey.config.models import ListenSettings
from sidekey.credentials.context import Context
from sidekey.credentials.fields import mapping
from sidekey.snapshot.snapshot import Address

TIMEOUT = 3.0
"""Seconds to wait for a response."""


class NotReady(Exception):
    """Sidekey is not ready, or does not respond. The message says which."""


def check_health(config: str, path: str = "/readyz") -> None:
    """GET a health path of the admin listener, or of the metrics listener if only that has a fixed address.

    Raises NotReady.
    """
    address, tls = _find_listener(read_config(Path(config), remedy=MISSING_CONFIG_REMEDY))
    try:
        response = get(address, path, tls=tls, timeout=TIMEOUT)
    except NoResponse as error:
        raise NotReady(str(error)) from None
    if response.status != 200:
        raise NotReady(f"not ready: {response.body[:200].decode('ascii', 'replace').strip()}")


def _find_listener(documents: ConfigDocuments) -> tuple[Address, bool]:
    """Return the address to connect to, and True if it needs TLS."""
    if documents.errors:
        raise NotReady("\n".join(map(str, documents.errors)))
    listen: dict[str, Any] = documents.globals.get("listen") or {}
    try:
        settings = ListenSettings.model_validate(listen, context=Context("file"))
    except ValidationError:
        raise NotReady("the config has errors under listen: run `sidekey check`") from None
    admin = mapping(documents.globals.get("admin"))
    has_tls = documents.globals.get("store") is not None and admin.get("tls") is not None
    for address, tls in ((settings.admin, has_tls), (settings.metrics, False)):
        if address is not None and address.path is not None:
            return Address(path=str(documents.folder / address.path)), tls
        if address is not None and address.port != 0:
            return address, tls
    raise NotReady("listen.admin: with port 0 the system chooses a port at the start: set another port")


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
        check_health(config or default_config_path(os.environ), "/startupz" if startup else "/readyz")
    except NotReady as error:
        fail(error)
    click.echo("ok")
