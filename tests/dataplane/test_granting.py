"""How an exchange gets its grant."""

from __future__ import annotations

import asyncio

import pytest

from sidekey.credentials.base import Grant
from sidekey.errors import Problem
from support.plane import CREDENTIAL, FixedSource, base_url, get, integration, problem, request, running
from support.upstream import RawUpstream


class Asking(FixedSource):
    """A grant source that has to ask; `fault` is what comes of that, where it is no grant."""

    def __init__(self, fault: Exception | None = None) -> None:
        super().__init__()
        self.ready, self.grant = self.grant, None
        self.fault = fault
        self.asked = 0

    async def obtain(self) -> Grant:
        self.asked += 1
        await asyncio.sleep(0)
        if self.fault is not None:
            raise self.fault
        assert self.ready is not None
        return self.ready


async def test_a_request_waits_for_its_grant_with_its_body() -> None:
    """A source whose `grant` stays empty serves as well."""
    source = Asking()
    async with RawUpstream() as upstream:
        async with running(integration("h", base_url(upstream.port)), sources={"h": source}) as sidekey:
            for _ in range(2):
                assert (await sidekey.ask(request("POST", body=b"hello"))).status == 200
        assert [(m.values(b"authorization"), m.body) for m in upstream.requests] == [([CREDENTIAL], b"hello")] * 2
        assert source.asked >= 2


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Problem("credential_unavailable", "token endpoint answered 401"), "credential_unavailable"),
        (OSError(), "internal_error"),
    ],
)
async def test_without_a_grant_nothing_is_sent(fault: Exception, code: str) -> None:
    """The answer says why; a defect is reported and not told."""
    async with RawUpstream() as upstream:
        made = integration("h", base_url(upstream.port))
        async with running(made, sources={"h": Asking(fault)}) as sidekey:
            said = problem(await sidekey.ask(get()))
            assert said["code"] == code
            assert len(sidekey.defects) == (code == "internal_error")
            sidekey.defects.clear()
        assert upstream.connections == []
