"""Whether two rules mean one store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sidekey.runtime.store_rules import StoreRules


def test_a_store_is_where_it_is_whatever_its_keys_are() -> None:
    one = StoreRules(Path("/var/lib/store.db"), None, (("k1", b"1" * 32),), 1.0)
    assert one.is_at(replace(one, keys=(("k2", b"2" * 32),), audit=2.0))
    assert not one.is_at(replace(one, path=Path("/var/lib/other.db")))
    assert not one.is_at(replace(one, path=None, url="postgresql://h/x"))
