"""The ledger in a SQLite store. The leases of the store are tested in tests/store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sidekey.credentials.base import Grant
from sidekey.store.errors import StoreUnavailable
from sidekey.store.leases import Lease
from sidekey.store.store import Store
from sidekey.tokens.ledger import (
    Chain,
    ChainState,
    LeaseUnavailable,
    SharedToken,
    TokenLease,
    TokenLeaseLost,
    Unavailable,
)
from sidekey.tokens.service import TOKEN_TIMEOUT
from sidekey.tokens.shared import LEASE_WAIT_SECONDS
from sidekey.tokens.store_ledger import CALL_SECONDS, INTENT_SECONDS, RETRY_SECONDS, SHUTDOWN_SECONDS, StoreLedger
from support.manual_clock import ManualClockLoop, advance
from support.stores import SqliteBackend

CHAIN = Chain("file:crm", "canary-lineage")
GRANT = Grant(
    (("Authorization", "Bearer ÿ"),), (("key", "a b"),), (("token", "x"),), "https://api.example.com", (b"\xff\x00",)
)
TOKEN = SharedToken("n1", "asked", "proof", GRANT, 1_700_000_000.25, 900.5)


@pytest.fixture
def place(tmp_path: Path) -> SqliteBackend:
    """A database that does not exist yet."""
    return SqliteBackend(tmp_path)


@pytest.fixture
async def store(place: SqliteBackend) -> AsyncIterator[Store]:
    async with place.open() as opened:
        yield opened


async def acquire(ledger: StoreLedger, *, rotates: bool = True) -> TokenLease:
    """Acquire the lease, which must be free."""
    result = await ledger.acquire(CHAIN, rotates=rotates)
    assert isinstance(result, TokenLease)
    return result


async def refused(ledger: StoreLedger) -> LeaseUnavailable:
    """Fail to acquire the lease."""
    result = await ledger.acquire(CHAIN, rotates=True)
    assert isinstance(result, LeaseUnavailable)
    return result


def test_lease_outlives_a_call_and_ends_before_others_stop_waiting() -> None:
    assert TOKEN_TIMEOUT < CALL_SECONDS < LEASE_WAIT_SECONDS
    assert INTENT_SECONDS < LEASE_WAIT_SECONDS


async def test_state_is_read_by_the_next_lease(place: SqliteBackend, store: Store) -> None:
    """The grant is complete, and sealed in the database."""
    first = await acquire(StoreLedger(store))
    assert first.state == ChainState()
    await first.intend()
    await first.finish(ChainState("canary-memory", TOKEN))
    async with place.open() as other:
        second = await acquire(StoreLedger(other))
        assert second.state == ChainState("canary-memory", TOKEN)
        none = await refused(StoreLedger(store))
        assert (none.spent, none.state) == (False, second.state)
        assert abs(none.now - time.time()) < 60
    written = str(await place.backup())
    assert "canary" not in written
    assert "Bearer" not in written


async def test_abandoned_lease_makes_the_refresh_token_spent(store: Store) -> None:
    ledger = StoreLedger(store)
    first = await acquire(ledger)
    await first.intend()
    await first.finish(ChainState("m", TOKEN))
    second = await acquire(ledger)
    await second.intend()
    await second.abandon()
    assert (await refused(ledger))[:2] == (True, ChainState("m", TOKEN))


async def test_released_lease_keeps_the_previous_state(store: Store) -> None:
    ledger = StoreLedger(store)
    await (await acquire(ledger)).finish(ChainState("m", TOKEN))
    second = await acquire(ledger)
    await second.intend()
    await second.release()
    assert (await acquire(ledger)).state == ChainState("m", TOKEN)


async def test_lease_of_another_process_is_lost(store: Store) -> None:
    ledger = StoreLedger(store)
    late = await acquire(ledger)
    # What a time that is over does, without waiting for it.
    await late.release()
    other = await acquire(ledger)
    for step in (late.intend(), late.finish(ChainState("late"))):
        with pytest.raises(TokenLeaseLost):
            await step
    await late.release()
    await late.abandon()
    await other.finish(ChainState("m"))
    assert (await acquire(ledger)).state == ChainState("m")


async def test_token_of_another_version_is_dropped(store: Store) -> None:
    """Its refresh token is used."""
    lease = await store.acquire_lease(*CHAIN, 60)
    assert isinstance(lease, Lease)
    await store.finish_lease(lease, '{"memory": "m", "token": {"number": "n1", "more": 1}}', replaces_token=True)
    assert (await acquire(StoreLedger(store))).state == ChainState("m")


async def test_restored_backup_makes_the_refresh_token_spent(place: SqliteBackend, store: Store) -> None:
    """A fencing token that does not grow reveals the backup."""
    ledger = StoreLedger(store)
    await (await acquire(ledger)).finish(ChainState("m1"))
    copy = await place.backup()
    await (await acquire(ledger)).finish(ChainState("m2"))
    await place.restore(copy)
    assert (await refused(ledger))[:2] == (True, ChainState("m1"))
    # It is so for all, once it was noticed by one.
    assert (await refused(StoreLedger(store))).spent


async def test_restored_backup_is_used_without_rotation(place: SqliteBackend, store: Store) -> None:
    """The call of the next lease revokes the restored token."""
    ledger = StoreLedger(store)
    await (await acquire(ledger, rotates=False)).finish(ChainState(token=TOKEN))
    copy = await place.backup()
    await (await acquire(ledger, rotates=False)).finish(ChainState())
    await place.restore(copy)
    assert (await acquire(ledger, rotates=False)).state == ChainState(token=TOKEN)


async def test_unhealthy_store_is_not_called(place: SqliteBackend, store: Store) -> None:
    """Until its own health check succeeds."""
    ledger = StoreLedger(store)
    await place.sql("ALTER TABLE sidekey_rows RENAME TO away")
    with pytest.raises(StoreUnavailable):
        await store.refresh()
    with pytest.raises(Unavailable):
        await acquire(ledger)
    await place.sql("ALTER TABLE away RENAME TO sidekey_rows")
    assert await place.sql("SELECT * FROM sidekey_leases") == []
    await store.refresh()
    assert isinstance(await acquire(ledger), TokenLease)


async def test_state_is_stored_later_and_blocks_leases_until_then(place: SqliteBackend, store: Store) -> None:
    """A missing table simulates an unreachable database."""
    ledger = StoreLedger(store)
    first = await acquire(ledger)
    await first.intend()
    await place.sql("ALTER TABLE sidekey_leases RENAME TO away")
    with pytest.raises(Unavailable):
        await first.finish(ChainState("m", TOKEN))
    with pytest.raises(Unavailable, match="what the last call has brought is not stored yet"):
        await acquire(ledger)
    await advance(RETRY_SECONDS)
    await store.refresh()
    await place.sql("ALTER TABLE away RENAME TO sidekey_leases")
    closing = asyncio.create_task(ledger.close())
    await advance(RETRY_SECONDS)
    await closing
    assert (await acquire(ledger)).state == ChainState("m", TOKEN)


async def test_unreachable_store_grants_no_lease(place: SqliteBackend, store: Store) -> None:
    ledger = StoreLedger(store)
    first = await acquire(ledger)
    await place.sql("ALTER TABLE sidekey_leases RENAME TO away")
    for step in (acquire(ledger), first.intend()):
        with pytest.raises(Unavailable):
            await step
    await first.abandon()
    await first.release()
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ManualClockLoop)
    closing = asyncio.create_task(ledger.close())
    await loop.advance(SHUTDOWN_SECONDS + 1)
    await closing
    assert asyncio.all_tasks() == {asyncio.current_task()}
