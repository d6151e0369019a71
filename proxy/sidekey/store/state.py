"""What a store holds, as far as it was verified; and what is given to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self

from sidekey.store.integrity import Head, Held
from sidekey.store.records import RECORDS, CallerRow, DocumentRow, IntegrationRow, PresetRow, Record, TokenRow


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


@dataclass(frozen=True, slots=True)
class State:
    """Everything at one revision. A row that has not changed since another state is the same object in both.

    Integrations, presets, callers and tokens are by ID. `altered` are kind and ID of rows that do not bear their MAC:
    an integration or preset among them is there with `state` "altered", any other is not.

    `problem` says why the database must not be believed: a row is gone or older, or all of it is. What is here then
    is what was verified before that, which at a start is nothing. Empty: all is well.
    """

    head: Head | None = None
    rows: Mapping[str, Held] = field(default_factory=dict, repr=False)
    integrations: Mapping[str, IntegrationRow] = field(default_factory=dict, repr=False)
    presets: Mapping[str, PresetRow] = field(default_factory=dict, repr=False)
    callers: Mapping[str, CallerRow] = field(default_factory=dict, repr=False)
    tokens: Mapping[str, TokenRow] = field(default_factory=dict, repr=False)
    altered: frozenset[tuple[str, str]] = frozenset()
    problem: str = ""

    @classmethod
    def of(cls, head: Head, rows: Mapping[str, Held]) -> Self:
        """The state of these rows."""
        found: dict[type[Record], dict[str, Any]] = {each: {} for each in RECORDS.values()}
        for each in rows.values():
            if each.record is not None:
                found[type(each.record)][each.record.id] = each.record
        return cls(
            head,
            rows,
            integrations=MappingProxyType(found[IntegrationRow]),
            presets=MappingProxyType(found[PresetRow]),
            callers=MappingProxyType(found[CallerRow]),
            tokens=MappingProxyType(found[TokenRow]),
            altered=frozenset((each.line.kind, each.line.id) for each in rows.values() if not each.intact),
        )

    def documents(self, kind: str) -> Mapping[str, DocumentRow]:
        """The integrations, or the presets, by the word that rows have for them."""
        return self.presets if kind == PresetRow.kind else self.integrations

    @property
    def revision(self) -> int:
        """The revision; 0 where nothing was verified."""
        return 0 if self.head is None else self.head.revision

    @property
    def rolled_back(self) -> bool:
        """Whether the database must not be believed."""
        return bool(self.problem)
