"""`sidekey token`: operators' tokens are made, listed and revoked in the store itself, without a running Sidekey."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from sidekey.cli.groups import Group
from sidekey.cli.loading import load_with_store, loader_of
from sidekey.cli.options import config_option, json_option
from sidekey.cli.store_session import WHO, in_store, user
from sidekey.cli.terminal import fail, print_result, table, terminal_width
from sidekey.credentials.quantities import parse_duration
from sidekey.runtime.admin_rules import Role
from sidekey.runtime.store_rules import StoreRules
from sidekey.settings.stored.reading import instant
from sidekey.settings.values import check_name
from sidekey.store.audit import AuditEntry
from sidekey.store.errors import Changed, Exists, StoreError
from sidekey.store.records import TokenRow, new_row
from sidekey.store.state import Delete, Put, State
from sidekey.store.store import Store
from sidekey.store.tokens import new_token

T = TypeVar("T")


class TokenCommandError(Exception):
    """Why a command does not do what it was asked for."""


def lifetime(text: str) -> int:
    """Seconds of a duration. Raises ValueError."""
    seconds = int(parse_duration(text))
    if seconds <= 0:
        raise ValueError("must be at least 1s")
    return seconds


def create(rules: StoreRules, name: str, role: Role, life: int | None) -> dict[str, Any]:
    """Make a token; what is known of it, and itself. Raises StoreError, TokenCommandError."""
    try:
        check_name(name)
    except ValueError as error:
        raise TokenCommandError(f"NAME {error}") from None
    token, digest = new_token()
    now = int(time.time())
    row = TokenRow(
        row=new_row(),
        id=name,
        role=role,
        token_sha256=digest,
        expires_at=None if life is None else now + life,
        created_at=now,
        created_by=WHO,
    )

    async def put(store: Store) -> dict[str, Any]:
        try:
            state = await store.commit([Put(row, None)], _entry("create", row, ("role", "expires_at", "token")))
        except Exists:
            raise TokenCommandError(f"a token named {name} exists: revoke it, or choose another name") from None
        return {**_shown(state.tokens[name], None), "token": token}

    return in_store(rules, put, create=True)


def found(rules: StoreRules) -> list[dict[str, Any]]:
    """All tokens by name. Raises StoreError."""

    async def read(store: Store) -> list[dict[str, Any]]:
        uses = await store.last_uses()
        return [_shown(row, uses.get(row.row)) for _, row in sorted(store.state.tokens.items())]

    return in_store(rules, read, create=False)


def lines(tokens: Sequence[Mapping[str, Any]], width: int | None = None) -> list[str]:
    """The list for people, for a terminal of a `width` if there is one."""
    return table(
        [
            (each["name"], each["role"], _until(each["expires_at"]), f"used {each['last_used_at'] or 'never'}")
            for each in tokens
        ],
        width,
    )


def revoke(rules: StoreRules, name: str) -> None:
    """Delete a token. Raises StoreError, TokenCommandError."""

    async def delete(store: Store) -> None:
        row = store.state.tokens.get(name) or _altered(store.state, name)
        if row is None:
            raise TokenCommandError("no token has this name: `sidekey token list` shows those of the store")
        try:
            await store.commit([Delete(row, row.version)], _entry("revoke", row, ()))
        except Changed:
            raise TokenCommandError("somebody else has changed it meanwhile: look at it again") from None

    in_store(rules, delete, create=False)


def _altered(state: State, name: str) -> TokenRow | None:
    """In place of a row that was changed by other means than Sidekey's: enough to delete it."""
    lines = (held.line for held in state.rows.values() if not held.verified)
    found = next((line for line in lines if (line.kind, line.id) == (TokenRow.kind, name)), None)
    if found is None:
        return None
    return TokenRow(row=found.row, id=name, version=found.version, role="viewer", token_sha256="")


def _entry(action: str, row: TokenRow, fields: tuple[str, ...]) -> AuditEntry:
    return AuditEntry(who=WHO, action=action, kind=row.kind, id=row.id, row=row.row, fields=fields, source=user())


def _until(moment: str | None) -> str:
    return "for good" if moment is None else f"until {moment}"


def _shown(row: TokenRow, used: int | None) -> dict[str, Any]:
    return {
        "name": row.id,
        "role": row.role,
        "expires_at": None if row.expires_at is None else instant(row.expires_at),
        "created_at": instant(row.created_at),
        "created_by": row.created_by,
        "last_used_at": None if used is None else instant(used),
    }


@click.group("token", cls=Group)
def command() -> None:
    """Make, list and revoke operators' tokens of the API."""


@command.command("create")
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
def create_command(config: str | None, as_json: bool, role: Role, expires: str | None, name: str) -> None:
    """Make a token and print it; it is shown this once.

    A running Sidekey knows it within two seconds.
    """
    try:
        life = None if expires is None else lifetime(expires)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--expires") from None
    made = _of_store(config, lambda rules: create(rules, name, role, life))
    print_result(made, (made["token"],), as_json=as_json)


@command.command("list")
@config_option
@json_option
def list_command(config: str | None, as_json: bool) -> None:
    """List the tokens: name, role, end, when used last."""
    tokens = _of_store(config, found)
    print_result(tokens, lines(tokens, terminal_width()), as_json=as_json)


@command.command("revoke")
@config_option
@click.argument("name", metavar="NAME")
def revoke_command(config: str | None, name: str) -> None:
    """Revoke a token: it counts nowhere after two seconds."""
    _of_store(config, lambda rules: revoke(rules, name))


def _of_store(config: str | None, ask: Callable[[StoreRules], T]) -> T:
    _, rules = load_with_store(loader_of(config))
    try:
        return ask(rules)
    except StoreError as error:
        fail(f"store: {error}")
    except TokenCommandError as error:
        fail(error)
