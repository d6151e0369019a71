"""Writers killed by SIGKILL lose no acknowledged commit, and leave no partial one.

`SIDEKEY_KILLS=200` kills as many on each database. The default is lower.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from support.stores import ENTRY, PostgresBackend, SqliteBackend, StoreBackend, purpose_of

KILLS = os.environ.get("SIDEKEY_KILLS", "25")


async def test_kill_loses_no_acknowledged_commit(place: StoreBackend) -> None:
    if isinstance(place, SqliteBackend):
        location = ["--path", str(place.path)]
    else:
        assert isinstance(place, PostgresBackend)
        location = ["--url", place.postgres.url(place.schema)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "support.store_kills",
        *location,
        KILLS,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    acknowledged = set(output.decode().split())
    assert len(acknowledged) >= int(KILLS)
    async with place.open() as store:
        state = store.state
        assert acknowledged <= set(state.integrations)
        assert (dict(state.rolled_back), state.altered) == ({}, frozenset())
        # Each commit wrote both rows or none, and the audit has an entry for each commit.
        pairs = [name for name in state.integrations if name.count("-") == 2]
        assert {name[:-1] for name in pairs if name.endswith("a")} == {name[:-1] for name in pairs if name[-1] == "b"}
        entries = await place.sql(f"SELECT count(*) FROM sidekey_audit WHERE entry LIKE '%\"{ENTRY.action}\"%'")
        assert entries == [(state.revision,)]
        assert (await store.verify(purpose_of)).findings == ()
