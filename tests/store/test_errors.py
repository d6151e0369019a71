"""What the store's errors say, and which are of one kind."""

from __future__ import annotations

from sidekey.store.errors import (
    Changed,
    Exists,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    StoreUnusable,
)


def test_a_changed_row_names_its_version() -> None:
    assert str(Changed("crm", 7)) == "crm has changed: its version is 7"
    assert str(Changed("crm", 0)) == "crm is gone"
    assert str(Exists("crm")) == "crm exists already"


def test_a_refusal_is_not_unavailability() -> None:
    assert not issubclass(StoreRefused, StoreUnavailable)
    assert all(issubclass(each, StoreError) for each in (Changed, Exists, StoreRefused, StoreUnavailable))


def test_what_anybody_may_read_is_the_text_unless_it_is_given() -> None:
    assert StoreUnusable("a damaged file").public == "a damaged file"
    error = StoreUnavailable("/srv/store.db is locked", "the file is locked")
    assert (str(error), error.public) == ("/srv/store.db is locked", "the file is locked")
