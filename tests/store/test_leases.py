"""Leases of a token's renewal, on both databases: never is a token presented that may be spent."""

from __future__ import annotations

import pytest

from sidekey.store.errors import StoreRefused
from sidekey.store.leases import Lease, LeaseLost, NotLeased
from sidekey.store.sealing import KeyRing
from sidekey.store.state import Delete, Put
from sidekey.store.store import Store
from support.stores import ENTRY, KEYS, Place, integration

NAME = "file:crm"
LINEAGE = "https://login.example.com canary-lineage"
RESULT = '{"refresh_token":"canary-refresh"}'


async def leased(store: Store, lineage: str = LINEAGE, seconds: int = 60, to: str = "") -> Lease:
    found = await store.lease(NAME, lineage, (to,), seconds)
    assert isinstance(found, Lease)
    return found


async def not_leased(store: Store, lineage: str = LINEAGE, to: str = "") -> NotLeased:
    found = await store.lease(NAME, lineage, (to,), 60)
    assert isinstance(found, NotLeased)
    return found


async def left(store: Store, lineage: str = LINEAGE, to: str = "") -> str | None:
    """What the last holder left; it is nobody's now."""
    lease = await leased(store, lineage, to=to)
    await store.release(lease)
    return lease.result


async def test_one_renews_and_the_others_take_what_it_got(place: Place) -> None:
    async with place.open() as store, place.open() as other:
        lease = await leased(store)
        assert (lease.fence, lease.result) == (1, None)
        busy = await not_leased(other)
        assert (busy.unknown, busy.result) == (False, None)
        await store.intend(lease, 60)
        assert not (await not_leased(other)).unknown
        await store.finish(lease, RESULT, spent=True)
        following = await leased(other)
        assert (following.fence, following.result) == (2, RESULT)


async def test_who_dies_before_the_call_is_followed(place: Place) -> None:
    """Nothing was presented: another takes the lease once its time is over, and the first is refused."""
    async with place.open() as store, place.open() as other:
        lease = await leased(store, seconds=0)
        following = await leased(other)
        assert following.fence == lease.fence + 1
        for step in (store.intend(lease, 60), store.finish(lease, RESULT, spent=True), store.release(lease)):
            with pytest.raises(LeaseLost):
                await step
        await other.finish(following, RESULT, spent=True)
        assert await left(store) == RESULT


async def test_who_dies_after_the_call_began_leaves_the_token_unknown(place: Place) -> None:
    """However often it is asked for, and after restarts, until another token is entered."""
    async with place.open() as store:
        lease = await leased(store)
        await store.finish(lease, RESULT, spent=True)
        lease = await leased(store)
        await store.intend(lease, 0)
    for _ in range(2):
        async with place.open() as store:
            unknown = await not_leased(store)
            assert (unknown.unknown, unknown.result) == (True, RESULT)
    async with place.open() as store:
        assert (await leased(store, "another token")).result is None
        assert (await not_leased(store)).unknown
        # Whoever was thought to be dead may still tell.
        await store.finish(lease, "late", spent=True)
        assert (await leased(store)).result == "late"


async def test_who_finishes_late_makes_the_token_known(place: Place) -> None:
    async with place.open() as store, place.open() as other:
        lease = await leased(store)
        await store.intend(lease, 0)
        assert (await not_leased(other)).unknown
        await store.finish(lease, RESULT, spent=True)
        assert (await leased(other)).result == RESULT


async def test_a_call_that_was_certainly_not_made_leaves_what_was_there(place: Place) -> None:
    async with place.open() as store:
        await store.finish(await leased(store), RESULT, spent=True)
        lease = await leased(store)
        await store.intend(lease, 60)
        await store.release(lease)
        assert (await leased(store)).result == RESULT


async def test_what_is_left_belongs_to_its_lineage(place: Place) -> None:
    """A token that was entered since wins, and the former result is not used for it."""
    async with place.open() as store:
        await store.finish(await leased(store), RESULT, spent=True)
        assert (await leased(store, "another")).result is None
        other = await store.lease("file:other", LINEAGE, ("",), 60)
        assert isinstance(other, Lease)
        assert other.result is None


async def test_what_is_left_stays_where_it_may_go(place: Place) -> None:
    """Whoever enters the same first token for another destination has neither what came of it, nor that token.

    Also after the key was replaced. Where it was before it goes on.
    """
    async with place.open() as store:
        await store.finish(await leased(store, to="here"), RESULT, spent=True)
        found = await not_leased(store, to="there")
        assert (found.unknown, found.result) == (True, None)
    async with place.open({"k2": b"2" * 32, **KEYS}) as store:
        assert (await store.rotate_key(lambda _: (), "ops")).stuck == ()
    async with place.open({"k2": b"2" * 32}) as store:
        assert (await not_leased(store, to="there")).unknown
        assert await left(store, to="here") == RESULT


async def test_a_first_token_that_stays_valid_may_go_elsewhere(place: Place) -> None:
    """No response has brought another; what came of it goes to one destination at a time."""
    async with place.open() as store:
        lease = await leased(store, to="here")
        await store.intend(lease, 60)
        await store.finish(lease, RESULT, spent=False)
        lease = await leased(store, to="there")
        assert lease.result is None
        await store.finish(lease, "its result", spent=False)
        assert await left(store, to="here") is None
        assert await left(store, to="there") == "its result"
        await store.finish(await leased(store, to="there"), "the next", spent=True)
        assert (await not_leased(store, to="here")).unknown


