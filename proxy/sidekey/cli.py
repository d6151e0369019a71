"""The command line. Exit status: 0 success, 1 an error was found, 2 wrong usage.

Each command imports what it needs when it runs, so that `--help` and `healthcheck` stay quick.
"""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, TypeVar

import click

from sidekey import __version__

if TYPE_CHECKING:
    from sidekey.authority.rules import CaRules
    from sidekey.environment import WayIn
    from sidekey.runtime.admin_rules import Role
    from sidekey.runtime.snapshot import Integration, Preset, Snapshot
    from sidekey.runtime.store_rules import StoreRules
    from sidekey.settings.config_errors import ConfigError
    from sidekey.settings.load import Loaded, Loader

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def _ids(context: click.Context, _: click.Parameter, begun: str) -> list[str]:
    """What completes an ID: those of the config that begin so; none where it cannot be read."""
    found = _loader(context.params.get("config")).load().snapshot
    return [] if found is None else sorted(name for name in found.integrations if name.startswith(begun))


def _first_id(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """What completes the first of several words, which is an ID."""
    return [] if context.params.get("words") else _ids(context, parameter, begun)


def _preset_ids(context: click.Context, _: click.Parameter, begun: str) -> list[str]:
    """What completes the ID of a preset, likewise."""
    found = _loader(context.params.get("config")).load().snapshot
    return [] if found is None else sorted(name for name in found.presets if name.startswith(begun))


def config_option(command: F) -> F:
    """Add `--config`."""
    text = "A config file, or a folder of them. Default: $SIDEKEY_CONFIG, then /etc/sidekey."
    return click.option("--config", metavar="PATH", help=text)(command)


def json_option(command: F) -> F:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")(command)


def _show_version(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not context.resilient_parsing:
        from sidekey.core.build import build

        click.echo(f"sidekey {__version__} ({build()})")
        context.exit()


class WholeHelp(click.Group):
    """A group whose list of commands has the first paragraph of each one's help whole, where click cuts it."""

    group_class = type

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list."""
        del ctx
        helps = {name: (command.help or "").partition("\n\n")[0] for name, command in sorted(self.commands.items())}
        with formatter.section("Commands"):
            formatter.write_dl([(name, " ".join(text.split())) for name, text in helps.items()])


@click.group(cls=WholeHelp, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version, and whether the hot path is compiled, and exit.",
)
def main() -> None:
    """Sidekey, the sidecar proxy that holds the keys: services send plain requests, Sidekey adds the credential."""


@main.command()
@config_option
@click.option(
    "--strict",
    is_flag=True,
    help="Do not start while a secret or CA file cannot be read, or a preset does not fit its integration.",
)
def run(config: str | None, strict: bool) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal exits at once."""
    # Imports and loading make no garbage worth a search; App.start turns the collector on (saves some 20 ms).
    gc.disable()
    from sidekey.process import ignore_early_signals, keep_one_heap

    ignore_early_signals()
    keep_one_heap()
    loader = _loader(config)
    loaded = loader.load()
    lacking = [*loaded.unreadable, *loaded.mismatched] if strict else []
    if loaded.errors or loaded.absent or lacking:
        _fail(*loaded.errors, *loaded.absent, *loaded.unreadable, *loaded.mismatched)
    from sidekey import app
    from sidekey.errors import StartError

    try:
        app.run(loader, loaded, strict=strict)
    except StartError as error:
        _fail(error)


@main.command()
@click.option("--once", is_flag=True, help="Exit after the requests; the exit status says whether all of them worked.")
def demo(once: bool) -> None:
    """Show what Sidekey does: requests through its reverse and forward proxy to a protected upstream on loopback."""
    from sidekey.demo import show

    failed = show(once=once)
    if failed:
        _fail(*failed)


@main.command()
@config_option
@json_option
def check(config: str | None, as_json: bool) -> None:
    """List every error of the config and every secret that cannot be read; certificates at URLs are fetched."""
    loaded = _load(config)
    if loaded.places and loaded.snapshot is not None:
        from sidekey.check_urls import check_urls

        check_urls(loaded)
    errors = sorted([*loaded.errors, *loaded.unreadable, *loaded.mismatched])
    warnings = sorted([*loaded.warnings, *loaded.absent])
    integrations = len(loaded.snapshot.integrations) if loaded.snapshot is not None else 0
    if as_json:
        _print_json(
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


@main.command()
@config_option
@json_option
@click.argument("integration_id", metavar="ID", shell_complete=_ids)
def test(config: str | None, as_json: bool, integration_id: str) -> None:
    """Send the integration's `test` request through the data plane, without a listener; only 200 is success."""
    snapshot = _snapshot(config)
    integration = _integration(snapshot, integration_id)
    from sidekey.test_command import send_test

    if integration.test is None:
        _fail(f"integrations.{integration.id}.test: this key is missing: write test: {{method: GET, path: /whoami}}")
    result = send_test(snapshot, integration, integration.test)
    if as_json:
        _print_json(result.as_json())
    else:
        click.echo(str(result))
    raise SystemExit(0 if result.ok else 1)


@main.command()
@config_option
@json_option
@click.argument("integration_id", metavar="ID", shell_complete=_ids)
@click.argument("url", metavar="URL")
@click.option("--method", metavar="METHOD", default="", help="The request's method; default: GET, where it is allowed.")
@click.option("--header", "headers", metavar="'NAME: VALUE'", multiple=True, help="A header of it; can be repeated.")
@click.option("--body", metavar="FILE", type=click.File("rb"), help="A file with its body; -: standard input.")
@click.option("--at", metavar="TIME", help="When: as 2026-01-31T23:59:59Z, or in Unix seconds; default: now.")
def explain(
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
    """Say which rule allows a target, or why none does, where the credential would go, and what is signed.

    URL is an absolute URL, as sent to the forward proxy, or a path such as /whoami, as it follows /i/ID at the
    reverse proxy; its first slash may be left out. Where requests are signed, the bytes that are signed are shown with
    what is injected as [redacted]; the signature is not.
    """
    snapshot = _snapshot(config)
    integration = _integration(snapshot, integration_id)
    from sidekey.explain import explain as judge
    from sidekey.explain import read_sample

    try:
        sample = read_sample(at, method, headers, b"" if body is None else body.read(), now=time.time())
    except ValueError as error:
        _fail(error)
    explanation = judge(integration, url, snapshot.passing, sample)
    if as_json:
        _print_json(explanation.as_json())
    else:
        click.echo(str(explanation))
    raise SystemExit(0 if explanation.allowed else 1)


@main.command("list")
@config_option
@json_option
@click.option(
    "--usable", is_flag=True, help="Omit integrations that cannot be used: without a secret, expired, not served."
)
def list_integrations(config: str | None, as_json: bool, usable: bool) -> None:
    """List the integrations of files and of the store: ID, kind, base URL, how it stands, tags and description."""
    from sidekey.list_command import as_json as described
    from sidekey.list_command import lines, listed

    found = listed(_snapshot(config), now=time.time(), usable=usable)
    if as_json:
        _print_json([described(each) for each in found])
        return
    for line in lines(found):
        click.echo(line)


def service_options(command: F) -> F:
    """Add the options of `env` and `exec` that say how a service reaches Sidekey."""
    for decorate in (
        click.option("--by-host", is_flag=True, help="Name no integration: each request takes the one that covers it."),
        click.option(
            "--proxy", metavar="URL", help="Where Sidekey listens: http://HOST:PORT, instead of the config's."
        ),
        click.option("--trust", metavar="FOLDER", help="Sidekey's trust folder, instead of the config's."),
        click.option("--java", is_flag=True, help="Set JAVA_TOOL_OPTIONS too."),
        config_option,
    ):
        command = decorate(command)
    return command


@main.command()
@service_options
@json_option
@click.option(
    "--shell",
    type=click.Choice(["sh", "fish", "powershell", "docker", "k8s"]),
    default="sh",
    help="What to write: lines for a shell (default: sh), a docker env-file, or `env` of a Kubernetes container.",
)
@click.argument("integration_id", metavar="ID", required=False, shell_complete=_ids)
def env(
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
    """Print the environment variables by which a service sends through Sidekey: eval "$(sidekey env ID)".

    A caller's token is not printed: put it in place of PUT-THE-CALLERS-TOKEN-HERE, or use `sidekey exec`.
    """
    if by_host is (integration_id is not None):
        raise click.UsageError("name an integration, or say --by-host")
    from sidekey.environment import TOKEN_PLACE, Proxy, environment
    from sidekey.kept_trust import KeptTrustError
    from sidekey.shells import SHELLS, Unwritable

    way = _way_in(config, integration_id, proxy, trust)
    write, here = SHELLS[shell]
    # Whether there are callers is unknown without the config; where there are none, any word will do.
    token = TOKEN_PLACE if way.callers is not False else None
    try:
        if here:
            way.check_trust()
        into = os.environ if here else {}
        variables = environment(Proxy.of(way.address, integration_id, token), way.trust, into, java=java)
        text = json.dumps(variables.values, indent=2) + "\n" if as_json else write(variables.values)
    except (KeptTrustError, Unwritable) as error:
        _fail(error)
    for note in variables.notes:
        click.echo(note, err=True)
    # As bytes: a value that was set before need not be UTF-8.
    click.echo(os.fsencode(text), nl=False)


@main.command("exec")
@service_options
@click.option("--token-file", metavar="FILE", help="Holds the caller's token. Default: $SIDEKEY_TOKEN.")
@click.argument("words", metavar="[ID] -- COMMAND...", nargs=-1, type=click.UNPROCESSED, shell_complete=_first_id)
def execute(
    *,
    words: tuple[str, ...],
    by_host: bool,
    proxy: str | None,
    trust: str | None,
    java: bool,
    config: str | None,
    token_file: str | None,
) -> None:
    """Run a command whose HTTP clients send through Sidekey: `sidekey exec crm -- node app.js`.

    Its environment gets the variables of `sidekey env`, with the caller's token. The command replaces this process, so
    signals and the exit status are its own.
    """
    integration_id = None if by_host else next(iter(words), None)
    command = words if by_host else words[1:]
    if not command:
        raise click.UsageError("name an integration, or say --by-host; then -- and the command")
    from sidekey.environment import Proxy, environment
    from sidekey.exec_command import TOKEN, NotStarted, TokenError, become, read_token, started
    from sidekey.kept_trust import KeptTrustError

    before = started()
    way = _way_in(config, integration_id, proxy, trust)
    try:
        token = read_token(token_file, os.environ)
        if way.callers and token is None:
            _fail(f"callers need a token: set {TOKEN}, or name its file with --token-file")
        way.check_trust()
        variables = environment(Proxy.of(way.address, integration_id, token), way.trust, before.environment, java=java)
    except (KeptTrustError, TokenError) as error:
        _fail(error)
    for note in variables.notes:
        click.echo(note, err=True)
    try:
        become(command, variables.values, before)
    except NotStarted as error:
        click.echo(str(error), err=True)
        raise SystemExit(error.status) from None


def _way_in(config: str | None, integration_id: str | None, proxy: str | None, trust: str | None) -> WayIn:
    """How a service reaches Sidekey: as the options say, and the config where they do not."""
    from pathlib import Path

    from sidekey.ca_command import CaError, trust_folder
    from sidekey.core.routing import valid_id
    from sidekey.environment import NoProxyUrl, WayIn, parse_proxy, proxy_address

    try:
        address = None if proxy is None else parse_proxy(proxy)
    except NoProxyUrl as error:
        raise click.BadParameter(str(error), param_hint="--proxy") from None
    folder = None if trust is None else Path(trust).absolute()
    if address is not None and folder is not None:
        if integration_id is not None and not valid_id(integration_id):
            raise click.BadParameter("must be an integration's ID", param_hint="ID")
        return WayIn(address, folder)
    snapshot = _snapshot(config)
    if integration_id is not None:
        _integration(snapshot, integration_id)
    elif snapshot.matching is None:
        _fail("forward.match_by_host: must be true for --by-host; or name an integration")
    try:
        return WayIn(
            proxy_address(snapshot.listen.proxy) if address is None else address,
            trust_folder(snapshot.ca) if folder is None else folder,
            snapshot.callers is not None,
        )
    except (NoProxyUrl, CaError) as error:
        _fail(error)


@main.group()
def preset() -> None:
    """List the webhook presets, show what one sends, and send it."""


def data_option(command: F) -> F:
    """Add `--data`."""
    text = "What a caller sends: parameters as JSON, or the payload; @FILE reads a file, @- standard input."
    return click.option("--data", metavar="TEXT", help=text)(command)


@preset.command("list")
@config_option
@json_option
def preset_list(config: str | None, as_json: bool) -> None:
    """List the presets: ID, integration, what is sent where, and why one is invalid."""
    from sidekey.preset_command import described, lines

    found = described(_snapshot(config))
    if as_json:
        _print_json(found)
        return
    for line in lines(found):
        click.echo(line)


@preset.command("preview")
@config_option
@json_option
@data_option
@click.argument("preset_id", metavar="ID", shell_complete=_preset_ids)
def preset_preview(config: str | None, as_json: bool, data: str | None, preset_id: str) -> None:
    """Show the request that a preset makes of parameters or a payload. The credential is named; nothing is sent."""
    from sidekey.preset_command import preview_lines
    from sidekey.preset_preview import preview

    snapshot = _snapshot(config)
    found = _preset(snapshot, preset_id)
    shown = preview(snapshot, found, _data(data, found))
    if as_json:
        _print_json(shown.as_json())
    else:
        for line in preview_lines(shown):
            click.echo(line)
    raise SystemExit(0 if shown.problem is None else 1)


@preset.command("test")
@config_option
@json_option
@data_option
@click.argument("preset_id", metavar="ID", shell_complete=_preset_ids)
def preset_test(config: str | None, as_json: bool, data: str | None, preset_id: str) -> None:
    """Send a preset: a real request, through the data plane, without a listener; a 2xx response is success."""
    from sidekey.preset_command import send

    snapshot = _snapshot(config)
    found = _preset(snapshot, preset_id)
    result = send(snapshot, found, _data(data, found))
    if as_json:
        _print_json(result.as_json())
    else:
        click.echo(str(result))
    raise SystemExit(0 if result.ok else 1)


def _data(data: str | None, found: Preset) -> bytes:
    from sidekey.preset_command import PresetCommandError, read_data

    try:
        return read_data(data, found)
    except PresetCommandError as error:
        _fail(error)


@main.group()
def ca() -> None:
    """Show the local CA, which signs for the hosts of tunnels (CONNECT), and replace it."""


@ca.command("show")
@config_option
@json_option
def ca_show(config: str | None, as_json: bool) -> None:
    """Show each local CA: what it is for, its fingerprint, its end, its hosts. Makes it where there is none."""
    from sidekey.ca_command import described, lines

    description = _of_ca(config, described)
    if as_json:
        _print_json(description)
        return
    for line in lines(description):
        click.echo(line)


@ca.command("path")
@config_option
@json_option
def ca_path(config: str | None, as_json: bool) -> None:
    """Print the path of ca.pem; with --json, of each file of the trust folder."""
    from sidekey.ca_command import paths

    found = _of_ca(config, paths)
    if as_json:
        _print_json(found)
    else:
        click.echo(found["ca.pem"])


@ca.command("bundle")
@config_option
def ca_bundle(config: str | None) -> None:
    """Print the certificates that replace a client's roots: Mozilla's, ca.extra_roots and the local CAs, in PEM."""
    from sidekey.ca_command import bundle

    click.echo(_of_ca(config, bundle), nl=False)


@ca.command("rotate")
@config_option
@click.option("--activate", "step", flag_value="activate", help="Sign with the next CA: once callers have restarted.")
@click.option("--retire", "step", flag_value="retire", help="Drop the old CA: once no caller needs it.")
def ca_rotate(config: str | None, step: str | None) -> None:
    """Add the next CA, which callers trust when they restart; then --activate, then --retire."""
    from sidekey.ca_command import rotate

    click.echo(_of_ca(config, lambda rules: rotate(rules, step or "next")))


def _of_ca(config: str | None, ask: Callable[[CaRules], T]) -> T:
    from sidekey.ca_command import CaError

    try:
        return ask(_snapshot(config).ca)
    except CaError as error:
        _fail(error)


@main.group()
def token() -> None:
    """Make, list and revoke operators' tokens, by which the API knows who they are."""


@token.command("create")
@config_option
@json_option
@click.option(
    "--role",
    type=click.Choice(["viewer", "editor", "admin"]),
    default="viewer",
    show_default=True,
    help="What the token may do.",
)
@click.option(
    "--expires", metavar="DURATION", help="For how long it counts, such as 90d. Default: until it is revoked."
)
@click.argument("name", metavar="NAME")
def token_create(config: str | None, as_json: bool, role: Role, expires: str | None, name: str) -> None:
    """Make a token and print it; it is shown this once. A running Sidekey knows it within two seconds."""
    from sidekey.token_command import create, lifetime

    try:
        life = None if expires is None else lifetime(expires)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--expires") from None
    made = _of_store(config, lambda rules: create(rules, name, role, life))
    if as_json:
        _print_json(made)
    else:
        click.echo(made["token"])


@token.command("list")
@config_option
@json_option
def token_list(config: str | None, as_json: bool) -> None:
    """List the tokens: name, role, when it ends, when it was used last."""
    from sidekey.token_command import found, lines

    tokens = _of_store(config, found)
    if as_json:
        _print_json(tokens)
        return
    for line in lines(tokens):
        click.echo(line)


@token.command("revoke")
@config_option
@click.argument("name", metavar="NAME")
def token_revoke(config: str | None, name: str) -> None:
    """Revoke a token: it counts nowhere after two seconds."""
    from sidekey.token_command import revoke

    _of_store(config, lambda rules: revoke(rules, name))


def _of_store(config: str | None, ask: Callable[[StoreRules], T]) -> T:
    from sidekey.store.errors import StoreError
    from sidekey.token_command import TokenCommandError

    _, rules = _loaded_with_store(_loader(config))
    try:
        return ask(rules)
    except StoreError as error:
        _fail(f"store: {error}")
    except TokenCommandError as error:
        _fail(error)


def _loaded_with_store(loader: Loader) -> tuple[Loaded, StoreRules]:
    """What a loader loads of a config that has a store, and what that is opened by."""
    loaded = loader.load()
    if loaded.snapshot is None:
        _fail(*loaded.errors)
    if loaded.snapshot.store is None:
        _fail("store: the config has no store: add it, with path or url, and keys")
    return loaded, loaded.snapshot.store


@main.command("export")
@config_option
@json_option
@click.option(
    "--output",
    metavar="DIR",
    help="Write a file for each integration and preset, and one for the callers, into this folder.",
)
@click.option(
    "--replace", is_flag=True, help="Write over the files of an export before, and remove those of what is gone."
)
def export_store(config: str | None, as_json: bool, output: str | None, replace: bool) -> None:
    """Print integrations, presets and callers of the store as a config file, without secrets.

    Each secret is a reference to a file that you fill in, as the first lines say. Public values, provider parameters
    and CAs are in it. `sidekey import` reads it.
    """
    from pathlib import Path

    from sidekey.export_command import ExportError, export, write_files
    from sidekey.store.errors import StoreError

    if output is None and (as_json or replace):
        raise click.UsageError("--json and --replace need --output")
    _, rules = _loaded_with_store(_loader(config))
    removed: list[str] = []
    try:
        found = export(rules, whole=output is None)
        if output is not None:
            removed = write_files(found, Path(output), replace=replace)
    except StoreError as error:
        _fail(f"store: {error}")
    except ExportError as error:
        _fail(error)
    if as_json:
        said = {"files": list(found.files), "removed": removed, "needs": list(found.needs), "notes": list(found.notes)}
        _print_json({"ok": not found.left_out, **said, "left_out": list(found.left_out)})
    else:
        for text in found.files.values() if output is None else found.files:
            # As bytes: a config file is UTF-8, wherever this goes.
            click.echo(text.encode(), nl=output is not None)
        for name in removed:
            click.echo(f"removed {name}")
        for note in (*found.notes, *(f"left out: {each}" for each in found.left_out)):
            click.echo(note, err=True)
    raise SystemExit(1 if found.left_out else 0)


@main.command("import")
@config_option
@json_option
@click.option("--dry-run", is_flag=True, help="Say what would become of each ID, with every error; change nothing.")
@click.option("--replace", is_flag=True, help="Write over what is in the store and differs; by default an error.")
@click.argument("path", metavar="PATH")
def import_into_store(config: str | None, as_json: bool, dry_run: bool, replace: bool, path: str) -> None:
    """Put integrations, presets and callers of config files into the store: all of them, or none.

    PATH is a file or a folder, read as `sidekey run` reads it. The secrets that it names are read and sealed, CAs and
    certificates written inline. A running Sidekey has it in use within two seconds.
    """
    from pathlib import Path

    from sidekey.errors import StartError
    from sidekey.import_command import ImportFailed, Wanted, import_config, lines
    from sidekey.import_command import as_json as described
    from sidekey.store.errors import StoreError

    loader = _loader(config)
    loaded, _ = _loaded_with_store(loader)
    try:
        wanted = Wanted(Path(path), os.environ, replace=replace, dry_run=dry_run)
        imported = import_config(loader, loaded, wanted)
    except (StartError, StoreError) as error:
        _fail(f"store: {error}")
    except ImportFailed as error:
        _fail(error)
    if as_json:
        _print_json(described(imported))
    else:
        for line in lines(imported, dry_run=dry_run):
            click.echo(line)
    raise SystemExit(1 if imported.errors else 0)


@main.group()
def store() -> None:
    """Make keys of the store of managed integrations, replace them, and look after the store."""


@store.command("new-key")
@click.option("--out", metavar="FILE", help="Write it into this new file, mode 0600, instead of printing it.")
def store_new_key(out: str | None) -> None:
    """Make a key: 32 random bytes in base64, for store.keys."""
    from pathlib import Path

    from sidekey.store_command import StoreCommandError, new_key, write_key

    if out is None:
        click.echo(new_key())
        return
    try:
        write_key(Path(out))
    except StoreCommandError as error:
        _fail(error)


@store.command("rotate-key")
@config_option
@json_option
def store_rotate_key(config: str | None, as_json: bool) -> None:
    """Write with the first of store.keys whatever is written with another, while Sidekey runs.

    First add the new key behind the others, everywhere; then put it first, everywhere; then run this. It may be
    interrupted and run again. Remove the old key once it ends without a finding.
    """
    from sidekey.store_command import rotate_key

    _show_store(config, rotate_key, as_json)


@store.command("verify")
@config_option
@json_option
def store_verify(config: str | None, as_json: bool) -> None:
    """Read all of the store, and list what was altered, is gone or older, or does not open."""
    from sidekey.store_command import verify

    _show_store(config, verify, as_json)


@store.command("accept")
@config_option
@json_option
def store_accept(config: str | None, as_json: bool) -> None:
    """Let what is in the store count although something is gone or older, as after restoring a backup.

    Refresh tokens that rotate must be entered again then: those of the store may have been used since.
    """
    from sidekey.store_command import accept

    _show_store(config, accept, as_json)


def _show_store(config: str | None, command: Callable[[StoreRules], dict[str, Any]], as_json: bool) -> NoReturn:
    """Run a command in the store of the config; an error where it has a finding."""
    from sidekey.store_command import StoreCommandError, lines

    _, rules = _loaded_with_store(_loader(config))
    try:
        found = command(rules)
    except StoreCommandError as error:
        _fail(error)
    ok = not found.get("findings")
    if as_json:
        _print_json({"ok": ok, **found})
    else:
        for line in lines(found):
            click.echo(line)
    raise SystemExit(0 if ok else 1)


@main.command()
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes bash, zsh or fish complete commands, options and IDs.

    In ~/.bashrc: `eval "$(sidekey completion bash)"`; in ~/.zshrc likewise, with zsh. fish: `sidekey completion fish >
    ~/.config/fish/completions/sidekey.fish`.
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    if found is None:
        raise RuntimeError(f"click knows no {shell}")
    click.echo(found(main, {}, "sidekey", "_SIDEKEY_COMPLETE").source())


@main.command()
def schema() -> None:
    """Print the JSON schema of the config file, for editors."""
    from sidekey.settings.schema import schema as generate

    _print_json(generate())


@main.command()
@config_option
def healthcheck(config: str | None) -> None:
    """Ask the running Sidekey of this config whether it is ready (GET /readyz)."""
    from sidekey.healthcheck import NotReady, ask

    try:
        ask(_config_path(config))
    except NotReady as error:
        _fail(error)
    click.echo("ok")


def _config_path(config: str | None) -> str:
    from sidekey.settings.source import default_config_path

    return config or default_config_path(os.environ)


def _loader(config: str | None) -> Loader:
    """The loader of the config; other processes of the user lose access to this one before a secret is read."""
    from sidekey.process import protect_memory
    from sidekey.settings.load import Loader

    protect_memory()
    return Loader(_config_path(config))


def _load(config: str | None) -> Loaded:
    return _loader(config).load()


def _snapshot(config: str | None) -> Snapshot:
    """The config, where it has no error; secrets that cannot be read do not matter here."""
    loader = _loader(config)
    loaded = loader.load()
    snapshot = loaded.snapshot
    if snapshot is None:
        _fail(*loaded.errors)
    if snapshot.store is not None:
        from sidekey.errors import StartError
        from sidekey.managed import joined

        try:
            return joined(snapshot.store, loader, loaded)
        except StartError as error:
            click.echo(f"warning: {error}; only integrations of files are known", err=True)
    return snapshot


def _integration(snapshot: Snapshot, name: str) -> Integration:
    integration = snapshot.integrations.get(name)
    if integration is None:
        judgement = None if snapshot.stored is None else snapshot.stored.judgements.get(name)
        if judgement is not None:
            _fail(f"integration {name} of the store is {judgement.state}, and not served: {judgement.reason}")
        message = "no integration has this ID: `sidekey list` shows those that there are"
        raise click.BadParameter(message, param_hint="ID")
    return integration


def _preset(snapshot: Snapshot, name: str) -> Preset:
    preset = snapshot.presets.get(name)
    if preset is None:
        judgement = None if snapshot.stored is None else snapshot.stored.preset_judgements.get(name)
        if judgement is not None:
            _fail(f"preset {name} of the store is {judgement.state}, and not served: {judgement.reason}")
        message = "no preset has this ID: `sidekey preset list` shows those that there are"
        raise click.BadParameter(message, param_hint="ID")
    return preset


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2))


def _fail(*errors: ConfigError | Exception | str) -> NoReturn:
    for error in errors:
        click.echo(str(error), err=True)
    raise SystemExit(1)
