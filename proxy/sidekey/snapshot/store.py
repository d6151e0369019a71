"""Where the store of managed integrations is, and with which keys it is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from sidekey.credentials.secret_holder import SecretHolder
from sidekey.policy.addresses import Network

HISTORY: Final = 7 * 86_400.0
"""Seconds for which sends are kept by default."""


@dataclass(frozen=True, slots=True, repr=False)
class StoreRules(SecretHolder):
    """A store at a `path` (SQLite) or a `url` (PostgreSQL, may hold a password).

    `keys` are IDs and 32 bytes each, the one that seals first. `audit` is how many seconds an entry of the audit is
    kept, `history` that of a send. Stored integrations may dial global addresses and `allow_private`.
    """

    path: Path | None
    url: str | None
    keys: tuple[tuple[str, bytes], ...]
    audit: float
    allow_private: tuple[Network, ...] = ()
    history: float = HISTORY

    def __repr__(self) -> str:
        return f"StoreRules({self.path or 'url REDACTED'}, keys={[name for name, _ in self.keys]})"

    def is_at(self, other: StoreRules) -> bool:
        """Whether it is the same database, by whichever password."""
        return (self.path, _without_password(self.url)) == (other.path, _without_password(other.url))


def _without_password(url: str | None) -> tuple[str, ...]:
    """What of a URL says where the database is, and who asks for it."""
    try:
        parts = urlsplit(url or "")
    except ValueError:
        return (url or "",)
    user, _, host = parts.netloc.rpartition("@")
    query = [each for each in parts.query.split("&") if not each.startswith("password=")]
    return parts.scheme, user.partition(":")[0], host, parts.path, *query
