"""Which database the config's store is."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidekey.store.errors import StoreUnavailable
from sidekey.store.place import open_store
from support.stores import Place, SqlitePlace


async def test_a_store_is_opened_by_its_rules(place: Place) -> None:
    store = await open_store(place.rules())
    try:
        assert store.state.revision == 0
        assert store.ring.first == "k1"
    finally:
        await store.close()


async def test_what_cannot_be_opened_leaves_no_thread(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        await open_store(SqlitePlace(tmp_path / "none").rules())
