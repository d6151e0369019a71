"""Which database the config's store is."""

from __future__ import annotations

import subprocess
import sys
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


def test_a_store_in_a_file_imports_neither_the_driver_nor_cryptography(tmp_path: Path) -> None:
    """As long as there is no secret in it: each costs memory."""
    code = (
        "import asyncio, sys\nfrom pathlib import Path\n"
        "from sidekey.runtime.store_rules import StoreRules\nfrom sidekey.store.place import open_store\n"
        f"rules = StoreRules(Path({str(tmp_path / 'store.db')!r}), None, (('k1', bytes(32)),), 1.0)\n"
        "async def main():\n    await (await open_store(rules)).close()\n"
        "asyncio.run(main())\nprint(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert "sqlite3" in imported
    assert imported & {"asyncpg", "cryptography"} == set()
