"""Authenticate rows: each has an HMAC, bound to its store, kind, row ID, ID and version.

Tests pin the authenticated bytes. Each purpose has its own key, derived from a key of the ring with the store's ID as
salt, so that a MAC of one store does not verify in another.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Final, NamedTuple

from sidekey.policy.naming import valid_id
from sidekey.store.canonical_json import Json, canonical
from sidekey.store.database import as_number, as_text
from sidekey.store.records import RECORDS, DocumentRow, Record, parse_record
from sidekey.store.sealing import KeyRing

VERSION: Final = 1
"""Format of the authenticated bytes."""

TOMBSTONE: Final = ""
"""The body of a deleted row."""

_ROW: Final = b"sidekey row v1"
_KEY: Final = b"sidekey key check v1"


class RowHeader(NamedTuple):
    """A row without its body. `key` is the ID of the key that made `mac`, `revision` the change that wrote the row.

    The MAC covers everything but `revision`, which only tells processes what to read again.
    """

    kind: str
    row: str
    id: str
    version: int
    key: str
    mac: str
    revision: int

    @classmethod
    def read(cls, columns: Sequence[object]) -> RowHeader:
        """Parse the columns of a row."""
        kind, row, name, version, key, mac, revision = columns
        return cls(
            as_text(kind),
            as_text(row),
            as_text(name),
            as_number(version),
            as_text(key),
            as_text(mac),
            as_number(revision),
        )

    @property
    def name(self) -> tuple[str, str]:
        """Kind and ID, which no two rows share."""
        return self.kind, self.id


class VerifiedRow(NamedTuple):
    """A row that was read. `verified` is False if its MAC or its body is not valid.

    `record` is None for a tombstone, and for an unverified caller or token. An unverified integration or preset has a
    record without content, if its ID is valid.
    """

    line: RowHeader
    record: Record | None
    verified: bool = True

    @property
    def deleted(self) -> bool:
        """Return True for a verified tombstone."""
        return self.verified and self.record is None


class RowAuthenticator:
    """Makes and verifies MACs for one store with one ring."""

    def __init__(self, ring: KeyRing, store: str) -> None:
        self.ring: Final = ring
        self.store: Final = store
        self._derived: dict[tuple[str, bytes], bytes] = {}

    def line(self, name: tuple[str, str], row: str, version: int, revision: int, body: str) -> RowHeader:
        """Build the line of a row of this kind and ID with this body, with a MAC by the first key."""
        kind, record_id = name
        line = RowHeader(kind, row, record_id, version, self.ring.first, "", revision)
        return line._replace(mac=self._row_mac(line, body))

    def held(self, line: RowHeader, body: str) -> VerifiedRow:
        """Verify and parse a row."""
        if line.key in self.ring and _equal(self._row_mac(line, body), line.mac):
            if body == TOMBSTONE:
                return VerifiedRow(line, None)
            try:
                return VerifiedRow(line, parse_record(line.kind, line.row, line.id, line.version, body))
            except (KeyError, TypeError, ValueError):
                # A newer Sidekey wrote it: it is kept, but cannot be used here.
                pass
        kind = RECORDS.get(line.kind)
        record = None
        if kind is not None and issubclass(kind, DocumentRow) and valid_id(line.id):
            record = kind(row=line.row, id=line.id, version=line.version, verified=False)
        return VerifiedRow(line, record, verified=False)

    def key_check(self, key: str) -> str:
        """Return the proof that a ring has the key of this ID that the store is written with. Raises KeyMissing."""
        return self.mac(key, _KEY, canonical({"key": key, "store": self.store, "v": VERSION}))

    def bears(self, key: str, info: bytes, text: str, mac: str) -> bool:
        """Return True if the ring has the key of this ID, and `mac` is its MAC of the text."""
        return key in self.ring and _equal(self.mac(key, info, text), mac)

    def mac(self, key: str, info: bytes, text: str) -> str:
        """Return the HMAC-SHA-256 of a text for one purpose, in hexadecimal. Raises KeyMissing."""
        derived = self._derived.get((key, info))
        if derived is None:
            derived = self._derived[key, info] = self.ring.derive(key, self.store.encode(), info)
        return hmac.digest(derived, text.encode(), "sha256").hex()

    def _row_mac(self, line: RowHeader, body: str) -> str:
        # A line feed ends the first part: JSON contains none.
        header: Json = {
            "id": line.id,
            "key": line.key,
            "kind": line.kind,
            "row": line.row,
            "store": self.store,
            "v": VERSION,
            "version": line.version,
        }
        return self.mac(line.key, _ROW, f"{canonical(header)}\n{body}")


def _equal(computed: str, stored: str) -> bool:
    # As bytes: the stored text may hold any character.
    return hmac.compare_digest(computed.encode(), stored.encode())
