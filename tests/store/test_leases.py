"""Leases of token renewals, on both databases: no token that may be spent is presented again."""

from __future__ import annotations

import pytest

from sidekey.store.errors import StoreRefused
from sidekey.store.leases import Lease, LeaseLost, NotLeased
from sidekey.store.sealing import KeyRing
from sidekey.store.state import Delete, Put
from sidekey.store.store import Store
from support.stores import ENTRY, KEYS, StoreBackend, integration

NAME = "file:crm"
LINEAGE = "https://login.example.com canary-lineage"
RESULT = '{"refresh_token":"canary-refresh"}'


async def leased(store: Store, lineage: str = LINEAGE, seconds: int = 60, to: str = "") -> Lease:
    lease = await store.acquire_lease(NAME, lineage, (to,), seconds)
    assert isinstance(lease, Lease)
    return lease


async def not_leased(store: Store, lineage: str = LINEAGE, to: str = "") -> NotLeased:
    lease = await store.acquire_lease(NAME, lineage, (to,), 60)
    assert isinstance(lease, NotLeased)
    return lease


async def last_result(store: Store, lineage: str = LINEAGE, to: str = "") -> str | None:
    """Return the result of the last holder. Leaves the lease free."""
    lease = await leased(store, lineage, to=to)
    await store.release_lease(lease)
    return lease.result


async def test_one_process_renews_and_the_next_gets_its_result(place: StoreBackend) -> None:
    async with place.open() as store, place.open() as other:
        lease = await leased(store)
        assert (lease.fence, lease.result) == (1, None)
        busy = await not_leased(other)
        assert (busy.may_be_spent, busy.result) == (False, None)
        await store.record_intent(lease, 60)
        assert not (await not_leased(other)).may_be_spent
        await store.finish_lease(lease, RESULT, replaces_token=True)
        following = await leased(other)
        assert (following.fence, following.result) == (2, RESULT)


async def test_lease_expires_if_its_holder_dies_before_the_call(place: StoreBackend) -> None:
    """No token was presented, so another process takes the lease. The first holder is refused."""
    async with place.open() as store, place.open() as other:
        lease = await leased(store, seconds=0)
        following = await leased(other)
        assert following.fence == lease.fence + 1
        for step in (
            store.record_intent(lease, 60),
            store.finish_lease(lease, RESULT, replaces_token=True),
            store.release_lease(lease),
        ):
            with pytest.raises(LeaseLost):
                await step
        await other.finish_lease(following, RESULT, replaces_token=True)
        assert await last_result(store) == RESULT


async def test_token_is_unknown_if_its_holder_dies_after_the_call_began(place: StoreBackend) -> None:
    """Also after restarts, until another token is entered."""
    async with place.open() as store:
        lease = await leased(store)
        await store.finish_lease(lease, RESULT, replaces_token=True)
        lease = await leased(store)
        await store.record_intent(lease, 0)
    for _ in range(2):
        async with place.open() as store:
            unknown = await not_leased(store)
            assert (unknown.may_be_spent, unknown.result) == (True, RESULT)
    async with place.open() as store:
        assert (await leased(store, "another token")).result is None
        assert (await not_leased(store)).may_be_spent
        # Whoever was thought to be dead may still tell.
        await store.finish_lease(lease, "late", replaces_token=True)
        assert (await leased(store)).result == "late"


async def test_release_keeps_the_previous_result(place: StoreBackend) -> None:
    async with place.open() as store:
        await store.finish_lease(await leased(store), RESULT, replaces_token=True)
        lease = await leased(store)
        await store.record_intent(lease, 60)
        await store.release_lease(lease)
        assert (await leased(store)).result == RESULT


async def test_result_is_not_used_for_another_lineage(place: StoreBackend) -> None:
    """A token that was entered later wins."""
    async with place.open() as store:
        await store.finish_lease(await leased(store), RESULT, replaces_token=True)
        assert (await leased(store, "another")).result is None
        other = await store.acquire_lease("file:other", LINEAGE, ("",), 60)
        assert isinstance(other, Lease)
        assert other.result is None


async def test_result_is_not_used_for_another_destination(place: StoreBackend) -> None:
    """A process with the same first token for another destination gets neither result nor lease.

    Also after a key rotation. The first destination still gets the result.
    """
    async with place.open() as store:
        await store.finish_lease(await leased(store, to="here"), RESULT, replaces_token=True)
        lease = await not_leased(store, to="there")
        assert (lease.may_be_spent, lease.result) == (True, None)
    async with place.open({"k2": b"2" * 32, **KEYS}) as store:
        assert (await store.rotate_key(lambda _: (), "ops")).stuck == ()
    async with place.open({"k2": b"2" * 32}) as store:
        assert (await not_leased(store, to="there")).may_be_spent
        assert await last_result(store, to="here") == RESULT


async def test_unspent_first_token_may_go_to_another_destination(place: StoreBackend) -> None:
    """The stored result is for one destination at a time."""
    async with place.open() as store:
        lease = await leased(store, to="here")
        await store.record_intent(lease, 60)
        await store.finish_lease(lease, RESULT, replaces_token=False)
        lease = await leased(store, to="there")
        assert lease.result is None
        await store.finish_lease(lease, "its result", replaces_token=False)
        assert await last_result(store, to="here") is None
        assert await last_result(store, to="there") == "its result"
        await store.finish_lease(await leased(store, to="there"), "the next", replaces_token=True)
        assert (await not_leased(store, to="here")).may_be_spent


