"""How much of the room for requests in flight one origin takes, and how long that is remembered."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sidekey.core.policy import parse_domain
from sidekey.credentials.base import Grant, Places, Traits
from sidekey.runtime.rules import Limits
from sidekey.runtime.snapshot import Integration, Snapshot
from support.missing import Missing
from support.plane import AUTHORIZATION, base_url, denied, eventually, get, integration, problem
from support.scripted import Awaited, RecordingTransport, Scripted, settle
from support.upstream import OK
from support.wire import Message, first_response

A, A2, B = integration("a", base_url(1)), integration("a2", base_url(1, "/other")), integration("b", base_url(2))
HALF = "one origin has half of limits.in_flight in flight, which is the most that one may have"
OWN = "the integration's own limits.in_flight is reached"
WHOLE = "limits.in_flight is reached"


def limited(most: int, *integrations: Integration, **given: Any) -> Scripted:
    """A plane with so much room for requests in flight."""
    return Scripted(*integrations, limits=Limits(in_flight=most), **given)


def answer(caller: RecordingTransport) -> Message | None:
    """What came, if anything."""
    return first_response(caller.take())


def refusal(sidekey: Scripted, name: str) -> str | None:
    """Which limit keeps a request of this integration out; None where it is under way."""
    caller = sidekey.caller()
    caller.feed(get(name=name))
    said = answer(caller)
    if said is None:
        return None
    told = problem(said)
    assert (said.status, told["code"], told["error"], told["sent"]) == (
        503,
        "overloaded",
        "connection_limit_reached",
        "no",
    )
    assert said.values(b"retry-after") == [b"1"]
    return str(told["detail"])


def publish(sidekey: Scripted, *integrations: Integration, most: int | None = None) -> None:
    """Put other integrations in use, and another limit."""
    sidekey.plane.prepare(Snapshot({each.id: each for each in integrations}, listen=sidekey.snapshot.listen))()
    if most is not None:
        sidekey.plane.worker.limit_in_flight(most)


def fullest(sidekey: Scripted) -> float:
    """What the gauge says."""
    return max(sidekey.metrics.fullness(), default=0.0)


async def end_all(sidekey: Scripted) -> None:
    """Let every request be answered by its upstream, or lose it; then nothing counts any more."""
    await settle()
    for upstream in sidekey.upstreams:
        if upstream.take():
            upstream.feed(OK)
    await settle()
    assert sidekey.metrics.in_flight == 0
    assert set(sidekey.metrics.fullness()) <= {0.0}, "whatever was counted in is counted out, and once"
    assert sidekey.defects == []


async def test_one_origin_has_half_of_the_room() -> None:
    """Rounded up, by whatever integration; the rest is for the others, and an end makes room."""
    sidekey = limited(5, A, A2, B)
    assert [refusal(sidekey, name) for name in ("a", "a2", "a", "a", "a2")] == [None, None, None, HALF, HALF]
    assert fullest(sidekey) == 1.0
    assert [refusal(sidekey, "b") for _ in range(3)] == [None, None, WHOLE]
    await settle()
    assert [bytes(each.written).split(b"\r\n")[0] for each in sidekey.upstreams] == [
        b"GET /api/a HTTP/1.1",
        b"GET /other/a HTTP/1.1",
        b"GET /api/a HTTP/1.1",
        b"GET /api/a HTTP/1.1",
        b"GET /api/a HTTP/1.1",
    ]
    sidekey.upstreams[0].take()
    sidekey.upstreams[0].feed(OK)
    await settle()
    assert fullest(sidekey) == pytest.approx(2 / 3)
    assert refusal(sidekey, "a2") is None
    await end_all(sidekey)


async def test_the_only_origin_has_the_whole() -> None:
    """Half would be a limit without a purpose."""
    sidekey = limited(3, A, A2)
    assert [refusal(sidekey, name) for name in ("a", "a2", "a", "a")] == [None, None, None, WHOLE]
    await end_all(sidekey)


async def test_an_own_limit_replaces_the_half() -> None:
    """More than that, or less; and what counts there does not count against the origin."""
    sidekey = limited(8, replace(A, in_flight=6), replace(A2, in_flight=1), integration("o", base_url(1)), B)
    assert [refusal(sidekey, "a2") for _ in range(2)] == [None, OWN]
    assert [refusal(sidekey, "a") for _ in range(7)] == [None] * 6 + [OWN]
    assert refusal(sidekey, "o") is None
    assert refusal(sidekey, "b") == WHOLE
    await end_all(sidekey)


async def test_an_own_limit_over_what_descriptors_suffice_for() -> None:
    """The process's own counts then, and the gauge goes by it."""
    sidekey = limited(8, replace(A, in_flight=6), B)
    sidekey.plane.worker.limit_in_flight(2)
    assert [refusal(sidekey, "a") for _ in range(3)] == [None, None, WHOLE]
    assert fullest(sidekey) == 1.0
    await end_all(sidekey)


