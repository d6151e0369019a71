"""proxy/limits.py: limits of the requests in flight to one origin, or of one integration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sidekey.credentials.base import CredentialTraits, Grant, InjectionPoints
from sidekey.policy.targets import parse_domain
from sidekey.snapshot.request_rules import Limits
from sidekey.snapshot.snapshot import Integration, Snapshot
from support.plane import AUTHORIZATION, base_url, denied, eventually, get, integration, problem
from support.scripted import GatedGrantSource, RecordingTransport, ScriptedPlane, settle
from support.unresolved import UnresolvedIntegration
from support.upstream import OK
from support.wire import Message, first_response

A, A2, B = integration("a", base_url(1)), integration("a2", base_url(1, "/other")), integration("b", base_url(2))
HALF = "one origin has half of limits.in_flight in flight, which is the most that one may have"
OWN = "the integration's own limits.in_flight is reached"
WHOLE = "limits.in_flight is reached"


def limited(limit: int, *integrations: Integration, **options: Any) -> ScriptedPlane:
    """Build a plane with this limit of requests in flight."""
    return ScriptedPlane(*integrations, limits=Limits(in_flight=limit), **options)


def received_response(caller: RecordingTransport) -> Message | None:
    """Return the response, if it has arrived."""
    return first_response(caller.read())


def refusal(sidekey: ScriptedPlane, name: str) -> str | None:
    """Send a request of this integration. Return the limit that refuses it, or None if it is in flight."""
    caller = sidekey.caller()
    caller.feed(get(name=name))
    response = received_response(caller)
    if response is None:
        return None
    document = problem(response)
    assert (response.status, document["code"], document["error"], document["sent"]) == (
        503,
        "overloaded",
        "connection_limit_reached",
        "no",
    )
    assert response.values(b"retry-after") == [b"1"]
    return str(document["detail"])


def publish(sidekey: ScriptedPlane, *integrations: Integration, limit: int | None = None) -> None:
    """Apply a snapshot with these integrations, and another limit."""
    sidekey.plane.prepare(Snapshot({item.id: item for item in integrations}, listen=sidekey.snapshot.listen))()
    if limit is not None:
        sidekey.plane.worker.limit_in_flight(limit)


def fullest(sidekey: ScriptedPlane) -> float:
    """Return the value of the gauge."""
    return max(sidekey.metrics.utilization(), default=0.0)


async def end_all(sidekey: ScriptedPlane) -> None:
    """Answer every request, and check that nothing is counted afterwards."""
    await settle()
    for upstream in sidekey.upstreams:
        if upstream.read():
            upstream.feed(OK)
    await settle()
    assert sidekey.metrics.in_flight == 0
    assert set(sidekey.metrics.utilization()) <= {0.0}, "each request that was counted in must be counted out, once"
    assert sidekey.defects == []


async def test_one_origin_gets_half_of_the_limit() -> None:
    """Rounded up, for all its integrations together. A request that ends makes room."""
    sidekey = limited(5, A, A2, B)
    assert [refusal(sidekey, name) for name in ("a", "a2", "a", "a", "a2")] == [None, None, None, HALF, HALF]
    assert fullest(sidekey) == 1.0
    assert [refusal(sidekey, "b") for _ in range(3)] == [None, None, WHOLE]
    await settle()
    assert [bytes(item.written).split(b"\r\n")[0] for item in sidekey.upstreams] == [
        b"GET /api/a HTTP/1.1",
        b"GET /other/a HTTP/1.1",
        b"GET /api/a HTTP/1.1",
        b"GET /api/a HTTP/1.1",
        b"GET /api/a HTTP/1.1",
    ]
    sidekey.upstreams[0].read()
    sidekey.upstreams[0].feed(OK)
    await settle()
    assert fullest(sidekey) == pytest.approx(2 / 3)
    assert refusal(sidekey, "a2") is None
    await end_all(sidekey)


async def test_a_single_origin_gets_the_whole_limit() -> None:
    sidekey = limited(3, A, A2)
    assert [refusal(sidekey, name) for name in ("a", "a2", "a", "a")] == [None, None, None, WHOLE]
    await end_all(sidekey)


async def test_limit_of_an_integration_replaces_that_of_the_origin() -> None:
    """It may be higher or lower, and its requests do not count against the origin."""
    sidekey = limited(8, replace(A, in_flight=6), replace(A2, in_flight=1), integration("o", base_url(1)), B)
    assert [refusal(sidekey, "a2") for _ in range(2)] == [None, OWN]
    assert [refusal(sidekey, "a") for _ in range(7)] == [None] * 6 + [OWN]
    assert refusal(sidekey, "o") is None
    assert refusal(sidekey, "b") == WHOLE
    await end_all(sidekey)


async def test_gauge_uses_the_limit_of_the_process_if_that_is_lower() -> None:
    sidekey = limited(8, replace(A, in_flight=6), B)
    sidekey.plane.worker.limit_in_flight(2)
    assert [refusal(sidekey, "a") for _ in range(3)] == [None, None, WHOLE]
    assert fullest(sidekey) == 1.0
    await end_all(sidekey)


async def test_a_request_that_is_denied_does_not_count() -> None:
    sidekey = limited(4, A, B)
    caller = sidekey.caller()
    for _ in range(4):
        caller.feed(denied(name="a"))
        response = received_response(caller)
        assert response is not None
        assert response.status == 403
    assert fullest(sidekey) == 0
    assert refusal(sidekey, "a") is None
    await end_all(sidekey)


@pytest.mark.parametrize("end", ["the caller leaves", "the upstream breaks off", "no connection"])
async def test_a_request_is_counted_out_once_however_it_ends(end: str) -> None:
    sidekey = limited(2, A, B)
    for _ in range(3):
        if end == "no connection":
            sidekey.dialer.go.clear()
        caller = sidekey.caller()
        caller.feed(get(name="a"))
        await settle()
        assert refusal(sidekey, "a") == HALF
        if end == "the caller leaves":
            caller.fail(ConnectionResetError())
        elif end == "the upstream breaks off":
            sidekey.upstreams[-1].fail(ConnectionResetError())
        else:
            sidekey.dialer.error = ConnectionRefusedError()
            sidekey.dialer.go.set()
        await eventually(lambda: sidekey.metrics.in_flight == 0)
        assert fullest(sidekey) == 0
        sidekey.dialer.error = None
    sidekey.defects.clear()
    assert refusal(sidekey, "a") is None


async def test_a_request_that_waits_for_its_token_counts() -> None:
    """Such requests pile up while a token endpoint is slow."""
    source = GatedGrantSource()
    sidekey = limited(2, A, B, sources={"a": source})
    assert [refusal(sidekey, name) for name in ("a", "a", "b")] == [None, HALF, None]
    source.go.set()
    await settle()
    await end_all(sidekey)


async def test_a_reload_keeps_the_counts() -> None:
    """Earlier requests still count, and the new limit applies at once."""
    sidekey = limited(4, A, B)
    assert [refusal(sidekey, "a") for _ in range(3)] == [None, None, HALF]
    changed = integration("a", base_url(1), headers=(("X-Key", "new"),))
    publish(sidekey, changed, B)
    assert refusal(sidekey, "a") == HALF
    publish(sidekey, changed, B, limit=6)
    assert [refusal(sidekey, "a") for _ in range(2)] == [None, HALF]
    publish(sidekey, changed, B, limit=2)
    assert refusal(sidekey, "a") == WHOLE
    publish(sidekey, B, limit=4)
    publish(sidekey, A, B)
    assert refusal(sidekey, "a") == HALF
    await end_all(sidekey)
    assert [refusal(sidekey, "a") for _ in range(3)] == [None, None, HALF]
    await end_all(sidekey)


async def test_reload_adds_and_removes_the_limit_of_an_integration() -> None:
    """A request leaves the count that it entered."""
    sidekey = limited(8, replace(A, in_flight=1), B)
    assert [refusal(sidekey, "a") for _ in range(2)] == [None, OWN]
    publish(sidekey, replace(A, in_flight=2), B)
    assert [refusal(sidekey, "a") for _ in range(2)] == [None, OWN]
    publish(sidekey, A, B)
    assert [refusal(sidekey, "a") for _ in range(5)] == [None] * 4 + [HALF]
    publish(sidekey, replace(A, in_flight=3), B)
    assert [refusal(sidekey, "a") for _ in range(2)] == [None, OWN]
    await end_all(sidekey)


async def test_a_second_origin_halves_the_limit_while_it_exists() -> None:
    sidekey = limited(4, A)
    assert [refusal(sidekey, "a") for _ in range(3)] == [None] * 3
    publish(sidekey, A, B)
    assert refusal(sidekey, "a") == HALF
    publish(sidekey, A)
    assert [refusal(sidekey, "a") for _ in range(2)] == [None, WHOLE]
    await end_all(sidekey)


LEARNS = CredentialTraits(InjectionPoints(headers=("Authorization",)), calls=True, discovers_base_url=True)


def learning(name: str) -> Integration:
    """Build an integration whose grant contains a base URL below x.test."""
    configured = integration(name, domains=("https://login.test", "https://*.x.test"), traits=LEARNS)
    return replace(
        configured, policy=replace(configured.policy, placeholder_origin=parse_domain("https://login.test").origin)
    )


async def test_a_request_counts_against_the_origin_in_its_grant() -> None:
    """Until it has its grant, it counts against the host of the login."""
    grants = {name: Grant(headers=AUTHORIZATION, base_url=f"https://{host}.x.test") for name, host in LEARNT.items()}
    sources = {name: GatedGrantSource(grant) for name, grant in grants.items()}
    sidekey = limited(6, *(learning(name) for name in LEARNT), sources=sources)
    assert [refusal(sidekey, name) for name in ("s", "t", "u", "s")] == [None, None, None, HALF]
    for source in sources.values():
        source.go.set()
    await settle()
    assert [refusal(sidekey, name) for name in ("s", "t", "s", "u")] == [None, HALF, HALF, None]
    await end_all(sidekey)


LEARNT = {"s": "one", "t": "one", "u": "two"}
"""The host in the grant of each integration."""


async def test_a_full_origin_refuses_a_request_that_learns_it_from_its_grant() -> None:
    """The request no longer counts against the host of the login."""
    late = GatedGrantSource(Grant(headers=AUTHORIZATION, base_url="https://one.x.test"))
    sources = {"s": GatedGrantSource(late.ready, available=True), "t": late}
    sidekey = limited(4, learning("s"), learning("t"), sources=sources)
    caller = sidekey.caller()
    caller.feed(get(name="t"))
    assert [refusal(sidekey, "s") for _ in range(2)] == [None, None]
    late.go.set()
    await settle()
    response = received_response(caller)
    assert response is not None
    assert problem(response)["detail"] == HALF
    await end_all(sidekey)


async def test_an_unresolved_integration_counts_by_its_id() -> None:
    """Once it is resolved, its origin counts."""
    missing = UnresolvedIntegration(A)
    sidekey = limited(2, missing.integration(), B)
    assert [refusal(sidekey, name) for name in ("a", "a", "b")] == [None, HALF, None]
    missing.resolve()
    await eventually(lambda: len(sidekey.upstreams) == 2)
    await end_all(sidekey)


def passing(host: str) -> bytes:
    """Return a request at the forward proxy that no integration covers."""
    return f"GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


async def test_passthrough_requests_count_by_their_host() -> None:
    """That host is a second origin beside the only one of the integrations."""
    sidekey = limited(6, A, passing=True)
    callers = [sidekey.caller() for _ in range(4)]
    for caller in callers:
        caller.feed(passing("one.test"))
    response = received_response(callers[3])
    assert response is not None
    assert problem(response)["detail"] == HALF
    assert refusal(sidekey, "a") is None
    other = sidekey.caller()
    other.feed(passing("two.test"))
    assert received_response(other) is None
    await end_all(sidekey)


async def test_hosts_without_requests_are_forgotten() -> None:
    """A caller may name any number of hosts."""
    sidekey = limited(9, A, passing=True)
    caller = sidekey.caller()
    for number in range(2_000):
        caller.feed(passing(f"h{number}.test"))
        await settle()
        sidekey.upstreams[-1].feed(OK)
        caller.read()
    assert [*sidekey.metrics.utilization()] == []
