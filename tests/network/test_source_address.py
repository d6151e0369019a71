"""The source address of outgoing connections."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from ipaddress import ip_address

import pytest

from sidekey.errors import ProblemError
from sidekey.network.happy_eyeballs import connect_problem
from sidekey.network.source_address import AbsentSource, NoPort, local_error, require_family
from sidekey.policy.addresses import Address
from sidekey.snapshot.snapshot import NetworkRules
from support import programs
from support.dialling import HOSTS, LOOPBACK, LoopbackDialer, RecordingProtocol, summary
from support.private_ca import Authority
from support.upstream import RawUpstream

FIRST, SECOND = ip_address("127.0.0.2"), ip_address("127.0.0.3")
ABSENT = ip_address("240.0.0.1")
"""Reserved (RFC 1112 4): no machine has it. Networks for documentation are in use on some."""
SIX = ip_address("2001:db8::1")


def leaving(ca: Authority, source: Address | None) -> LoopbackDialer:
    """Build a dialer with this source address in its config."""
    return LoopbackDialer(ca, NetworkRules(hosts=HOSTS, allow_private=LOOPBACK, source_address=source))


async def peer_addresses(dial: LoopbackDialer, url: str, upstream: RawUpstream, *sources: Address | None) -> list[str]:
    """Return the peer address at the server for each source address of an integration."""
    peers_seen = []
    for number, source in enumerate(sources):
        ours = await dial.connect_as(RecordingProtocol, url, upstream.port, source_address=source)
        theirs = await upstream.connection(number)
        peers_seen.append(str(theirs.transport.get_extra_info("peername")[0]))
        ours.transport.abort()
    return peers_seen


@pytest.mark.parametrize("host", ["up.test", "dead-first.test", "127.0.0.1"])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_connection_has_the_configured_source_address(scheme: str, host: str, ca: Authority) -> None:
    """The address of an integration replaces the config's."""
    context = ca.server_context("up.test", "dead-first.test", "127.0.0.1") if scheme == "https" else None
    dial = leaving(ca, FIRST)
    async with RawUpstream(ssl_context=context) as upstream:
        assert await peer_addresses(dial, f"{scheme}://{host}", upstream, None, SECOND) == [str(FIRST), str(SECOND)]


async def test_system_chooses_the_source_address_by_default(ca: Authority) -> None:
    dial = leaving(ca, None)
    async with RawUpstream() as upstream:
        assert await peer_addresses(dial, "http://up.test", upstream, None, FIRST) == ["127.0.0.1", str(FIRST)]


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_missing_source_address_is_reported_with_its_key(scheme: str, ca: Authority) -> None:
    problem = await leaving(ca, ABSENT).failure(f"{scheme}://up.test", 1)
    assert summary(problem) == ("upstream_unreachable", 502, "destination_unavailable")
    assert problem.detail == "source_address is not an address of this machine"


async def test_host_without_an_address_of_the_family_is_unreachable(ca: Authority) -> None:
    """No other source address is used."""
    problem = await leaving(ca, SIX).failure("http://up.test", 1)
    assert summary(problem) == ("upstream_unreachable", 502, "destination_unavailable")
    assert problem.detail == (
        "the target's host has no IPv6 address that may be dialled, and source_address is an IPv6 one"
    )


async def test_forbidden_address_is_denied_before_the_family_is_checked(ca: Authority) -> None:
    problem = await leaving(ca, SIX).failure("http://private.test", 1)
    assert problem.code == "destination_denied"


def test_addresses_of_the_other_family_are_dropped_in_order() -> None:
    mixed = [SIX, FIRST, ip_address("2001:db8::2"), SECOND]
    assert require_family(mixed, ip_address("127.0.0.9")) == [FIRST, SECOND]
    assert require_family(mixed, ip_address("::1")) == [SIX, mixed[2]]
    with pytest.raises(ProblemError):
        require_family([SIX], FIRST)


@pytest.mark.parametrize(
    ("number", "destination", "source", "lacks_port"),
    [
        (errno.EADDRNOTAVAIL, FIRST, None, True),
        (errno.EADDRNOTAVAIL, FIRST, SECOND, True),
        (errno.EADDRNOTAVAIL, SIX, ip_address("::1"), True),
        # A machine without IPv6.
        (errno.EADDRNOTAVAIL, SIX, None, False),
        (errno.ECONNREFUSED, FIRST, SECOND, False),
    ],
)
def test_eaddrnotavail_means_no_port_if_there_is_an_address(
    number: int, destination: Address, source: Address | None, *, lacks_port: bool
) -> None:
    assert isinstance(local_error(OSError(number, "text"), destination, source), NoPort) is lacks_port


def test_local_errors_win_over_errors_of_other_addresses() -> None:
    refused = OSError(errno.ECONNREFUSED, "text")
    lacking = connect_problem([refused, NoPort()])
    assert (lacking.code, lacking.headers) == ("overloaded", (("Retry-After", "1"),))
    assert lacking.detail == "this machine has no local port left for another connection to the upstream"
    assert connect_problem([refused, AbsentSource()]).error == "destination_unavailable"


FILL = """
import asyncio, json, sys
from ipaddress import ip_address
from sidekey.errors import ProblemError
from sidekey.network.happy_eyeballs import first_connected

async def main():
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 5001)
    other = await asyncio.start_server(lambda *_: None, "127.0.0.5", 5002)
    open_ones, errors = [], []
    for source in (ip_address("127.0.0.2"), None):
        for listener in (server, other, server):
            address, port = listener.sockets[0].getsockname()
            while True:
                try:
                    open_ones.append(await first_connected([ip_address(address)], port, source))
                except ProblemError as raised:
                    errors.append([len(open_ones), raised.problem.code, raised.problem.status])
                    break
    print(json.dumps(errors))

asyncio.run(main())
"""


def test_exhausted_ports_of_a_destination_are_overload() -> None:
    """On a machine with four ports, each of two servers gets four connections."""
    unshare, ip = programs.require("unshare"), programs.require("ip")
    script = f'{ip} link set lo up && echo "40000 40003" >/proc/sys/net/ipv4/ip_local_port_range && exec "$@"'
    command = [unshare, "-rn", "sh", "-c", script, "-", sys.executable, "-c", FILL]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if "Operation not permitted" in done.stderr:
        pytest.skip("this system lets no user make a network namespace")
    assert done.returncode == 0, done.stderr
    errors = json.loads(done.stdout)
    assert {tuple(rest) for _, *rest in errors} == {("overloaded", 503)}
    counts = [count for count, *_ in errors]
    assert [counts[0], counts[1] - counts[0], counts[2] - counts[1]] == [4, 4, 0]
