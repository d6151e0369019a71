"""The base of the fakes: the record, the Host rule and the limit."""

from __future__ import annotations

import pytest

from fakes.client import Client
from fakes.server import Answer, Arrived, Host, PerMinute, Platform
from support.ca import Authority

ONE, TWO = "one.example.com", "two.example.com"


def hello(arrived: Arrived) -> Answer:
    """Answers with its host name."""
    return Answer.json(200, {"from": arrived.host})


def platform(ca: Authority) -> Platform:
    """Two hosts."""
    return Platform(ca, Host(ONE, hello), Host(TWO, hello))


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


def test_a_limit_admits_so_many_and_no_more() -> None:
    """It may be raised while it counts."""
    window = PerMinute(2)
    assert [window.admits() for _ in range(3)] == [True, True, False]
    window.limit = 3
    assert window.admits()
