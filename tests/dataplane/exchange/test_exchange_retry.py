"""Sending a second time, where the grant has changed meanwhile: nothing leaves with one that was replaced."""

from __future__ import annotations

import threading
from ipaddress import IPv4Address

import pytest

from sidekey.credentials.base import Grant, Places, Traits
from sidekey.runtime.rules import Limits
from support.memory import Upstream, running
from support.plane import FixedSource, base_url, eventually, integration, problem, request
from support.raw import DEADLINE, RawConnection
from support.upstream import OK

TRAITS = Traits(Places(headers=("Authorization",)), calls=True, watched=frozenset({401}))
OLD, NEW = (Grant(headers=(("Authorization", f"Bearer {word}"),)) for word in ("old", "new"))


class Lapsing(FixedSource):
    """A grant source whose grant lapses when the test says so; the next is NEW."""

    def __init__(self) -> None:
        super().__init__(OLD)
        self.asked = 0

    async def obtain(self) -> Grant:
        self.asked += 1
        self.grant = NEW
        return NEW


@pytest.mark.parametrize("lapse", [True, False])
async def test_a_grant_that_lapses_while_a_connection_is_made_is_not_sent(lapse: bool) -> None:
    """The exchange takes the one that holds by then, and the connection that was made."""
    source, found = Lapsing(), threading.Event()

    def lookup(_: str) -> tuple[IPv4Address]:
        assert found.wait(DEADLINE)
        return (IPv4Address("127.0.0.1"),)

    async with Upstream() as upstream:
        made = integration("h", base_url(upstream.port), traits=TRAITS)
        options = {"sources": {"h": source}, "hosts": {"other.test": ("127.0.0.1",)}, "lookup": lookup}
        async with running(made, **options) as sidekey, sidekey.connect() as caller:
            await caller.send(request("POST", body=b"hello"))
            await eventually(lambda: sidekey.metrics.upstream_connecting == 1)
            source.grant = None if lapse else NEW
            found.set()
            assert (await caller.response()).status == 200
        (message,) = upstream.requests
        assert (message.values(b"authorization"), message.body) == ([b"Bearer new"], b"hello")
        assert (source.asked, len(upstream.connections)) == (int(lapse), 1)


@pytest.mark.parametrize("kept", [True, False])
async def test_a_retry_on_a_new_connection_holds_the_newer_grant(kept: bool) -> None:
    """Written again where its body was kept; where it was not, the loss of the connection is told."""
    source = Lapsing()
    opened = 0

    async def script(connection: RawConnection) -> None:
        nonlocal opened
        opened += 1
        if opened == 1:
            await connection.request()
            await connection.send(OK)
            await connection.request()
            source.grant = NEW
            connection.transport.close()
            return
        await connection.request()
        await connection.send(OK)

    async with Upstream(script) as upstream:
        made = integration("h", base_url(upstream.port), traits=TRAITS)
        limits = Limits() if kept else Limits(replay_body=4)
        async with running(made, sources={"h": source}, limits=limits) as sidekey, sidekey.connect() as caller:
            await caller.send(request("PUT", body=b""))
            assert (await caller.response()).status == 200
            await caller.send(request("PUT", body=b"hello"))
            answer = await caller.response()
        if kept:
            assert answer.status == 200
            assert [message.values(b"authorization") for message in upstream.requests] == [
                [b"Bearer old"],
                [b"Bearer old"],
                [b"Bearer new"],
            ]
            assert upstream.requests[2].body == b"hello"
        else:
            said = problem(answer)
            assert (said["code"], said["error"], said["sent"]) == (
                "upstream_protocol_error",
                "connection_terminated",
                "maybe",
            )
            assert said["detail"] == "the upstream closed the connection before it responded"
            assert len(upstream.requests) == 2
