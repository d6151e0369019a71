"""Answers of Sidekey's own as bytes (RFC 9457, RFC 9209)."""

from __future__ import annotations

import json
from http import HTTPStatus

import pytest

from sidekey.dataplane.downstream import local_reply
from sidekey.errors import KINDS, Problem
from support import wire
from support.denials import denial_of
from support.memory import Upstream, running
from support.plane import base_url, denied, get, integration, problem

VIA = b"\r\nVia: 1.1 sidekey (word)"
PROBLEMS = [
    pytest.param(
        Problem(kind.code, "why", status=status, error=error, denial=denial_of(kind.code)),
        id=f"{kind.code} {status} {error}",
    )
    for kind in KINDS.values()
    for status in kind.statuses
    for error in kind.errors
]


def serialised(refusal: Problem, *, integration: str | None = None, close: bool = False, head: bool = False) -> bytes:
    """The bytes of a problem."""
    return local_reply.local_reply(
        refusal,
        request_id=b"w-1f",
        integration=integration,
        sent=refusal.sent,
        close=close,
        head=head,
        via=VIA,
    )


@pytest.mark.parametrize("refusal", PROBLEMS)
def test_every_response_has_its_code_status_and_proxy_status(refusal: Problem) -> None:
    """The table of errors, one by one, as a complete and clean answer."""
    written = serialised(refusal)
    phrase = HTTPStatus(refusal.status).phrase.encode()
    assert written.startswith(b"HTTP/1.1 %d %b\r\nContent-Type: " % (refusal.status, phrase))
    message = wire.first_response(written)
    assert message is not None
    assert message.status == refusal.status
    assert problem(message)["code"] == refusal.code
    assert problem(message)["error"] == refusal.error
    assert problem(message)["detail"] == "why"
    assert message.values(b"cache-control") == [b"no-store"]
    assert message.values(b"via") == [b"1.1 sidekey (word)"]


def test_the_integration_is_named_where_the_caller_knows_it() -> None:
    """And the member is absent where it is not known."""
    refusal = Problem("target_denied", "why", denial="outside_prefix")
    assert b'"integration": "crm"' in serialised(refusal, integration="crm")
    assert b"integration" not in serialised(refusal).partition(b"\r\n\r\n")[2].replace(refusal.title.encode(), b"")


def test_a_response_to_head_is_its_head_alone() -> None:
    """RFC 9110 9.3.2: the same fields, and no body."""
    refusal = Problem("target_denied", "why", denial="outside_prefix")
    head, _, body = serialised(refusal).partition(b"\r\n\r\n")
    assert serialised(refusal, head=True) == head + b"\r\n\r\n"
    assert json.loads(body)["status"] == 403


def test_the_end_of_the_connection_is_announced() -> None:
    """RFC 9112 9.6."""
    message = wire.first_response(serialised(Problem("request_invalid", "why"), close=True))
    assert message is not None
    assert message.values(b"connection") == [b"close"]


def test_headers_of_the_problem_are_sent() -> None:
    """Allow, a challenge or Retry-After."""
    message = wire.first_response(serialised(Problem("overloaded", "why", headers=(("Retry-After", "1"),))))
    assert message is not None
    assert message.values(b"retry-after") == [b"1"]


async def test_a_denied_head_request_leaves_its_connection_in_step() -> None:
    """The next response begins where the head ended."""
    async with (
        Upstream() as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(denied(method="HEAD") + get())
        assert (await caller.response(to_head=True)).status == 403
        assert (await caller.response()).body == b"ok"


async def test_a_denial_leaves_the_connection_open_only_where_its_body_was_read() -> None:
    """A denied upload that is not whole cannot be told from a next request."""
    async with running(integration("h", base_url(1))) as sidekey, sidekey.connect() as caller:
        await caller.send(denied(method="POST", body=b"whole"))
        assert (await caller.response()).values(b"connection") == []
        await caller.send(denied("Content-Length: 10", method="POST") + b"part")
        assert (await caller.response()).values(b"connection") == [b"close"]
        await caller.until_ended()


async def test_only_our_own_responses_carry_proxy_status() -> None:
    """An upstream's own is removed."""

    async with Upstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        assert (await sidekey.ask(get())).values(b"proxy-status") == []
