"""Results of admission in an exchange. `tests/policy/test_decide.py` has the decisions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidekey.policy.targets import Forbidden
from sidekey.snapshot.request_rules import Limits, Timeouts
from support.leaves import IssuedLeaves
from support.plane import base_url, denied, get, integration, problem, request
from support.private_ca import Authority
from support.scripted import ScriptedPlane, settle, single_response
from support.tunnels import connect_request
from support.upstream import OK
from support.wire import first_response

H = integration("h", base_url(1))


async def test_known_target_still_requires_the_callers_token() -> None:
    """The fast parser does not know callers."""
    sidekey = ScriptedPlane(H, tokens={"t": None})
    caller = sidekey.caller()
    for _ in range(3):
        caller.feed(get("/a", "Sidekey-Token: t"))
        upstream = await sidekey.upstream()
        assert upstream.read()
        upstream.feed(OK)
        assert single_response(caller).status == 200
        caller.feed(get("/a"))
        response = single_response(caller)
        assert (response.status, problem(response)["code"]) == (401, "caller_denied")
        assert upstream.read() == b""


async def test_without_callers_a_plain_target_uses_the_fast_parser() -> None:
    """The second request finds it in the cache."""
    sidekey = ScriptedPlane(H)
    caller = sidekey.caller()
    for known in (0, 1, 1):
        caller.feed(get())
        (await sidekey.upstream()).feed(OK)
        assert single_response(caller).status == 200
        assert len(sidekey.plane.router._targets) == known


@pytest.mark.parametrize("path", ["/token:x/y", "/%74oken:x/y", "/token:x", "/TOKEN?a"])
async def test_token_endpoint_is_denied_wherever_a_server_may_cut_the_path(path: str) -> None:
    forbidden = Forbidden(None, "/api/oauth2/token")
    sidekey = ScriptedPlane(replace(H, policy=replace(H.policy, forbidden=(forbidden,))))
    caller = sidekey.caller()
    caller.feed(get("/oauth2" + path))
    response = single_response(caller)
    assert (response.status, problem(response)["code"]) == (403, "target_denied")


@pytest.mark.parametrize("name", ["h", "nobody"])
async def test_denial_names_only_integrations_of_the_caller(name: str) -> None:
    """The metrics count it for that integration, or for none."""
    sidekey = ScriptedPlane(H)
    caller = sidekey.caller()
    caller.feed(denied(name=name))
    error = problem(single_response(caller))
    assert error.get("integration") == ("h" if name == "h" else None)
    stats = sidekey.metrics.stats("h") if name == "h" else sidekey.metrics.unknown
    assert stats.outcomes == {error["code"]: 1}


async def test_the_limit_of_requests_in_flight() -> None:
    """Denied requests, and requests that Sidekey answers itself, do not count."""
    sidekey = ScriptedPlane(H, limits=Limits(in_flight=1))
    first, second = sidekey.caller(), sidekey.caller()
    first.feed(get())
    upstream = await sidekey.upstream()
    second.feed(denied())
    assert problem(single_response(second))["code"] == "target_denied"
    second.feed(request("OPTIONS", "/a", "Max-Forwards: 0"))
    assert single_response(second).status == 204
    second.feed(get())
    response = single_response(second)
    assert (problem(response)["code"], response.values(b"retry-after")) == ("overloaded", [b"1"])
    upstream.feed(OK)
    second.feed(get())
    upstream.feed(OK)
    assert single_response(second).status == 200


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
async def test_request_with_max_forwards_0_is_answered_by_sidekey(raw: bytes, closes: bool) -> None:
    """RFC 9110 7.6.2. The connection stays open after a complete request."""
    sidekey = ScriptedPlane(H)
    caller = sidekey.caller()
    caller.feed(raw)
    response = single_response(caller)
    assert (response.status, response.values(b"connection")) == (204, [b"close"] if closes else [])
    assert sidekey.metrics.stats("h").outcomes == {"2xx": 1}
    await settle()
    assert (caller.ended, sidekey.upstreams) == (closes, [])


@pytest.mark.parametrize("seconds", [0.0, 5.0])
async def test_timeouts_total_ends_an_exchange(seconds: float) -> None:
    """504. Afterwards no deadline of the exchange is active."""
    sidekey = ScriptedPlane(H, timeouts=Timeouts(total=seconds, response=600, idle=600))
    deadlines = sidekey.plane.worker.deadlines
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    deadlines.look(4.9)
    assert caller.read() == b""
    deadlines.look(5.0)
    if not seconds:
        upstream.feed(OK)
        assert single_response(caller).status == 200
        return
    assert problem(single_response(caller))["code"] == "upstream_timeout"
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
async def test_connection_stays_open_after_a_denial_of_a_complete_request(
    raw: bytes, closes: bool, draining: bool
) -> None:
    """An invalid request, a browser's request and a drain close it."""
    sidekey = ScriptedPlane(H)
    if draining:
        sidekey.plane.drain()
    caller = sidekey.caller()
    caller.feed(raw)
    assert single_response(caller).values(b"connection") == ([b"close"] if closes or draining else [])
    await settle()
    assert caller.ended is (closes or draining)


async def test_tunnel_closes_after_a_denial_once_hosts_name_no_integration(ca: Authority) -> None:
    """The caller must open a new tunnel and name an integration."""
    sidekey = ScriptedPlane(integration("h", "https://up.test/api"), matching=True, leaves=IssuedLeaves(ca))
    caller = sidekey.caller()
    caller.feed(connect_request("up.test:443", user=""))
    await settle()
    assert caller.read().startswith(b"HTTP/1.1 200 ")
    sidekey.plane.prepare(replace(sidekey.snapshot, matching=None))()
    caller.feed(b"GET /api/a HTTP/1.1\r\nHost: up.test:443\r\n\r\n")
    response = first_response(caller.read())
    assert (response.status, problem(response)["code"]) == (403, "integration_required")
    assert response.values(b"connection") == [b"close"]
