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
    """Write a row: `expected` is the version that it must have now, None: it must not be there.

    The row's own `version` does not matter; its `row` must be that of the present one, or `new_row()`.
    """

    record: Record
    expected: int | None


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a row, which must have the version `expected` now."""

    record: Record
    expected: int


Change = Put | Delete

Name = tuple[str, str]
"""The kind and the ID of a row."""


class StateMark(NamedTuple):
    """The result of one aggregate query over all rows. It changes when a row is written, restored or removed.

    `revision` is the highest revision, and `total` the sum of all as text, because it may exceed 64 bits. Whoever
    restores a row with its present revision is found by the hourly verification only.
    """

    rows: int
    revision: int
    total: str

    @classmethod
    def of(cls, rows: Iterable[VerifiedRow]) -> Self:
        """Compute the mark of these rows."""
        revisions = [each.line.revision for each in rows]
        return cls(len(revisions), max(revisions, default=0), str(sum(revisions)))


@dataclass(frozen=True, slots=True)
class State:
    """All rows at one moment. A row that has not changed since another state is the same object in both.

    `rows` are by kind and ID, with tombstones. Integrations, presets, callers and tokens are by ID. `altered` has kind
    and ID of unverified rows: an integration or preset among them is there with `verified` False, any other is not.

    `rolled_back` has the versions, seen before and now, of rows that were older than before when this process read
    them; 0: the row is gone. It only grows.
    """

    mark: StateMark | None = None
    """None: nothing was read yet."""
    rows: Mapping[Name, VerifiedRow] = field(default_factory=dict, repr=False)
    integrations: Mapping[str, IntegrationRow] = field(default_factory=dict, repr=False)
    presets: Mapping[str, PresetRow] = field(default_factory=dict, repr=False)
    callers: Mapping[str, CallerRow] = field(default_factory=dict, repr=False)
    tokens: Mapping[str, TokenRow] = field(default_factory=dict, repr=False)
    altered: frozenset[Name] = frozenset()
    rolled_back: Mapping[Name, tuple[int, int]] = field(default_factory=dict)

    def following(self, mark: StateMark, rows: Mapping[Name, VerifiedRow]) -> State:
        """Return the state of these rows, read after those of this one."""
        found: dict[type[Record], dict[str, Any]] = {each: {} for each in RECORDS.values()}
        for each in rows.values():
            if each.record is not None:
                found[type(each.record)][each.record.id] = each.record
        return State(
            mark,
            rows,
            integrations=MappingProxyType(found[IntegrationRow]),
            presets=MappingProxyType(found[PresetRow]),
            callers=MappingProxyType(found[CallerRow]),
            tokens=MappingProxyType(found[TokenRow]),
            altered=frozenset(name for name, each in rows.items() if not each.verified),
            rolled_back={**self.rolled_back, **dict(_older(self.rows, rows))},
        )

    @property
    def revision(self) -> int:
        """The number of the last change; 0 if nothing was read."""
        return 0 if self.mark is None else self.mark.revision


def _older(
    before: Mapping[Name, VerifiedRow], now: Mapping[Name, VerifiedRow]
) -> Iterator[tuple[Name, tuple[int, int]]]:
    """Find verified rows that are gone, or have a lower version than before."""
    for name, seen in before.items():
        row = now.get(name)
        if row is seen or not seen.verified:
            continue
        version = 0 if row is None else row.line.version
        if version < seen.line.version and (row is None or row.verified):
            yield name, (seen.line.version, version)
