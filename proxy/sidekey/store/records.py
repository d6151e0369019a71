"""What the rows of a store say, each a frozen value; how it is written is here as well, and nowhere else.

A row that decides something has a random ID that lasts (`row`), a name that people give it (`id`), and a `version` that
counts its changes from 1. What it says is its body, canonical JSON.
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


def new_row() -> str:
    """A row's ID: 128 random bits, in hexadecimal."""
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class SealedField:
    """A sealed value, when it was entered (seconds since the epoch), and by whom."""

    sealed: str = field(repr=False)
    set_at: int
    set_by: str


class _Form(NamedTuple):
    """How a value is written in a body, and read from it; `parse` raises KeyError, TypeError or ValueError."""

    write: Callable[[Any], Json]
    parse: Callable[[Any], Any]


_FORM: Final = "form"
_AS_IT_IS: Final = _Form(lambda value: value, lambda raw: raw)
_OUTSIDE: Final = frozenset({"row", "id", "version", "verified"})
"""Fields that are not in a body: columns, and the result of the verification."""


def _written(form: _Form) -> Mapping[str, _Form]:
    """The metadata of a field whose value is not JSON as it is."""
    return {_FORM: form}


def _granted(ids: tuple[str, ...] | None) -> Json:
    return "*" if ids is None else list(ids)


def _parse_granted(raw: Any) -> tuple[str, ...] | None:
    return None if raw == "*" else tuple(raw)


def _sealed(secrets: Mapping[str, SealedField]) -> Json:
    return {
        secret: {"sealed": each.sealed, "set_at": each.set_at, "set_by": each.set_by}
        for secret, each in secrets.items()
    }


def _parse_sealed(raw: Any) -> dict[str, SealedField]:
    return {secret: SealedField(**each) for secret, each in raw.items()}


def _parse_role(raw: Any) -> Role:
    if raw not in PERMISSIONS:
        raise ValueError("must be a role")
    return cast(Role, raw)


_GRANTED: Final = _written(_Form(_granted, _parse_granted))
_IDS: Final = _written(_Form(list, tuple))


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A row that decides something. A new one has `version` 0; the store counts. Times are seconds since the epoch."""

    kind: ClassVar[str]

    row: str
    id: str
    version: int = 0
    created_at: int = 0

    def fields(self) -> dict[str, Json]:
        """What it says, beside its ID and version."""
        return {name: form.write(getattr(self, name)) for name, form in _forms(self.kind)}

    @classmethod
    def parse(cls, row: str, id: str, version: int, fields: Mapping[str, Any]) -> Self:  # noqa: A002  its name
        """The record of these fields. Raises KeyError, TypeError, ValueError where they are not of this kind."""
        said = {name: form.parse(fields[name]) for name, form in _forms(cls.kind)}
        return cls(row=row, id=id, version=version, **said)

    def body(self) -> str:
        """What it says as it is stored."""
        return canonical(self.fields())

    def at(self, version: int) -> Self:
        """The same as of another version."""
        return replace(self, version=version)


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentRow(Record):
    """An integration or a preset, which a file may have under the same ID.

    `document` is JSON without secrets. Unless it is `verified`, only `id` and `version` are known.
    """

    document: str = "{}"
    updated_at: int = 0
    updated_by: str = ""
    verified: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegrationRow(DocumentRow):
    """A stored integration; `secrets` has the sealed values by their IDs, which `document` has in their places."""

    kind: ClassVar[str] = "integration"

    secrets: Mapping[str, SealedField] = field(default_factory=dict, metadata=_written(_Form(_sealed, _parse_sealed)))


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetRow(DocumentRow):
    """A stored preset, which has no secrets."""

    kind: ClassVar[str] = "preset"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerRow(Record):
    """A stored caller: the SHA-256 of its token in hexadecimal, and what it may use (None: all of them)."""

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

    role: Role = field(metadata=_written(_Form(_AS_IT_IS.write, _parse_role)))
    token_sha256: str = field(repr=False)
    presets: tuple[str, ...] = field(default=(), metadata=_IDS)
    per_minute: int = PER_MINUTE
    per_day: int = PER_DAY
    expires_at: int | None = None
    created_by: str = ""


RECORDS: Final[Mapping[str, type[Record]]] = {
    each.kind: each for each in (IntegrationRow, PresetRow, CallerRow, TokenRow)
}
"""The kinds of records by the word that rows have for them."""


@cache
def _forms(kind: str) -> tuple[tuple[str, _Form], ...]:
    """What the body of a record of this kind says, and how."""
    said = (each for each in fields(RECORDS[kind]) if each.name not in _OUTSIDE)
    return tuple((each.name, each.metadata.get(_FORM, _AS_IT_IS)) for each in said)


def parse_record(kind: str, row: str, id: str, version: int, body: str) -> Record:  # noqa: A002
    """The record of a body. Raises KeyError, TypeError, ValueError where it is of no kind that is known."""
    said = json.loads(body)
    if not isinstance(said, dict):
        raise TypeError("must be an object")
    return RECORDS[kind].parse(row, id, version, said)


PREFIX: Final = "sidekey_"
"""The prefix by which scanners for leaked secrets recognize them."""


def new_token() -> tuple[str, str]:
    """Generate a token of 32 random bytes, and return it with its SHA-256 in hexadecimal."""
    token = f"{PREFIX}{secrets.token_urlsafe(32)}"
    return token, digest_of(token)


def digest_of(token: str) -> str:
    """Return the SHA-256 of a token's UTF-8 bytes, in hexadecimal."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
