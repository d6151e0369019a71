"""The content of a store as one process has read it, and the changes that it can commit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, Self

from sidekey.store.integrity import VerifiedRow
from sidekey.store.records import RECORDS, CallerRow, IntegrationRow, PresetRow, Record, TokenRow


@dataclass(frozen=True, slots=True)
class Put:
    """Write a row that must have the version `expected` now, or must not exist (None).

    The `version` of the record is ignored. Its `row_id` must be that of the existing row, or new.
    """

    record: Record
    expected: int | None


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a row that must have the version `expected` now."""

    record: Record
    expected: int


Change = Put | Delete

Name = tuple[str, str]
"""The kind and the ID of a row."""


class StateMark(NamedTuple):
    """The result of one aggregate query over all rows. It changes when a row is written, restored or removed.

    `revision` is the highest revision, and `total` the sum of all as text, because it may exceed 64 bits. Only
    the hourly verification notices a restored row with its current revision.
    """

    rows: int
    revision: int
    total: str

    @classmethod
    def of(cls, rows: Iterable[VerifiedRow]) -> Self:
        """Compute the mark of these rows."""
        revisions = [row.header.revision for row in rows]
        return cls(len(revisions), max(revisions, default=0), str(sum(revisions)))


@dataclass(frozen=True, slots=True)
class State:
    """All rows at one moment. A row that has not changed since another state is the same object in both.

    `rows` has all rows with tombstones, by kind and ID. Records are by ID. `altered` has kind and ID of unverified
    rows. Of those, integrations and presets have a record with `verified` False, callers and tokens have none.

    `rolled_back` has the previous and the current version (0: deleted) of rows whose version went down between two
    reads of this process. It only grows.
    """

    mark: StateMark | None = None
    """None until the store was read."""
    rows: Mapping[Name, VerifiedRow] = field(default_factory=dict, repr=False)
    integrations: Mapping[str, IntegrationRow] = field(default_factory=dict, repr=False)
    presets: Mapping[str, PresetRow] = field(default_factory=dict, repr=False)
    callers: Mapping[str, CallerRow] = field(default_factory=dict, repr=False)
    tokens: Mapping[str, TokenRow] = field(default_factory=dict, repr=False)
    altered: frozenset[Name] = frozenset()
    rolled_back: Mapping[Name, tuple[int, int]] = field(default_factory=dict)

    def next_state(self, mark: StateMark, rows: Mapping[Name, VerifiedRow]) -> State:
        """Build the state after this one, from rows that were read later."""
        records: dict[type[Record], dict[str, Any]] = {kind: {} for kind in RECORDS.values()}
        for row in rows.values():
            if row.record is not None:
                records[type(row.record)][row.record.id] = row.record
        return State(
            mark,
            rows,
            integrations=MappingProxyType(records[IntegrationRow]),
            presets=MappingProxyType(records[PresetRow]),
            callers=MappingProxyType(records[CallerRow]),
            tokens=MappingProxyType(records[TokenRow]),
            altered=frozenset(name for name, row in rows.items() if not row.verified),
            rolled_back={**self.rolled_back, **dict(_find_rolled_back(self.rows, rows))},
        )

    @property
    def revision(self) -> int:
        """The number of the last change; 0 if nothing was read."""
        return 0 if self.mark is None else self.mark.revision


def _find_rolled_back(
    previous: Mapping[Name, VerifiedRow], now: Mapping[Name, VerifiedRow]
) -> Iterator[tuple[Name, tuple[int, int]]]:
    """Yield verified rows that are gone or have a lower version now."""
    for name, previous_row in previous.items():
        row = now.get(name)
        if row is previous_row or not previous_row.verified:
            continue
        version = 0 if row is None else row.header.version
        if version < previous_row.header.version and (row is None or row.verified):
            yield name, (previous_row.header.version, version)
