"""`sidekey explain`: show the data plane's decision on a target."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import BinaryIO, TypeVar

import click

from sidekey.cli.config import complete_id, find_integration, load_snapshot
from sidekey.cli.look_up import look_up_target
from sidekey.cli.options import config_option, json_option
from sidekey.cli.terminal import fail, print_json
from sidekey.diagnostics.explain import Sample, apply_address_rules, explain, parse_header, parse_method, parse_moment

T = TypeVar("T")


def parse_sample(at: str | None, method: str, headers: Sequence[str], body: bytes, *, now: float) -> Sample:
    """Parse the options that describe a request. Raises ValueError, whose message names the option."""
    moment = now if at is None else _parse("--at", parse_moment, at)
    fields = tuple(_parse("--header", parse_header, *_split_header(text)) for text in headers)
    return Sample(moment, _parse("--method", parse_method, method), fields, body)


def _split_header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    # Without a colon, `parse_header` must fail: it rejects an empty name.
    return (name, value) if colon else ("", "")


def _parse(option: str, parse: Callable[..., T], *texts: str) -> T:
    try:
        return parse(*texts)
    except ValueError as error:
        raise ValueError(f"{option} {error}") from None


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
    reverse proxy; you may omit the first slash. A ws:// or wss:// URL asks for a WebSocket. The command looks up the
    host. If Sidekey may connect to none of its addresses, the command names the config key that would allow one. If the
    integration signs requests, it shows the signed bytes, with injected values as [redacted], and never the signature.
    """
    snapshot = load_snapshot(config)
    integration = find_integration(snapshot, integration_id)
    try:
        sample = parse_sample(at, method, headers, b"" if body is None else body.read(), now=time.time())
    except ValueError as error:
        fail(error)
    explanation = explain(integration, url, snapshot.passthrough, sample)
    host = explanation.dialled_host
    if host is not None:
        addresses = look_up_target(snapshot, host, explanation.egress_for(host))
        explanation = apply_address_rules(explanation, snapshot, addresses)
    if as_json:
        print_json(explanation.as_json())
    else:
        click.echo(str(explanation))
    raise SystemExit(0 if explanation.allowed else 1)
