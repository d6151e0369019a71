"""How an exchange gets its grant."""

from __future__ import annotations

import asyncio

import pytest

from sidekey.credentials.base import Grant
from sidekey.errors import Problem, ProblemError
from support.memory import Upstream, running
from support.plane import CREDENTIAL, FixedSource, base_url, get, integration, problem, request
from support.unresolved import Missing


class Asking(FixedSource):
    """A grant source that has to ask; `error` is what comes of that, where it is no grant."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.ready, self.grant = self.grant, None
        self.error = error
        self.asked = 0

    async def obtain(self) -> Grant:
        self.asked += 1
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        assert self.ready is not None
        return self.ready


async def test_a_request_waits_for_its_grant_with_its_body() -> None:
    """A source whose `grant` stays empty serves as well."""
    source = Asking()
    async with Upstream() as upstream:
        async with running(integration("h", base_url(upstream.port)), sources={"h": source}) as sidekey:
            for _ in range(2):
                assert (await sidekey.ask(request("POST", body=b"hello"))).status == 200
        assert [(m.values(b"authorization"), m.body) for m in upstream.requests] == [([CREDENTIAL], b"hello")] * 2
        assert source.asked >= 2


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ProblemError(Problem("credential_unavailable", "token endpoint answered 401")), "credential_unavailable"),
        (OSError(), "internal_error"),
    ],
)
async def test_without_a_grant_nothing_is_sent(error: Exception, code: str) -> None:
    """The response says why; a defect is reported and not told."""
    async with Upstream() as upstream:
        made = integration("h", base_url(upstream.port))
        async with running(made, sources={"h": Asking(error)}) as sidekey:
            said = problem(await sidekey.ask(get()))
            assert said["code"] == code
            assert len(sidekey.defects) == (code == "internal_error")
            sidekey.defects.clear()
        assert upstream.connections == []


@pytest.mark.parametrize("door", ["reverse", "forward"])
async def test_an_integration_whose_policy_cannot_be_read_comes_back_by_itself(door: str) -> None:
    """Until then credential_unavailable, with the key; then targets are judged as ever, bodies and all."""
    async with Upstream() as upstream:
        url = base_url(upstream.port)
        missing = Missing(integration("h", url))
        async with running(missing.integration()) as sidekey:

            def asking(path: str) -> bytes:
                if door == "reverse":
                    return request("POST", path, body=b"hello")
                head = f"POST {url}{path} HTTP/1.1\r\nHost: x\r\nX-Integration-Id: h\r\nContent-Length: 5\r\n\r\n"
                return head.encode() + b"hello"

            said = problem(await sidekey.ask(asking("/a")))
            assert (said["code"], said["detail"]) == (
                "credential_unavailable",
                "endpoint_prefix: the file does not exist",
            )
            missing.appear()
            assert problem(await sidekey.ask(asking("/../x")))["code"] == "request_invalid"
            assert (await sidekey.ask(asking("/a"))).status == 200
        (message,) = upstream.requests
        assert (message.values(b"authorization"), message.body) == ([CREDENTIAL], b"hello")


async def test_an_upload_waits_until_it_is_known_where_it_may_go() -> None:
    """And is sent whole then."""
    async with Upstream() as upstream:
        missing = Missing(integration("h", base_url(upstream.port)))
        missing.appear()
        body = b"x" * 300_000
        async with running(missing.integration()) as sidekey:
            assert (await sidekey.ask(request("PUT", body=body))).status == 200
        assert upstream.requests[0].body == body
