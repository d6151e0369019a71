"""What vouches for the rows: an HMAC on each, and a head with an HMAC over all of them.

The bytes that are authenticated are pinned by tests. Each purpose has a key of its own, derived from the ring's with
the store's ID as salt, so that nothing of one store counts in another.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from sidekey.core.routing import valid_id
from sidekey.store.canonical import Json, canonical
from sidekey.store.database import as_number, as_text
from sidekey.store.records import RECORDS, DocumentRow, Record, parse_record
from sidekey.store.ring import KeyRing

VERSION: Final = 1
"""Of the bytes that are authenticated."""

_ROW: Final = b"sidekey row v1"
_HEAD: Final = b"sidekey head v1"
_KEY: Final = b"sidekey key check v1"


@dataclass(frozen=True, slots=True)
class Head:
    """Vouches for all rows: `revision` counts the changes, `digest` is the SHA-256 of all rows' lines.

    `epoch` is when somebody last said that the rows are what they should be (the store was made, or `sidekey store
    accept`), in milliseconds since the epoch. A head is newer where its epoch is, or with the same its revision.
    `key` is the ID of the key that `mac` was made with.
    """

    epoch: int
    revision: int
    digest: str
    key: str
    mac: str

    @classmethod
    def read(cls, columns: Sequence[object]) -> Head:
        """Of the columns of the head."""
        epoch, revision, rows_digest, key, mac = columns
        return cls(as_number(epoch), as_number(revision), as_text(rows_digest), as_text(key), as_text(mac))

    @property
    def age(self) -> tuple[int, int]:
        """What is compared to say which of two is newer."""
        return self.epoch, self.revision


class Line(NamedTuple):
    """A row without what it says: what a digest is made of, and the ID of the key that `mac` was made with."""

    kind: str
    row: str
    id: str
    version: int
    key: str
    mac: str

    @classmethod
    def read(cls, columns: Sequence[object]) -> Line:
        """Of the columns of a row."""
        kind, row, name, version, key, mac = columns
        return cls(as_text(kind), as_text(row), as_text(name), as_number(version), as_text(key), as_text(mac))

    def text(self) -> str:
        """What the digest is made of."""
        return canonical([self.kind, self.row, self.id, self.version, self.mac])


class Held(NamedTuple):
    """A row that was read. One that is not `intact` does not bear its own MAC, or says what cannot be understood.

    `text` is that of its line, made once. `record` is what others see: of an altered integration or preset its ID,
    where it is one, of any other altered row nothing.
    """

    line: Line
    text: str
    record: Record | None
    intact: bool = True


class Seals:
    """Makes and verifies MACs for one store by one ring."""

    def __init__(self, ring: KeyRing, store: str) -> None:
        self.ring: Final = ring
        self.store: Final = store
        self._derived: dict[tuple[str, bytes], bytes] = {}

    def line(self, record: Record) -> Line:
        """The line of a record, with its MAC by the first key."""
        line = Line(record.kind, record.row, record.id, record.version, self.ring.first, "")
        return line._replace(mac=self._row_mac(line, record.body()))

    def held(self, line: Line, body: str) -> Held:
        """What a row is, once its MAC was verified."""
        if line.key in self.ring and _same(self._row_mac(line, body), line.mac):
            try:
                return Held(line, line.text(), parse_record(line.kind, line.row, line.id, line.version, body))
            except (KeyError, TypeError, ValueError):
                # Written by a Sidekey that knows more: it cannot be used here, and is kept.
                pass
        kind = RECORDS.get(line.kind)
        record = None
        if kind is not None and issubclass(kind, DocumentRow) and valid_id(line.id):
            record = kind(row=line.row, id=line.id, version=line.version, state="altered")
        return Held(line, line.text(), record, intact=False)

    def head(self, epoch: int, revision: int, rows_digest: str) -> Head:
        """A head, with its MAC by the first key."""
        unsigned = Head(epoch, revision, rows_digest, self.ring.first, "")
        return Head(epoch, revision, rows_digest, self.ring.first, self._head_mac(unsigned))

    def vouches(self, head: Head) -> bool:
        """Whether a head bears its own MAC, by a key of the ring."""
        return head.key in self.ring and _same(self._head_mac(head), head.mac)

    def key_check(self, key: str) -> str:
        """What proves that a ring has the key of this ID that a store was written with. Raises KeyMissing."""
        return self.mac(key, _KEY, canonical({"key": key, "store": self.store, "v": VERSION}))

    def bears(self, key: str, info: bytes, text: str, mac: str) -> bool:
        """Whether this is the MAC of a text by the key of this ID, which must be in the ring."""
        return key in self.ring and _same(self.mac(key, info, text), mac)

    def mac(self, key: str, info: bytes, text: str) -> str:
        """HMAC-SHA-256 of a text for a purpose, in hexadecimal. Raises KeyMissing."""
        derived = self._derived.get((key, info))
        if derived is None:
            derived = self._derived[key, info] = self.ring.derive(key, self.store.encode(), info)
        return hmac.digest(derived, text.encode(), "sha256").hex()

    def _row_mac(self, line: Line, body: str) -> str:
        # A line feed ends the first part: JSON holds none.
        said: Json = {
            "id": line.id,
            "key": line.key,
            "kind": line.kind,
            "row": line.row,
            "store": self.store,
            "v": VERSION,
            "version": line.version,
        }
        return self.mac(line.key, _ROW, f"{canonical(said)}\n{body}")

    def _head_mac(self, head: Head) -> str:
        said: Json = {
            "digest": head.digest,
            "epoch": head.epoch,
            "key": head.key,
            "revision": head.revision,
            "store": self.store,
            "v": VERSION,
        }
        return self.mac(head.key, _HEAD, canonical(said))


def _same(own: str, read: str) -> bool:
    # As bytes: what was read may hold any character.
    return hmac.compare_digest(own.encode(), read.encode())


def digest(texts: Iterable[str]) -> str:
    """SHA-256 of the lines of all rows, in the order of their bytes, each ended by a line feed; in hexadecimal."""
    return hashlib.sha256("".join([f"{text}\n" for text in sorted(texts)]).encode()).hexdigest()
