"""The store's settings: its database, its keys and its retention."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from sidekey.credentials.secret_holder import SecretHolder
from sidekey.policy.addresses import Network

DEFAULT_SENDS_RETENTION: Final = 7 * 86_400.0
"""Seconds that the results of sent presets are kept by default."""


@dataclass(frozen=True, slots=True, repr=False)
class StoreRules(SecretHolder):
    """A store at a `path` (SQLite) or a `url` (PostgreSQL, may hold a password).

    `keys` are IDs with 32 bytes each, the sealing key first. `audit` and `history` are the seconds that audit entries
    and the results of sent presets are kept. Stored integrations may connect to global addresses and to
    `allow_private`.
    """

    path: Path | None
    url: str | None
    keys: tuple[tuple[str, bytes], ...]
    audit: float
    allow_private: tuple[Network, ...] = ()
    history: float = DEFAULT_SENDS_RETENTION

    def __repr__(self) -> str:
        return f"StoreRules({self.path or 'url REDACTED'}, keys={[name for name, _ in self.keys]})"

    def is_at(self, other: StoreRules) -> bool:
        """Return True if both have the same database, regardless of the password."""
        return (self.path, _without_password(self.url)) == (other.path, _without_password(other.url))


def _without_password(url: str | None) -> tuple[str, ...]:
    """Split a database URL and drop the password."""
    try:
        parts = urlsplit(url or "")
    except ValueError:
        return (url or "",)
    user, _, host = parts.netloc.rpartition("@")
    query = [parameter for parameter in parts.query.split("&") if not parameter.startswith("password=")]
    return parts.scheme, user.partition(":")[0], host, parts.path, *query