async def test_a_request_that_is_refused_elsewhere_does_not_count() -> None:
    """Neither one that is denied, nor one too many in all."""
    sidekey = limited(4, A, B)
    caller = sidekey.caller()
    for _ in range(4):
        caller.feed(denied(name="a"))
        said = answer(caller)
        assert said is not None
        assert said.status == 403
    assert fullest(sidekey) == 0
    assert refusal(sidekey, "a") is None
    await end_all(sidekey)


@pytest.mark.parametrize("end", ["the caller leaves", "the upstream breaks off", "no connection"])
async def test_whatever_ends_a_request_gives_its_place_back(end: str) -> None:
    """Once, however it ends."""
    sidekey = limited(2, A, B)
    for _ in range(3):
        if end == "no connection":
            sidekey.dialer.go.clear()
        caller = sidekey.caller()
        caller.feed(get(name="a"))
        await settle()
        assert refusal(sidekey, "a") == HALF
        if end == "the caller leaves":
            caller.lose(ConnectionResetError())
        elif end == "the upstream breaks off":
            sidekey.upstreams[-1].lose(ConnectionResetError())
        else:
            sidekey.dialer.error = ConnectionRefusedError()
            sidekey.dialer.go.set()
        await eventually(lambda: sidekey.metrics.in_flight == 0)
        assert fullest(sidekey) == 0
        sidekey.dialer.error = None
    sidekey.defects.clear()
    assert refusal(sidekey, "a") is None


async def test_a_request_that_waits_for_its_token_counts() -> None:
    """That is where requests pile up while a token endpoint is slow."""
    source = Awaited()
    sidekey = limited(2, A, B, sources={"a": source})
    assert [refusal(sidekey, name) for name in ("a", "a", "b")] == [None, HALF, None]
    source.go.set()
    await settle()
    await end_all(sidekey)


async def test_counts_go_on_over_a_reload() -> None:
    """What was in flight still counts where it is compiled again; the new limit counts at once, the end only once."""
    sidekey = limited(4, A, B)
    assert [refusal(sidekey, "a") for _ in range(3)] == [None, None, HALF]
    changed = integration("a", base_url(1), headers=(("X-Key", "new"),))
    publish(sidekey, changed, B)
    assert refusal(sidekey, "a") == HALF
    publish(sidekey, changed, B, most=6)
    assert [refusal(sidekey, "a") for _ in range(2)] == [None, HALF]
    publish(sidekey, changed, B, most=2)
    assert refusal(sidekey, "a") == WHOLE
    publish(sidekey, B, most=4)
    publish(sidekey, A, B)
    assert refusal(sidekey, "a") == HALF
    await end_all(sidekey)
    assert [refusal(sidekey, "a") for _ in range(3)] == [None, None, HALF]
    await end_all(sidekey)


async def test_an_own_limit_comes_and_goes_with_a_reload() -> None:
    """Each request counts where it began, and ends there."""
    sidekey = limited(8, replace(A, in_flight=1), B)
    assert [refusal(sidekey, "a") for _ in range(2)] == [None, OWN]
    publish(sidekey, replace(A, in_flight=2), B)
    assert [refusal(sidekey, "a") for _ in range(2)] == [None, OWN]
    publish(sidekey, A, B)
    assert [refusal(sidekey, "a") for _ in range(5)] == [None] * 4 + [HALF]
    publish(sidekey, replace(A, in_flight=3), B)
    assert [refusal(sidekey, "a") for _ in range(2)] == [None, OWN]
    await end_all(sidekey)


