"""What the commands of `sidekey store` do. Each opens the store that the config names, and makes none."""

from __future__ import annotations

import os
import secrets
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sidekey.credentials.destination import Json, accepted
from sidekey.runtime.store_rules import StoreRules
from sidekey.settings.stored.document import MalformedError
from sidekey.settings.stored.saving import Former
from sidekey.store.errors import StoreError
from sidekey.store.records import IntegrationRow
from sidekey.store.ring import KEY_BYTES
from sidekey.store.store import Store
from sidekey.store_session import WHO, in_store

T = TypeVar("T")


class StoreCommandError(Exception):
    """The command failed; the message says why and what to do."""


def new_key() -> str:
    """32 random bytes in base64."""
    return b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def write_key(path: Path) -> None:
    """Write a new key into a new file that nobody else may read, onto the disk. Raises StoreCommandError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(f"{new_key()}\n")
                file.flush()
                # What it is going to seal is lost with it.
                os.fsync(file)
        except OSError:
            path.unlink()
            raise
    except FileExistsError:
        raise StoreCommandError(f"{path} exists: a key that may be in use is not replaced") from None
    except OSError as error:
        raise StoreCommandError(f"{path} cannot be written: {os.strerror(error.errno or 0)}") from None


def rotate_key(rules: StoreRules) -> dict[str, Any]:
    """Write with the first key what is written with others. Raises StoreCommandError."""

    async def rotate(store: Store) -> dict[str, Any]:
        done = await store.rotate_key(destinations_of, WHO)
        return {"key": store.ring.first, "rows": done.rows, "findings": list(done.stuck)}

    return _in_store(rules, rotate)


def verify(rules: StoreRules) -> dict[str, Any]:
    """Read all of it, and say what is wrong. Raises StoreCommandError."""

    async def examine(store: Store) -> dict[str, Any]:
        found = await store.verify(destinations_of)
        return {**_counted(found.revision, found.counts), "keys": list(found.keys), "findings": list(found.findings)}

    return _in_store(rules, examine)


def accept(rules: StoreRules) -> dict[str, Any]:
    """Let what is there count, whatever is gone or older. Raises StoreCommandError."""

    async def take(store: Store) -> dict[str, Any]:
        done = await store.accept(WHO)
        leases = [f"lease {name}: it was altered and is gone: enter the refresh token again" for name in done.leases]
        return {**_counted(done.revision, done.counts), "remarks": [*done.altered, *leases]}

    return _in_store(rules, take)


def destinations_of(row: IntegrationRow) -> Sequence[Json]:
    """The destinations that an integration's secrets may have been entered for. Raises ValueError."""
    try:
        settings = Former.load(row.document, row.secrets).settings
    except MalformedError as error:
        raise ValueError(f"its document {error}") from None
    if settings is None:
        raise ValueError("its document is not valid any more: save it again, or delete it")
    return accepted(settings)


def lines(description: Mapping[str, Any]) -> list[str]:
    """What a command returned, for people."""
    counts = ", ".join(
        f"{description[kind]} {kind}"
        for kind in ("integrations", "presets", "callers", "tokens")
        if kind in description
    )
    return [
        *([f"revision {description['revision']}: {counts}"] if counts else []),
        *([f"written with {', '.join(description['keys'])}"] if "keys" in description else []),
        *([f"{description['rows']} rows written again with {description['key']}"] if "rows" in description else []),
        *description.get("remarks", ()),
        *description.get("findings", ()),
    ]


def _counted(revision: int, counts: Mapping[str, int]) -> dict[str, Any]:
    return {"revision": revision, **counts}


def _in_store(rules: StoreRules, work: Callable[[Store], Awaitable[T]]) -> T:
    try:
        return in_store(rules, work, create=False)
    except StoreError as error:
        raise StoreCommandError(str(error)) from None
