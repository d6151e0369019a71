"""A caller who leaves at any turn of the loop, whatever their request waits for, leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from sidekey.credentials.base import CredentialTraits, Grant, InjectionPoints
from sidekey.proxy.worker import SIGNING_THREADS
from sidekey.snapshot.request_rules import Limits, Timeouts
from support.plane import AUTHORIZATION, base_url, eventually, get, integration, request
from support.scripted import Awaited, Certificate, RecordingTransport, Scripted, settle
from support.signing import HmacSigner, grant_of, signing
from support.unresolved import Missing
from support.upstream import OK

FORM = "Content-Type: application/x-www-form-urlencoded"
REFUSED = b"HTTP/1.1 401 No\r\nContent-Length: 4\r\n\r\nstop"
WATCHED = frozenset({401})
BODY = b"a=" + b"b" * 200_000

EVENTS = ("grant", "lapse", "certificate", "dial", "first", "rest", "refuse", "answer", "lose", "choke", "relieve")


class Case(NamedTuple):
    """A kind of request, what is there from the start, and what happens at each turn."""

    kind: str
    missing: bool
    certificate: bool
    granted: bool
    renewed: bool
    idle: bool
    events: list[str]
    leaves_at: int
    expires: bool


cases = st.builds(
    Case,
    kind=st.sampled_from(["plain", "body", "signed", "signed slowly", "streamed"]),
    missing=st.booleans(),
    certificate=st.booleans(),
    granted=st.booleans(),
    renewed=st.booleans(),
    idle=st.booleans(),
    events=st.lists(st.sampled_from([*EVENTS, "turn"]), min_size=4, max_size=25).map(lambda each: ["first", *each]),
    leaves_at=st.integers(0, 25),
    expires=st.booleans(),
)


class Play:
    """One case: a plane without sockets, one caller who leaves, and then one who does not."""

    def __init__(self, case: Case) -> None:
        self.case = case
        signer = HmacSigner(slow=case.kind == "signed slowly")
        if case.kind.startswith("signed") or case.kind == "streamed":
            made, self.token = signing(signer, watched=WATCHED), grant_of(signer)
        else:
            names = ("token",) if case.kind == "body" else ()
            traits = CredentialTraits(InjectionPoints(("Authorization",), body=names), calls=True, watched=WATCHED)
            made = integration("h", base_url(1), traits=traits)
            self.token = Grant(headers=AUTHORIZATION, body=tuple((name, "x") for name in names))
        self.source = Awaited(self.token, there=case.granted)
        if case.missing:
            missing = Missing(made)
            missing.appear()
            made = missing.integration()
        self.held = Certificate(later="late")
        self.sidekey = Scripted(
            made,
            integration("o", base_url(1)),
            sources={"h": self.source},
            identities={"h": self.held} if case.certificate else None,
            limits=Limits(replay_body=1 << 20),
            timeouts=Timeouts(total=5.0),
        )

    async def run(self) -> None:
        """Let the events happen, a turn each, and see that nothing is left once all is there."""
        sidekey, case = self.sidekey, self.case
        if case.idle:
            await self.warm()
        sidekey.dialer.go.clear()
        fields = ("X-Unsigned-Body: 1",) if case.kind == "streamed" else ()
        raw = request("PUT", "/order", FORM, *fields, body=BODY)
        parts = {"first": raw[:1000], "rest": raw[1000:]}
        caller = sidekey.caller()
        for turn, event in enumerate(case.events):
            if turn == case.leaves_at:
                self.leave(caller)
            if event in parts:
                caller.feed(parts.pop(event))
            else:
                self.happen(event)
            await asyncio.sleep(0)
        self.leave(caller)
        for event in ("grant", "certificate", "dial", "relieve"):
            self.happen(event)
        await eventually(lambda: not sidekey.plane.worker.is_waiting and not sidekey.plane.worker.held_bytes)
        await settle()
        await self.nothing_is_left()
        await self.next_is_served()

    async def warm(self) -> None:
        caller = self.sidekey.caller()
        caller.feed(get(name="o"))
        upstream = await self.sidekey.upstream()
        upstream.feed(OK)
        caller.lose(ConnectionResetError())
        await settle()

    def leave(self, caller: RecordingTransport) -> None:
        if self.case.expires:
            self.sidekey.plane.worker.deadlines.look(6.0)
        caller.lose(ConnectionResetError())

    def busy(self) -> Iterable[RecordingTransport]:
        pooled = [each.transport for each in self.sidekey.pooled()]
        return [each for each in self.sidekey.upstreams if not each.is_closing() and each not in pooled]

    def happen(self, event: str) -> None:
        """Let one thing happen, if it can."""
        if event == "grant":
            self.source.go.set()
        elif event == "lapse":
            self.source.grant = None
        elif event == "certificate":
            self.held.go.set()
        elif event == "dial":
            self.sidekey.dialer.go.set()
        for upstream in self.busy():
            if event == "refuse" and upstream.take():
                if self.case.renewed:
                    self.source.refreshed = Grant(
                        headers=self.token.headers, body=self.token.body, signer=self.token.signer
                    )
                upstream.feed(REFUSED)
            elif event == "answer" and upstream.take():
                upstream.feed(OK)
            elif event == "lose":
                upstream.lose(ConnectionResetError())
            elif event == "choke":
                upstream.choke()
            elif event == "relieve":
                upstream.relieve()

    async def nothing_is_left(self) -> None:
        sidekey = self.sidekey
        worker = sidekey.plane.worker
        assert sidekey.defects == []
        assert sidekey.metrics.in_flight == 0
        assert sidekey.metrics.upstream_connecting == 0
        assert not any(sidekey.metrics.utilization())
        assert not self.busy()
        # The thread that rebuilds an integration goes on for others who may wait.
        current = asyncio.current_task()
        await eventually(lambda: asyncio.all_tasks() == {current})
        for _ in range(SIGNING_THREADS):
            assert not worker.signing.locked()
            await worker.signing.acquire()
        assert worker.signing.locked()
        for _ in range(SIGNING_THREADS):
            worker.signing.release()

    async def next_is_served(self) -> None:
        """On a connection that is there, or a new one."""
        sidekey = self.sidekey
        caller = sidekey.caller()
        caller.feed(request("PUT", "/next", FORM, body=b"a=b"))
        await eventually(lambda: any(b"PUT /api/next" in each.written for each in sidekey.upstreams))
        (upstream,) = self.busy()
        upstream.feed(OK)
        assert caller.take().endswith(b"ok")


@settings(max_examples=400, deadline=None)
@given(case=cases)
def test_a_caller_who_leaves_at_any_turn_leaves_nothing_behind(case: Case) -> None:
    """No slot, byte, task, connection or turn to sign; and the next request is served."""

    async def play() -> None:
        # As in a real process, errors of callbacks count too.
        failed: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context))
        await Play(case).run()
        assert failed == []

    asyncio.run(play())
