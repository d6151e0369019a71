"""A command's time in a store."""

from __future__ import annotations

import getpass
from pathlib import Path

import pytest

from sidekey.cli.store_session import in_store, user
from sidekey.store.errors import StoreUnavailable
from sidekey.store.store import Store
from support.stores import SqlitePlace


async def revision(store: Store) -> int:
    return store.state.revision


def test_it_is_closed_at_the_end(tmp_path: Path) -> None:
    """SQLite's files beside the database go with the last connection. Only whoever may makes one."""
    rules = SqlitePlace(tmp_path).rules()
    with pytest.raises(StoreUnavailable):
        in_store(rules, revision, create=False)
    assert in_store(rules, revision, create=True) == in_store(rules, revision, create=False) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["store.db"]


def test_what_fails_in_it_closes_it_as_well(tmp_path: Path) -> None:
    async def fail(store: Store) -> None:
        del store
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        in_store(SqlitePlace(tmp_path).rules(), fail, create=True)
    assert [path.name for path in tmp_path.iterdir()] == ["store.db"]


def test_a_user_without_a_name_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user stands in no file."""
    assert user() == f"user {getpass.getuser()}"

    def nobody() -> str:
        raise KeyError("uid not found: 65532")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert user() == "user unknown"
