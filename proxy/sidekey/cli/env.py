"""`sidekey env`: prints the variables by which a service sends through Sidekey."""

from __future__ import annotations

import json
import os

import click

from sidekey.cli.config import complete_id
from sidekey.cli.environment import TOKEN_PLACE, Proxy, environment, find_way_in, way_in_options
from sidekey.cli.options import json_option
from sidekey.cli.shells import SHELLS, InvalidValue
from sidekey.cli.terminal import fail
from sidekey.cli.trust_variables import KeptTrustError


@click.command()
@way_in_options
@json_option
@click.option(
    "--shell",
    type=click.Choice(list(SHELLS)),
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
        raise click.UsageError("name an integration, or say --by-host")
    way = find_way_in(config, integration_id, proxy, trust)
    write, here = SHELLS[shell]
    # Whether there are callers is unknown without the config; where there are none, any word will do.
    token = TOKEN_PLACE if way.callers is not False else None
    try:
        if here:
            way.check_trust()
        into = os.environ if here else {}
        address = Proxy.of(way.address, integration_id, token)
        variables = environment(address, way.trust, into, java=java, policies=way.policies)
        text = json.dumps(variables.values, indent=2) + "\n" if as_json else write(variables.values)
    except (KeptTrustError, InvalidValue) as error:
        fail(error)
    for note in variables.notes:
        click.echo(f"warning: {note}", err=True)
    # As bytes: a value that was set before need not be UTF-8.
    click.echo(os.fsencode(text), nl=False)
