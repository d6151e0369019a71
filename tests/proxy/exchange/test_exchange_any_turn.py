"""A caller that disconnects in any turn of the loop leaves nothing behind, in any state of its request."""

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
from support.scripted import GatedGrantSource, GatedIdentitySource, RecordingTransport, ScriptedPlane, settle
from support.signing import HmacSigner, grant_of, signing_integration
from support.unresolved import UnresolvedIntegration
from support.upstream import OK

FORM = "Content-Type: application/x-www-form-urlencoded"
REFUSED = b"HTTP/1.1 401 No\r\nContent-Length: 4\r\n\r\nstop"
WATCHED = frozenset({401})
BODY = b"a=" + b"b" * 200_000

EVENTS = ("grant", "lapse", "certificate", "dial", "first", "rest", "refuse", "answer", "lose", "choke", "relieve")


class Case(NamedTuple):
    """A kind of request, its initial state, and an event for each turn."""

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
    events=st.lists(st.sampled_from([*EVENTS, "turn"]), min_size=4, max_size=25).map(lambda item: ["first", *item]),
    leaves_at=st.integers(0, 25),
    expires=st.booleans(),
)


class Scenario:
    """One case: a plane without sockets, a caller that disconnects, and a second caller."""

    def __init__(self, case: Case) -> None:
        self.case = case
        signer = HmacSigner(slow=case.kind == "signed slowly")
        if case.kind.startswith("signed") or case.kind == "streamed":
            configured, self.token = signing_integration(signer, watched=WATCHED), grant_of(signer)
        else:
            names = ("token",) if case.kind == "body" else ()
            traits = CredentialTraits(InjectionPoints(("Authorization",), body=names), calls=True, watched=WATCHED)
            configured = integration("h", base_url(1), traits=traits)
            self.token = Grant(headers=AUTHORIZATION, body=tuple((name, "x") for name in names))
        self.source = GatedGrantSource(self.token, available=case.granted)
        if case.missing:
            missing = UnresolvedIntegration(configured)
            missing.resolve()
            configured = missing.integration()
        self.held = GatedIdentitySource(later="late")
        self.sidekey = ScriptedPlane(
            configured,
            integration("o", base_url(1)),
            sources={"h": self.source},
            identities={"h": self.held} if case.certificate else None,
            limits=Limits(replay_body=1 << 20),
            timeouts=Timeouts(total=5.0),
        )

    async def run(self) -> None:
        """Run one event in each turn, and assert that nothing is left in the end."""
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
        caller.fail(ConnectionResetError())
        await settle()

    def leave(self, caller: RecordingTransport) -> None:
        if self.case.expires:
            self.sidekey.plane.worker.deadlines.look(6.0)
        caller.fail(ConnectionResetError())

    def busy(self) -> Iterable[RecordingTransport]:
        pooled = [item.transport for item in self.sidekey.pooled()]
        return [item for item in self.sidekey.upstreams if not item.is_closing() and item not in pooled]

    def happen(self, event: str) -> None:
        """Run one event if it is possible."""
        if event == "grant":
            self.source.go.set()
        elif event == "lapse":
            self.source.grant = None
        elif event == "certificate":
            self.held.go.set()
        elif event == "dial":
            self.sidekey.dialer.go.set()
        for upstream in self.busy():
            if event == "refuse" and upstream.read():
                if self.case.renewed:
                    self.source.refreshed = Grant(
                        headers=self.token.headers, body=self.token.body, signer=self.token.signer
                    )
                upstream.feed(REFUSED)
            elif event == "answer" and upstream.read():
                upstream.feed(OK)
            elif event == "lose":
                upstream.fail(ConnectionResetError())
            elif event == "choke":
                upstream.block_writes()
            elif event == "relieve":
                upstream.allow_writes()

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
        # A thread keeps its permit until it has signed.
        async with asyncio.timeout(10):
            for _ in range(SIGNING_THREADS):
                await worker.signing_permits.acquire()
        assert worker.signing_permits.locked()
        for _ in range(SIGNING_THREADS):
            worker.signing_permits.release()

    async def next_is_served(self) -> None:
        """Send a request on an idle connection, or on a new one."""
        sidekey = self.sidekey
        caller = sidekey.caller()
        caller.feed(request("PUT", "/next", FORM, body=b"a=b"))
        await eventually(lambda: any(b"PUT /api/next" in item.written for item in sidekey.upstreams))
        (upstream,) = self.busy()
        upstream.feed(OK)
        assert caller.read().endswith(b"ok")


@settings(max_examples=400, deadline=None)
@given(case=cases)
def test_caller_that_disconnects_in_any_turn_leaves_nothing_behind(case: Case) -> None:
    """No slot, byte, task, connection or signing turn. The next request succeeds."""

    async def play() -> None:
        # As in a real process, errors of callbacks count too.
        failed: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context))
        await Scenario(case).run()
        assert failed == []

    asyncio.run(play())
