"""What the store's errors say, and which are of one kind."""

from __future__ import annotations

from sidekey.store.errors import Changed, Exists, RolledBack, StoreError, StoreRefused, StoreUnavailable


def test_a_changed_row_names_its_version() -> None:
    assert str(Changed("crm", 7)) == "crm has changed: its version is 7"
    assert str(Changed("crm", 0)) == "crm is gone"
    assert str(Exists("crm")) == "crm exists already"


def test_a_store_that_is_not_believed_is_unavailable_to_writers() -> None:
    assert issubclass(RolledBack, StoreUnavailable)
    assert not issubclass(StoreRefused, StoreUnavailable)
    assert all(issubclass(each, StoreError) for each in (Changed, Exists, StoreRefused, StoreUnavailable))
