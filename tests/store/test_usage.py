"""Usage and failures of several processes, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sidekey.store.database import Transaction
from sidekey.store.errors import StoreUnavailable
from sidekey.store.failures import Failure
from sidekey.store.repository import RowRepository
from sidekey.store.store import Store
from sidekey.store.usage import COUNTERS, Counters, Failing, Hour, add
from support.stores import RING, PostgresBackend, StoreBackend

ONE: Counters = tuple(int(name in ("requests", "b50")) for name in COUNTERS)
FAILED: Counters = tuple(2 * int(name in ("requests", "failed", "s401_403", "more")) for name in COUNTERS)
HOUR = 500_000


def used(name: str, *, at: int = HOUR * 3600, failing: int = 0, counters: Counters = ONE) -> Hour:
    return Hour("integration", name, at // 3600, at, failing, counters)


async def test_processes_add_to_the_same_rows(place: StoreBackend) -> None:
    names = [f"i{number:03}" for number in range(100)]
    async with place.open() as first, place.open() as second:

        async def write(store: Store, counters: Counters) -> None:
            for _ in range(10):
                await store.add_usage([used(name, counters=counters) for name in names])

        await asyncio.gather(write(first, ONE), write(second, FAILED))
        hours, last_uses = await first.usage("integration", names, HOUR)
        assert {hour.id for hour in hours} == {*names}
        sums = tuple(10 * (one + failed) for one, failed in zip(ONE, FAILED, strict=True))
        assert {hour.counters for hour in hours} == {sums}
        assert last_uses == dict.fromkeys(names, HOUR * 3600)


async def test_newest_use_decides_the_state(place: StoreBackend) -> None:
    begin = HOUR * 3600
    async with place.open() as first, place.open() as second:
        await first.add_usage([used("crm", at=begin + 50, failing=begin), used("old", at=begin, failing=begin)])
        # This use is older, but was written later.
        await second.add_usage([used("crm", at=begin + 40)])
        assert await second.failing_integrations(HOUR) == {
            "crm": Failing(begin + 50, begin),
            "old": Failing(begin, begin),
        }
        await second.add_usage([used("crm", at=begin + 3650)])
        assert await first.failing_integrations(HOUR) == {"crm": Failing(begin + 3650, 0), "old": Failing(begin, begin)}
        assert await first.failing_integrations(HOUR + 1) == {"crm": Failing(begin + 3650, 0)}
        hours, last_uses = await first.usage("integration", ["crm", "old", "none"], HOUR + 1)
        assert hours == [used("crm", at=begin + 3650)]
        assert last_uses == {"crm": begin + 3650, "old": begin}


async def test_one_failure_per_second_is_kept(place: StoreBackend) -> None:
    def failure(at: int, request_id: str) -> Failure:
        return Failure("crm", at, "billing", "", "host", "GET", 401, "", "", 7, request_id)

    async with place.open() as first, place.open() as second:
        await first.add_failures([failure(1, "a"), failure(2, "b")])
        await second.add_failures([failure(2, "c"), failure(3, "d")])
        assert [row.request_id for row in await first.failures("crm", 9)] == ["d", "b", "a"]
        assert [row.request_id for row in await first.failures("crm", 3)] == ["b", "a"]
        # 1,000 are listed, also before maintenance deletes older ones.
        await first.add_failures([failure(at, "") for at in range(4, 1100)])
        assert [row.at for row in await first.failures("crm", 110)] == [*range(109, 99, -1)]


async def test_usage_does_not_wait_for_the_writing_transaction(postgres_place: PostgresBackend) -> None:
    async with postgres_place.open() as store:
        other = postgres_place.database()
        async with other.writing():
            await store.add_usage([used("crm")])
        await other.close()


async def test_uncertain_commit_counts_as_written(place: StoreBackend) -> None:
    database = place.database()
    begin = database.appending

    @asynccontextmanager
    async def appending() -> AsyncIterator[Transaction]:
        async with begin() as transaction:
            yield transaction
        raise StoreUnavailable("the connection is gone")

    database.appending = appending  # type: ignore[method-assign]
    repository = RowRepository(database, RING)
    await repository.open(create=True)
    await repository.append(lambda transaction: add(transaction, [used("crm")]))
    await database.close()
    async with place.open() as store:
        assert (await store.usage("integration", ["crm"], HOUR))[0] == [used("crm")]


async def test_failed_transaction_raises_and_writes_nothing(place: StoreBackend) -> None:
    async def write(transaction: Transaction) -> None:
        await add(transaction, [used("crm")])
        raise StoreUnavailable("the connection is gone")

    database = place.database()
    repository = RowRepository(database, RING)
    await repository.open(create=True)
    with pytest.raises(StoreUnavailable):
        await repository.append(write)
    await database.close()
    async with place.open() as store:
        assert await store.usage("integration", ["crm"], HOUR) == ([], {})
