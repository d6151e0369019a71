"""All pools: which one a key leads to, which are known, and which are let go."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from sidekey.policy.urls import Origin
from sidekey.proxy.upstream.pools import POOLS_LIMIT, Pools
from sidekey.snapshot.snapshot import Trust
from support.plane import LOOPBACK, base_url, get, integration
from support.scripted import Scripted, certificate, settle
from support.upstream import OK

H = integration("h", base_url(1))
HERE = Origin("http", "up.test", 1)


async def test_a_key_leads_to_one_pool() -> None:
    """Origin, trust, allowance, source address and certificate; nothing else divides."""
    pools = Scripted(H).plane.pools
    pool = pools.find(HERE, H, None)
    assert pools.find(HERE, replace(H, id="o"), None) is pool
    others = [
        pools.find(HERE._replace(port=2), H, None),
        pools.find(HERE._replace(scheme="https"), H, None),
        pools.find(HERE, replace(H, trust=Trust("system")), None),
        pools.find(HERE, replace(H, allow_private=LOOPBACK), None),
        pools.find(HERE, replace(H, source_address=ip_address("127.0.0.2")), None),
        pools.find(HERE, H, certificate("one")),
        pools.find(HERE, H, certificate("other")),
    ]
    assert len({pool, *others}) == 8
    assert pools.find(HERE, H, certificate("one")) is others[5]
    assert set(pools.known()) == {pool, *others}


async def in_use() -> tuple[Scripted, Pools]:
    """A plane whose one pool holds a connection that is idle."""
    sidekey = Scripted(H)
    sidekey.caller().feed(get())
    (await sidekey.upstream()).feed(OK)
    assert sidekey.plane.pools.idle_count() == 1
    return sidekey, sidekey.plane.pools


async def test_only_those_that_hold_nothing_are_pruned() -> None:
    """When there are as many as may be, and one more is asked for."""
    sidekey, pools = await in_use()
    (used,) = pools.known()
    made = [pools.find(HERE._replace(port=port), H, None) for port in range(2, POOLS_LIMIT + 1)]
    assert set(pools.known()) == {used, *made}
    more = pools.find(HERE._replace(port=0), H, None)
    assert set(pools.known()) == {used, more}
    assert pools.find(HERE, H, None) is used
    assert len(sidekey.pooled()) == 1


async def test_a_pool_is_known_while_it_holds_a_connection() -> None:
    """Though nobody can find it any more."""
    sidekey, pools = await in_use()
    (used,) = pools.known()
    sidekey.upstreams[0].choke()
    sidekey.upstreams[0].write(b"")
    pools.drop([used])
    assert pools.find(HERE, H, None) is not used
    assert used in pools.known()
    sidekey.upstreams[0].relieve()
    sidekey.upstreams[0].lose(ConnectionResetError())
    await settle()
    assert used not in pools.known()


async def test_a_dropped_pool_closes_what_is_idle_and_keeps_nothing() -> None:
    """A connection that is in use then closes after its response."""
    sidekey, pools = await in_use()
    (used,) = pools.known()
    one, two = sidekey.caller(), sidekey.caller()
    one.feed(get())
    two.feed(get())
    await settle()
    sidekey.upstreams[1].feed(OK)
    pools.drop([used])
    assert [upstream.ended for upstream in sidekey.upstreams] == [False, True]
    sidekey.upstreams[0].feed(OK)
    assert sidekey.upstreams[0].ended
    assert one.take().endswith(b"ok")
    assert used.dropped
    assert pools.idle_count() == 0


async def test_a_retired_pool_closes_what_is_idle() -> None:
    """And is not found again; what is in use goes on, and may be used again by those who hold the pool."""
    sidekey, pools = await in_use()
    (used,) = pools.known()
    pools.retire(used)
    assert sidekey.upstreams[0].ended
    assert not used.dropped
    assert pools.find(HERE, H, None) is not used
    pools.retire(used)
    assert pools.find(HERE, H, None) is not used


async def test_what_is_idle_can_be_cut() -> None:
    """At the end of the process; what is in use is its exchange's to end."""
    sidekey, pools = await in_use()
    one, two = sidekey.caller(), sidekey.caller()
    one.feed(get())
    two.feed(get())
    await settle()
    sidekey.upstreams[1].feed(OK)
    pools.abort_idle()
    assert [upstream.aborted for upstream in sidekey.upstreams] == [False, True]


async def test_a_pool_with_a_certificate_is_never_bare() -> None:
    """Though it may be empty: what it would present is to be let go with its integration."""
    pools = Scripted(H).plane.pools
    bare, bearing = pools.find(HERE, H, None), pools.find(HERE, H, certificate("one"))
    assert (bare.is_empty, bare.is_bare, bare.has_identity) == (True, True, False)
    assert (bearing.is_empty, bearing.is_bare, bearing.has_identity) == (True, False, True)


async def test_a_pool_that_was_dropped_takes_none_of_its_successors_along() -> None:
    """Dropped once more, it is no longer the one that is found for its key."""
    made = integration("h", "https://a.test/api")
    pools = Scripted(made).plane.pools
    origin = Origin("https", "a.test", 443)
    former = pools.find(origin, made, None)
    pools.drop([former])
    successor = pools.find(origin, made, None)
    assert successor is not former
    pools.drop([former])
    assert pools.find(origin, made, None) is successor


async def test_the_connection_that_was_idle_for_longest_makes_room() -> None:
    """Of all pools; where none is idle nothing is closed."""
    sidekey = Scripted(H, integration("o", base_url(2)))
    deadlines = sidekey.plane.worker.deadlines
    for number, name in enumerate("ho"):
        deadlines.look(number + 1.0)
        sidekey.caller().feed(get(name=name))
        (await sidekey.upstream(number)).feed(OK)
    first, second = sidekey.upstreams
    for closed, left in (((True, False), 1), ((True, True), 0), ((True, True), 0)):
        sidekey.plane.pools.close_longest_idle()
        await settle()
        assert (first.is_closing(), second.is_closing()) == closed
        assert sidekey.plane.pools.idle_count() == left
