"""`sidekey token`: create, list and revoke operators' tokens in the store, without a running Sidekey."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import click

from sidekey.cli.config import (
    AUDIT_WHO,
    audit_source,
    complete_preset_id,
    create_loader,
    load_snapshot,
    load_with_store,
    run_with_store,
)
from sidekey.cli.groups import Group
from sidekey.cli.options import config_option, json_option
from sidekey.cli.terminal import fail, print_result, table, terminal_width
from sidekey.config.build.admin import preset_errors
from sidekey.config.field_types import check_name
from sidekey.config.stored.rows import format_time
from sidekey.credentials.units import parse_duration
from sidekey.snapshot.admin import PER_DAY, PER_MINUTE, Role
from sidekey.snapshot.store import StoreRules
from sidekey.store.audit import AuditEntry
from sidekey.store.errors import Changed, Exists, StoreError
from sidekey.store.records import TokenRow, new_row_id, new_token
from sidekey.store.state import Delete, Put, State
from sidekey.store.store import Store

T = TypeVar("T")


class TokenCommandError(Exception):
    """The command failed. The message says why and what to do."""


def parse_lifetime(text: str) -> int:
    """Parse a duration as whole seconds. Raises ValueError."""
    seconds = int(parse_duration(text))
    if seconds <= 0:
        raise ValueError("must be at least 1s")
    return seconds


class Grants(NamedTuple):
    """The role of a new token, and the grants of a sender."""

    role: Role
    presets: tuple[str, ...] = ()
    per_minute: int = PER_MINUTE
    per_day: int = PER_DAY


def create(rules: StoreRules, name: str, grants: Grants, valid_for: int | None) -> dict[str, Any]:
    """Create a token, and return its description with the token itself. Raises StoreError, TokenCommandError."""
    try:
        check_name(name)
    except ValueError as error:
        raise TokenCommandError(f"NAME {error}") from None
    token, digest = new_token()
    now = int(time.time())
    row = TokenRow(
        row_id=new_row_id(),
        id=name,
        **grants._asdict(),
        token_sha256=digest,
        expires_at=None if valid_for is None else now + valid_for,
        created_at=now,
        created_by=AUDIT_WHO,
    )

    sender_fields = ("presets", "per_minute", "per_day") if grants.role == "sender" else ()
    fields = ("role", *sender_fields, "expires_at", "token")

    async def put(store: Store) -> dict[str, Any]:
        try:
            state = await store.commit([Put(row, None)], _audit_entry("create", row, fields))
        except Exists:
            raise TokenCommandError(f"a token named {name} exists: revoke it, or choose another name") from None
        return {**_describe(state.tokens[name], None), "token": token}

    return run_with_store(rules, put, create=True)


def list_tokens(rules: StoreRules) -> list[dict[str, Any]]:
    """Describe all tokens, sorted by name. Raises StoreError."""

    async def read(store: Store) -> list[dict[str, Any]]:
        last_uses = await store.last_uses()
        return [_describe(row, last_uses.get(row.row_id)) for _, row in sorted(store.state.tokens.items())]

    return run_with_store(rules, read, create=False)


def lines(tokens: Sequence[Mapping[str, Any]], width: int | None = None) -> list[str]:
    """Format the tokens as a table, at most `width` columns wide unless it is None."""
    return table(
        [
            (token["name"], _role(token), _expiry(token["expires_at"]), f"used {token['last_used_at'] or 'never'}")
            for token in tokens
        ],
        width,
    )


def revoke(rules: StoreRules, name: str) -> None:
    """Delete a token. Raises StoreError, TokenCommandError."""

    async def delete(store: Store) -> None:
        row = store.state.tokens.get(name) or _find_altered(store.state, name)
        if row is None:
            raise TokenCommandError("no token has this name: `sidekey token list` lists the names")
        try:
            await store.commit([Delete(row, row.version)], _audit_entry("revoke", row, ()))
        except Changed:
            raise TokenCommandError("it was changed meanwhile: list the tokens again") from None

    run_with_store(rules, delete, create=False)


def _find_altered(state: State, name: str) -> TokenRow | None:
    """Return a row whose MAC does not verify, with the members that a deletion needs, or None."""
    stored = state.rows.get((TokenRow.kind, name))
    if stored is None or stored.verified:
        return None
    return TokenRow(row_id=stored.header.row_id, id=name, version=stored.header.version, role="viewer", token_sha256="")


def _audit_entry(action: str, row: TokenRow, fields: tuple[str, ...]) -> AuditEntry:
    return AuditEntry(
        who=AUDIT_WHO, action=action, kind=row.kind, id=row.id, row_id=row.row_id, fields=fields, source=audit_source()
    )


def _role(token: Mapping[str, Any]) -> str:
    return f"sender of {', '.join(token['presets'])}" if token["role"] == "sender" else str(token["role"])


def _expiry(expires_at: str | None) -> str:
    return "for good" if expires_at is None else f"until {expires_at}"


def _describe(row: TokenRow, last_use: int | None) -> dict[str, Any]:
    is_sender = row.role == "sender"
    return {
        "name": row.id,
        "role": row.role,
        "presets": list(row.presets) if is_sender else None,
        "per_minute": row.per_minute if is_sender else None,
        "per_day": row.per_day if is_sender else None,
        "expires_at": None if row.expires_at is None else format_time(row.expires_at),
        "created_at": format_time(row.created_at),
        "created_by": row.created_by,
        "last_used_at": None if last_use is None else format_time(last_use),
    }


@click.group("token", cls=Group)
def command() -> None:
    """Create, list and revoke operators' tokens of the API."""


