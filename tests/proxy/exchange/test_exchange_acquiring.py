"""Exchanges that wait for a grant or for an unresolved integration."""

from __future__ import annotations

import asyncio

import pytest

from sidekey.credentials.base import Grant
from support.memory import MemoryUpstream, running
from support.plane import CREDENTIAL, FixedSource, base_url, integration, problem, request
from support.unresolved import UnresolvedIntegration


class FetchingSource(FixedSource):
    """A grant source that fetches each grant."""

    def __init__(self) -> None:
        super().__init__()
        self.ready, self.grant = self.grant, None
        self.calls = 0

    async def obtain(self) -> Grant:
        self.calls += 1
        await asyncio.sleep(0)
        assert self.ready is not None
        return self.ready


async def test_a_request_waits_for_its_grant_with_its_body() -> None:
    """Also with a source that never sets `grant`."""
    source = FetchingSource()
    async with MemoryUpstream() as upstream:
        async with running(integration("h", base_url(upstream.port)), sources={"h": source}) as sidekey:
            for _ in range(2):
                assert (await sidekey.send(request("POST", body=b"hello"))).status == 200
        assert [(m.values(b"authorization"), m.body) for m in upstream.requests] == [([CREDENTIAL], b"hello")] * 2
        assert source.calls >= 2


@pytest.mark.parametrize("door", ["reverse", "forward"])
async def test_unresolved_integration_serves_once_it_is_readable(door: str) -> None:
    """Until then, 502 credential_unavailable with the name of the key."""
    async with MemoryUpstream() as upstream:
        url = base_url(upstream.port)
        missing = UnresolvedIntegration(integration("h", url))
        async with running(missing.integration()) as sidekey:

            def asking(path: str) -> bytes:
                if door == "reverse":
                    return request("POST", path, body=b"hello")
                head = f"POST {url}{path} HTTP/1.1\r\nHost: x\r\nX-Integration-Id: h\r\nContent-Length: 5\r\n\r\n"
                return head.encode() + b"hello"

            error = problem(await sidekey.send(asking("/a")))
            assert (error["code"], error["detail"]) == (
                "credential_unavailable",
                "endpoint_prefix: the file does not exist",
            )
            missing.resolve()
            assert problem(await sidekey.send(asking("/../x")))["code"] == "request_invalid"
            assert (await sidekey.send(asking("/a"))).status == 200
        (message,) = upstream.requests
        assert (message.values(b"authorization"), message.body) == ([CREDENTIAL], b"hello")


async def test_upload_waits_until_its_integration_is_resolved() -> None:
    async with MemoryUpstream() as upstream:
        missing = UnresolvedIntegration(integration("h", base_url(upstream.port)))
        missing.resolve()
        body = b"x" * 300_000
        async with running(missing.integration()) as sidekey:
            assert (await sidekey.send(request("PUT", body=body))).status == 200
        assert upstream.requests[0].body == body
