"""Build the rules of the store: its database and its keys. With an error, Sidekey neither starts nor reloads."""

from __future__ import annotations

import hmac
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

from sidekey.config.errors import LocatedErrors
from sidekey.config.models import StoreSettings
from sidekey.config.secrets import SecretReader, describe_source
from sidekey.credentials.fields import Reference
from sidekey.snapshot.store import StoreRules

KEY_BYTES = 32
_SCHEMES = ("postgresql://", "postgres://")
_KEY_RULE = "must be 32 bytes in base64: make one with sidekey store new-key"
_URL_RULE = "must be a URL such as postgresql://USER:PASSWORD@HOST/DATABASE"

_UNVERIFIED = (
    "should have sslmode=verify-full and sslrootcert=FILE: otherwise an attacker on the network can impersonate the "
    "database, and read everything that is not sealed"
)


class BuiltStore(NamedTuple):
    """The rules of the store, or None if there are errors."""

    rules: StoreRules | None
    errors: LocatedErrors
    warnings: LocatedErrors


def build_store(settings: StoreSettings, read: SecretReader) -> BuiltStore:
    """Read the URL and the keys of the store."""
    errors: LocatedErrors = []
    url = None
    if settings.url is not None:
        try:
            url = _read_url(settings.url, read)
        except ValueError as error:
            errors.append((("store", "url"), str(error)))
    keys: dict[str, bytes] = {}
    for index, entry in enumerate(settings.keys):
        loc = ("store", "keys", index, "key")
        try:
            key = _read_key(entry.key, read)
        except ValueError as error:
            errors.append((loc, f"key {entry.id}: {error}"))
            continue
        duplicate = next((name for name, other in keys.items() if hmac.compare_digest(other, key)), None)
        if duplicate is not None:
            errors.append((loc, f"key {entry.id}: must differ from key {duplicate}"))
        keys[entry.id] = key
    path = None if settings.path is None else read.path(settings.path).absolute()
    warnings = [] if path is None else list(_folder_warnings(path, settings, read))
    if url is not None and not _is_verified(url):
        warnings.append((("store", "url"), _UNVERIFIED))
    if errors:
        return BuiltStore(None, errors, warnings)
    rules = StoreRules(path, url, tuple(keys.items()), settings.audit, tuple(settings.allow_private), settings.history)
    return BuiltStore(rules, [], warnings)


def _read_url(reference: Reference, read: SecretReader) -> str:
    url = read(reference)
    if not url.startswith(_SCHEMES):
        raise ValueError(f"{describe_source(reference.source, reference.value)} {_URL_RULE}")
    return url


def _is_verified(url: str) -> bool:
    """Return True if a database URL (libpq, 34.1.1.2) names only this machine, or verifies the server's name."""
    authority, _, rest = url.partition("://")[2].partition("/")
    options = dict(parse_qsl(rest.partition("?")[2]))
    hosts = options.get("host", unquote(authority.rpartition("@")[2])).split(",")
    return options.get("sslmode") == "verify-full" or all(map(_is_this_machine, hosts))


def _is_this_machine(host: str) -> bool:
    """Return True for this machine (with or without a port), the folder of a socket, or no host."""
    name = host.rpartition("]")[0].removeprefix("[") or host.partition(":")[0]
    return name in ("", "localhost", "::1") or name.startswith(("/", "127."))


def _read_key(reference: Reference, read: SecretReader) -> bytes:
    text = read(reference)
    try:
        key = b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(f"{describe_source(reference.source, reference.value)} {_KEY_RULE}")
    return key


def _folder_warnings(
    path: Path, settings: StoreSettings, read: SecretReader
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Warn if the store's folder is missing, or has a key in it, so that a copy of the folder contains both."""
    folder = path.resolve().parent
    if not folder.is_dir():
        yield (
            ("store", "path"),
            "its folder does not exist: create it before you start Sidekey, which creates only the file",
        )
    for index, entry in enumerate(settings.keys):
        if entry.key.source == "file" and folder in read.path(entry.key.value).resolve().parents:
            text = f"key {entry.id} is in the folder of the store, so a copy of it has both: keep the key elsewhere"
            yield ("store", "keys", index, "key"), text
