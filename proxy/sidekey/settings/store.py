"""Makes of the section `store` what the store is opened by. An error here stops a start, and refuses a reload."""

from __future__ import annotations

import hmac
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sidekey.credentials.fields import Reference
from sidekey.runtime.store_rules import StoreRules
from sidekey.settings.build import Reasons
from sidekey.settings.models import StoreSettings
from sidekey.settings.secrets import SecretReader, named

KEY_BYTES = 32
_SCHEMES = ("postgresql://", "postgres://")
_KEY = "must be 32 bytes in base64: make one with sidekey store new-key"
_URL = "must be a URL such as postgresql://USER:PASSWORD@HOST/DATABASE"


class BuiltStore(NamedTuple):
    """The rules, or None where there are errors; and what should be known."""

    rules: StoreRules | None
    errors: Reasons
    warnings: Reasons


def build_store(settings: StoreSettings, read: SecretReader) -> BuiltStore:
    """Read what the store is opened by."""
    errors: Reasons = []
    url = None
    if settings.url is not None:
        try:
            url = _read_url(settings.url, read)
        except ValueError as error:
            errors.append((("store", "url"), str(error)))
    keys: dict[str, bytes] = {}
    for index, entry in enumerate(settings.keys):
        place = ("store", "keys", index, "key")
        try:
            key = _read_key(entry.key, read)
        except ValueError as error:
            errors.append((place, f"key {entry.id}: {error}"))
            continue
        same = next((name for name, other in keys.items() if hmac.compare_digest(other, key)), None)
        if same is not None:
            errors.append((place, f"key {entry.id}: must differ from key {same}"))
        keys[entry.id] = key
    path = None if settings.path is None else read.path(settings.path).absolute()
    warnings = [] if path is None else list(_beside(path, settings, read))
    if errors:
        return BuiltStore(None, errors, warnings)
    rules = StoreRules(path, url, tuple(keys.items()), settings.audit, tuple(settings.allow_private))
    return BuiltStore(rules, [], warnings)


def _read_url(reference: Reference, read: SecretReader) -> str:
    url = read(reference)
    if not url.startswith(_SCHEMES):
        raise ValueError(f"{named(reference.source, reference.value)} {_URL}")
    return url


def _read_key(reference: Reference, read: SecretReader) -> bytes:
    text = read(reference)
    try:
        key = b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(f"{named(reference.source, reference.value)} {_KEY}")
    return key


def _beside(path: Path, settings: StoreSettings, read: SecretReader) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """A folder that is not there, and keys that lie in that of the store, so that one copy holds both."""
    folder = path.resolve().parent
    if not folder.is_dir():
        yield ("store", "path"), "its folder does not exist: make it before Sidekey starts, which makes the file alone"
    for index, entry in enumerate(settings.keys):
        if entry.key.source == "file" and read.path(entry.key.value).resolve().parent == folder:
            text = f"key {entry.id} is in the folder of the store: who copies that has both; keep the key elsewhere"
            yield ("store", "keys", index, "key"), text
