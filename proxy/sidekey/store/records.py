"""Records, the content of the store's rows, and their only serialization. Also operators' and callers' tokens.

A record has a permanent random ID (`row_id`), a name that people choose (`id`), and a `version` that counts its changes
from 1. Its other fields are the body of the row, in canonical JSON.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any, ClassVar, Final, NamedTuple, Self, cast

from sidekey.snapshot.admin import PER_DAY, PER_MINUTE, PERMISSIONS, Role
from sidekey.store.canonical_json import Json, canonical


def new_row_id() -> str:
    """Generate the permanent ID of a row: 128 random bits, in hexadecimal."""
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class SealedField:
    """A sealed value, when it was entered (seconds since the epoch), and by whom."""

    sealed: str = field(repr=False)
    set_at: int
    set_by: str


class _Codec(NamedTuple):
    """Converts a field to JSON and back. `parse` raises KeyError, TypeError or ValueError."""

    write: Callable[[Any], Json]
    parse: Callable[[Any], Any]


_CODEC: Final = "codec"
_UNCHANGED: Final = _Codec(lambda value: value, lambda raw: raw)
_NOT_IN_BODY: Final = frozenset({"row_id", "id", "version", "verified"})
"""Fields that are columns of their own, or the result of the verification."""


def _metadata(codec: _Codec) -> Mapping[str, _Codec]:
    """Build the metadata of a field that needs a codec."""
    return {_CODEC: codec}


def _write_granted(ids: tuple[str, ...] | None) -> Json:
    return "*" if ids is None else list(ids)


def _parse_granted(raw: Any) -> tuple[str, ...] | None:
    return None if raw == "*" else tuple(raw)


def _write_sealed(secrets: Mapping[str, SealedField]) -> Json:
    return {
        secret: {"sealed": sealed.sealed, "set_at": sealed.set_at, "set_by": sealed.set_by}
        for secret, sealed in secrets.items()
    }


def _parse_sealed(raw: Any) -> dict[str, SealedField]:
    return {secret: SealedField(**fields) for secret, fields in raw.items()}


def _parse_role(raw: Any) -> Role:
    if raw not in PERMISSIONS:
        raise ValueError("must be a role")
    return cast(Role, raw)


_GRANTED: Final = _metadata(_Codec(_write_granted, _parse_granted))
_IDS: Final = _metadata(_Codec(list, tuple))


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The content of a row. The store sets `version`, which is 0 for a new record. Times are epoch seconds."""

    kind: ClassVar[str]

    row_id: str
    id: str
    version: int = 0
    created_at: int = 0

    def fields(self) -> dict[str, Json]:
        """Serialize the fields of the body."""
        return {name: codec.write(getattr(self, name)) for name, codec in _codecs(self.kind)}

    @classmethod
    def parse(cls, row_id: str, id: str, version: int, fields: Mapping[str, Any]) -> Self:  # noqa: A002  its name
        """Build a record from the fields of a body. Raises KeyError, TypeError or ValueError if they do not match."""
        values = {name: codec.parse(fields[name]) for name, codec in _codecs(cls.kind)}
        return cls(row_id=row_id, id=id, version=version, **values)

    def body(self) -> str:
        """Serialize the body as canonical JSON."""
        return canonical(self.fields())

    def with_version(self, version: int) -> Self:
        """Return a copy with another version."""
        return replace(self, version=version)


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentRow(Record):
    """An integration or a preset. A config file may have one of the same ID.

    `document` is JSON without secrets. If `verified` is False, only `id` and `version` are known.
    """

    document: str = "{}"
    updated_at: int = 0
    updated_by: str = ""
    verified: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegrationRow(DocumentRow):
    """A stored integration. `secrets` has its sealed values, by the IDs that replace them in `document`."""

    kind: ClassVar[str] = "integration"

    secrets: Mapping[str, SealedField] = field(
        default_factory=dict, metadata=_metadata(_Codec(_write_sealed, _parse_sealed))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetRow(DocumentRow):
    """A stored preset, which has no secrets."""

    kind: ClassVar[str] = "preset"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerRow(Record):
    """A stored caller: the SHA-256 of its token in hexadecimal, and the IDs that it may use (None: all)."""

    kind: ClassVar[str] = "caller"

    token_sha256: str = field(repr=False)
    integrations: tuple[str, ...] | None = field(default=(), metadata=_GRANTED)
    presets: tuple[str, ...] | None = field(default=(), metadata=_GRANTED)
    updated_at: int = 0
    updated_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow(Record):
    """An operator's token: its SHA-256 in hexadecimal, its role, and the grants of a sender.

    `expires_at` is None for a token that does not expire.
    """

    kind: ClassVar[str] = "token"

    role: Role = field(metadata=_metadata(_Codec(_UNCHANGED.write, _parse_role)))
    token_sha256: str = field(repr=False)
    presets: tuple[str, ...] = field(default=(), metadata=_IDS)
    per_minute: int = PER_MINUTE
    per_day: int = PER_DAY
    expires_at: int | None = None
    created_by: str = ""


RECORDS: Final[Mapping[str, type[Record]]] = {
    record.kind: record for record in (IntegrationRow, PresetRow, CallerRow, TokenRow)
}
"""Classes of records by the `kind` column of their rows."""


@cache
def _codecs(kind: str) -> tuple[tuple[str, _Codec], ...]:
    """Return the fields of the body of a kind, with their codecs."""
    return tuple(
        (item.name, item.metadata.get(_CODEC, _UNCHANGED))
        for item in fields(RECORDS[kind])
        if item.name not in _NOT_IN_BODY
    )


def parse_record(kind: str, row_id: str, id: str, version: int, body: str) -> Record:  # noqa: A002
    """Parse a record from a body. Raises KeyError, TypeError or ValueError."""
    values = json.loads(body)
    if not isinstance(values, dict):
        raise TypeError("must be an object")
    return RECORDS[kind].parse(row_id, id, version, values)


PREFIX: Final = "sidekey_"
"""Prefix of tokens, by which scanners for leaked secrets recognize them."""


def new_token() -> tuple[str, str]:
    """Generate a token of 32 random bytes, and return it with its SHA-256 in hexadecimal."""
    token = f"{PREFIX}{secrets.token_urlsafe(32)}"
    return token, digest_of(token)


def digest_of(token: str) -> str:
    """Return the SHA-256 of a token's UTF-8 bytes, in hexadecimal."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