@command.command("create")
@config_option
@json_option
@click.option(
    "--role",
    type=click.Choice(["viewer", "editor", "admin", "sender"]),
    default="viewer",
    show_default=True,
    help="What the token may do. A sender only sends the presets that it may use.",
)
@click.option(
    "--preset",
    "presets",
    multiple=True,
    metavar="ID",
    shell_complete=complete_preset_id,
    help="A preset that a sender may send. Repeat it for each one.",
)
@click.option(
    "--per-minute", type=click.IntRange(1, 600), help=f"Maximum number of sends per minute. Default: {PER_MINUTE}."
)
@click.option(
    "--per-day", type=click.IntRange(1, 10_000), help=f"Maximum number of sends in 24 hours. Default: {PER_DAY}."
)
@click.option(
    "--expires", metavar="DURATION", help="How long the token is valid, such as 90d. Default: until it is revoked."
)
@click.argument("name", metavar="NAME")
def create_command(
    *,
    config: str | None,
    as_json: bool,
    role: Role,
    presets: tuple[str, ...],
    per_minute: int | None,
    per_day: int | None,
    expires: str | None,
    name: str,
) -> None:
    """Create a token and print it once.

    A running Sidekey accepts the token within two seconds.
    """
    try:
        valid_for = None if expires is None else parse_lifetime(expires)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--expires") from None
    if role == "sender":
        _check_presets(config, presets)
    elif presets or per_minute or per_day:
        raise click.UsageError("--preset, --per-minute and --per-day need --role sender")
    grants = Grants(role, presets, per_minute or PER_MINUTE, per_day or PER_DAY)
    result = _run(config, lambda rules: create(rules, name, grants, valid_for))
    print_result(result, (result["token"],), as_json=as_json)


def _check_presets(config: str | None, presets: tuple[str, ...]) -> None:
    if not presets:
        raise click.UsageError("--role sender needs --preset, once for each preset that it may send")
    for index, text in preset_errors(presets, load_snapshot(config)):
        raise click.BadParameter(f"{presets[index]}: {text}", param_hint="--preset")


@command.command("list")
@config_option
@json_option
def list_command(config: str | None, as_json: bool) -> None:
    """List the tokens: name, role, expiry, last use."""
    tokens = _run(config, list_tokens)
    print_result(tokens, lines(tokens, terminal_width()), as_json=as_json)


@command.command("revoke")
@config_option
@click.argument("name", metavar="NAME")
def revoke_command(config: str | None, name: str) -> None:
    """Revoke a token. After two seconds no Sidekey accepts it."""
    _run(config, lambda rules: revoke(rules, name))


def _run(config: str | None, work: Callable[[StoreRules], T]) -> T:
    _, rules = load_with_store(create_loader(config))
    try:
        return work(rules)
    except StoreError as error:
        fail(f"store: {error}")
    except TokenCommandError as error:
        fail(error)
