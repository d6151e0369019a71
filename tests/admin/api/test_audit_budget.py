"""admin/api/audit_budget.py: how many events of one token are listed, and how the further ones are counted."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from sidekey.admin.api.audit_budget import AuditBudget
from sidekey.store.audit import AuditEntry

ENTRY = AuditEntry(who="ann", action="login", source="192.0.2.1")


@dataclass
class Table:
    """Entries by number, written as the store writes them."""

    entries: list[AuditEntry] = field(default_factory=list)
    writes: int = 0

    async def write(self, entry: AuditEntry, previous: tuple[int, AuditEntry] | None) -> int:
        await asyncio.sleep(0)
        self.writes += 1
        if previous is None:
            self.entries.append(entry)
            return len(self.entries) - 1
        number, replaced = previous
        assert self.entries[number] == replaced
        self.entries[number] = entry
        return number

    @property
    def outcomes(self) -> list[str]:
        return [each.outcome for each in self.entries]


async def test_further_events_are_counted_in_one_entry() -> None:
    """Also where several come at once; each hour begins anew, and so does each token."""
    now = 0.0
    table, budget = Table(), AuditBudget("login", 2, lambda: now)
    for _ in range(2):
        await budget.write("a", ENTRY, table.write)
    await asyncio.gather(*(budget.write("a", ENTRY, table.write) for _ in range(5)))
    await budget.write("b", ENTRY, table.write)
    assert table.outcomes == ["ok", "ok", "5 more not listed", "ok"]
    now = 3600.0
    for _ in range(3):
        await budget.write("a", ENTRY, table.write)
    assert table.outcomes == ["ok", "ok", "5 more not listed", "ok", "ok", "ok", "1 more not listed"]


async def test_sparse_budget_writes_its_count_at_powers_of_two() -> None:
    table, budget = Table(), AuditBudget("refused change", 2, lambda: 0.0, sparse=True)
    for _ in range(2 + 1000):
        await budget.write("a", ENTRY, table.write)
    assert table.outcomes == ["ok", "ok", "at least 512 more not listed"]
    assert table.writes == 2 + 10
