"""What the rows of a store say, each a frozen value; how it is written is here as well, and nowhere else.

A row that decides something has a random ID that lasts (`row`), a name that people give it (`id`), and a `version` that
counts its changes from 1. What it says is its body, canonical JSON.
"""

from __future__ import annotations

import json
import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, Literal, Self, cast

from sidekey.store.canonical import Json, canonical

Role = Literal["viewer", "editor", "admin"]
"""What an operator's token may do: each of them what the one before may, and more."""

ROLES: Final[tuple[Role, ...]] = ("viewer", "editor", "admin")


def new_row() -> str:
    """A row's ID: 128 random bits, in hexadecimal."""
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class SealedField:
    """A sealed value, when it was entered (seconds since the epoch), and by whom."""

    sealed: str = field(repr=False)
    updated_at: int
    updated_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(ABC):
    """A row that decides something. A new one has `version` 0; the store counts."""

    kind: ClassVar[str]

    row: str
    id: str
    version: int = 0

    @abstractmethod
    def fields(self) -> dict[str, Json]:
        """What it says, beside the above."""

    @classmethod
    @abstractmethod
    def parse(cls, row: str, id: str, version: int, fields: Mapping[str, Any]) -> Self:  # noqa: A002  its name
        """The record of these fields. Raises KeyError, TypeError, ValueError where they are not of this kind."""

    def body(self) -> str:
        """What it says as it is stored."""
        return canonical(self.fields())

    def at(self, version: int) -> Self:
        """The same as of another version."""
        return replace(self, version=version)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegrationRow(Record):
    """A stored integration.

    `document` is canonical JSON without secrets; `secrets` has the sealed values by the JSON pointers (RFC 6901) of
    their places in it. Times are seconds since the epoch. `hidden`: a file had the same ID, and nobody has released
    this one since. In an `altered` one nothing but `id` and `version` is to be relied upon.
    """

    kind: ClassVar[str] = "integration"

    document: str = "{}"
    secrets: Mapping[str, SealedField] = field(default_factory=dict)
    created_at: int = 0
    updated_at: int = 0
    updated_by: str = ""
    hidden: bool = False
    state: Literal["ok", "altered"] = "ok"

    def fields(self) -> dict[str, Json]:
        """What it says."""
        return {
            "created_at": self.created_at,
            "document": self.document,
            "hidden": self.hidden,
            "secrets": {
                pointer: {"sealed": each.sealed, "updated_at": each.updated_at, "updated_by": each.updated_by}
                for pointer, each in self.secrets.items()
            },
            "updated_at": self.updated_at,
            "updated_by": self.updated_by,
        }

    @classmethod
    def parse(cls, row: str, id: str, version: int, fields: Mapping[str, Any]) -> Self:  # noqa: A002
        """As `Record.parse`."""
        return cls(
            row=row,
            id=id,
            version=version,
            document=fields["document"],
            secrets={pointer: SealedField(**each) for pointer, each in fields["secrets"].items()},
            created_at=fields["created_at"],
            updated_at=fields["updated_at"],
            updated_by=fields["updated_by"],
            hidden=fields["hidden"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerRow(Record):
    """A stored caller: the SHA-256 of its token in hexadecimal, and what it may use (None: all of them)."""

    kind: ClassVar[str] = "caller"

    token_sha256: str = field(repr=False)
    integrations: tuple[str, ...] | None = ()
    presets: tuple[str, ...] | None = ()
    created_at: int = 0
    updated_at: int = 0
    updated_by: str = ""

    def fields(self) -> dict[str, Json]:
        """What it says."""
        return {
            "created_at": self.created_at,
            "integrations": _granted(self.integrations),
            "presets": _granted(self.presets),
            "token_sha256": self.token_sha256,
            "updated_at": self.updated_at,
            "updated_by": self.updated_by,
        }

    @classmethod
    def parse(cls, row: str, id: str, version: int, fields: Mapping[str, Any]) -> Self:  # noqa: A002
        """As `Record.parse`."""
        return cls(
            row=row,
            id=id,
            version=version,
            token_sha256=fields["token_sha256"],
            integrations=_parse_granted(fields["integrations"]),
            presets=_parse_granted(fields["presets"]),
            created_at=fields["created_at"],
            updated_at=fields["updated_at"],
            updated_by=fields["updated_by"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow(Record):
    """An operator's token: the SHA-256 of it in hexadecimal, and until when it counts (None: for ever)."""

    kind: ClassVar[str] = "token"

    role: Role
    token_sha256: str = field(repr=False)
    expires_at: int | None = None
    created_at: int = 0
    created_by: str = ""

    def fields(self) -> dict[str, Json]:
        """What it says."""
        return {
            "created_at": self.created_at,
            "created_by": self.created_by,
            "expires_at": self.expires_at,
            "role": self.role,
            "token_sha256": self.token_sha256,
        }

    @classmethod
    def parse(cls, row: str, id: str, version: int, fields: Mapping[str, Any]) -> Self:  # noqa: A002
        """As `Record.parse`."""
        if fields["role"] not in ROLES:
            raise ValueError("must be a role")
        return cls(
            row=row,
            id=id,
            version=version,
            role=cast(Role, fields["role"]),
            token_sha256=fields["token_sha256"],
            expires_at=fields["expires_at"],
            created_at=fields["created_at"],
            created_by=fields["created_by"],
        )


RECORDS: Final[Mapping[str, type[Record]]] = {each.kind: each for each in (IntegrationRow, CallerRow, TokenRow)}
"""The kinds of records by the word that rows have for them."""


def parse_record(kind: str, row: str, id: str, version: int, body: str) -> Record:  # noqa: A002
    """The record of a body. Raises KeyError, TypeError, ValueError where it is of no kind that is known."""
    fields = json.loads(body)
    if not isinstance(fields, dict):
        raise TypeError("must be an object")
    return RECORDS[kind].parse(row, id, version, fields)


def _granted(ids: tuple[str, ...] | None) -> Json:
    return "*" if ids is None else list(ids)


def _parse_granted(raw: Any) -> tuple[str, ...] | None:
    return None if raw == "*" else tuple(raw)
