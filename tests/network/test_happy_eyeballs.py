"""TCP to the first of several addresses that accepts (RFC 8305)."""

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
from support.leak_check import assert_no_leaks, open_sockets
from support.ports import free_port

DISCARD = ip_address("255.255.255.255")
"""TCP to the broadcast address fails at once everywhere, as an unreachable network does."""
DEAD, ALIVE = ip_address("127.0.0.2"), ip_address("127.0.0.3")


@pytest.fixture
def alive() -> Iterator[int]:
    """Yield the port of a listener on ALIVE only."""
    with socket.create_server((str(ALIVE), 0)) as listener:
        yield listener.getsockname()[1]


async def peer_of(addresses: list[Address], port: int) -> str:
    """Return the connected address, and close the connection."""
    async with assert_no_leaks():
        with await first_connected(addresses, port) as connection:
            assert not connection.getblocking()
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            return str(connection.getpeername()[0])


async def failure(addresses: list[Address], port: int) -> tuple[str, int, str]:
    """Return code, status and error of the failure of all addresses."""
    async with assert_no_leaks():
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
def test_families_alternate_starting_with_the_first(given: str, tried: str) -> None:
    """RFC 8305 4. The order within a family stays."""

    def addresses(names: str) -> list[Address]:
        return [ip_address(f"::{name[1]}" if name[0] == "6" else f"10.0.0.{ord(name[1])}") for name in names.split()]

    assert interleave(addresses(given)) == addresses(tried)


async def test_single_address_is_connected(alive: int) -> None:
    assert await peer_of([ALIVE], alive) == str(ALIVE)


async def test_next_attempt_follows_a_refusal_at_once(alive: int) -> None:
    assert await peer_of([DEAD, ALIVE], alive) == str(ALIVE)


async def test_second_attempt_overtakes_a_silent_address() -> None:
    """The socket of the first attempt is closed."""
    with Blackhole(str(DEAD)) as hole, socket.create_server((str(ALIVE), hole.port)):
        assert await peer_of([DEAD, ALIVE], hole.port) == str(ALIVE)


async def test_ipv6_address_is_connected() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        assert await peer_of([ip_address("::1")], listener.getsockname()[1]) == "::1"


async def test_refused_connection_is_connection_refused() -> None:
    assert await failure([DEAD], free_port()) == ("upstream_unreachable", 502, "connection_refused")


async def test_unreachable_network_is_destination_unavailable() -> None:
    assert await failure([DISCARD], 9) == ("upstream_unreachable", 502, "destination_unavailable")


@pytest.mark.parametrize("addresses", [[DISCARD, DEAD], [DEAD, DISCARD], [ip_address("::ffff:ffff:ffff"), DEAD]])
async def test_refusal_wins_over_an_unreachable_network(addresses: list[Address]) -> None:
    """The host that refuses is up."""
    assert await failure(addresses, free_port()) == ("upstream_unreachable", 502, "connection_refused")


async def test_process_without_sockets_is_overloaded(alive: int) -> None:
    """EMFILE has Retry-After, and does not blame the upstream."""
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
def test_errors_are_ranked_by_how_specific_they_are(numbers: list[int], code: str, error: str) -> None:
    """Local resources, then a refusal, then a timeout of the kernel, then the rest."""
    problem = connect_problem([OSError(number, "secret text") for number in numbers])
    assert (problem.code, problem.error) == (code, error)
    assert "secret" not in problem.detail


async def test_cancelled_connect_leaves_no_socket_open() -> None:
    with Blackhole(str(DEAD)) as one, Blackhole(str(ALIVE), one.port):
        async with assert_no_leaks():
            before = open_sockets()
            connecting = asyncio.create_task(first_connected([DEAD, ALIVE], one.port))
            while len(open_sockets() - before) < 2:
                # Until both attempts are under way.
                await asyncio.sleep(0.005)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
