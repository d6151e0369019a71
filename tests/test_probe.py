"""What is told of the response to a test request: a status, and codes of Sidekey's own. More: test_test_command.py."""

from __future__ import annotations

import pytest

from sidekey.probe import Outcome, probe
from sidekey.runtime.snapshot import TestRequest as Request
from support.plane import base_url, integration, running
from support.upstream import RawUpstream, answering

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
