"""`sidekey store`: create keys, re-encrypt the store and verify it. The commands never create a store."""

from __future__ import annotations

import os
import secrets
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from sidekey.cli.config import AUDIT_WHO, create_loader, load_with_store, run_with_store
from sidekey.cli.groups import Group
from sidekey.cli.options import config_option, json_option
from sidekey.cli.terminal import fail, print_json
from sidekey.config.stored.document import MalformedError
from sidekey.config.stored.validate import PreviousIntegration
from sidekey.snapshot.store import StoreRules
from sidekey.store.errors import StoreError
from sidekey.store.records import IntegrationRow
from sidekey.store.sealing import KEY_BYTES, Purpose
from sidekey.store.store import Store

T = TypeVar("T")


class StoreCommandError(Exception):
    """The command failed. The message says why and what to do."""


def new_key() -> str:
    """Generate 32 random bytes in base64."""
    return b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def write_key(path: Path) -> None:
    """Write a new key to a new file with mode 0600, and sync it to disk. Raises StoreCommandError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(f"{new_key()}\n")
                file.flush()
                # Without the key, everything that it seals is lost.
                os.fsync(file)
        except OSError:
            path.unlink()
            raise
    except FileExistsError:
        raise StoreCommandError(f"{path} exists and may be a key in use: name another file") from None
    except OSError as error:
        raise StoreCommandError(f"{path} cannot be written: {os.strerror(error.errno or 0)}") from None


def rotate_key(rules: StoreRules) -> dict[str, Any]:
    """Re-encrypt every row with the first key. Raises StoreCommandError."""

    async def rotate(store: Store) -> dict[str, Any]:
        result = await store.rotate_key(purpose_of, AUDIT_WHO)
        return {"key": store.ring.first, "rows": result.rows, "findings": list(result.stuck)}

    return _run_with_store(rules, rotate)


def verify(rules: StoreRules) -> dict[str, Any]:
    """Read the whole store, and list altered rows and secrets. Raises StoreCommandError."""

    async def examine(store: Store) -> dict[str, Any]:
        result = await store.verify(purpose_of)
        return {
            "revision": result.revision,
            **result.counts,
            "keys": list(result.keys),
            "findings": list(result.findings),
        }

    return _run_with_store(rules, examine)


def purpose_of(row: IntegrationRow) -> Purpose:
    """Return the purpose for which an integration's secrets are sealed. Raises ValueError."""
    try:
        purpose = PreviousIntegration.load(row).purpose
    except MalformedError as error:
        raise ValueError(f"its document {error}") from None
    if purpose is None:
        raise ValueError("its document is not valid any more: save it again, or delete it")
    return purpose


def lines(description: Mapping[str, Any]) -> list[str]:
    """Format the result of `rotate_key` or `verify` as text."""
    counts = ", ".join(
        f"{description[kind]} {kind}"
        for kind in ("integrations", "presets", "callers", "tokens")
        if kind in description
    )
    return [
        *([f"revision {description['revision']}: {counts}"] if counts else []),
        *([f"written with {', '.join(description['keys'])}"] if "keys" in description else []),
        *([f"{description['rows']} rows re-encrypted with {description['key']}"] if "rows" in description else []),
        *description.get("findings", ()),
    ]


def _run_with_store(rules: StoreRules, work: Callable[[Store], Awaitable[T]]) -> T:
    try:
        return run_with_store(rules, work, create=False)
    except StoreError as error:
        raise StoreCommandError(str(error)) from None


@click.group("store", cls=Group)
def command() -> None:
    """Create and rotate keys of the store, and verify its content."""


@command.command("new-key")
@click.option("--out", metavar="FILE", help="Write the key to this new file, with mode 0600, instead of printing it.")
def new_key_command(out: str | None) -> None:
    """Create a key for store.keys: 32 random bytes in base64."""
    if out is None:
        click.echo(new_key())
        return
    try:
        write_key(Path(out))
    except StoreCommandError as error:
        fail(error)


@command.command("rotate-key")
@config_option
@json_option
def rotate_key_command(config: str | None, as_json: bool) -> None:
    """Re-encrypt the store with the first key of store.keys.

    Add the new key to the end of store.keys in every process, then move it to the front in every process, then run
    this command. Sidekey may run meanwhile. You can interrupt the command and run it again. Remove the old key when the
    command ends without a finding.
    """
    _run(config, rotate_key, as_json)


@command.command("verify")
@config_option
@json_option
def verify_command(config: str | None, as_json: bool) -> None:
    """Read the whole store, and list altered rows and secrets.

    The list has the rows that fail verification, and the secrets that cannot be decrypted.
    """
    _run(config, verify, as_json)


def _run(config: str | None, work: Callable[[StoreRules], dict[str, Any]], as_json: bool) -> NoReturn:
    """Run the work, print its result, and exit with status 1 if it has findings."""
    _, rules = load_with_store(create_loader(config))
    try:
        result = work(rules)
    except StoreCommandError as error:
        fail(error)
    ok = not result.get("findings")
    if as_json:
        print_json({"ok": ok, **result})
    else:
        for line in lines(result):
            click.echo(line)
    raise SystemExit(0 if ok else 1)
