"""What an exchange makes of an admission: `tests/policy/test_decide.py` has the decisions themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidekey.policy.targets import Forbidden
from sidekey.snapshot.request_rules import Limits, Timeouts
from support.leaves import IssuedLeaves
from support.plane import base_url, denied, get, integration, problem, request
from support.private_ca import Authority
from support.scripted import RecordingTransport, Scripted, settle
from support.tunnels import connect_request
from support.upstream import OK
from support.wire import Message, first_response

H = integration("h", base_url(1))


def answer(caller: RecordingTransport) -> Message:
    """The one response that came since the last."""
    data = caller.take()
    message = first_response(data)
    assert message is not None
    assert message.length == len(data)
    return message


async def test_callers_are_asked_for_their_token_however_well_a_target_is_known() -> None:
    """The quick reading, which knows no callers, does not serve where there are any."""
    sidekey = Scripted(H, tokens={"t": None})
    caller = sidekey.caller()
    for _ in range(3):
        caller.feed(get("/a", "Sidekey-Token: t"))
        upstream = await sidekey.upstream()
        assert upstream.take()
        upstream.feed(OK)
        assert answer(caller).status == 200
        caller.feed(get("/a"))
        said = answer(caller)
        assert (said.status, problem(said)["code"]) == (401, "caller_denied")
        assert upstream.take() == b""


async def test_without_callers_a_plain_target_is_read_quickly() -> None:
    """The second time it is remembered."""
    sidekey = Scripted(H)
    caller = sidekey.caller()
    for known in (0, 1, 1):
        caller.feed(get())
        (await sidekey.upstream()).feed(OK)
        assert answer(caller).status == 200
        assert len(sidekey.plane.router._targets) == known


@pytest.mark.parametrize("path", ["/token:x/y", "/%74oken:x/y", "/token:x", "/TOKEN?a"])
async def test_a_token_endpoint_is_denied_where_a_server_may_cut_the_path(path: str) -> None:
    """However plain the rest of the path is."""
    forbidden = Forbidden(None, "/api/oauth2/token")
    sidekey = Scripted(replace(H, policy=replace(H.policy, forbidden=(forbidden,))))
    caller = sidekey.caller()
    caller.feed(get("/oauth2" + path))
    said = answer(caller)
    assert (said.status, problem(said)["code"]) == (403, "target_denied")


@pytest.mark.parametrize("name", ["h", "nobody"])
async def test_a_denial_names_an_integration_only_where_it_is_the_callers(name: str) -> None:
    """And counts as its outcome, or as one of no integration."""
    sidekey = Scripted(H)
    caller = sidekey.caller()
    caller.feed(denied(name=name))
    said = problem(answer(caller))
    assert said.get("integration") == ("h" if name == "h" else None)
    stats = sidekey.metrics.stats("h") if name == "h" else sidekey.metrics.unknown
    assert stats.outcomes == {said["code"]: 1}


async def test_the_limit_of_requests_in_flight() -> None:
    """Is the most that are under way; a request that is denied, or answered here, is not one too many."""
    sidekey = Scripted(H, limits=Limits(in_flight=1))
    first, second = sidekey.caller(), sidekey.caller()
    first.feed(get())
    upstream = await sidekey.upstream()
    second.feed(denied())
    assert problem(answer(second))["code"] == "target_denied"
    second.feed(request("OPTIONS", "/a", "Max-Forwards: 0"))
    assert answer(second).status == 204
    second.feed(get())
    said = answer(second)
    assert (problem(said)["code"], said.values(b"retry-after")) == ("overloaded", [b"1"])
    upstream.feed(OK)
    second.feed(get())
    upstream.feed(OK)
    assert answer(second).status == 200


@pytest.mark.parametrize(
    ("raw", "closes"),
    [
        (request("OPTIONS", "/a", "Max-Forwards: 0"), False),
        (request("OPTIONS", "/a", "Max-Forwards: 0", body=b"whole"), False),
        (request("OPTIONS", "/a", "Max-Forwards: 0", "Content-Length: 10") + b"part", True),
        (request("OPTIONS", "/a", "Max-Forwards: 0", version="1.0"), True),
        (request("OPTIONS", "/a", "Max-Forwards: 0", "Connection: keep-alive", version="1.0"), True),
        (request("OPTIONS", "/a", "Max-Forwards: 0", "Connection: close"), True),
    ],
)
async def test_a_request_that_may_go_no_further_is_answered_here(raw: bytes, closes: bool) -> None:
    """RFC 9110 7.6.2; the connection goes on where the request was whole."""
    sidekey = Scripted(H)
    caller = sidekey.caller()
    caller.feed(raw)
    said = answer(caller)
    assert (said.status, said.values(b"connection")) == (204, [b"close"] if closes else [])
    assert sidekey.metrics.stats("h").outcomes == {"2xx": 1}
    await settle()
    assert (caller.ended, sidekey.upstreams) == (closes, [])


@pytest.mark.parametrize("seconds", [0.0, 5.0])
async def test_the_total_time_of_an_exchange(seconds: float) -> None:
    """Where there is one; 504, and nothing of the exchange is watched afterwards."""
    sidekey = Scripted(H, timeouts=Timeouts(total=seconds, response=600, idle=600))
    deadlines = sidekey.plane.worker.deadlines
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    deadlines.look(4.9)
    assert caller.take() == b""
    deadlines.look(5.0)
    if not seconds:
        upstream.feed(OK)
        assert answer(caller).status == 200
        return
    assert problem(answer(caller))["code"] == "upstream_timeout"
    assert upstream.aborted
    await settle()
    assert deadlines.watched == {caller.protocol}


@pytest.mark.parametrize(
    ("raw", "closes"),
    [
        (denied(), False),
        (denied("Connection: close"), True),
        (denied(version="1.0"), True),
        (denied("Connection: keep-alive", version="1.0"), True),
        (denied(method="POST", body=b"whole"), False),
        (denied("Content-Length: 10", method="POST") + b"part", True),
        (get("/../x"), True),
        (get("/a%zz"), True),
        (get().replace(b"h.test", b"evil.test"), True),
        (get(name="nobody"), False),
    ],
)
@pytest.mark.parametrize("draining", [False, True])
async def test_a_connection_goes_on_after_a_denial_where_the_next_bytes_are_sure(
    raw: bytes, closes: bool, draining: bool
) -> None:
    """What is invalid, or a browser's, ends it; and so does every response of a drain."""
    sidekey = Scripted(H)
    if draining:
        sidekey.plane.drain()
    caller = sidekey.caller()
    caller.feed(raw)
    assert answer(caller).values(b"connection") == ([b"close"] if closes or draining else [])
    await settle()
    assert caller.ended is (closes or draining)


async def test_a_tunnel_closes_after_a_denial_since_no_host_names_an_integration_any_more(ca: Authority) -> None:
    """Whoever opened it must open another one, and name one."""
    sidekey = Scripted(integration("h", "https://up.test/api"), matching=True, leaves=IssuedLeaves(ca))
    caller = sidekey.caller()
    caller.feed(connect_request("up.test:443", user=""))
    await settle()
    assert caller.take().startswith(b"HTTP/1.1 200 ")
    sidekey.plane.prepare(replace(sidekey.snapshot, matching=None))()
    caller.feed(b"GET /api/a HTTP/1.1\r\nHost: up.test:443\r\n\r\n")
    response = first_response(caller.take())
    assert (response.status, problem(response)["code"]) == (403, "integration_required")
    assert response.values(b"connection") == [b"close"]
