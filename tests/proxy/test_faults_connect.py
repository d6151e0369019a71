"""The connect rows of tests/cases/faults.tsv."""

from __future__ import annotations

import socket
import threading
from contextlib import nullcontext
from ipaddress import ip_address

import pytest

from sidekey.policy.addresses import Address
from sidekey.snapshot.request_rules import Timeouts
from support.blackhole import Blackhole
from support.plane import LOOPBACK, UPSTREAM, base_url, get, integration, problem, request, running
from support.ports import free_port
from support.upstream import RawUpstream

PATIENCE = Timeouts(connect=0.4, total=60)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_refused_connection_is_upstream_unreachable(method: str) -> None:
    """502 without an attempt. The response has neither secret nor address."""
    async with running(integration("h", base_url(free_port()))) as sidekey:
        response = await sidekey.send(request(method, body=b"x" if method == "POST" else None))
        error = problem(response)
        assert (response.status, error["code"], error["error"], error["sent"]) == (
            502,
            "upstream_unreachable",
            "connection_refused",
            "no",
        )
        assert sidekey.metrics.stats("h").connects == {"connection_refused": 1}


async def test_a_blackhole_ends_at_the_connect_timeout() -> None:
    """504 at timeouts.connect, before timeouts.total. The slot is free again."""
    with Blackhole("127.0.0.1") as hole:
        async with running(integration("h", base_url(hole.port)), timeouts=PATIENCE) as sidekey:
            error = problem(await sidekey.send(get()))
            assert (error["status"], error["code"], error["error"]) == (504, "upstream_timeout", "connection_timeout")
            assert sidekey.metrics.in_flight == sidekey.metrics.upstream_connecting == 0


@pytest.mark.parametrize(("failure", "status"), [(socket.EAI_NONAME, 502), (socket.EAI_AGAIN, 502)])
async def test_a_failing_lookup_is_upstream_unreachable(failure: int, status: int) -> None:
    """The response reports DNS. Sidekey queries the name once, without a search domain."""
    asked: list[str] = []

    def lookup(name: str) -> tuple[Address, ...]:
        asked.append(name)
        raise socket.gaierror(failure, "text of a library")

    async with running(integration("h", "http://absent.test/api"), lookup=lookup) as sidekey:
        error = problem(await sidekey.send(get()))
    assert (error["status"], error["code"], error["error"]) == (status, "upstream_unreachable", "dns_error")
    assert "library" not in error["detail"]
    assert asked == ["absent.test."]


async def test_a_hanging_lookup_ends_at_the_connect_timeout() -> None:
    """504 dns_timeout."""
    end = threading.Event()

    def lookup(name: str) -> tuple[Address, ...]:
        end.wait()
        return (ip_address("127.0.0.1"),)

    try:
        async with running(integration("h", "http://slow.test/api"), lookup=lookup, timeouts=PATIENCE) as sidekey:
            error = problem(await sidekey.send(get()))
            assert (error["status"], error["code"], error["error"]) == (504, "upstream_unreachable", "dns_timeout")
    finally:
        end.set()


@pytest.mark.parametrize("dead", ["refusing", "silent"])
async def test_second_address_serves_if_the_first_is_dead(dead: str) -> None:
    """With a refusing and with a silent first address."""
    async with RawUpstream() as upstream:
        hosts = {UPSTREAM: ("127.0.0.2", "127.0.0.1")}
        with Blackhole("127.0.0.2", upstream.port) if dead == "silent" else nullcontext():
            async with running(integration("h", base_url(upstream.port)), hosts=hosts) as sidekey:
                assert (await sidekey.send(get())).status == 200
        assert [message.target for message in upstream.requests] == [b"/api/a"]


async def test_a_denied_address_is_destination_denied() -> None:
    """Sidekey sends nothing. Only the rules of the integration apply."""
    async with RawUpstream() as upstream:
        denied = integration("h", base_url(upstream.port))
        allowed = integration("o", base_url(upstream.port), allow_private=LOOPBACK)
        async with running(denied, allowed, allow_private=()) as sidekey:
            assert (await sidekey.send(get(name="o"))).status == 200
            error = problem(await sidekey.send(get()))
        assert (error["status"], error["code"], error["error"]) == (
            403,
            "destination_denied",
            "destination_ip_prohibited",
        )
        assert len(upstream.requests) == 1


async def test_listener_of_sidekey_is_refused_as_upstream() -> None:
    port = free_port()
    async with running(integration("h", base_url(port)), port=port) as sidekey:
        error = problem(await sidekey.send(get()))
    assert error["code"] == "destination_denied"
