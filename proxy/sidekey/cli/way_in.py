"""How a service reaches Sidekey: the options of `env` and `exec` that say so, and the config where they do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from sidekey.cli.ca import CaError, trust_folder
from sidekey.cli.environment import NoProxyUrl, WayIn, parse_proxy, proxy_address
from sidekey.cli.loading import find_integration, load_snapshot
from sidekey.cli.options import config_option
from sidekey.cli.terminal import fail
from sidekey.core.routing import valid_id

F = TypeVar("F", bound=Callable[..., Any])


def way_in_options(command: F) -> F:
    """Add the options."""
    for decorate in (
        click.option(
            "--by-host", is_flag=True, help="Name no integration: each request uses the one that covers its target."
        ),
        click.option(
            "--proxy", metavar="URL", help="URL of Sidekey's proxy listener, http://HOST:PORT, instead of the config's."
        ),
        click.option("--trust", metavar="FOLDER", help="Sidekey's trust folder, instead of the config's."),
        click.option("--java", is_flag=True, help="Set JAVA_TOOL_OPTIONS too."),
        config_option,
    ):
        command = decorate(command)
    return command


def find_way_in(config: str | None, integration_id: str | None, proxy: str | None, trust: str | None) -> WayIn:
    """The way in as the options say, and the config where they do not; ends the command where there is none."""
    try:
        address = None if proxy is None else parse_proxy(proxy)
    except NoProxyUrl as error:
        raise click.BadParameter(str(error), param_hint="--proxy") from None
    folder = None if trust is None else Path(trust).absolute()
    if address is not None and folder is not None:
        if integration_id is not None and not valid_id(integration_id):
            raise click.BadParameter("must be an integration's ID", param_hint="ID")
        return WayIn(address, folder)
    snapshot = load_snapshot(config)
    if integration_id is not None:
        integrations = [find_integration(snapshot, integration_id)]
    elif snapshot.matching is None:
        fail("forward.match_by_host: must be true for --by-host; or name an integration")
    else:
        integrations = list(snapshot.integrations.values())
    try:
        return WayIn(
            proxy_address(snapshot.listen.proxy) if address is None else address,
            trust_folder(snapshot.ca) if folder is None else folder,
            snapshot.callers is not None,
            tuple(integration.policy for integration in integrations),
        )
    except (NoProxyUrl, CaError) as error:
        fail(error)