async def test_rotation_keeps_the_destination_of_a_result(place: StoreBackend) -> None:
    """A lease for another destination keeps the result, until that destination has its own."""
    async with place.open() as store:
        await store.finish_lease(await leased(store, to="here"), RESULT, replaces_token=False)
    async with place.open({"k2": b"2" * 32, **KEYS}) as store:
        assert await last_result(store, to="there") is None
        assert (await store.rotate_key(lambda _: (), "ops")).stuck == ()
    async with place.open({"k2": b"2" * 32}) as store:
        assert await last_result(store, to="here") == RESULT


async def test_two_lineages_of_one_name_are_independent(place: StoreBackend) -> None:
    """Processes read a changed file at different moments. Each continues with the result of its own token."""
    async with place.open() as early, place.open() as late:
        await early.finish_lease(await leased(early), RESULT, replaces_token=True)
        await early.finish_lease(await leased(early, "entered since"), "its result", replaces_token=True)
        previous = await leased(late)
        assert previous.result == RESULT
        await late.finish_lease(previous, "the next", replaces_token=True)
        assert (await leased(early, "entered since")).result == "its result"
        assert (await leased(early)).result == "the next"


async def test_process_without_the_key_presents_no_token(place: StoreBackend) -> None:
    """With the key, it continues, also in the middle of a call."""
    both = {"k2": b"2" * 32, **KEYS}
    async with place.open() as previous, place.open(both) as store:
        lease = await leased(previous)
        await previous.record_intent(lease, 60)
        assert (await store.rotate_key(lambda _: (), "ops")).stuck == ()
        for step in (
            previous.acquire_lease(NAME, LINEAGE, ("",), 60),
            previous.finish_lease(lease, RESULT, replaces_token=True),
        ):
            with pytest.raises(StoreRefused, match="key k2 is missing"):
                await step
        previous.switch_keys(KeyRing(both), 1.0, 1.0)
        await previous.finish_lease(lease, RESULT, replaces_token=True)
        assert await last_result(store) == RESULT


async def test_lease_is_rewritten_with_the_first_key_of_its_holder(place: StoreBackend) -> None:
    """Afterwards nothing in it needs the previous key."""
    both = {"k2": b"2" * 32, **KEYS}
    async with place.open() as store:
        await store.finish_lease(await leased(store), RESULT, replaces_token=True)
    async with place.open(both) as store:
        await store.release_lease(await leased(store))
        assert ":k1:" not in str(await place.sql("SELECT * FROM sidekey_leases"))
        assert (await store.rotate_key(lambda _: (), "ops")).stuck == ()
    async with place.open({"k2": b"2" * 32}) as store:
        assert (await leased(store)).result == RESULT


ALTERED = {
    "the stage": "UPDATE sidekey_leases SET stage = 'free'",
    "the time": "UPDATE sidekey_leases SET until = 1",
    "the fence": "UPDATE sidekey_leases SET fence = 0",
    "the result": "UPDATE sidekey_leases SET result = lineage",
    "an empty result": "UPDATE sidekey_leases SET result = ''",
    "the lineage": "UPDATE sidekey_leases SET lineage = result",
    "whether it is spent": "UPDATE sidekey_leases SET spent = 0",
    "the MAC": "UPDATE sidekey_leases SET mac = 'x'",
    "what is no MAC": "UPDATE sidekey_leases SET mac = 'é'",
    "the key": "UPDATE sidekey_leases SET \"key\" = 'k9'",
}


@pytest.mark.parametrize("statement", ALTERED.values(), ids=ALTERED)
async def test_altered_lease_presents_no_token(place: StoreBackend, statement: str) -> None:
    async with place.open() as store:
        await store.finish_lease(await leased(store), RESULT, replaces_token=True)
        lease = await leased(store)
        await store.record_intent(lease, 60)
        await place.sql(statement)
        refused = await not_leased(store)
        assert (refused.may_be_spent, refused.result) == (True, None)
        with pytest.raises(LeaseLost):
            await store.finish_lease(lease, "x", replaces_token=True)


async def test_lease_is_not_a_change_and_is_deleted_with_its_row(place: StoreBackend) -> None:
    crm = integration("crm")
    async with place.open() as store:
        await store.commit([Put(crm, None)], ENTRY)
        await store.acquire_lease(crm.row_id, LINEAGE, ("",), 60)
        assert (await store.refresh()).revision == 1
        await store.commit([Delete(crm, 1)], ENTRY)
        assert await place.sql("SELECT name FROM sidekey_leases") == []


async def test_rotation_rewrites_leases(place: StoreBackend) -> None:
    async with place.open() as store:
        lease = await leased(store)
        await store.finish_lease(lease, RESULT, replaces_token=True)
        await store.acquire_lease("empty", LINEAGE, ("",), 60)
    async with place.open({"k2": b"2" * 32, **KEYS}) as store:
        assert (await store.rotate_key(lambda _: (), "ops")).stuck == ()
    async with place.open({"k2": b"2" * 32}) as store:
        assert await last_result(store) == RESULT
        other = await store.acquire_lease("empty", LINEAGE, ("",), 60)
        assert isinstance(other, NotLeased)
        assert (other.may_be_spent, other.result) == (False, None)
    assert ":k1:" not in str(await place.sql("SELECT * FROM sidekey_leases"))
