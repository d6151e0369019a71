"""TCP to the first of several addresses that accepts."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from sidekey.errors import ProblemError
from sidekey.network.happy_eyeballs import connect_problem, first_connected, interleave
from sidekey.policy.addresses import Address
from support.blackhole import Blackhole
from support.leak_check import nothing_left, open_sockets
from support.ports import free_port

NOWHERE = ip_address("255.255.255.255")
"""TCP to the broadcast address fails at once everywhere, as an unreachable network does."""
DEAD, ALIVE = ip_address("127.0.0.2"), ip_address("127.0.0.3")


@pytest.fixture
def alive() -> Iterator[int]:
    """The port of a listener on ALIVE alone."""
    with socket.create_server((str(ALIVE), 0)) as listener:
        yield listener.getsockname()[1]


async def peer_of(addresses: list[Address], port: int) -> str:
    """The address that won; the connection is closed again."""
    async with nothing_left():
        with await first_connected(addresses, port) as connection:
            assert not connection.getblocking()
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            return str(connection.getpeername()[0])


async def failure(addresses: list[Address], port: int) -> tuple[str, int, str]:
    """Code, status and error of the failure of all addresses."""
    async with nothing_left():
        with pytest.raises(ProblemError) as failed:
            await first_connected(addresses, port)
    assert failed.value.__suppress_context__
    return failed.value.problem.code, failed.value.problem.status, failed.value.problem.error


@pytest.mark.parametrize(
    ("given", "tried"),
    [
        ("6a 6b 6c 4a 4b", "6a 4a 6b 4b 6c"),
        ("4a 4b 6a", "4a 6a 4b"),
        ("4a 4b", "4a 4b"),
        ("6a", "6a"),
    ],
)
def test_families_alternate_from_that_of_the_first_address(given: str, tried: str) -> None:
    """RFC 8305 4: the order within a family stays."""

    def addresses(names: str) -> list[Address]:
        return [ip_address(f"::{name[1]}" if name[0] == "6" else f"10.0.0.{ord(name[1])}") for name in names.split()]

    assert interleave(addresses(given)) == addresses(tried)


async def test_a_single_address_is_connected(alive: int) -> None:
    """The usual case."""
    assert await peer_of([ALIVE], alive) == str(ALIVE)


async def test_an_address_that_refuses_gives_way_to_the_next(alive: int) -> None:
    """F06: the next attempt follows a failure at once."""
    assert await peer_of([DEAD, ALIVE], alive) == str(ALIVE)


async def test_an_address_that_is_silent_is_overtaken_by_the_next() -> None:
    """F06: the second attempt starts while the first one hangs, and the loser's socket is closed."""
    with Blackhole(str(DEAD)) as hole, socket.create_server((str(ALIVE), hole.port)):
        assert await peer_of([DEAD, ALIVE], hole.port) == str(ALIVE)


async def test_an_ipv6_address_is_connected() -> None:
    """Both families are dialled."""
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        assert await peer_of([ip_address("::1")], listener.getsockname()[1]) == "::1"


async def test_a_refused_connection_is_told() -> None:
    """F01: a closed port is connection_refused."""
    assert await failure([DEAD], free_port()) == ("upstream_unreachable", 502, "connection_refused")


async def test_an_address_without_a_way_to_it_is_told() -> None:
    """A network that cannot be reached is destination_unavailable."""
    assert await failure([NOWHERE], 9) == ("upstream_unreachable", 502, "destination_unavailable")


@pytest.mark.parametrize("addresses", [[NOWHERE, DEAD], [DEAD, NOWHERE], [ip_address("::ffff:ffff:ffff"), DEAD]])
async def test_of_several_failures_a_refusal_tells_most(addresses: list[Address]) -> None:
    """The host that refuses is alive, which says more than one without a way to it."""
    assert await failure(addresses, free_port()) == ("upstream_unreachable", 502, "connection_refused")


async def test_a_process_without_sockets_left_is_overloaded(alive: int) -> None:
    """EMFILE is our own lack and says so, with Retry-After; nothing is blamed on the upstream."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(ProblemError) as failed:
            await first_connected([ALIVE], alive)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (failed.value.problem.code, failed.value.problem.error) == ("overloaded", "connection_limit_reached")
    assert dict(failed.value.problem.headers)["Retry-After"].isdigit()


@pytest.mark.parametrize(
    ("numbers", "code", "error"),
    [
        ([errno.ENETUNREACH, errno.EMFILE, errno.ECONNREFUSED], "overloaded", "connection_limit_reached"),
        ([errno.ENOBUFS], "overloaded", "connection_limit_reached"),
        ([errno.ETIMEDOUT, errno.ECONNREFUSED], "upstream_unreachable", "connection_refused"),
        ([errno.EHOSTUNREACH, errno.ETIMEDOUT], "upstream_timeout", "connection_timeout"),
        ([errno.EHOSTUNREACH], "upstream_unreachable", "destination_unavailable"),
        ([errno.EAFNOSUPPORT, errno.EACCES], "upstream_unreachable", "destination_unavailable"),
    ],
)
def test_failures_are_ranked_by_what_they_tell(numbers: list[int], code: str, error: str) -> None:
    """Our own lack comes first, then a refusal, then a timeout of the kernel, then the rest."""
    problem = connect_problem([OSError(number, "secret text") for number in numbers])
    assert (problem.code, problem.error) == (code, error)
    assert "secret" not in problem.detail


async def test_a_cancelled_connect_leaves_nothing_behind() -> None:
    """All attempts end with it."""
    with Blackhole(str(DEAD)) as one, Blackhole(str(ALIVE), one.port):
        async with nothing_left():
            before = open_sockets()
            connecting = asyncio.create_task(first_connected([DEAD, ALIVE], one.port))
            while len(open_sockets() - before) < 2:
                # Until both attempts are under way.
                await asyncio.sleep(0.005)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
