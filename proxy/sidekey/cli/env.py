"""`sidekey env`: print the variables that make a service use Sidekey."""

from __future__ import annotations

import json
import os

import click

from sidekey.cli.config import complete_id
from sidekey.cli.environment import TOKEN_PLACEHOLDER, Proxy, build_variables, find_proxy, proxy_options
from sidekey.cli.options import json_option
from sidekey.cli.shells import FORMATS, InvalidValue
from sidekey.cli.terminal import fail
from sidekey.cli.trust_variables import TrustError


@click.command()
@proxy_options
@json_option
@click.option(
    "--shell",
    type=click.Choice(list(FORMATS)),
    default="sh",
    help="Output format: lines for a shell (default: sh), a docker env-file, or `env` of a Kubernetes container.",
)
@click.argument("integration_id", metavar="ID", required=False, shell_complete=complete_id)
def command(
    *,
    integration_id: str | None,
    by_host: bool,
    proxy: str | None,
    trust: str | None,
    java: bool,
    config: str | None,
    as_json: bool,
    shell: str,
) -> None:
    """Print the variables that a service needs to use Sidekey.

    In a shell, run `eval "$(sidekey env ID)"`. The command does not print a caller's token: replace
    PUT-THE-CALLERS-TOKEN-HERE with it, or use `sidekey exec`.
    """
    if by_host is (integration_id is not None):
        raise click.UsageError("name an integration, or use --by-host")
    location = find_proxy(config, integration_id, proxy, trust)
    format_variables, in_place = FORMATS[shell]
    keys = location.caller_keys
    if keys == frozenset({"certificate"}):
        token: str | None = ""
    else:
        # Without a config, callers are unknown. Without callers, the password can be any word.
        token = None if location.is_known and keys is None else TOKEN_PLACEHOLDER
    try:
        if in_place:
            location.check_trust()
        environ = os.environ if in_place else {}
        address = Proxy.of(location.address, integration_id, token, location.scheme)
        variables = build_variables(address, location.trust, environ, java=java, policies=location.policies)
        text = json.dumps(variables.values, indent=2) + "\n" if as_json else format_variables(variables.values)
    except (TrustError, InvalidValue) as error:
        fail(error)
    if token and keys is not None and "certificate" in keys:
        click.echo(f"warning: with a client certificate, remove {TOKEN_PLACEHOLDER} from the URLs", err=True)
    for note in (*([location.note] if location.note else []), *variables.notes):
        click.echo(f"warning: {note}", err=True)
    # Write bytes: an existing value need not be UTF-8.
    click.echo(os.fsencode(text), nl=False)
