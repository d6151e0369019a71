"""PostgreSQL: broken connections, server restarts, and errors that show nothing of the URL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest

from sidekey.store.audit import AuditEntry
from sidekey.store.errors import StoreRefused, StoreUnavailable
from sidekey.store.postgres import PostgresDatabase
from sidekey.store.state import Put
from sidekey.store.store import Store
from support.postgres import Postgres
from support.private_ca import Authority
from support.raw_connection import DEADLINE
from support.stores import ENTRY, RING, PostgresBackend, fail_on_defect, integration


@pytest.fixture
async def place(postgres_place: PostgresBackend) -> PostgresBackend:
    """Restrict these tests to PostgreSQL."""
    return postgres_place


@asynccontextmanager
async def watched(place: PostgresBackend) -> AsyncIterator[tuple[Store, asyncio.Event]]:
    """Open a store that watches for changes."""
    async with place.open() as store:
        woken = asyncio.Event()
        store.watch(woken.set, fail_on_defect)
        yield store, woken


async def wait_for_integrations(store: Store, woken: asyncio.Event, names: set[str]) -> None:
    """Wait until a store has these integrations."""
    async with asyncio.timeout(DEADLINE):
        while set(store.state.integrations) != names:
            await woken.wait()
            woken.clear()


async def test_changes_arrive_although_connections_are_killed(place: PostgresBackend) -> None:
    """Both listening and writing connections are killed, and no commit fails."""
    async with place.open() as writer, watched(place) as (store, woken):
        names = set()
        for number in range(6):
            names.add(f"i{number}")
            assert await place.postgres.kill_connections() >= 1
            await writer.commit([Put(integration(f"i{number}"), None)], ENTRY)
            await wait_for_integrations(store, woken, names)
        assert store.health.up


async def test_change_wakes_other_processes_before_the_next_poll(
    place: PostgresBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on a new connection."""
    monkeypatch.setattr("sidekey.store.store.POLL_INTERVAL", 600.0)
    async with place.open() as writer, watched(place) as (store, woken):
        await writer.commit([Put(integration("one"), None)], ENTRY)
        await wait_for_integrations(store, woken, {"one"})
        await place.postgres.kill_connections()
        await writer.commit([Put(integration("two"), None)], ENTRY)
        await wait_for_integrations(store, woken, {"one", "two"})
        assert store.health.up


