"""Settings of the store, and whether two of them are of one database."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidekey.snapshot.store import StoreRules


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ("postgresql://svc:new@db.test/x?sslmode=verify-full", True),
        ("postgresql://svc@db.test/x?sslmode=verify-full&password=new", True),
        ("postgresql://other:old@db.test/x?sslmode=verify-full", False),
        ("postgresql://svc:old@db2.test/x?sslmode=verify-full", False),
        ("postgresql://svc:old@db.test/y?sslmode=verify-full", False),
        ("postgresql://svc:old@db.test/x", False),
        ("postgresql://svc:old@[db.test/x", False),
        (None, False),
    ],
)
def test_password_does_not_identify_the_database(other: str | None, same: bool) -> None:
    """It changes from time to time."""
    rules = StoreRules(None, "postgresql://svc:old@db.test/x?sslmode=verify-full", (), 1.0)
    assert rules.is_at(replace(rules, url=other)) is same
