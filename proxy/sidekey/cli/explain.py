"""`sidekey explain`: what the data plane would decide on one target."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import BinaryIO, Final, TypeVar

import click

from sidekey.cli.config import complete_id, find_integration, load_snapshot
from sidekey.cli.options import config_option, json_option
from sidekey.cli.terminal import fail, print_json
from sidekey.diagnostics.explain import Sample, explain, parse_header, parse_method, parse_moment, with_addresses
from sidekey.errors import ProblemError
from sidekey.network.resolve import Resolver
from sidekey.policy.addresses import Address
from sidekey.snapshot.snapshot import Snapshot

T = TypeVar("T")

_PATIENCE: Final = 2.0
"""Seconds that a lookup may take."""


def read_sample(at: str | None, method: str, headers: Sequence[str], body: bytes, *, now: float) -> Sample:
    """A request as the options say it. Raises ValueError, which says what must be true."""
    moment = now if at is None else _read("--at", parse_moment, at)
    fields = tuple(_read("--header", parse_header, *_halves(written)) for written in headers)
    return Sample(moment, _read("--method", parse_method, method), fields, body)


def _halves(written: str) -> tuple[str, str]:
    name, colon, value = written.partition(":")
    # Without a colon it is no header, whatever the name.
    return (name, value) if colon else ("", "")


def _read(option: str, parse: Callable[..., T], *written: str) -> T:
    try:
        return parse(*written)
    except ValueError as error:
        raise ValueError(f"{option} {error}") from None


def look_up(snapshot: Snapshot, host: str) -> tuple[Address, ...]:
    """The addresses of a host, as a running Sidekey would find them here; none where it cannot be told."""

    async def main() -> tuple[Address, ...]:
        return await Resolver(snapshot.network).resolve(host, asyncio.get_running_loop().time() + _PATIENCE)

    try:
        return asyncio.run(main())
    except ProblemError:
        # There may be no DNS here, or no such name: nothing is said of addresses then.
        return ()


@click.command()
@config_option
@json_option
@click.argument("integration_id", metavar="ID", shell_complete=complete_id)
@click.argument("url", metavar="URL")
@click.option(
    "--method", metavar="METHOD", default="", help="The method of the request. Default: GET, if that is allowed."
)
@click.option(
    "--header",
    "headers",
    metavar="'NAME: VALUE'",
    multiple=True,
    help="A header of the request. Repeat it for each one.",
)
@click.option(
    "--body",
    metavar="FILE",
    type=click.File("rb"),
    help="A file with the body of the request; `-` reads standard input.",
)
@click.option(
    "--at", metavar="TIME", help="Time of signing, such as 2026-01-31T23:59:59Z, or in Unix seconds. Default: now."
)
def command(
    config: str | None,
    as_json: bool,
    integration_id: str,
    url: str,
    *,
    method: str,
    headers: tuple[str, ...],
    body: BinaryIO | None,
    at: str | None,
) -> None:
    """Show whether a target is allowed, why, and what is signed.

    The command names the rule that allows the target, or why no rule does, and shows where the credential would go.

    URL is an absolute URL, as sent to the forward proxy, or a path such as /whoami, as it follows /i/ID at the
    reverse proxy; you may omit the first slash. The command looks up the host. If Sidekey may connect to none of its
    addresses, the command names the config key that would allow one. If the integration signs requests, it shows the
    signed bytes, with injected values as [redacted], and never the signature.
    """
    snapshot = load_snapshot(config)
    integration = find_integration(snapshot, integration_id)
    try:
        sample = read_sample(at, method, headers, b"" if body is None else body.read(), now=time.time())
    except ValueError as error:
        fail(error)
    explanation = explain(integration, url, snapshot.passing, sample)
    host = explanation.dialled_host
    if host is not None:
        explanation = with_addresses(explanation, snapshot, look_up(snapshot, host))
    if as_json:
        print_json(explanation.as_json())
    else:
        click.echo(str(explanation))
    raise SystemExit(0 if explanation.allowed else 1)
