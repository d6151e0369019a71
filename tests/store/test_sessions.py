"""Sessions of the console, on both databases: they end, and the database alone cannot create one."""

from __future__ import annotations

import time

import pytest

from sidekey.store.audit import AuditEntry
from sidekey.store.sealing import KeyRing
from sidekey.store.sessions import MAX_SESSIONS, PAGE, Session
from support.stores import KEYS, StoreBackend

LOGIN = AuditEntry(who="ann", action="login")
HOUR = 3600


def session(name: str = "s1", token: str = "t1", lifetime: int = HOUR) -> Session:
    now = int(time.time())
    return Session(name, token, now, now, now + lifetime)


async def test_ended_session_is_none_and_deleted_at_the_next_login(place: StoreBackend) -> None:
    async with place.open() as store:
        await store.log_in(session(lifetime=0), LOGIN)
        assert await store.get_session("s1") is None
        await store.log_in(session("s2"), LOGIN)
        assert await place.sql("SELECT id FROM sidekey_sessions") == [("s2",)]


async def test_login_above_the_limit_ends_the_oldest_session(place: StoreBackend) -> None:
    """Sessions of another token stay."""
    async with place.open() as store:
        await store.log_in(session("other", "t2"), LOGIN)
        for number in range(MAX_SESSIONS + 3):
            await store.log_in(session(f"s{number}", lifetime=HOUR + number), LOGIN)
        kept = {name for (name,) in await place.sql("SELECT id FROM sidekey_sessions")}
        assert kept == {f"s{number}" for number in range(3, MAX_SESSIONS + 3)} | {"other"}


async def test_oldest_session_is_the_one_that_began_first(place: StoreBackend) -> None:
    """All end together if the token expires first. A longer `session` of the company log-in does not make one newer."""
    now = int(time.time())
    async with place.open() as store:
        for number in (*range(1, MAX_SESSIONS), 0, MAX_SESSIONS):
            end = now + (2 if number == 0 else 1) * HOUR
            await store.log_in(Session(f"s{number}", "t1", now - MAX_SESSIONS + number, now, end), LOGIN)
        kept = {name for (name,) in await place.sql("SELECT id FROM sidekey_sessions")}
        assert kept == {f"s{number}" for number in range(1, MAX_SESSIONS + 1)}


async def test_page_of_altered_sessions_has_a_next_page(place: StoreBackend) -> None:
    now = int(time.time())
    async with place.open() as store:
        for number in range(PAGE + 1):
            await store.log_in(Session(f"s{number}", f"t{number}", now + number, now, now + HOUR), LOGIN)
        await place.sql("UPDATE sidekey_sessions SET mac = '' WHERE id <> 's0'")
        first = await store.session_page((now + HOUR, ""))
        assert first == ((), (now + 1, "s1"))
        second = await store.session_page((now + 1, "s1"))
        assert ([item.id for item in second.sessions], second.next) == (["s0"], None)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE sidekey_sessions SET token_sha256 = 't2'",
        "UPDATE sidekey_sessions SET ends_at = ends_at + 1",
        "UPDATE sidekey_sessions SET begun_at = begun_at - 1",
        "UPDATE sidekey_sessions SET auth_at = auth_at + 1",
        "UPDATE sidekey_sessions SET grant_text = 'admin'",
        "UPDATE sidekey_sessions SET id = 's2'",
        "UPDATE sidekey_sessions SET mac = ''",
        "UPDATE sidekey_sessions SET \"key\" = 'k9'",
    ],
)
async def test_altered_session_is_none(place: StoreBackend, change: str) -> None:
    """Write access to the database is not enough to log in."""
    async with place.open() as store:
        await store.log_in(session(), LOGIN)
        await place.sql(change)
        assert [await store.get_session(name) for name in ("s1", "s2")] == [None, None]


async def test_rotation_renews_macs_and_deletes_altered_sessions(place: StoreBackend) -> None:
    """Afterwards nothing names the previous key."""
    async with place.open() as store:
        await store.log_in(session(), LOGIN)
        await store.log_in(session("s2"), LOGIN)
    await place.sql("UPDATE sidekey_sessions SET mac = '' WHERE id = 's2'")
    keys = {"k2": bytes(32), **KEYS}
    async with place.open(keys) as store:
        assert (await store.rotate_key(dict, "ops")).stuck == ()
        assert await place.sql('SELECT id, "key" FROM sidekey_sessions') == [("s1", "k2")]
        store.switch_keys(KeyRing({"k2": bytes(32)}), 1000.0, 1.0)
        assert await store.get_session("s1") is not None
