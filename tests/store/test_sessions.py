"""Sessions of the console, on both databases: they end, and nobody makes one by the database alone."""

from __future__ import annotations

import time

import pytest

from sidekey.store.audit import AuditEntry
from sidekey.store.sealing import KeyRing
from sidekey.store.sessions import MAX_SESSIONS, PAGE, Session
from support.stores import KEYS, Place

LOGIN = AuditEntry(who="ann", action="login")
HOUR = 3600


def session(name: str = "s1", token: str = "t1", life: int = HOUR) -> Session:
    now = int(time.time())
    return Session(name, token, now, now, now + life)


async def test_what_is_over_is_none_and_goes_with_the_next(place: Place) -> None:
    async with place.open() as store:
        await store.log_in(session(life=0), LOGIN)
        assert await store.session("s1") is None
        await store.log_in(session("s2"), LOGIN)
        assert await place.sql("SELECT id FROM sidekey_sessions") == [("s2",)]


async def test_a_token_has_so_many_and_the_oldest_makes_room(place: Place) -> None:
    """Another token's stay."""
    async with place.open() as store:
        await store.log_in(session("other", "t2"), LOGIN)
        for number in range(MAX_SESSIONS + 3):
            await store.log_in(session(f"s{number}", life=HOUR + number), LOGIN)
        kept = {name for (name,) in await place.sql("SELECT id FROM sidekey_sessions")}
        assert kept == {f"s{number}" for number in range(3, MAX_SESSIONS + 3)} | {"other"}


async def test_the_oldest_makes_room_if_all_end_at_once(place: Place) -> None:
    """They do if the token expires before them. A longer `session` of the company log-in is no sign of a later one."""
    now = int(time.time())
    async with place.open() as store:
        for number in (*range(1, MAX_SESSIONS), 0, MAX_SESSIONS):
            end = now + (2 if number == 0 else 1) * HOUR
            await store.log_in(Session(f"s{number}", "t1", now - MAX_SESSIONS + number, now, end), LOGIN)
        kept = {name for (name,) in await place.sql("SELECT id FROM sidekey_sessions")}
        assert kept == {f"s{number}" for number in range(1, MAX_SESSIONS + 1)}


async def test_altered_sessions_hide_no_others(place: Place) -> None:
    """A page of altered sessions alone has a next one all the same."""
    now = int(time.time())
    async with place.open() as store:
        for number in range(PAGE + 1):
            await store.log_in(Session(f"s{number}", f"t{number}", now + number, now, now + HOUR), LOGIN)
        await place.sql("UPDATE sidekey_sessions SET mac = '' WHERE id <> 's0'")
        first = await store.session_page((now + HOUR, ""))
        assert first == ((), (now + 1, "s1"))
        second = await store.session_page((now + 1, "s1"))
        assert ([each.id for each in second.sessions], second.next) == (["s0"], None)


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
async def test_an_altered_one_is_none(place: Place, change: str) -> None:
    """Also under another ID: whoever can write to the database cannot log in by that."""
    async with place.open() as store:
        await store.log_in(session(), LOGIN)
        await place.sql(change)
        assert [await store.session(name) for name in ("s1", "s2")] == [None, None]


async def test_a_rotation_signs_them_again_and_drops_what_was_altered(place: Place) -> None:
    """So that nothing names the former key."""
    async with place.open() as store:
        await store.log_in(session(), LOGIN)
        await store.log_in(session("s2"), LOGIN)
    await place.sql("UPDATE sidekey_sessions SET mac = '' WHERE id = 's2'")
    keys = {"k2": bytes(32), **KEYS}
    async with place.open(keys) as store:
        assert (await store.rotate_key(dict, "ops")).stuck == ()
        assert await place.sql('SELECT id, "key" FROM sidekey_sessions') == [("s1", "k2")]
        store.use(KeyRing({"k2": bytes(32)}), 1000.0, 1.0)
        assert await store.session("s1") is not None
