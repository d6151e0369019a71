"""What is told of the response to a test request: a status, and codes of Sidekey's own. More: test_test_command.py."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from sidekey.probe import Outcome, probe
from sidekey.runtime.rules import Limits
from sidekey.runtime.snapshot import TestRequest as Request
from support.plane import base_url, integration, running
from support.raw import DEADLINE, RawConnection
from support.upstream import RawUpstream, answering


async def silent(connection: RawConnection) -> None:
    """Take a request, and never respond."""
    await connection.request()


ECHO = b"HTTP/1.1 %d canary-phrase\r\nX-Canary: canary\r\nContent-Length: 6\r\n\r\ncanary"


@pytest.mark.parametrize("status", [200, 204, 302, 404, 500, 599])
async def test_only_the_status_of_an_upstream_is_told(status: int) -> None:
    """No phrase, header or body of it; and only 200 is success."""
    response = ECHO % status if status != 204 else b"HTTP/1.1 204 canary\r\n\r\n"
    async with (
        RawUpstream(answering(response)) as upstream,
        running(integration("h", base_url(upstream.port))) as plane,
    ):
        outcome = await probe(plane.plane, "h", Request("GET", "/a"))
    assert (outcome.status, outcome.ok, outcome.code) == (status, status == 200, None)
    assert "canary" not in str(outcome) + str(outcome.as_json())


async def test_an_interim_response_is_not_the_outcome() -> None:
    """What comes before it says nothing of the test (RFC 9110 15.2)."""
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ECHO % 200
    async with (
        RawUpstream(answering(hints)) as upstream,
        running(integration("h", base_url(upstream.port))) as plane,
    ):
        assert (await probe(plane.plane, "h", Request())).status == 200


async def test_a_head_may_be_as_long_as_the_config_allows() -> None:
    """One line of it, too."""
    response = b"HTTP/1.1 200 OK\r\nX-Long: %s\r\nContent-Length: 0\r\n\r\n" % (b"x" * 200_000)
    async with (
        RawUpstream(answering(response)) as upstream,
        running(integration("h", base_url(upstream.port)), limits=Limits(response_head=256 << 10)) as plane,
    ):
        assert (await probe(plane.plane, "h", Request())).ok


async def test_tests_that_wait_for_their_upstreams_hold_no_thread() -> None:
    """There are few threads, and scrapes and certificates need them."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    async with (
        RawUpstream(silent) as upstream,
        running(integration("h", base_url(upstream.port))) as plane,
    ):
        waiting = [asyncio.create_task(probe(plane.plane, "h", Request())) for _ in range(3)]
        await upstream.connection(2)
        async with asyncio.timeout(DEADLINE):
            assert await asyncio.to_thread(lambda: "free") == "free"
        for each in waiting:
            each.cancel()
        await asyncio.wait(waiting)


async def test_a_refusal_of_our_own_is_told_by_its_code() -> None:
    """To HEAD as well, which has no body to read it from."""
    async with running(integration("h", "https://up.test/api")) as plane:
        outcome = await probe(plane.plane, "h", Request("HEAD", "/../x"))
        assert (outcome.status, outcome.code) == (403, "sidekey")
        assert "http_request_denied" in outcome.reason


def test_an_outcome_for_people_says_what_happened() -> None:
    """In a line, and a note below it."""
    assert str(Outcome("GET /i/a", 200, None, "OK", "a note")) == "ok: GET /i/a: 200 OK\nnote: a note"
    assert str(Outcome("GET /i/a", 0, None, "gone")) == "failed: GET /i/a: gone"
