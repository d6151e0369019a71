"""Authenticate rows. The HMAC of a row covers its store, kind, permanent ID, name, version and body.

Tests pin the authenticated bytes. Each `info` has its own key, derived from a key of the ring with the store's ID as
salt, so that a MAC of one store does not verify in another.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Final, NamedTuple

from sidekey.policy.identifiers import valid_id
from sidekey.store.canonical_json import Json, canonical
from sidekey.store.database import as_number, as_text
from sidekey.store.records import RECORDS, DocumentRow, Record, parse_record
from sidekey.store.sealing import KeyRing

VERSION: Final = 1
"""Format of the authenticated bytes."""

TOMBSTONE: Final = ""
"""The body of a deleted row."""

_ROW_INFO: Final = b"sidekey row v1"
_KEY_CHECK_INFO: Final = b"sidekey key check v1"


class RowHeader(NamedTuple):
    """A row without its body. `row_id` is its permanent ID, `id` its name, and `key` the ID of the key of `mac`.

    `revision` is the number of the change that wrote the row. The MAC does not cover it: processes only use it to find
    rows to read again.
    """

    kind: str
    row_id: str
    id: str
    version: int
    key: str
    mac: str
    revision: int

    @classmethod
    def parse(cls, columns: Sequence[object]) -> RowHeader:
        """Parse the columns of a row."""
        kind, row_id, record_id, version, key, mac, revision = columns
        return cls(
            as_text(kind),
            as_text(row_id),
            as_text(record_id),
            as_number(version),
            as_text(key),
            as_text(mac),
            as_number(revision),
        )

    @property
    def name(self) -> tuple[str, str]:
        """Kind and `id`, which no two rows share."""
        return self.kind, self.id


class VerifiedRow(NamedTuple):
    """A row that was read. `verified` is False if its MAC or its body is not valid.

    `record` is None for a tombstone, and for an unverified caller or token. An unverified integration or preset has a
    record without content, if its ID is valid.
    """

    header: RowHeader
    record: Record | None
    verified: bool = True

    @property
    def deleted(self) -> bool:
        """Return True if the row is a verified tombstone."""
        return self.verified and self.record is None


class RowAuthenticator:
    """Makes and verifies MACs for one store with one ring."""

    def __init__(self, ring: KeyRing, store: str) -> None:
        self.ring: Final = ring
        self.store: Final = store
        self._derived: dict[tuple[str, bytes], bytes] = {}

    def sign(self, name: tuple[str, str], row_id: str, version: int, revision: int, body: str) -> RowHeader:
        """Build the header of a row with this `RowHeader.name` and body, with a MAC by the first key."""
        kind, record_id = name
        header = RowHeader(kind, row_id, record_id, version, self.ring.first, "", revision)
        return header._replace(mac=self._row_mac(header, body))

    def verify(self, header: RowHeader, body: str) -> VerifiedRow:
        """Verify and parse a row."""
        if header.key in self.ring and _equal(self._row_mac(header, body), header.mac):
            if body == TOMBSTONE:
                return VerifiedRow(header, None)
            try:
                return VerifiedRow(header, parse_record(header.kind, header.row_id, header.id, header.version, body))
            except (KeyError, TypeError, ValueError):
                # A newer Sidekey wrote the row: keep it, but do not use it.
                pass
        record_class = RECORDS.get(header.kind)
        record = None
        if record_class is not None and issubclass(record_class, DocumentRow) and valid_id(header.id):
            record = record_class(row_id=header.row_id, id=header.id, version=header.version, verified=False)
        return VerifiedRow(header, record, verified=False)

    def key_proof(self, key: str) -> str:
        """Return a MAC that only a ring with the same key under this ID can produce. Raises KeyMissing."""
        return self.mac(key, _KEY_CHECK_INFO, canonical({"key": key, "store": self.store, "v": VERSION}))

    def is_mac(self, key: str, info: bytes, text: str, mac: str) -> bool:
        """Return True if the ring has this key, and `mac` is its MAC of the text."""
        return key in self.ring and _equal(self.mac(key, info, text), mac)

    def mac(self, key: str, info: bytes, text: str) -> str:
        """Return the HMAC-SHA-256 of a text for one purpose, in hexadecimal. Raises KeyMissing."""
        derived = self._derived.get((key, info))
        if derived is None:
            derived = self._derived[key, info] = self.ring.derive(key, self.store.encode(), info)
        return hmac.digest(derived, text.encode(), "sha256").hex()

    def _row_mac(self, header: RowHeader, body: str) -> str:
        # A line feed ends the first part: JSON contains none.
        fields: Json = {
            "id": header.id,
            "key": header.key,
            "kind": header.kind,
            "row": header.row_id,
            "store": self.store,
            "v": VERSION,
            "version": header.version,
        }
        return self.mac(header.key, _ROW_INFO, f"{canonical(fields)}\n{body}")


def _equal(computed: str, stored: str) -> bool:
    # As bytes: `compare_digest` refuses strings that are not ASCII, and the stored text may hold any character.
    return hmac.compare_digest(computed.encode(), stored.encode())
