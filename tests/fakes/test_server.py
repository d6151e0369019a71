"""The base of the fakes: addresses, the record, the Host rule and the switches."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import ClientConnectionError

from fakes import server
from fakes.client import Client
from fakes.server import Answer, Arrived, Host, PerMinute, Platform
from support import peers
from support.ca import Authority

ONE, TWO = "one.example.com", "two.example.com"


def hello(arrived: Arrived) -> Answer:
    """Answers with its host name."""
    return Answer.json(200, {"from": arrived.host})


def platform(ca: Authority) -> Platform:
    """Two hosts."""
    return Platform(ca, Host(ONE, hello), Host(TWO, hello))


async def test_each_host_listens_on_port_443_of_an_address_of_its_own(ca: Authority) -> None:
    """`hosts` says where, in the form of network.hosts; TLS is for the host's name."""
    async with platform(ca) as fake, Client(ca, *fake._hosts) as client:
        assert [(await client.get(f"https://{name}/")).body for name in (ONE, TWO)] == [{"from": ONE}, {"from": TWO}]
        addresses = [address for (address,) in fake.hosts.values()]
    assert len(set(addresses)) == 2
    assert all(address.startswith("127.") for address in addresses)


async def test_two_platforms_listen_at_the_same_time(ca: Authority) -> None:
    """No address is handed out twice."""
    async with platform(ca) as first, platform(ca) as second:
        assert first.hosts.keys() == second.hosts.keys()
        assert {*map(tuple, first.hosts.values())}.isdisjoint(map(tuple, second.hosts.values()))


def test_other_processes_take_other_addresses() -> None:
    """Workers that run in parallel do not meet."""
    code = "import itertools; from fakes import server; print(*itertools.islice(server.addresses(), 254))"
    folder = Path(__file__).parents[1]
    children = [
        subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    mine = set(itertools.islice(server.addresses(), 254))
    sets = [mine, *(set(child.stdout.split()) for child in children)]
    assert len(set.union(*sets)) == 3 * 254


@pytest.mark.parametrize("required", ["0", "1"])
async def test_without_port_443_a_test_is_skipped_or_fails(
    required: str, ca: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address that no machine has stands for a user who may not listen."""
    monkeypatch.setattr(server, "_addresses", iter(["203.0.113.1"]))
    monkeypatch.setenv(peers.STRICT, required)
    outcome = pytest.fail.Exception if required == "1" else pytest.skip.Exception
    with pytest.raises(outcome, match=r"^peer port-443 is missing: "):
        await Host(ONE, hello).open(ca)


async def test_what_arrives_is_recorded_as_it_was_sent(ca: Authority) -> None:
    """Method, path and query undecoded, names in their case and order, the body's bytes."""
    async with platform(ca) as fake, Client(ca, *fake._hosts) as client:
        await client.form(f"https://{ONE}/a%2Fb", {"x": "ü 1"}, "Basic YTpi")
    (arrived,) = fake.received
    assert (arrived.host, arrived.method, arrived.path, arrived.query) == (ONE, "POST", "/a%2Fb", "")
    assert arrived.body == b"x=%C3%BC+1"
    assert arrived.headers[0] == (b"Host", ONE.encode())
    assert (b"Authorization", b"Basic YTpi") in arrived.headers
    assert arrived.values("authorization") == ["Basic YTpi"]
    assert arrived.media_type == "application/x-www-form-urlencoded"


@pytest.mark.parametrize("host", [TWO, "127.0.0.1", f"{ONE}:8443", f"{ONE}."])
async def test_another_host_header_is_misdirected(host: str, ca: Authority) -> None:
    """421: a host answers to its own name alone."""
    async with platform(ca) as fake, Client(ca, *fake._hosts) as client:
        assert (await client.get(f"https://{ONE}/", Host=host)).status == 421


async def test_failures_are_answered_in_the_order_they_were_ordered(ca: Authority) -> None:
    """`fail_next` is for one request each."""
    host = Host(ONE, hello)
    async with Platform(ca, host), Client(ca, host) as client:
        host.fail_next(503, {"Retry-After": "7"}, b'"later"')
        host.fail_next(302, {"Location": f"https://{TWO}/"})
        replies = [await client.get(f"https://{ONE}/") for _ in range(3)]
    assert [reply.status for reply in replies] == [503, 302, 200]
    assert (replies[0].headers["Retry-After"], replies[0].body) == ("7", "later")


async def test_the_switches_can_be_for_one_path(ca: Authority) -> None:
    """Where token endpoint and API share a host."""
    host = Host(ONE, hello, switched="/token")
    async with Platform(ca, host), Client(ca, host) as client:
        host.fail_next(503)
        replies = [await client.get(f"https://{ONE}/{path}") for path in ("api", "token", "token")]
    assert [reply.status for reply in replies] == [200, 503, 200]


async def test_a_delayed_request_is_recorded_before_it_is_answered(ca: Authority) -> None:
    """The answer waits for the event."""
    host = Host(ONE, hello)
    async with Platform(ca, host), Client(ca, host) as client:
        host.delay = asyncio.Event()
        asking = asyncio.create_task(client.get(f"https://{ONE}/"))
        async with asyncio.timeout(15):
            while not host.received:
                await asyncio.sleep(0)
        assert not asking.done()
        host.delay.set()
        assert (await asking).status == 200


async def test_a_closed_host_comes_back_on_the_same_address(ca: Authority) -> None:
    """Unreachable: connections are refused, open ones are cut, and later all is as before."""
    host = Host(ONE, hello)
    async with Platform(ca, host), Client(ca, host) as client:
        assert (await client.get(f"https://{ONE}/")).status == 200
        host.delay = asyncio.Event()
        asking = asyncio.create_task(client.form(f"https://{ONE}/", {}))
        async with asyncio.timeout(15):
            while len(host.received) < 2:
                await asyncio.sleep(0)
        await host.close()
        with pytest.raises(ClientConnectionError):
            await asking
        with pytest.raises(ClientConnectionError):
            await client.get(f"https://{ONE}/")
        host.delay = None
        await host.open()
        assert (await client.get(f"https://{ONE}/")).status == 200
        assert len(host.received) == 3


def test_a_limit_admits_so_many_and_no_more() -> None:
    """It may be raised while it counts."""
    window = PerMinute(2)
    assert [window.admits() for _ in range(3)] == [True, True, False]
    window.limit = 3
    assert window.admits()
