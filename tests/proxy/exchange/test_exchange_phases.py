"""Every transition of the tables in `proxy.states`, as a conversation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from itertools import pairwise

import pytest

from sidekey.build import build
from sidekey.credentials.base import CredentialTraits, Grant, InjectionPoints
from sidekey.policy.messages import ResponseHead
from sidekey.proxy import states
from sidekey.proxy.exchange.exchange import Exchange
from sidekey.proxy.exchange.response_body import MAX_HELD
from sidekey.snapshot.snapshot import Integration
from support.plane import AUTHORIZATION, base_url, eventually, get, integration, request
from support.plane import denied as outside
from support.presets import post, preset
from support.scripted import GatedGrantSource, GatedIdentitySource, RecordingTransport, ScriptedPlane, settle
from support.signing import HmacSigner, grant_of, signing_integration
from support.unresolved import UnresolvedIntegration
from support.upstream import OK

BASE = base_url(1)
FORM = "Content-Type: application/x-www-form-urlencoded"
WATCHED = CredentialTraits(InjectionPoints(headers=("Authorization",)), calls=True, watched=frozenset({401}))
IN_BODY = CredentialTraits(InjectionPoints(headers=("Authorization",), body=("token",)), calls=True)
TOKEN = Grant(headers=AUTHORIZATION, body=(("token", "x"),))
NEW = Grant(headers=(("Authorization", "Bearer new"),))
REFUSED = b"HTTP/1.1 401 No\r\nContent-Length: 4\r\n\r\nstop"

H = integration("h", BASE)
OTHER = integration("o", BASE)
BODY = integration("h", BASE, traits=IN_BODY)
JUDGED = integration("h", BASE, traits=WATCHED)
SLOW = signing_integration(HmacSigner(slow=True), watched=frozenset({401}))

WHOLE = request("POST", "/a", FORM, body=b"a=b")
PART = request("POST", "/a", FORM, "Content-Length: 3") + b"a="
REST = b"b"
FILLED = {"parameters": {"user": {"type": "text"}}, "body": {"json": {"user": "{{user}}"}}}

Paths = list[list[str]]
"""The phases that each exchange went through, in the order in which they began."""


@pytest.fixture
def paths(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Paths, Paths]]:
    """Record the phases that each exchange enters, of requests and of responses."""
    if build() == "compiled":
        pytest.skip("methods of a compiled class cannot be replaced")
    result: tuple[Paths, Paths] = ([], [])
    for method, names, kept, first in (
        ("_enter", states.REQUEST_NAMES, result[0], "NEW"),
        ("_enter_response", states.RESPONSE_NAMES, result[1], "NONE"),
    ):

        def enter(
            exchange: Exchange,
            phase: int,
            *,
            of: tuple[Callable[[Exchange, int], None], Mapping[int, str], Paths, str, dict[Exchange, list[str]]] = (
                getattr(Exchange, method),
                names,
                kept,
                first,
                {},
            ),
        ) -> None:
            real, names, kept, first, seen = of
            if exchange not in seen:
                seen[exchange] = [first]
                kept.append(seen[exchange])
            real(exchange, phase)
            seen[exchange].append(names[phase])

        monkeypatch.setattr(Exchange, method, enter)
    yield result


async def idle_upstream(sidekey: ScriptedPlane, name: str = "o") -> RecordingTransport:
    """Return the upstream connection once it is idle."""
    caller = sidekey.caller()
    caller.feed(get(name=name))
    upstream = await sidekey.upstream()
    upstream.feed(OK)
    upstream.read()
    caller.fail(ConnectionResetError())
    await settle()
    return upstream


# The conversations. The exchange whose path counts is the last one that began.


async def denied() -> None:
    sidekey = ScriptedPlane(H)
    sidekey.caller().feed(outside())


async def cold() -> None:
    sidekey = ScriptedPlane(H)
    sidekey.caller().feed(get())
    upstream = await sidekey.upstream()
    upstream.feed(OK[:-1], OK[-1:])


async def warm() -> None:
    sidekey = ScriptedPlane(OTHER, H)
    upstream = await idle_upstream(sidekey)
    sidekey.caller().feed(WHOLE)
    upstream.feed(OK)


async def warm_upload() -> None:
    sidekey = ScriptedPlane(OTHER, H)
    upstream = await idle_upstream(sidekey)
    sidekey.caller().feed(PART, REST)
    upstream.feed(OK)


async def cold_upload_left() -> None:
    sidekey = ScriptedPlane(H)
    caller = sidekey.caller()
    caller.feed(PART)
    await sidekey.upstream()
    caller.fail(ConnectionResetError())
    await settle()


async def left_while_connecting() -> None:
    sidekey = ScriptedPlane(H)
    sidekey.dialer.go.clear()
    caller = sidekey.caller()
    caller.feed(get())
    caller.fail(ConnectionResetError())
    await settle()


async def cut_in_the_response() -> None:
    sidekey = ScriptedPlane(H)
    sidekey.caller().feed(get())
    upstream = await sidekey.upstream()
    upstream.feed(OK[:-1])
    upstream.fail(ConnectionResetError())
    await settle()


async def acquired_cold() -> None:
    source = GatedGrantSource()
    sidekey = ScriptedPlane(H, sources={"h": source})
    sidekey.caller().feed(get())
    source.go.set()
    (await sidekey.upstream()).feed(OK)


async def acquired_warm() -> None:
    source = GatedGrantSource()
    sidekey = ScriptedPlane(OTHER, H, sources={"h": source})
    upstream = await idle_upstream(sidekey)
    sidekey.caller().feed(get())
    source.go.set()
    await settle()
    upstream.feed(OK)


async def acquired_for_an_upload() -> None:
    source = GatedGrantSource()
    sidekey = ScriptedPlane(OTHER, H, sources={"h": source})
    upstream = await idle_upstream(sidekey)
    caller = sidekey.caller()
    caller.feed(PART)
    source.go.set()
    await settle()
    caller.feed(REST)
    upstream.feed(OK)


async def left_while_acquiring() -> None:
    source = GatedGrantSource()
    sidekey = ScriptedPlane(H, sources={"h": source})
    caller = sidekey.caller()
    caller.feed(get())
    caller.fail(ConnectionResetError())
    await settle()


async def grant_then_certificate() -> None:
    source, held = GatedGrantSource(), GatedIdentitySource(later="late")
    sidekey = ScriptedPlane(H, sources={"h": source}, identities={"h": held})
    sidekey.caller().feed(get())
    source.go.set()
    held.go.set()
    (await sidekey.upstream()).feed(OK)


async def lapsed_while_connecting() -> None:
    source = GatedGrantSource(available=True)
    sidekey = ScriptedPlane(H, sources={"h": source})
    sidekey.dialer.go.clear()
    sidekey.caller().feed(get())
    await settle()
    source.grant = None
    sidekey.dialer.go.set()
    await settle()
    source.go.set()
    (await sidekey.upstream()).feed(OK)


async def two_renewed_while_connecting() -> None:
    source = GatedGrantSource(available=True)
    sidekey = ScriptedPlane(H, sources={"h": source})
    sidekey.dialer.go.clear()
    for _ in range(2):
        sidekey.caller().feed(get())
    await settle()
    source.grant = NEW
    sidekey.dialer.go.set()
    await settle()
    for upstream in sidekey.upstreams:
        upstream.feed(OK)


def resolving(configured: Integration = H, **options: object) -> tuple[ScriptedPlane, Callable[[], Awaitable[None]]]:
    """Build a plane that resolves integration `h` during the first request, and a function that waits for it."""
    missing = UnresolvedIntegration(configured)
    missing.resolve()
    sidekey = ScriptedPlane(OTHER, missing.integration(), **options)  # type: ignore[arg-type]

    async def resolved() -> None:
        await eventually(lambda: not sidekey.plane.worker.is_waiting)
        await settle()

    return sidekey, resolved


async def resolved_cold() -> None:
    sidekey, resolved = resolving()
    sidekey.caller().feed(get())
    await resolved()
    (await sidekey.upstream()).feed(OK)


async def resolved_warm() -> None:
    sidekey, resolved = resolving()
    upstream = await idle_upstream(sidekey)
    sidekey.caller().feed(get())
    await resolved()
    upstream.feed(OK)


async def resolved_for_an_upload() -> None:
    sidekey, resolved = resolving()
    upstream = await idle_upstream(sidekey)
    caller = sidekey.caller()
    caller.feed(PART)
    await resolved()
    caller.feed(REST)
    upstream.feed(OK)


async def resolved_without_a_grant() -> None:
    source = GatedGrantSource()
    source.go.set()
    sidekey, resolved = resolving(sources={"h": source})
    sidekey.caller().feed(get())
    await resolved()
    (await sidekey.upstream()).feed(OK)


async def resolved_to_a_body() -> None:
    sidekey, resolved = resolving(BODY, sources={"h": GatedGrantSource(TOKEN, available=True)})
    caller = sidekey.caller()
    caller.feed(PART)
    await eventually(lambda: caller.reading)
    caller.feed(REST)
    await resolved()
    (await sidekey.upstream()).feed(OK)


async def denied_when_resolved() -> None:
    sidekey, resolved = resolving()
    sidekey.caller().feed(outside())
    await resolved()


async def buffered_cold() -> None:
    sidekey = ScriptedPlane(BODY, sources={"h": GatedGrantSource(TOKEN, available=True)})
    caller = sidekey.caller()
    caller.feed(PART, REST)
    (await sidekey.upstream()).feed(OK)


async def buffered_warm() -> None:
    sidekey = ScriptedPlane(OTHER, BODY, sources={"h": GatedGrantSource(TOKEN, available=True)})
    upstream = await idle_upstream(sidekey)
    sidekey.caller().feed(PART, REST)
    await settle()
    upstream.feed(OK)


async def buffered_without_a_grant() -> None:
    source = GatedGrantSource(TOKEN)
    source.go.set()
    sidekey = ScriptedPlane(BODY, sources={"h": source})
    sidekey.caller().feed(PART, REST)
    (await sidekey.upstream()).feed(OK)


async def left_while_buffering() -> None:
    sidekey = ScriptedPlane(BODY)
    caller = sidekey.caller()
    caller.feed(PART)
    caller.fail(ConnectionResetError())
    await settle()


async def filled_then_resolved() -> None:
    sidekey, resolved = resolving(presets=[preset(url=base_url(1, "/api/{{user}}"), **FILLED)])
    caller = sidekey.caller()
    whole = post(b'{"user": "x"}')
    caller.feed(whole[:-1], whole[-1:])
    await resolved()
    (await sidekey.upstream()).feed(OK)


async def retried() -> None:
    sidekey = ScriptedPlane(OTHER, H)
    upstream = await idle_upstream(sidekey)
    sidekey.caller().feed(get())
    upstream.fail(ConnectionResetError())
    (await sidekey.upstream(1)).feed(OK)


async def retried_without_a_grant() -> None:
    source = GatedGrantSource(available=True)
    sidekey = ScriptedPlane(OTHER, H, sources={"h": source})
    upstream = await idle_upstream(sidekey)
    sidekey.caller().feed(get())
    source.grant = None
    upstream.fail(ConnectionResetError())
    source.go.set()
    (await sidekey.upstream(1)).feed(OK)


def signing_slowly(**options: object) -> tuple[ScriptedPlane, Callable[[], Awaitable[None]]]:
    """Build a plane that signs in a thread, and a function that waits for its end."""
    sidekey = ScriptedPlane(OTHER, SLOW, **options)  # type: ignore[arg-type]

    async def signed() -> None:
        await eventually(lambda: not sidekey.plane.worker.is_waiting)
        await settle()

    return sidekey, signed


async def signed_cold() -> None:
    sidekey, _ = signing_slowly()
    sidekey.caller().feed(get())
    await eventually(lambda: sidekey.upstreams)
    (await sidekey.upstream()).feed(OK)


async def signed_warm() -> None:
    sidekey, signed = signing_slowly()
    upstream = await idle_upstream(sidekey)
    sidekey.caller().feed(WHOLE)
    await signed()
    upstream.feed(OK)


async def signed_for_an_upload() -> None:
    sidekey, signed = signing_slowly()
    upstream = await idle_upstream(sidekey)
    caller = sidekey.caller()
    caller.feed(request("POST", "/a", "X-Unsigned-Body: 1", "Content-Length: 3") + b"a=")
    await signed()
    caller.feed(REST)
    upstream.feed(OK)


async def held_then_signed() -> None:
    sidekey, signed = signing_slowly()
    upstream = await idle_upstream(sidekey)
    sidekey.caller().feed(PART, REST)
    await signed()
    upstream.feed(OK)


async def held_for_a_slow_upstream() -> None:
    signer = HmacSigner()
    sidekey = ScriptedPlane(OTHER, signing_integration(signer))
    upstream = await idle_upstream(sidekey)
    upstream.block_writes()
    body = b"x" * 200_000
    sidekey.caller().feed(request("POST", "/a", f"Content-Length: {len(body)}"), body[:99_999], body[99_999:])
    await settle()
    upstream.allow_writes()
    await asyncio.sleep(0)
    upstream.feed(OK)


async def left_while_signing() -> None:
    sidekey, signed = signing_slowly()
    caller = sidekey.caller()
    caller.feed(get())
    caller.fail(ConnectionResetError())
    await signed()


async def lapsed_while_signing() -> None:
    source = GatedGrantSource(grant_of(HmacSigner(slow=True)), available=True)
    sidekey, signed = signing_slowly(sources={"h": source})
    upstream = await idle_upstream(sidekey)
    sidekey.caller().feed(get())
    source.grant = None
    source.go.set()
    await signed()
    upstream.feed(OK)


async def renewed_while_signing() -> None:
    source = GatedGrantSource(grant_of(HmacSigner(slow=True)), available=True)
    sidekey, signed = signing_slowly(sources={"h": source})
    upstream = await idle_upstream(sidekey)
    sidekey.caller().feed(get())
    source.grant = grant_of(HmacSigner(slow=True))
    await signed()
    upstream.feed(OK)


async def acquired_then_signed() -> None:
    source = GatedGrantSource(grant_of(HmacSigner(slow=True)))
    sidekey, signed = signing_slowly(sources={"h": source})
    upstream = await idle_upstream(sidekey)
    sidekey.caller().feed(get())
    source.go.set()
    await signed()
    upstream.feed(OK)


async def resolved_then_signed() -> None:
    sidekey, resolved = resolving(SLOW)
    upstream = await idle_upstream(sidekey)
    sidekey.caller().feed(get())
    await resolved()
    upstream.feed(OK)


async def renewed_while_connecting_then_signed() -> None:
    source = GatedGrantSource(grant_of(HmacSigner(slow=True)), available=True)
    sidekey, signed = signing_slowly(sources={"h": source})
    sidekey.dialer.go.clear()
    sidekey.caller().feed(get())
    await eventually(lambda: sidekey.metrics.upstream_connecting == 1)
    source.grant = grant_of(HmacSigner(slow=True))
    sidekey.dialer.go.set()
    await signed()
    (await sidekey.upstream()).feed(OK)


async def retried_and_signed_again() -> None:
    sidekey, signed = signing_slowly()
    upstream = await idle_upstream(sidekey)
    sidekey.caller().feed(get())
    await signed()
    upstream.fail(ConnectionResetError())
    await eventually(lambda: len(sidekey.upstreams) > 1)
    (await sidekey.upstream(1)).feed(OK)


async def replayed_and_signed_again() -> None:
    source = GatedGrantSource(grant_of(HmacSigner(slow=True)), available=True)
    source.refreshed = grant_of(HmacSigner(slow=True))
    source.go.set()
    sidekey, _ = signing_slowly(sources={"h": source})
    sidekey.caller().feed(get())
    await eventually(lambda: sidekey.upstreams)
    (await sidekey.upstream()).feed(REFUSED)
    await eventually(lambda: len(sidekey.upstreams) > 1)
    (await sidekey.upstream(1)).feed(OK)


def refused(*, there: Grant | None = None) -> tuple[ScriptedPlane, GatedGrantSource, RecordingTransport]:
    """Build a plane whose upstream refuses the grant. `there` is the newer grant."""
    source = GatedGrantSource(available=True)
    source.refreshed = there
    sidekey = ScriptedPlane(OTHER, JUDGED, sources={"h": source})
    caller = sidekey.caller()
    caller.feed(get())
    return sidekey, source, caller


async def replayed() -> None:
    sidekey, source, _ = refused(there=NEW)
    source.go.set()
    (await sidekey.upstream()).feed(REFUSED)
    (await sidekey.upstream(1)).feed(OK)


async def replayed_after_a_certificate() -> None:
    source, held = GatedGrantSource(available=True), GatedIdentitySource("old", later="new")
    source.refreshed = NEW
    source.go.set()
    held.go.set()
    sidekey = ScriptedPlane(JUDGED, sources={"h": source}, identities={"h": held})
    sidekey.caller().feed(get())
    upstream = await sidekey.upstream()
    held.identity = None
    upstream.feed(REFUSED)
    (await sidekey.upstream(1)).feed(OK)


async def no_newer_grant() -> None:
    sidekey, source, _ = refused()
    source.go.set()
    (await sidekey.upstream()).feed(REFUSED)
    await settle()


async def no_newer_grant_for_a_long_response() -> None:
    sidekey, source, _ = refused()
    source.go.set()
    upstream = await sidekey.upstream()
    upstream.feed(b"HTTP/1.1 401 No\r\nContent-Length: %d\r\n\r\n" % (MAX_HELD + 2) + b"x" * (MAX_HELD + 1))
    await settle()
    upstream.feed(b"x")


async def left_while_renewing() -> None:
    sidekey, _, caller = refused(there=NEW)
    (await sidekey.upstream()).feed(REFUSED)
    caller.fail(ConnectionResetError())
    await settle()


async def lost_while_held() -> None:
    sidekey, _, _ = refused()
    upstream = await sidekey.upstream()
    upstream.feed(REFUSED[:-1])
    upstream.fail(ConnectionResetError())
    await settle()


async def left_while_held() -> None:
    sidekey, _, caller = refused()
    (await sidekey.upstream()).feed(REFUSED[:-1])
    caller.fail(ConnectionResetError())
    await settle()


CONVERSATIONS: dict[Callable[[], Awaitable[None]], tuple[str, str]] = {
    denied: ("NEW OVER", "NONE COMPLETE"),
    cold: ("NEW PREPARING SENT OVER", "NONE PASSING COMPLETE"),
    warm: ("NEW SENT OVER", "NONE COMPLETE"),
    warm_upload: ("NEW SENDING SENT OVER", "NONE COMPLETE"),
    cold_upload_left: ("NEW PREPARING SENDING OVER", "NONE CUT"),
    left_while_connecting: ("NEW PREPARING OVER", "NONE CUT"),
    cut_in_the_response: ("NEW PREPARING SENT OVER", "NONE PASSING CUT"),
    acquired_cold: ("NEW PREPARING SENT OVER", "NONE COMPLETE"),
    acquired_warm: ("NEW PREPARING SENT OVER", "NONE COMPLETE"),
    acquired_for_an_upload: ("NEW PREPARING SENDING SENT OVER", "NONE COMPLETE"),
    left_while_acquiring: ("NEW PREPARING OVER", "NONE CUT"),
    grant_then_certificate: ("NEW PREPARING SENT OVER", "NONE COMPLETE"),
    lapsed_while_connecting: ("NEW PREPARING SENT OVER", "NONE COMPLETE"),
    two_renewed_while_connecting: ("NEW PREPARING SENT OVER", "NONE COMPLETE"),
    resolved_cold: ("NEW PREPARING SENT OVER", "NONE COMPLETE"),
    resolved_warm: ("NEW PREPARING SENT OVER", "NONE COMPLETE"),
    resolved_for_an_upload: ("NEW PREPARING SENDING SENT OVER", "NONE COMPLETE"),
    resolved_without_a_grant: ("NEW PREPARING SENT OVER", "NONE COMPLETE"),
    resolved_to_a_body: ("NEW PREPARING SENT OVER", "NONE COMPLETE"),
    denied_when_resolved: ("NEW PREPARING OVER", "NONE COMPLETE"),
    buffered_cold: ("NEW PREPARING SENT OVER", "NONE COMPLETE"),
    buffered_warm: ("NEW PREPARING SENT OVER", "NONE COMPLETE"),
    buffered_without_a_grant: ("NEW PREPARING SENT OVER", "NONE COMPLETE"),
    filled_then_resolved: ("NEW PREPARING SENT OVER", "NONE COMPLETE"),
    left_while_buffering: ("NEW PREPARING OVER", "NONE CUT"),
    signed_cold: ("NEW PREPARING SENT OVER", "NONE COMPLETE"),
    signed_warm: ("NEW PREPARING SENT OVER", "NONE COMPLETE"),
    signed_for_an_upload: ("NEW PREPARING SENDING SENT OVER", "NONE COMPLETE"),
    held_then_signed: ("NEW PREPARING SENT OVER", "NONE COMPLETE"),
    held_for_a_slow_upstream: ("NEW PREPARING SENDING SENT OVER", "NONE COMPLETE"),
    left_while_signing: ("NEW PREPARING OVER", "NONE CUT"),
    lapsed_while_signing: ("NEW PREPARING SENT OVER", "NONE COMPLETE"),
    renewed_while_signing: ("NEW PREPARING SENT OVER", "NONE COMPLETE"),
    acquired_then_signed: ("NEW PREPARING SENT OVER", "NONE COMPLETE"),
    resolved_then_signed: ("NEW PREPARING SENT OVER", "NONE COMPLETE"),
    renewed_while_connecting_then_signed: ("NEW PREPARING SENT OVER", "NONE COMPLETE"),
    retried_and_signed_again: ("NEW PREPARING SENT PREPARING SENT OVER", "NONE COMPLETE"),
    replayed_and_signed_again: (
        "NEW PREPARING SENT PREPARING SENT OVER",
        "NONE HELD CHECKED NONE COMPLETE",
    ),
    retried: ("NEW SENT PREPARING SENT OVER", "NONE COMPLETE"),
    retried_without_a_grant: ("NEW SENT PREPARING SENT OVER", "NONE COMPLETE"),
    replayed: ("NEW PREPARING SENT PREPARING SENT OVER", "NONE HELD CHECKED NONE COMPLETE"),
    replayed_after_a_certificate: (
        "NEW PREPARING SENT PREPARING SENT OVER",
        "NONE HELD CHECKED NONE COMPLETE",
    ),
    no_newer_grant: ("NEW PREPARING SENT PREPARING SENT OVER", "NONE HELD CHECKED COMPLETE"),
    no_newer_grant_for_a_long_response: (
        "NEW PREPARING SENT PREPARING SENT OVER",
        "NONE HELD CHECKED PASSING COMPLETE",
    ),
    left_while_renewing: ("NEW PREPARING SENT PREPARING OVER", "NONE HELD CHECKED CUT"),
    lost_while_held: ("NEW PREPARING SENT OVER", "NONE HELD COMPLETE"),
    left_while_held: ("NEW PREPARING SENT OVER", "NONE HELD CUT"),
}


@pytest.mark.parametrize(
    ("play", "request_path", "response_path"),
    [pytest.param(play, *expected, id=play.__name__) for play, expected in CONVERSATIONS.items()],
)
async def test_a_conversation_goes_through_its_phases(
    play: Callable[[], Awaitable[None]], request_path: str, response_path: str, paths: tuple[Paths, Paths]
) -> None:
    await play()
    requests, responses = paths
    assert (" ".join(requests[-1]), " ".join(responses[-1])) == (request_path, response_path)


@pytest.mark.parametrize(
    ("table", "names", "which"),
    [
        (states.AFTER_REQUEST, states.REQUEST_NAMES, 0),
        (states.AFTER_RESPONSE, states.RESPONSE_NAMES, 1),
    ],
    ids=["request", "response"],
)
def test_every_transition_of_the_tables_happens(table: dict[int, int], names: dict[int, str], which: int) -> None:
    """The tables allow no transition that no conversation needs."""
    allowed = {(names[one], names[other]) for one, mask in table.items() for other in names if mask & other}
    happened = {pair for expected in CONVERSATIONS.values() for pair in pairwise(expected[which].split())}
    assert happened == allowed


# What the tables do not allow.


async def forwarded_request(
    sidekey: ScriptedPlane, raw: bytes
) -> tuple[Exchange, RecordingTransport, RecordingTransport]:
    """Return the exchange of a forwarded request, and both ends."""
    caller = sidekey.caller()
    caller.feed(raw)
    upstream = await sidekey.upstream()
    exchange = caller.protocol.exchange  # type: ignore[attr-defined]
    assert isinstance(exchange, Exchange)
    return exchange, caller, upstream


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("with_head", [True, False])
async def test_response_after_the_end_is_a_defect_and_is_dropped(with_head: bool, whole: bool) -> None:
    """Its bytes would become part of the next response (RFC 9112 9.2)."""
    sidekey = ScriptedPlane(H)
    exchange, caller, upstream = await forwarded_request(sidekey, get())
    upstream.feed(OK)
    caller.read()
    head = ResponseHead(200, [], None, 4, 4) if with_head else None
    with pytest.raises(states.IllegalTransition, match="COMPLETE cannot be followed by"):
        exchange.response_received(head, [b"late"], whole=whole)
    assert caller.read() == b""
    caller.feed(get("/next"))
    upstream.feed(OK)
    assert caller.read().endswith(b"\r\n\r\nok")


async def test_body_without_a_head_is_a_defect_and_is_dropped() -> None:
    sidekey = ScriptedPlane(H)
    exchange, caller, _ = await forwarded_request(sidekey, get())
    with pytest.raises(states.IllegalTransition, match="NONE cannot be followed by PASSING"):
        exchange.response_received(None, [b"body"], whole=False)
    assert caller.read() == b""


async def test_starting_a_request_twice_is_a_defect() -> None:
    """The upstream would receive it twice."""
    sidekey = ScriptedPlane(OTHER, H)
    upstream = await idle_upstream(sidekey)
    exchange, _, _ = await forwarded_request(sidekey, get())
    assert upstream.read()
    other = sidekey.caller()
    other.feed(get())
    (await sidekey.upstream(1)).feed(OK)
    sidekey.upstreams[1].read()
    exchange.begin()
    (defect,) = sidekey.defects
    assert isinstance(defect, states.IllegalTransition)
    assert str(defect) == "SENT cannot be followed by SENT"
    sidekey.defects.clear()
    assert [item.read() for item in sidekey.upstreams] == [b"", b""]


async def test_a_defect_in_a_task_is_reported_and_answered() -> None:
    """The grant source starts the exchange again while it obtains a grant. Sidekey still sends the request once."""

    class Meddling(GatedGrantSource):
        async def obtain(self) -> Grant:
            await self.go.wait()
            self.grant = self.ready
            exchange.begin()
            return self.ready

    source = Meddling()
    sidekey = ScriptedPlane(OTHER, H, sources={"h": source})
    for _ in range(2):
        sidekey.caller().feed(get(name="o"))
    upstreams = [await sidekey.upstream(number) for number in range(2)]
    for upstream in upstreams:
        upstream.feed(OK)
        upstream.read()
    exchange, caller, _ = await forwarded_request(sidekey, request("POST", body=b"order"))
    source.go.set()
    await settle()
    assert [str(defect) for defect in sidekey.defects] == ["SENT cannot be followed by SENT"]
    assert caller.read().startswith(b"HTTP/1.1 500 ")
    assert sum(item.read().count(b"POST") for item in upstreams) == 1


async def test_repr_of_an_exchange_has_its_phases() -> None:
    """For the log of a defect."""
    sidekey = ScriptedPlane(H)
    exchange, _, upstream = await forwarded_request(sidekey, get())
    assert repr(exchange) == "Exchange(SENT, NONE)"
    upstream.feed(OK)
    assert repr(exchange) == "Exchange(OVER, COMPLETE)"
