"""All pools of upstream connections: look-up by key, pruning and removal."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from sidekey.policy.urls import Origin
from sidekey.proxy.upstream.pools import Pools
from sidekey.snapshot.egress import Egress
from sidekey.snapshot.snapshot import Trust
from support.plane import LOOPBACK, base_url, get, integration
from support.scripted import ScriptedPlane, certificate, settle
from support.upstream import OK

H = integration("h", base_url(1))
HERE = Origin("http", "up.test", 1)


async def test_pool_is_found_by_its_key() -> None:
    """Origin, trust, allow_private, source address, parent proxy and certificate."""
    pools = ScriptedPlane(H).plane.pools
    pool = pools.find(HERE, H, None)
    assert pools.find(HERE, replace(H, id="o"), None) is pool
    others = [
        pools.find(HERE._replace(port=2), H, None),
        pools.find(HERE._replace(scheme="https"), H, None),
        pools.find(HERE, replace(H, egress=Egress(Trust("system"))), None),
        pools.find(HERE, replace(H, egress=Egress(allow_private=LOOPBACK)), None),
        pools.find(HERE, replace(H, egress=Egress(source_address=ip_address("127.0.0.2"))), None),
        pools.find(HERE, replace(H, egress=Egress(proxy="none")), None),
        pools.find(HERE, H, certificate("one")),
        pools.find(HERE, H, certificate("other")),
    ]
    assert len({pool, *others}) == 9
    assert pools.find(HERE, H, certificate("one")) is others[6]
    assert set(pools.known()) == {pool, *others}


async def in_use() -> tuple[ScriptedPlane, Pools]:
    """Build a plane with one pool that holds an idle connection."""
    sidekey = ScriptedPlane(H)
    sidekey.caller().feed(get())
    (await sidekey.upstream()).feed(OK)
    assert sidekey.plane.pools.idle_count() == 1
    return sidekey, sidekey.plane.pools


async def test_removed_pool_is_listed_while_it_has_connections() -> None:
    sidekey, pools = await in_use()
    (used,) = pools.known()
    sidekey.upstreams[0].block_writes()
    sidekey.upstreams[0].write(b"")
    pools.drop([used])
    assert pools.find(HERE, H, None) is not used
    assert used in pools.known()
    sidekey.upstreams[0].allow_writes()
    sidekey.upstreams[0].fail(ConnectionResetError())
    await settle()
    assert used not in pools.known()


async def test_retired_pool_closes_idle_connections() -> None:
    """It is not found again, but exchanges that hold it may reuse its connections."""
    sidekey, pools = await in_use()
    (used,) = pools.known()
    pools.retire(used)
    assert sidekey.upstreams[0].ended
    assert not used.dropped
    assert pools.find(HERE, H, None) is not used
    pools.retire(used)
    assert pools.find(HERE, H, None) is not used


async def test_end_of_the_process_resets_idle_connections() -> None:
    sidekey, pools = await in_use()
    one, two = sidekey.caller(), sidekey.caller()
    one.feed(get())
    two.feed(get())
    await settle()
    sidekey.upstreams[1].feed(OK)
    pools.abort_idle()
    assert [upstream.aborted for upstream in sidekey.upstreams] == [False, True]


async def test_empty_pool_with_a_certificate_is_not_forgettable() -> None:
    """Its client certificate must be freed with its integration."""
    pools = ScriptedPlane(H).plane.pools
    bare, bearing = pools.find(HERE, H, None), pools.find(HERE, H, certificate("one"))
    assert (bare.is_empty, bare.is_forgettable, bare.has_identity) == (True, True, False)
    assert (bearing.is_empty, bearing.is_forgettable, bearing.has_identity) == (True, False, True)


async def test_dropping_a_pool_twice_keeps_its_successor() -> None:
    configured = integration("h", "https://a.test/api")
    pools = ScriptedPlane(configured).plane.pools
    origin = Origin("https", "a.test", 443)
    previous = pools.find(origin, configured, None)
    pools.drop([previous])
    successor = pools.find(origin, configured, None)
    assert successor is not previous
    pools.drop([previous])
    assert pools.find(origin, configured, None) is successor


async def test_longest_idle_connection_is_evicted() -> None:
    sidekey = ScriptedPlane(H, integration("o", base_url(2)))
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
