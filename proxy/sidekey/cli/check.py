"""`sidekey check`: list every error of a config, and check certificates at URLs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

import click

from sidekey.certificates.fetch import MAX_PARALLEL, UrlFetch
from sidekey.cli.config import load
from sidekey.cli.options import config_option, json_option
from sidekey.cli.terminal import print_json
from sidekey.config.addresses import is_local
from sidekey.config.build.snapshot import FileContent
from sidekey.config.errors import FindingKind, Loc, error_at
from sidekey.config.load_result import DEGRADING, Loaded
from sidekey.credentials.fields import Keys, SecretUnreadable
from sidekey.network.dial import Dialer
from sidekey.network.fetch import Fetcher
from sidekey.network.guard import own_listeners
from sidekey.snapshot.snapshot import Integration, Snapshot
from sidekey.snapshot.status import status_of

Reasons = dict[Keys, str]
"""Why each certificate could not be fetched, by the location of its URL in the integration."""


def check_urls(loaded: Loaded) -> None:
    """Fetch the certificates at URLs of a config without errors, and add findings about them to `loaded`.

    Skips integrations whose source address this machine does not have: the load reported these.
    """
    snapshot, files = loaded.snapshot, loaded.files
    if snapshot is None or files is None:
        raise ValueError("the URLs of a config with errors must not be fetched")
    names = [name for name, integration in files.integrations.items() if _may_fetch(integration, snapshot)]
    for name, unfetched in asyncio.run(_fetch_all(snapshot, names)).items():
        certificate, raw = snapshot.integrations[name].certificate, files.entries[name].source
        if certificate is None:
            continue
        reasons = () if certificate.unreadable is None else certificate.unreadable.reasons
        unreadable = ((loc, reason) for loc, reason in reasons if loc not in unfetched)
        findings: tuple[tuple[FindingKind, Iterable[tuple[Loc, str]]], ...] = (
            ("unreadable", (*unfetched.items(), *unreadable)),
            ("warning", certificate.warnings),
        )
        for kind, items in findings:
            loaded.add(kind, (error_at(raw, loc, text, base=("integrations", name)) for loc, text in items))
    loaded.sort()


def _may_fetch(integration: Integration, snapshot: Snapshot) -> bool:
    certificate, source = integration.certificate, integration.egress.source_address or snapshot.network.source_address
    return certificate is not None and bool(certificate.urls) and (source is None or is_local(source))


async def _fetch_all(snapshot: Snapshot, names: list[str]) -> dict[str, Reasons]:
    """Fetch and check the certificates of these integrations concurrently, as a running Sidekey would."""
    dialer = Dialer(snapshot.network)
    addresses = snapshot.listen
    dialer.own_listeners = own_listeners((addresses.proxy, addresses.admin, addresses.metrics))
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

    results = await asyncio.gather(*(fetch(snapshot.integrations[name]) for name in names))
    return dict(zip(names, results, strict=True))


def check_token_files(loaded: Loaded, files: FileContent) -> None:
    """Add an error to `loaded` for each token of a file that has expired."""
    for name, integration in files.integrations.items():
        secrets = integration.secrets
        if not secrets.files or secrets.unreadable is not None:
            continue
        secrets.load()
        if secrets.unreadable is not None:
            raw, base = files.entries[name].source, ("integrations", name)
            loaded.add("unreadable", (error_at(raw, *reason, base=base) for reason in secrets.unreadable.reasons))
    loaded.sort()


def check_expiry(loaded: Loaded, files: FileContent) -> None:
    """Add a warning to `loaded` for each client certificate that expires soon."""
    now = time.time()
    for name, integration in files.integrations.items():
        status = status_of(integration, now)
        if status.status == "expiring":
            raw, base = files.entries[name].source, ("integrations", name)
            loaded.add("warning", [error_at(raw, ("auth",), status.problem, base=base)])
    loaded.sort()


@click.command()
@config_option
@json_option
def command(config: str | None, as_json: bool) -> None:
    """List every error of the config and of its secrets.

    For this command, a secret that cannot be read is an error. It also fetches and checks certificates at URLs.
    """
    loaded = load(config)
    integrations = () if loaded.files is None else loaded.files.integrations.values()
    if any(integration.certificate is not None and integration.certificate.urls for integration in integrations):
        check_urls(loaded)
    if loaded.files is not None:
        check_token_files(loaded, loaded.files)
        check_expiry(loaded, loaded.files)
    errors, warnings = loaded.of("error", "unwritable", *DEGRADING), loaded.of("warning", "absent")
    count = len(loaded.snapshot.integrations) if loaded.snapshot is not None else 0
    if as_json:
        print_json(
            {
                "ok": not errors,
                "integrations": count,
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
            has_store = loaded.snapshot is not None and loaded.snapshot.store is not None
            hint = "; of the store: sidekey store verify" if has_store else ""
            click.echo(f"ok: {count} integration{'' if count == 1 else 's'}{hint}")
    raise SystemExit(1 if errors else 0)
