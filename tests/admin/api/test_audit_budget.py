"""admin/api/audit_budget.py: how many events of one token are listed in an hour."""

from __future__ import annotations

from sidekey.admin.api.audit_budget import AuditBudget
from sidekey.store.audit import AuditEntry

ENTRY = AuditEntry(who="ann", action="login", source="192.0.2.1")
MORE = AuditEntry(who="ann", action="login", outcome="more not listed")


def test_one_entry_says_that_further_events_are_not_listed() -> None:
    """Each hour begins anew, and each token has its own."""
    now = 0.0
    budget = AuditBudget("login", 2, lambda: now)
    assert [budget.admit("a", ENTRY) for _ in range(5)] == [ENTRY, ENTRY, MORE, None, None]
    assert budget.admit("b", ENTRY) == ENTRY
    now = 3599.0
    assert budget.admit("a", ENTRY) is None
    now = 3600.0
    assert [budget.admit("a", ENTRY) for _ in range(4)] == [ENTRY, ENTRY, MORE, None]