async def test_a_second_origin_halves_the_room_when_it_comes() -> None:
    """And gives it back when it goes."""
    sidekey = limited(4, A)
    assert [refusal(sidekey, "a") for _ in range(3)] == [None] * 3
    publish(sidekey, A, B)
    assert refusal(sidekey, "a") == HALF
    publish(sidekey, A)
    assert [refusal(sidekey, "a") for _ in range(2)] == [None, WHOLE]
    await end_all(sidekey)


LEARNS = Traits(Places(headers=("Authorization",)), calls=True, learns=True)


def learning(name: str) -> Integration:
    """An integration whose grant tells a base URL below x.test."""
    made = integration(name, domains=("https://login.test", "https://*.x.test"), traits=LEARNS)
    return replace(made, policy=replace(made.policy, placeholder_origin=parse_domain("https://login.test").origin))


async def test_a_learnt_origin_is_one() -> None:
    """A request counts against the login's host until its grant tells another, and against that one afterwards."""
    grants = {name: Grant(headers=AUTHORIZATION, base_url=f"https://{host}.x.test") for name, host in LEARNT.items()}
    sources = {name: Awaited(grant) for name, grant in grants.items()}
    sidekey = limited(6, *(learning(name) for name in LEARNT), sources=sources)
    assert [refusal(sidekey, name) for name in ("s", "t", "u", "s")] == [None, None, None, HALF]
    for source in sources.values():
        source.go.set()
    await settle()
    assert [refusal(sidekey, name) for name in ("s", "t", "s", "u")] == [None, HALF, HALF, None]
    await end_all(sidekey)


LEARNT = {"s": "one", "t": "one", "u": "two"}
"""Integrations to the host that their grants tell."""


async def test_a_learnt_origin_that_is_full_refuses_who_comes_late() -> None:
    """Their place at the login's host is free again."""
    late = Awaited(Grant(headers=AUTHORIZATION, base_url="https://one.x.test"))
    sources = {"s": Awaited(late.ready, there=True), "t": late}
    sidekey = limited(4, learning("s"), learning("t"), sources=sources)
    caller = sidekey.caller()
    caller.feed(get(name="t"))
    assert [refusal(sidekey, "s") for _ in range(2)] == [None, None]
    late.go.set()
    await settle()
    said = answer(caller)
    assert said is not None
    assert problem(said)["detail"] == HALF
    await end_all(sidekey)


async def test_where_the_origin_is_not_known_yet_the_integration_counts() -> None:
    """Until it can be read; then its origin does."""
    missing = Missing(A)
    sidekey = limited(2, missing.integration(), B)
    assert [refusal(sidekey, name) for name in ("a", "a", "b")] == [None, HALF, None]
    missing.appear()
    await eventually(lambda: len(sidekey.upstreams) == 2)
    await end_all(sidekey)


def passing(host: str) -> bytes:
    """A request of the forward proxy that no integration covers."""
    return f"GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


async def test_what_passes_counts_by_its_host() -> None:
    """It makes a second origin of the only one that integrations name."""
    sidekey = limited(6, A, passing=True)
    callers = [sidekey.caller() for _ in range(4)]
    for caller in callers:
        caller.feed(passing("one.test"))
    said = answer(callers[3])
    assert said is not None
    assert problem(said)["detail"] == HALF
    assert refusal(sidekey, "a") is None
    other = sidekey.caller()
    other.feed(passing("two.test"))
    assert answer(other) is None
    await end_all(sidekey)


async def test_hosts_that_callers_name_are_forgotten() -> None:
    """However many they are: only hosts with requests in flight count."""
    sidekey = limited(9, A, passing=True)
    caller = sidekey.caller()
    for number in range(2_000):
        caller.feed(passing(f"h{number}.test"))
        await settle()
        sidekey.upstreams[-1].feed(OK)
        caller.take()
    assert [*sidekey.metrics.fullness()] == []
