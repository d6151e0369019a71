"""`sidekey check`: every error of a config, at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

import click

from sidekey.app import own_listeners
from sidekey.certificates.fetch import MAX_PARALLEL, UrlFetch
from sidekey.cli.config import load
from sidekey.cli.options import config_option, json_option
from sidekey.cli.terminal import print_json
from sidekey.config.addresses import is_local
from sidekey.config.errors import Kind, Loc, error_at
from sidekey.config.load_result import LACKING, Loaded
from sidekey.credentials.fields import Keys, SecretUnreadable
from sidekey.network.dial import Dialer
from sidekey.network.fetch import Fetcher
from sidekey.snapshot.snapshot import Integration, Snapshot

Reasons = dict[Keys, str]
"""Why something was not fetched, by its place in the integration."""


def check_urls(loaded: Loaded) -> None:
    """Add to a config without errors what cannot be fetched, and the errors and warnings of what can.

    Nothing is fetched from a source address that this machine does not have: that is a finding of its own.
    """
    snapshot, side = loaded.snapshot, loaded.files
    if snapshot is None or side is None:
        raise ValueError("the URLs of a config with errors must not be fetched")
    names = [name for name, each in side.integrations.items() if _may_fetch(each, snapshot)]
    for name, unfetched in asyncio.run(_fetch_all(snapshot, names)).items():
        certificate, raw = snapshot.integrations[name].certificate, side.entries[name].source
        if certificate is None:
            continue
        reasons = () if certificate.unreadable is None else certificate.unreadable.reasons
        # Of what was not fetched there is nothing else to report.
        further = ((loc, reason) for loc, reason in reasons if loc not in unfetched)
        found: tuple[tuple[Kind, Iterable[tuple[Loc, str]]], ...] = (
            ("unreadable", (*unfetched.items(), *further)),
            ("warning", certificate.warnings),
        )
        for kind, each in found:
            loaded.add(kind, (error_at(raw, loc, text, base=("integrations", name)) for loc, text in each))
    loaded.sort()


def _may_fetch(integration: Integration, snapshot: Snapshot) -> bool:
    certificate, source = integration.certificate, integration.source_address or snapshot.network.source_address
    return certificate is not None and bool(certificate.urls) and (source is None or is_local(source))


async def _fetch_all(snapshot: Snapshot, names: list[str]) -> dict[str, Reasons]:
    """Fetch for these integrations at once, under the rules of a running Sidekey, and check the result."""
    dialer = Dialer(snapshot.network)
    where = snapshot.listen
    dialer.own_listeners = own_listeners((where.proxy, where.admin, where.metrics))
    fetcher, slots = Fetcher(dialer, 2 * MAX_PARALLEL), asyncio.Semaphore(MAX_PARALLEL)

    async def fetch(integration: Integration) -> Reasons:
        certificate = integration.certificate
        if certificate is None:
            return {}
        try:
            await UrlFetch(integration, certificate, fetcher, slots).fetch()
        except SecretUnreadable as error:
            return dict(error.reasons)
        finally:
            certificate.load(time.time())
        return {}

    found = await asyncio.gather(*(fetch(snapshot.integrations[name]) for name in names))
    return dict(zip(names, found, strict=True))


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
