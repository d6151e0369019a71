"""Writers that are killed by SIGKILL lose nothing that was acknowledged, and leave nothing half done.

`SIDEKEY_KILLS=200` kills as many on each database; in the suite they are fewer.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from support.stores import ENTRY, Place, PostgresPlace, SqlitePlace, purpose_of

KILLS = os.environ.get("SIDEKEY_KILLS", "25")


async def test_nothing_acknowledged_is_lost_by_a_kill(place: Place) -> None:
    if isinstance(place, SqlitePlace):
        where = ["--path", str(place.path)]
    else:
        assert isinstance(place, PostgresPlace)
        where = ["--url", place.postgres.url(place.schema)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "support.store_kills",
        *where,
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
        found = store.state
        assert acknowledged <= set(found.integrations)
        assert (dict(found.rolled_back), found.altered) == ({}, frozenset())
        # Both of a commit, or none of them; and the audit has an entry for each.
        pairs = [name for name in found.integrations if name.count("-") == 2]
        assert {name[:-1] for name in pairs if name.endswith("a")} == {name[:-1] for name in pairs if name[-1] == "b"}
        entries = await place.sql(f"SELECT count(*) FROM sidekey_audit WHERE entry LIKE '%\"{ENTRY.action}\"%'")
        assert entries == [(found.revision,)]
        assert (await store.verify(purpose_of)).findings == ()