async def test_a_lease_that_goes_over_to_another_key_keeps_where_its_result_may_go(place: Place) -> None:
    """Who takes it for another destination leaves it as it was, until they have one of their own."""
    async with place.open() as store:
        await store.finish(await leased(store, to="here"), RESULT, spent=False)
    async with place.open({"k2": b"2" * 32, **KEYS}) as store:
        assert await left(store, to="there") is None
        assert (await store.rotate_key(lambda _: (), "ops")).stuck == ()
    async with place.open({"k2": b"2" * 32}) as store:
        assert await left(store, to="here") == RESULT


async def test_a_process_that_has_the_former_token_still_spoils_neither(place: Place) -> None:
    """A changed file arrives at different moments: each goes on with what is left of its own token."""
    async with place.open() as early, place.open() as late:
        await early.finish(await leased(early), RESULT, spent=True)
        await early.finish(await leased(early, "entered since"), "its result", spent=True)
        former = await leased(late)
        assert former.result == RESULT
        await late.finish(former, "the next", spent=True)
        assert (await leased(early, "entered since")).result == "its result"
        assert (await leased(early)).result == "the next"


async def test_a_ring_without_the_key_presents_nothing_and_keeps_what_was_presented(place: Place) -> None:
    """It cannot tell whose what is there is; with the key it goes on, also in the middle of a turn."""
    both = {"k2": b"2" * 32, **KEYS}
    async with place.open() as former, place.open(both) as store:
        lease = await leased(former)
        await former.intend(lease, 60)
        assert (await store.rotate_key(lambda _: (), "ops")).stuck == ()
        for step in (former.lease(NAME, LINEAGE, ("",), 60), former.finish(lease, RESULT, spent=True)):
            with pytest.raises(StoreRefused, match="key k2 is missing"):
                await step
        former.use(KeyRing(both), 1.0, 1.0)
        await former.finish(lease, RESULT, spent=True)
        assert await left(store) == RESULT


async def test_a_lease_taken_by_another_first_key_goes_over_to_it_whole(place: Place) -> None:
    """Also where it is not rotated: nothing of it needs the former key afterwards."""
    both = {"k2": b"2" * 32, **KEYS}
    async with place.open() as store:
        await store.finish(await leased(store), RESULT, spent=True)
    async with place.open(both) as store:
        await store.release(await leased(store))
        assert ":k1:" not in str(await place.sql("SELECT * FROM sidekey_leases"))
        assert (await store.rotate_key(lambda _: (), "ops")).stuck == ()
    async with place.open({"k2": b"2" * 32}) as store:
        assert (await leased(store)).result == RESULT


ALTERED = {
    "the stage": "UPDATE sidekey_leases SET stage = 'free'",
    "the time": "UPDATE sidekey_leases SET until = 1",
    "the fence": "UPDATE sidekey_leases SET fence = 0",
    "the result": "UPDATE sidekey_leases SET result = lineage",
    "no result": "UPDATE sidekey_leases SET result = ''",
    "the lineage": "UPDATE sidekey_leases SET lineage = result",
    "whether it is spent": "UPDATE sidekey_leases SET spent = 0",
    "the MAC": "UPDATE sidekey_leases SET mac = 'x'",
    "what is no MAC": "UPDATE sidekey_leases SET mac = 'é'",
    "the key": "UPDATE sidekey_leases SET \"key\" = 'k9'",
}


@pytest.mark.parametrize("statement", ALTERED.values(), ids=ALTERED)
async def test_an_altered_lease_presents_nothing(place: Place, statement: str) -> None:
    async with place.open() as store:
        await store.finish(await leased(store), RESULT, spent=True)
        lease = await leased(store)
        await store.intend(lease, 60)
        await place.sql(statement)
        found = await not_leased(store)
        assert (found.unknown, found.result) == (True, None)
        with pytest.raises(LeaseLost):
            await store.finish(lease, "x", spent=True)


async def test_nothing_of_it_is_stored_in_clear(place: Place) -> None:
    async with place.open() as store:
        await store.finish(await leased(store), RESULT, spent=True)
        assert "canary" not in str(await place.backup())


async def test_a_lease_is_no_change_and_goes_with_its_row(place: Place) -> None:
    crm = integration("crm")
    async with place.open() as store:
        await store.commit([Put(crm, None)], ENTRY)
        await store.lease(crm.row, LINEAGE, ("",), 60)
        assert (await store.read()).revision == 1
        await store.commit([Delete(crm, 1)], ENTRY)
        assert await place.sql("SELECT name FROM sidekey_leases") == []


async def test_leases_go_over_to_another_key(place: Place) -> None:
    async with place.open() as store:
        lease = await leased(store)
        await store.finish(lease, RESULT, spent=True)
        await store.lease("empty", LINEAGE, ("",), 60)
    async with place.open({"k2": b"2" * 32, **KEYS}) as store:
        assert (await store.rotate_key(lambda _: (), "ops")).stuck == ()
    async with place.open({"k2": b"2" * 32}) as store:
        assert await left(store) == RESULT
        other = await store.lease("empty", LINEAGE, ("",), 60)
        assert isinstance(other, NotLeased)
        assert (other.unknown, other.result) == (False, None)
    assert ":k1:" not in str(await place.sql("SELECT * FROM sidekey_leases"))
