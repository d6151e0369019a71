"""Whether two rules mean one store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sidekey.snapshot.store import StoreRules


def test_a_store_is_where_it_is_whatever_its_keys_are() -> None:
    one = StoreRules(Path("/var/lib/store.db"), None, (("k1", b"1" * 32),), 1.0)
    assert one.is_at(replace(one, keys=(("k2", b"2" * 32),), audit=2.0))
    assert not one.is_at(replace(one, path=Path("/var/lib/other.db")))
    assert not one.is_at(replace(one, path=None, url="postgresql://h/x"))


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
def test_a_password_is_no_part_of_where_a_database_is(other: str | None, same: bool) -> None:
    """It is changed now and then, and the database stays what it is."""
    one = StoreRules(None, "postgresql://svc:old@db.test/x?sslmode=verify-full", (), 1.0)
    assert one.is_at(replace(one, url=other)) is same