async def test_flood_of_notifications_does_not_increase_the_poll_rate(
    place: PostgresBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any user of the database can send notifications."""
    monkeypatch.setattr("sidekey.store.store.POLL_INTERVAL", 600.0)
    monkeypatch.setattr("sidekey.store.store._MIN_POLL_INTERVAL", 0.5)
    async with place.open() as writer, watched(place) as (store, woken):
        polls = []
        poll = store._poll

        async def counted(**options: bool) -> Any:
            polls.append(options)
            return await poll(**options)

        monkeypatch.setattr(store, "_poll", counted)
        began = time.monotonic()
        connection = await asyncpg.connect(place.postgres.url(place.schema))
        for _ in range(500):
            await connection.execute("NOTIFY sidekey_store")
        await connection.close()
        await writer.commit([Put(integration("crm"), None)], ENTRY)
        await wait_for_integrations(store, woken, {"crm"})
        assert 0 < len(polls) <= (time.monotonic() - began) / 0.5 + 2


async def test_server_crash_loses_no_acknowledged_commit(place: PostgresBackend) -> None:
    """Its `synchronous_commit` is off. Processes still have the loaded rows, and see later changes."""
    async with place.open() as writer, watched(place) as (store, woken):
        acknowledged: set[str] = set()
        failed: list[StoreUnavailable] = []

        async def write() -> None:
            for number in range(10_000):
                try:
                    await writer.commit([Put(integration(f"i{number}"), None)], ENTRY)
                    acknowledged.add(f"i{number}")
                except StoreUnavailable as error:
                    failed.append(error)
                await asyncio.sleep(0.001)

        writing = asyncio.create_task(write())
        for _ in range(2):
            while len(acknowledged) % 50 < 20:
                await asyncio.sleep(0.001)
            await asyncio.to_thread(place.postgres.crash)
            before = len(acknowledged)
            while len(acknowledged) < before + 5:
                await asyncio.sleep(0.001)
        writing.cancel()
        await asyncio.wait([writing])
        stored = set((await writer.refresh()).integrations)
        await wait_for_integrations(store, woken, stored)
        assert acknowledged <= stored
        assert not store.state.rolled_back
    async with place.open() as store:
        assert set(store.state.integrations) == stored
        assert await place.sql("SELECT count(*) FROM sidekey_audit") == [(store.state.revision,)]


async def test_copy_with_the_same_revision_is_read_after_a_failover(place: PostgresBackend) -> None:
    """A replica lacked a change, and others have written since. Only the new connection shows the difference."""
    async with place.open() as store:
        empty = await place.backup()
        await store.commit([Put(integration("two"), None)], ENTRY)
        other = await place.backup()
    await place.restore(empty)
    async with place.open() as store:
        await store.commit([Put(integration("one"), None)], ENTRY)
        await place.restore(other)
        assert set((await store.refresh()).integrations) == {"one"}
        await place.postgres.kill_connections()
        state = await store.refresh()
        assert (set(state.integrations), state.revision) == ({"two"}, 1)
        assert state.rolled_back == {("integration", "one"): (1, 0)}


async def test_new_password_applies_to_the_next_connection(place: PostgresBackend) -> None:
    """The server asks for it only when a connection begins."""
    postgres, rules = place.postgres, place.postgres.folder / "data" / "pg_hba.conf"
    previous = rules.read_text()
    rules.write_text(f"local all app scram-sha-256\n{previous}")
    await place.sql("CREATE ROLE app LOGIN PASSWORD 'old'")
    await place.sql(f"GRANT ALL ON SCHEMA {place.schema} TO app")
    await asyncio.to_thread(postgres.restart)

    def url(password: str) -> str:
        return postgres.url(place.schema).replace("sidekey@", f"app:{password}@")

    try:
        store = await Store.open(PostgresDatabase(url("old")), RING, retention=1)
        await place.sql("ALTER ROLE app PASSWORD 'new'")
        await store.commit([Put(integration("crm"), None)], ENTRY)
        assert await postgres.kill_connections() == 1
        with pytest.raises(StoreUnavailable, match="28P01"):
            await store.refresh()
        store.switch_keys(RING, 1, 1, url("new"))
        assert set((await store.refresh()).integrations) == {"crm"}
        assert store.health.up
        await store.close()
    finally:
        rules.write_text(previous)
        await place.sql("DROP OWNED BY app")
        await place.sql("DROP ROLE app")
        await asyncio.to_thread(postgres.restart)


async def test_wrong_local_clock_deletes_no_audit_entry(
    place: PostgresBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database's clock decides."""
    async with place.open(retention=1000) as store:
        await store.audit(AuditEntry(who="ann", action="login"))
        wrong = SimpleNamespace(time=lambda: time.time() + 1e9, monotonic=time.monotonic)
        monkeypatch.setattr("sidekey.store.store.time", wrong)
        await store._thread.run(store._delete_old())
        assert [entry.who for _, entry in (await store.audit_page()).entries] == ["ann"]


async def test_lock_of_another_process_times_out_with_an_error(
    place: PostgresBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidekey.store.postgres.MAX_WAIT", 0.2)
    async with place.open() as store:
        connection = await asyncpg.connect(place.postgres.url(place.schema))
        try:
            async with connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock(1397310539), pg_advisory_xact_lock($1)", 1)
                with pytest.raises(StoreUnavailable, match=r"is locked by another Sidekey \(SQLSTATE 55P03\)"):
                    await store.commit([Put(integration("crm"), None)], ENTRY)
        finally:
            await connection.close()
        await store.commit([Put(integration("crm"), None)], ENTRY)


async def test_commit_to_a_standby_suggests_a_primary(place: PostgresBackend) -> None:
    async with place.open() as store:
        await place.sql("ALTER ROLE sidekey SET default_transaction_read_only = on")
        try:
            await place.postgres.kill_connections()
            with pytest.raises(StoreUnavailable, match="target_session_attrs=read-write"):
                await store.commit([Put(integration("crm"), None)], ENTRY)
        finally:
            connection = await asyncpg.connect(place.postgres.url())
            await connection.execute("SET default_transaction_read_only = off")
            await connection.execute("ALTER ROLE sidekey RESET default_transaction_read_only")
            await connection.close()


URLS = {
    "postgresql://canary-user:canary-password@127.0.0.1:1/x": r"the database cannot be reached \(ECONNREFUSED\)",
    "postgresql://canary@127.0.0.1/x?sslmode=verify-full&sslrootcert=/canary.crt": r"cannot be reached \(ENOENT\)",
    "postgresql://sidekey@/canary-name?host={folder}": r"has no database of this name \(SQLSTATE 3D000\)",
    "postgresql://canary-user@/postgres?host={folder}": r"rejects the user or the password \(SQLSTATE 28000\)",
    "postgresql://sidekey@/postgres?host=/canary-host": "the database cannot be reached",
}


@pytest.mark.parametrize(("url", "reason"), URLS.items(), ids=URLS)
async def test_connection_error_shows_nothing_of_the_url(postgres: Postgres, url: str, reason: str) -> None:
    database = PostgresDatabase(url.format(folder=postgres.folder))
    with pytest.raises(StoreUnavailable, match=reason) as caught:
        await Store.open(database, RING, retention=1)
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


NO_ROOT = "postgresql://canary@127.0.0.1/x?sslmode=verify-full"


@pytest.mark.parametrize("url", ["postgresql://a:b@[canary/x", "postgresql://h:canary/x", "mysql://canary", NO_ROOT])
async def test_invalid_url_is_not_shown(url: str) -> None:
    with pytest.raises((StoreRefused, StoreUnavailable)) as caught:
        await Store.open(PostgresDatabase(url), RING, retention=1)
    assert "store.url: must be a URL such as" in str(caught.value)
    assert "canary" not in str(caught.value)


async def test_server_certificate_is_verified_as_the_url_says(ca: Authority, tmp_path: Path) -> None:
    """A wrong certificate may be renewed, so the error is temporary."""
    other = tmp_path / "other"
    other.mkdir()
    stranger = Authority(other).bundle
    with Postgres(ca.leaf("db.test", "127.0.0.1")) as postgres:
        here = f"postgresql://sidekey:canary@127.0.0.1:{postgres.port}/postgres?sslmode=verify-full&sslrootcert="
        store = await Store.open(PostgresDatabase(f"{here}{ca.bundle}"), RING, retention=1)
        await store.commit([Put(integration("crm"), None)], ENTRY)
        await store.close()
        elsewhere = here.replace("127.0.0.1", "localhost")
        for url in (f"{here}{stranger}", f"{elsewhere}{ca.bundle}"):
            with pytest.raises(StoreUnavailable, match="the database's certificate is not that of its name") as caught:
                await Store.open(PostgresDatabase(url), RING, retention=1)
            assert "canary" not in str(caught.value)


async def test_missing_table_is_named(place: PostgresBackend) -> None:
    async with place.open() as store:
        await place.sql("DROP TABLE sidekey_rows")
        with pytest.raises(StoreUnavailable, match=r"lacks a table of the store \(SQLSTATE 42P01\)"):
            await store.refresh()
