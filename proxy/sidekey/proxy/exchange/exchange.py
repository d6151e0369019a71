"""One request and its response, from the parsed head to the last byte: who waits for whom, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from sidekey.credentials.base import Grant
from sidekey.credentials.signing import OutgoingRequest
from sidekey.errors import CALLER_GONE, Problem
from sidekey.observe.access import AccessLine
from sidekey.observe.metrics import APART, UNKNOWN, IntegrationStats
from sidekey.policy.callers import Caller, find_caller
from sidekey.policy.decide import Admitted, Denied, decide, decide_again, is_forward, judge, named_id, named_origin
from sidekey.policy.framing import CHUNKED
from sidekey.policy.headers import is_plain
from sidekey.policy.messages import RequestHead, ResponseHead, trace_id
from sidekey.policy.naming import PRESET, preset_id, read_naming
from sidekey.policy.redaction import Redactor
from sidekey.policy.tunnel import TunnelEntry
from sidekey.policy.urls import Origin
from sidekey.presets.decide import PresetAdmitted, apply_preset, decide_preset
from sidekey.presets.preset import OVERSIZED, Preset
from sidekey.proxy import states
from sidekey.proxy.content_coding import UnreadableCoding, acceptable
from sidekey.proxy.deadlines import NEVER
from sidekey.proxy.downstream.connection import CallerConnection
from sidekey.proxy.downstream.request_parser import CallerRequest
from sidekey.proxy.downstream.response_writer import local_reply, options_reply, response_head
from sidekey.proxy.events import ExchangeEvents
from sidekey.proxy.exchange import body as bodies
from sidekey.proxy.exchange.response_body import BufferedResponse, RedactedBody, readable_head
from sidekey.proxy.exchange.signed_request import SignedRequest
from sidekey.proxy.exchange.timing import WaitTimes
from sidekey.proxy.limits import RETRY_AFTER, TOO_SLOW, BufferedBody, InFlightCounter
from sidekey.proxy.operators import Operator
from sidekey.proxy.routing.compiled import CompiledIntegration, Destination
from sidekey.proxy.routing.router import Router
from sidekey.proxy.transport import append_piece
from sidekey.proxy.upstream.connection import UpstreamConnection
from sidekey.proxy.upstream.request_writer import field_lines, line_of, request_head
from sidekey.proxy.worker import Worker
from sidekey.snapshot.snapshot import NOBODY

IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS"})
"""RFC 9110 9.2.2, of the methods whose servers are known to keep it."""

_OUTCOMES: Final[tuple[str, ...]] = tuple(
    str(status) if status in APART else f"{status // 100}xx" for status in range(600)
)
"""Of an upstream's response, by its status."""
_CLOSING: Final = frozenset(
    {"request_invalid", "request_too_large", "request_timeout", "not_implemented", "door_denied"}
)
"""After these responses the connection closes: what a caller means by its next bytes is in doubt."""
_CLOSING_TUNNEL: Final = _CLOSING | {"caller_denied", "integration_denied", "integration_required"}
"""And after these a tunnel does: whoever opened it, or the integration they named, is no longer in the config."""
_CLOSE: Final = b"\r\nConnection: close\r\n\r\n"
_KEEP_ALIVE: Final = b"\r\nConnection: keep-alive\r\n\r\n"
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_LAST_CHUNK: Final = b"0\r\n\r\n"
_EXPECT: Final = frozenset({b"expect"})
_NOTHING: Final[list[bytes]] = []
"""No piece of a body; nobody adds to it."""
_ATTEMPTS: Final[dict[tuple[bool, bool], str]] = {
    (False, False): "",
    (True, False): "retried",
    (False, True): "replayed",
    (True, True): "retried,replayed",
}
"""What is logged of a request by whether it was sent again after a stale connection, and after a refused grant."""
_STEPS: Final = 16
"""Steps of a redacted body, a mebibyte at most, after which other exchanges have their turn."""


class Exchange(ExchangeEvents):
    """One exchange. It alone writes its state; both connections, the pool and the credentials only call it.

    `_entry` is the tunnel that it came by. `_request_phase` and `_response_phase` are those of `core.phases`.
    `_integration` is whose it is, as far as that is known; `_destination` where it goes, once it is admitted; `_share`
    what it counts against until it is over. `_body` holds what was taken of a body that cannot be written yet;
    `_replay_body` is the body that was written, while it may be sent again. `_redactor` is that of the grant it
    was written with, whatever grant is used by now; `_redacted` the body of the response, where secrets are removed
    from it. `_stepping` says that a task gives it out. `_signature` is what is signed of it, where it is. `_preset` is
    the ID of the preset that it came by, if any, and `_unfilled` that preset while the parameters that it is to be
    filled with are still coming. `request_id` names it towards its caller and in the log; `_caller_name` is who that
    is, where it is asked. `_address` is that of the upstream that it was last written to; `_waits` what was waited for,
    where anything was but the whole response.
    """

    __slots__ = (
        "_address",
        "_began",
        "_body",
        "_caller",
        "_caller_blocked",
        "_caller_name",
        "_chunked",
        "_destination",
        "_entry",
        "_grant",
        "_held",
        "_index",
        "_integration",
        "_keep_alive",
        "_preset",
        "_redacted",
        "_redactor",
        "_replay_body",
        "_replayed",
        "_request",
        "_request_phase",
        "_response_phase",
        "_retried",
        "_sent",
        "_share",
        "_signature",
        "_status",
        "_stepping",
        "_unfilled",
        "_upstream",
        "_waits",
        "_worker",
        "deadline",
        "request_id",
    )

    def __init__(
        self,
        worker: Worker,
        index: Router,
        caller: CallerConnection,
        request: CallerRequest,
        entry: TunnelEntry | None = None,
    ) -> None:
        self.deadline = NEVER
        self.request_id = worker.next_id()
        self._worker = worker
        self._index = index
        self._caller = caller
        self._request = request
        self._entry = entry
        self._request_phase = states.NEW
        self._response_phase = states.NONE
        self._integration: CompiledIntegration | None = None
        self._destination: Destination | None = None
        self._share: InFlightCounter | None = None
        self._grant: Grant | None = None
        self._upstream: UpstreamConnection | None = None
        self._held: BufferedResponse | None = None
        self._redactor: Redactor | None = None
        self._redacted: RedactedBody | None = None
        self._signature: SignedRequest | None = None
        self._preset = self._address = self._caller_name = ""
        self._unfilled: Preset | None = None
        self._body: list[bytes] | None = None
        self._replay_body: list[bytes] | None = None
        self._began = 0.0
        self._waits: WaitTimes | None = None
        self._sent = self._status = 0
        self._keep_alive = request.head.keep_alive
        self._chunked = False
        self._caller_blocked = False
        self._replayed = self._retried = self._stepping = False

    def __repr__(self) -> str:
        request, response = states.REQUEST_NAMES[self._request_phase], states.RESPONSE_NAMES[self._response_phase]
        return f"Exchange({request}, {response})"

    def _enter(self, phase: int) -> None:
        """Go to a phase of the request."""
        former = self._request_phase
        if not states.AT_ONCE[former] & phase:
            if not states.AFTER_REQUEST[former] & phase:
                raise states.illegal(states.REQUEST_NAMES, former, phase)
            self._waited().turn(former, phase, self._worker.clock())
        self._request_phase = phase

    def _waited(self) -> WaitTimes:
        """What was waited for; from now on there is something to be told of it."""
        waits = self._waits
        if waits is None:
            waits = self._waits = WaitTimes(self._began)
        return waits

    def _enter_response(self, phase: int) -> None:
        """Go to a phase of the response."""
        former = self._response_phase
        if not states.RESPONSE_FOLLOWERS[former] & phase:
            raise states.illegal(states.RESPONSE_NAMES, former, phase)
        self._response_phase = phase

    @property
    def is_over(self) -> bool:
        """Whether nothing more is done about the request."""
        return self._request_phase == states.OVER

    @property
    def waits(self) -> bool:
        """Whether it waits for a connection."""
        return self._request_phase == states.CONNECTING

    # Admission.

    def begin(self) -> None:
        self._began = self._worker.enter()
        try:
            problem = self._start()
        except Exception as error:  # noqa: BLE001  not the business of whatever ended just before and let this one begin
            problem = self._worker.defect(error, self.request_id)
        if problem is not None:
            self._fail(problem)

    def _start(self) -> Problem | None:
        """Admit the request and set it going, or say why not."""
        worker, request = self._worker, self._request
        problem = request.problem or self._admit()
        if problem is not None:
            return problem
        if request.head.marks is not None and request.head.is_last_hop:
            self._answer_as_last_hop()
            return None
        if worker.is_full:
            return Problem("overloaded", "limits.in_flight is reached", headers=(RETRY_AFTER,))
        problem = self._occupy()
        if problem is not None:
            return problem
        total = request.rules.timeouts.total
        if total:
            self.deadline = worker.deadlines.now + total
            worker.deadlines.watch(self)
        return self._prepare()

    def _admit(self) -> Problem | None:
        """Decide whose the request is and where it goes, or why it may not go on."""
        operator = self._caller.operator
        if operator is not None:
            return self._settle(self._decide_as(operator))
        destination = self._find_quickly()
        if destination is None:
            return self._admit_in_full()
        preset = destination.preset
        if preset is not None:
            received = preset.receive(self._request.head, destination.integration.rules.kept)
            if isinstance(received, Problem):
                return self._admit_in_full()
            self._go_by(preset, received)
        self._integration = destination.integration
        self._destination = destination
        return None

    def _find_quickly(self) -> Destination | None:
        """Find the caller, then where a plain request goes. None leaves the request to the full reading."""
        head, callers, entry = self._request.head, self._request.rules.callers, self._entry
        naming = read_naming(head, entry) if head.marks is None else None
        if naming is None:
            return None
        if callers is None:
            return self._index.find_quickly(head, naming.integration, None, entry)
        caller = find_caller(callers, naming.token) if naming.token else None
        if caller is None:
            return None
        destination = self._index.find_quickly(head, naming.integration, caller, entry)
        if destination is not None:
            self._caller_name = caller.name
        return destination

    def _admit_in_full(self) -> Problem | None:
        """Decide by the full reading, which alone denies."""
        request, entry = self._request, self._entry
        if entry is not None:
            request.restate(entry.absolute(request.head))
        rules = request.rules
        return self._settle(self._decide(rules.callers, awaits_store=rules.awaits_store))

    def _decide(
        self, callers: Mapping[bytes, Caller] | None, *, awaits_store: bool = False
    ) -> Admitted[CompiledIntegration] | Denied[CompiledIntegration]:
        head = self._request.head
        if preset_id(head.target):
            return decide_preset(head, callers, self._index, awaits_store=awaits_store)
        return decide(head, callers, self._index, self._entry, awaits_store=awaits_store)

    def _decide_as(self, operator: Operator) -> Admitted[CompiledIntegration] | Denied[CompiledIntegration]:
        """Decide on a request of an operator, who needs no token."""
        if operator.draft is not None:
            return apply_preset(operator.draft, self._request.head, self._index)
        return self._decide(None)

    def _settle(self, decision: Admitted[CompiledIntegration] | Denied[CompiledIntegration]) -> Problem | None:
        """Go by a decision."""
        integration = decision.candidate
        self._integration = integration
        self._caller_name = decision.caller or self._caller_name
        if isinstance(decision, Denied):
            self._preset = decision.preset or self._preset
            return decision.problem
        target = decision.target
        self._destination = None if target is None else decision.candidate.destination(target)
        if isinstance(decision, PresetAdmitted):
            self._go_by(decision.preset, decision.head)
        return None

    def _go_by(self, preset: Preset, received: RequestHead) -> None:
        """Send the request of a preset, whose head is made of the caller's."""
        self._preset = preset.id
        self._request.restate(received)
        if preset.has_body:
            self._unfilled = preset

    def _occupy(self) -> Problem | None:
        """Count against where the request goes, and no more against where it was to go before; or say why not."""
        destination, former = self._destination, self._share
        share = self._admitted().share if destination is None else destination.route.share
        if share is former:
            return None
        if former is not None:
            former.leave()
            self._share = None
        if share is not None:
            if not share.enter():
                return share.problem
            self._share = share
        return None

    def _admitted(self) -> CompiledIntegration:
        integration = self._integration
        if integration is None:
            raise RuntimeError("the request was not admitted")
        return integration

    def _aim(self) -> Destination:
        destination = self._destination
        if destination is None:
            raise RuntimeError("the request has no destination")
        return destination

    # What a request needs before it is sent: what decides its target, its whole body, its grant, its certificate.

    def _wait(self, work: Callable[[], Awaitable[Problem | None]]) -> None:
        """Wait in a task, and read no more of the body meanwhile; why the task cannot go on is answered."""
        if not self._request.complete:
            self._caller.hold_body()
        self._worker.attempt(work, self._fail, self.request_id)

    # Each of these steps goes on with the next one as soon as it can, and returns why the request cannot go on at all.

    def _prepare(self) -> Problem | None:
        """Set an admitted exchange going: at once where its grant is all that it takes, and is there."""
        if self._unfilled is not None:
            return self._fill(self._unfilled)
        integration = self._admitted()
        if not integration.needs_slow_path:
            grant = integration.source.grant
            if grant is None:
                return self._acquire(integration, judged=True)
            self._grant = grant
            self._dispatch()
            return None
        if integration.rules.unresolved:
            self._enter(states.RESOLVING)
            self._wait(self._resolve)
            return None
        rules = integration.signing
        if rules is not None:
            head = self._request.head
            problem = rules.refusal(head, self._aim().route.origin, integration.rules.policy)
            if problem is not None:
                return problem
            self._signature = SignedRequest(rules.needs_body(head), bool(integration.injection_points.body))
        return self._gather(integration, judged=True)

    def _gather(self, integration: CompiledIntegration, *, judged: bool) -> Problem | None:
        """Go on once what is needed here of the body is there."""
        if integration.injection_points.body:
            return self._buffer(integration, judged=judged)
        signed = self._signature
        if signed is not None and signed.holds_body:
            return self._hold(signed, integration, judged=judged)
        return self._acquire(integration, judged=judged)

    async def _resolve(self) -> Problem | None:
        """Judge the target once it is known what by."""
        resolved = await self._index.resolve(self._admitted())
        if self.is_over:
            return None
        # A preset is used with its integration, whatever passes without one.
        unmatched = None if self._preset else self._index.unmatched
        problem = self._settle(decide_again(self._request.head, resolved, unmatched)) or self._occupy()
        if problem is not None:
            return problem
        self._caller.release_body()
        if not self.is_over:
            # What was kept back of the body was not malformed.
            return self._prepare()
        return None

    def _fill(self, preset: Preset) -> Problem | None:
        """Keep the body until it is whole, and fill the preset with it."""
        request = self._request
        head, limits = request.head, request.rules.limits
        if max(head.length, request.received) > limits.preset_parameters:
            return OVERSIZED
        if not request.complete:
            self._await_body()
            return None
        payload = b"".join(request.take())
        filled = preset.fill(head, payload, most=limits.preset_body, longest=limits.target)
        if isinstance(filled, Problem):
            return filled
        self._unfilled = None
        request.replace(filled.head, filled.body)
        integration = self._admitted()
        # Where grants tell the base URL, another request may have learnt it while the parameters came.
        if (self._destination is None or integration.learns) and not integration.rules.unresolved:
            problem = self._settle(judge(filled.head, integration)) or self._occupy()
            if problem is not None:
                return problem
        return self._prepare()

    def _await_body(self) -> None:
        """Wait for the rest of a body that is needed here, before the upstream is asked."""
        if self._request_phase != states.BUFFERING:
            self._enter(states.BUFFERING)
            if self._request.head.expects_continue:
                # So the expectation ends here too (RFC 9110 10.1.1).
                self._caller.deliver(_CONTINUE)

    def _buffer(self, integration: CompiledIntegration, *, judged: bool) -> Problem | None:
        """Keep a body that something is added to, until it is whole."""
        request = self._request
        head = request.head
        problem = bodies.refusal(head, max(head.length, request.received), request.rules.limits.replay_body)
        if problem is not None:
            return problem
        if not request.complete:
            self._await_body()
            return None
        self._body = body = request.take()
        problem = bodies.conflict(head, b"".join(body), integration.injection_points.body)
        return problem or self._acquire(integration, judged=judged)

    def _hold(self, signed: SignedRequest, integration: CompiledIntegration, *, judged: bool) -> Problem | None:
        """Hold a body that is signed until it is complete."""
        request = self._request
        length, most = request.head.length, request.rules.limits.signed_body
        if length > most or request.received > most:
            detail = "the body is signed and over limits.signed_body, so it cannot be held"
            return Problem("request_too_large", detail)
        held = signed.held
        if held is None:
            if request.complete:
                # It came with the head, in one read, or fills a preset. It counts only if it has to wait for its grant.
                self._body = request.take()
                return self._acquire(integration, judged=judged)
            held = BufferedBody(self._worker, integration.name)
            signed.hold(held)
        problem = held.add(request.take(), length)
        if problem is not None:
            return problem
        if not request.complete:
            if held.is_too_slow(self._worker.deadlines.now, request.rules.timeouts.idle):
                return TOO_SLOW
            self._await_body()
            return None
        self._body = held.collect()
        return self._acquire(integration, judged=judged)

    def _acquire(self, integration: CompiledIntegration, *, judged: bool) -> Problem | None:
        """Take the grant that is there, or wait for one. `judged` says that the target was judged just now."""
        grant = integration.source.grant
        if grant is not None:
            return self._take(grant, integration, judged=judged)
        return self._await_credential(self._obtain_grant)

    def _await_credential(self, work: Callable[[], Awaitable[Problem | None]]) -> Problem | None:
        """Wait for a grant or a client certificate. A signed body counts as held meanwhile, or is refused."""
        signed, body = self._signature, self._body
        if signed is not None and signed.holds_body and signed.held is None and body:
            held = BufferedBody(self._worker, self._admitted().name)
            signed.hold(held)
            problem = held.add(body, 0)
            if problem is not None:
                return problem
            self._body = held.collect()
        self._enter(states.ACQUIRING)
        self._wait(work)
        return None

    async def _obtain_grant(self) -> Problem | None:
        integration = self._admitted()
        grant = await integration.source.obtain()
        return None if self.is_over else self._take(grant, integration, judged=False)

    def _take(self, grant: Grant, integration: CompiledIntegration, *, judged: bool) -> Problem | None:
        """Go on with this grant. Where grants tell the base URL, a target not `judged` by it is judged again."""
        self._grant = grant
        if integration.learns and (integration.learn(grant) or not judged):
            problem = self._settle(judge(self._request.head, integration)) or self._occupy()
            if problem is not None:
                return problem
        certificate = integration.certificate
        if certificate is not None:
            identity = certificate.identity
            if identity is None:
                return self._await_credential(self._obtain_certificate)
            integration.bind_certificate(self._aim().route, identity)
        signed = self._signature
        if signed is not None:
            problem = self._state(signed, grant)
            if problem is not None:
                return problem
            if signed.is_slow:
                self._enter(states.SIGNING)
                self._wait(self._sign)
                return None
        self._dispatch()
        return None

    async def _obtain_certificate(self) -> Problem | None:
        """Wait for a client certificate; the grant may have lapsed by then."""
        integration = self._admitted()
        if integration.certificate is not None:
            await integration.certificate.obtain()
        return None if self.is_over else self._acquire(integration, judged=False)

    # What is signed.

    def _state(self, signed: SignedRequest, grant: Grant) -> Problem | None:
        """Say what is written with this grant, or why that cannot be signed."""
        request, destination, signer = self._request, self._aim(), grant.signer
        head, route, integration = request.head, destination.route, destination.integration
        if route.grant is not grant:
            integration.compile(route, grant)
        if signer is None:
            raise RuntimeError("the grant has no signer")
        body, length, stripped = self._body or _NOTHING, head.length, integration.strip
        if signed.streams_body:
            body = _NOTHING
        elif integration.injection_points.body or head.marks is not None or len(body) > 1:
            body, length, stripped = _as_whole(head, body, integration, grant)
        else:
            # Most bodies came in one piece, and nothing is added to them.
            length = len(body[0]) if body else 0
        injected = (*route.lines, acceptable(head.fields)) if integration.redacts else route.lines
        lines = field_lines(head, injected, stripped, length=length, via=request.rules.via)
        path = self._injected_path(destination) if route.query else destination.path
        outgoing = OutgoingRequest(head.method, route.scheme, route.authority, path, lines, head)
        return signed.state(outgoing, body, 0 if signed.streams_body else length, signer)

    async def _sign(self) -> Problem | None:
        """Sign in a thread, then go on; where the grant is another one by then, begin again with that one."""
        signed, signature, worker = self._signature, None, self._worker
        async with worker.signing:
            if signed is None or self.is_over:
                # It may have ended before this task had its first turn, or while others were signed.
                return None
            signed.begin_in_thread()
            try:
                signature = await worker.in_thread(signed.signing(worker.wall()), long=signed.is_long)
            finally:
                signed.leave_thread(signature)
        if not self.is_over:
            integration = self._admitted()
            if self._grant is not integration.source.grant:
                return self._acquire(integration, judged=False)
            self._dispatch()
        return None

    # The way to the upstream.

    @staticmethod
    def _injected_path(destination: Destination) -> bytes:
        """The path (and query) as it is written, with the query that is injected into it."""
        path = destination.path
        return path + (b"" if path.endswith((b"?", b"&")) else b"&" if b"?" in path else b"?") + destination.route.query

    def _dispatch(self) -> None:
        """Send by a connection that is free, or wait for one."""
        pool = self._aim().route.pool
        if pool is None:
            raise RuntimeError("no client certificate is bound to the route")
        # What is sent again goes out by a new connection: other kept ones may be stale as well, and a refusal may have
        # been the last response of its own.
        is_again = self._retried or self._replayed
        connection = None if is_again else pool.take()
        if connection is not None:
            self._send(connection)
            return
        self._enter(states.CONNECTING)
        if not self._request.complete:
            self._caller.hold_body()
        connect = pool.connect_for if is_again else pool.enqueue
        connect(self, self._admitted().stats, self._request.rules.timeouts.connect)

    def take_connection(self, connection: UpstreamConnection) -> bool:
        """Use a connection that was made or became free; False where it is declined."""
        if self._request_phase != states.CONNECTING or self._grant is not self._admitted().source.grant:
            return False
        try:
            self._send(connection)
        except Exception as error:  # noqa: BLE001  not the business of the exchange that gave the connection back
            problem = self._worker.defect(error, self.request_id)
        else:
            return True
        taken = connection.exchange is self
        self._fail(problem)
        return taken

    def declined(self) -> None:
        """Go on after a connection was declined: the grant has expired, or was renewed, while the exchange waited."""
        if self._request_phase == states.CONNECTING:
            self._worker.run(self._acquire_again, self._fail, self.request_id)

    def _acquire_again(self) -> Problem | None:
        return self._acquire(self._admitted(), judged=False)

    def connect_failed(self, problem: Problem) -> None:
        """No connection can be made."""
        self._fail(problem)

    def _send(self, connection: UpstreamConnection) -> None:
        """Write the head and what has arrived of the body, in one piece."""
        if self._signature is not None:
            self._send_signed(connection, self._signature)
            return
        request, destination, grant = self._request, self._aim(), self._grant
        head, route, integration = request.head, destination.route, destination.integration
        if grant is None:
            raise RuntimeError("the exchange has no grant")
        if route.grant is not grant:
            integration.compile(route, grant)
        self._redactor = route.redactor
        body = request.take()
        if self._body is not None:
            body = self._body + body
            self._body = None
        self._keep_for_replay(connection, body)
        length, stripped = head.length, integration.strip
        if integration.injection_points.body:
            body, length, stripped = _as_whole(head, body, integration, grant)
        line = line_of(self._injected_path(destination)) if route.query else destination.line
        injected = route.injected
        if integration.redacts:
            injected += acceptable(head.fields)
        pieces = request_head(head, line, injected, stripped, length=length, head_end=request.rules.head_end)
        pieces += self._framed(body, chunked=length == CHUNKED)
        self._write(connection, b"".join(pieces), whole=request.complete)

    def _send_signed(self, connection: UpstreamConnection, signed: SignedRequest) -> None:
        """Write the head, signed now, and the body: what has arrived of it, or all of it as far as there is room."""
        request, destination = self._request, self._aim()
        self._redactor = destination.route.redactor
        head, whole = request.head, request.complete
        pieces = signed.write(self._worker.wall)
        body, self._body = self._body or _NOTHING, None
        if signed.streams_body:
            body = body + request.take()
            pieces += self._framed(body, chunked=head.length == CHUNKED)
        self._keep_for_replay(connection, body)
        self._write(connection, b"".join(pieces), whole=whole and signed.is_written)
        if not signed.is_written:
            self._pour(signed)

    def _keep_for_replay(self, connection: UpstreamConnection, body: list[bytes]) -> None:
        """Keep the body if the request may be sent again: after a refused grant, or if a reused connection is stale."""
        request = self._request
        head = request.head
        size = max(head.length, request.received)
        if size <= request.rules.limits.replay_body and (
            self._admitted().watched or (connection.reused and head.method in IDEMPOTENT)
        ):
            self._replay_body = list(body)
        else:
            self._replay_body = None

    def _pour(self, signed: SignedRequest) -> None:
        """Write the next piece of a body that was held, if the upstream takes it; others have their turn before more.

        An upstream that is fast enough takes all of it, which is some milliseconds.
        """
        connection = self._attached()
        if signed.is_due or signed.is_written or connection is None or connection.full:
            return
        piece = signed.next_piece()
        whole = signed.is_written
        if whole:
            self._enter(states.SENT)
        connection.send(piece, whole=whole)
        if not whole:
            signed.be_due(True)
            self._worker.soon(self._pour_on, self._fail, self.request_id)

    def _pour_on(self) -> Problem | None:
        signed = self._signature
        if signed is not None:
            signed.be_due(False)
            self._pour(signed)
        return None

    def _write(self, connection: UpstreamConnection, data: bytes, *, whole: bool) -> None:
        request = self._request
        self._enter(states.SENT if whole else states.SENDING)
        self._upstream = connection
        self._address = connection.address
        if self._caller_blocked:
            # By a 100 that was delivered before.
            connection.hold()
        connection.carry(self, request.rules, data, whole=whole, to_head=request.head.method == b"HEAD")
        if not whole and not connection.full:
            self._caller.release_body()

    def _framed(self, body: list[bytes], *, chunked: bool) -> list[bytes]:
        """Pieces of the request's body as they are written."""
        if not chunked:
            return body
        framed = [b"%x\r\n" % sum(map(len, body)), *body, b"\r\n"] if body else []
        if self._request.complete:
            framed.append(_LAST_CHUNK)
        return framed

    def upload(self) -> None:
        if self._request_phase == states.BUFFERING:
            problem = self._gather(self._admitted(), judged=False) if self._unfilled is None else self._prepare()
            if problem is not None:
                self._fail(problem)
            return
        if self._request_phase != states.SENDING or (connection := self._attached()) is None:
            # It stays where it is until it can be written.
            return
        request = self._request
        body = request.take()
        if self._replay_body is not None:
            for piece in body:
                append_piece(self._replay_body, piece)
            if request.received > request.rules.limits.replay_body:
                self._replay_body = None
        pieces = self._framed(body, chunked=request.head.length == CHUNKED)
        if request.complete:
            self._enter(states.SENT)
        connection.send(pieces[0] if len(pieces) == 1 else b"".join(pieces), whole=request.complete)

    def _attached(self) -> UpstreamConnection | None:
        """The connection that carries this exchange now."""
        connection = self._upstream
        return connection if connection is not None and connection.exchange is self else None

    # Sending a request a second time: on a new connection after a stale one, or with another grant.

    def upstream_lost(self, problem: Problem, *, stale: bool) -> None:
        """Fail, or send an idempotent request once more if its connection was stale (RFC 9112 9.3.1)."""
        may_retry = stale and not self._retried and self._request.head.method in IDEMPOTENT
        if may_retry and self._replay_body is not None and self._request_phase == states.SENT:
            self._retried = True
            self._begin_again()
            self._worker.run(self._acquire_again, self._fail, self.request_id)
            return
        self._fail(problem)

    def _begin_again(self) -> None:
        """Forget the response, so that the request may be written again; its body was kept."""
        self._drop_upstream()
        self._held = self._redacted = None
        self._status = 0
        self._waited().write_again()
        self._chunked = False
        self._body = self._replay_body
        if self._response_phase != states.NONE:
            self._enter_response(states.NONE)

    def _judge_response(self, held: BufferedResponse) -> None:
        """Ask whether a response refuses the grant: it stays back while a newer one is fetched, else it goes on.

        It goes to the caller unchanged in all cases but one: a newer grant is to be had, and the request can be written
        a second time from the first byte to the last.
        """
        self._enter_response(states.JUDGED)
        grant = self._grant
        newer = grant is not None and self._admitted().source.report_rejection(grant, self._status, held.content)
        if not newer or self._replay_body is None or self._replayed or self._request_phase != states.SENT:
            self._pass_on(held)
            return
        self._replayed = True
        self._enter(states.RENEWING)
        if (connection := self._attached()) is not None:
            connection.hold()
        self._wait(self._renew)

    async def _renew(self) -> Problem | None:
        if self.is_over:
            # It has ended before this task had its first turn.
            return None
        grant, held = self._grant, self._held
        if grant is None or held is None:
            raise RuntimeError("no response is held back")
        newer = await self._admitted().source.refreshed_after(grant)
        if self.is_over:
            return None
        if newer is not None:
            self._begin_again()
            return self._take(newer, self._admitted(), judged=False)
        # There is no newer grant after all: the response goes to the caller, with what is still to come of it.
        self._enter(states.SENT)
        self._pass_on(held)
        self._read_on()
        return None

    # The way back.

    def interim(self) -> None:
        head = self._request.head
        if not self._admitted().watched:
            # A connection that has brought a byte is not stale.
            self._replay_body = None
        if head.expects_continue and not self._has_answered_expectation:
            self._caller.deliver(_CONTINUE)

    @property
    def _has_answered_expectation(self) -> bool:
        """Whether an expectation ends here (RFC 9110 10.1.1), since all of the body came before it was sent on."""
        signed = self._signature
        return bool(self._admitted().injection_points.body) if signed is None else not signed.streams_body

    def respond(self, head: ResponseHead | None, body: list[bytes], *, whole: bool) -> None:
        if head is not None and self._redactor is not None and self._admitted().redacts:
            self._note_head()
            if not self._redact(head, self._redactor):
                return
            head = readable_head(head)
        redacted = self._redacted
        if redacted is None:
            self._respond(head, body, whole=whole)
            return
        redacted.add(body, whole=whole)
        if whole:
            # Its end may come to the caller much later, and more of the request is of no use.
            self._release_upstream()
            if not self._request.complete:
                self._caller.hold_body()
        self._give_out(redacted, head)

    def _respond(self, head: ResponseHead | None, body: list[bytes], *, whole: bool) -> None:
        """Part of the response, as it goes to the caller."""
        out = body
        if head is not None:
            pieces = self._response_head(head)
            if head.status in self._admitted().watched:
                self._note_head()
                self._enter_response(states.HELD)
                self._held = BufferedResponse(pieces, chunked=self._chunked, readable=is_plain(head.fields))
            else:
                out = pieces
                if body:
                    out += self._chunk(body) if self._chunked else body
        elif body and self._chunked and self._held is None:
            out = self._chunk(body)
        if self._held is not None:
            self._keep_back(self._held, body, whole=whole)
            return
        if whole:
            if self._chunked:
                # `body` is the connection's: nothing may be added to it.
                out = [*out, _LAST_CHUNK]
            self._finish(out[0] if len(out) == 1 else b"".join(out))
            return
        if head is not None:
            self._note_head()
            self._replay_body = None
            self._enter_response(states.PASSING)
        elif self._response_phase != states.PASSING:
            raise states.illegal(states.RESPONSE_NAMES, self._response_phase, states.PASSING)
        self._deliver(out[0] if len(out) == 1 else b"".join(out))

    def _note_head(self) -> None:
        """The head of a response has come whose end comes later; of another one the exchange's end tells when."""
        self._waited().head_came(self._worker.clock())

    # Bodies that are redacted.

    def _redact(self, head: ResponseHead, redactor: Redactor) -> bool:
        """Have secrets removed from the body that follows this head; False where it cannot be read, so this fails."""
        self._status = head.status
        if head.length:
            try:
                self._redacted = RedactedBody(head, redactor)
            except UnreadableCoding as error:
                self._fail_unreadable(error)
                return False
        return True

    def _fail_unreadable(self, error: UnreadableCoding) -> None:
        """End, since a body that cannot be read may hold a secret."""
        integration, grant = self._admitted(), self._grant
        if grant is not None and self._response_phase != states.PASSING and self._status in integration.watched:
            # The status alone may refuse the grant: the next request is not to be sent with it.
            integration.source.report_rejection(grant, self._status, None)
        self._fail(Problem("upstream_protocol_error", str(error), sent="maybe"))

    @property
    def _is_stalled(self) -> bool:
        """Whether nothing more of the response may go on for now."""
        return self._caller_blocked or self._response_phase == states.JUDGED

    def _give_out(self, redacted: RedactedBody, head: ResponseHead | None = None) -> None:
        """Give out what has come of a redacted body, after its head where that is new, a step at a time."""
        for _ in range(_STEPS):
            if head is None and self._is_stalled:
                return
            try:
                piece = redacted.step()
            except UnreadableCoding as error:
                self._fail_unreadable(error)
                return
            if piece or head is not None or redacted.over:
                self._respond(head, [piece] if piece else [], whole=redacted.over)
                head = None
            if self.is_over or not redacted.waits:
                return
        if not self._stepping:
            self._stepping = True
            if (connection := self._attached()) is not None:
                connection.hold()
            self._worker.attempt(self._give_out_rest, self._fail, self.request_id)

    async def _give_out_rest(self) -> None:
        """Go on with what a little input has inflated to, in turns."""
        try:
            while True:
                await asyncio.sleep(0)
                redacted = self._redacted
                if self.is_over or self._is_stalled or redacted is None or not redacted.waits:
                    break
                self._give_out(redacted)
        finally:
            self._stepping = False
        self._read_on()

    def _read_on(self) -> None:
        """Go on with the response where nothing stalls it: with what has come of it, then with what is to come."""
        redacted = self._redacted
        if redacted is not None and redacted.waits and not (self.is_over or self._is_stalled or self._stepping):
            self._give_out(redacted)
        if self.is_over or self._is_stalled or (redacted is not None and redacted.waits):
            return
        if (connection := self._attached()) is not None:
            connection.resume()

    def _response_head(self, head: ResponseHead) -> list[bytes]:
        """Decide on the response's framing towards the caller and whether they may go on; its head as it is written."""
        request, redactor = self._request, self._redactor
        rules, http_1_1 = request.rules, request.head.http_1_1
        self._status = head.status
        if not request.complete or self._worker.draining:
            # An early response: what is still to come of the request cannot be told from a next one (RFC 9112 9.3).
            self._keep_alive = False
        if head.length < 0:
            if http_1_1:
                self._chunked = True
            else:
                self._keep_alive = False
        ending = rules.head_end
        if not self._keep_alive:
            ending = rules.via + _CLOSE
        elif not http_1_1:
            ending = rules.via + _KEEP_ALIVE
        fields = head.fields if redactor is None else redactor.clean(head.fields)
        to_head = request.head.method == b"HEAD"
        return response_head(head, fields, self.request_id, ending, chunked=self._chunked, to_head=to_head)

    @staticmethod
    def _chunk(body: list[bytes]) -> list[bytes]:
        return [b"%x\r\n" % sum(map(len, body)), *body, b"\r\n"]

    def _keep_back(self, held: BufferedResponse, body: list[bytes], *, whole: bool) -> None:
        """Keep back a piece of the body; a response that turns out too long is judged now."""
        held.add(body, whole=whole)
        if whole:
            self._release_upstream()
        if self._response_phase == states.HELD and (whole or held.is_full):
            self._judge_response(held)

    def _pass_on(self, held: BufferedResponse) -> None:
        """Give a held response to the caller; more of its body may follow."""
        self._held = None
        if held.whole:
            self._finish(held.wire())
            return
        self._replay_body = None
        self._enter_response(states.PASSING)
        self._deliver(held.wire())

    def _deliver(self, data: bytes) -> None:
        """Write a piece of the response to the caller."""
        self._sent += len(data)
        self._caller.deliver(data)

    # The end.

    def _finish(self, data: bytes, *, is_upstreams: bool = True) -> None:
        """Deliver the end of the response, the upstream's or our own; with it the exchange is over."""
        self._enter_response(states.COMPLETE)
        if data:
            self._deliver(data)
        self._release_upstream()
        self._end("", None, is_upstreams)
        self._caller.exchange_over(keep_alive=self._keep_alive)

    def _release_upstream(self) -> None:
        """Give the connection back; where the response overtook the end of its request, it closes."""
        if (connection := self._attached()) is not None:
            connection.release(reusable=self._request.complete and self._request_phase != states.SENDING)
        self._upstream = None

    def _drop_upstream(self) -> None:
        """Part from the upstream; a connection that still carries this exchange is cut."""
        if (connection := self._attached()) is not None:
            connection.abort()
        self._upstream = None

    def refuse(self, problem: Problem) -> None:
        self._fail(problem)

    def _fail(self, problem: Problem) -> None:
        """End with a response of our own, or cut one that has begun, so that it never looks complete."""
        if self.is_over:
            return
        sent = "maybe" if self._retried or self._upstream is not None else problem.sent
        self._drop_upstream()
        self._held = None
        if self._response_phase == states.PASSING:
            self._enter_response(states.CUT)
            self._end(problem.code, problem)
            self._caller.close(cut=True)
            return
        request, worker, integration = self._request, self._worker, self._integration
        keep_alive = self._keep_alive and request.complete and request.head.http_1_1
        closing = _CLOSING if self._entry is None else _CLOSING_TUNNEL
        self._keep_alive = keep_alive and problem.code not in closing and not worker.draining
        self._status = problem.status
        reply = local_reply(
            problem,
            request_id=self.request_id,
            # Who uses a preset need not know which integration it goes by.
            integration=None if integration is None or self._preset or integration.name == NOBODY else integration.name,
            sent=sent,
            close=not self._keep_alive,
            head=request.head.method == b"HEAD",
            via=request.rules.via,
        )
        self._enter_response(states.COMPLETE)
        self._deliver(reply)
        self._end(problem.code, problem)
        self._caller.exchange_over(keep_alive=self._keep_alive)

    def _answer_as_last_hop(self) -> None:
        """Answer an OPTIONS request that may go no further."""
        request = self._request
        self._status = 204
        self._keep_alive &= request.complete and request.head.http_1_1 and not self._worker.draining
        allow = self._admitted().rules.allow.encode()
        close = not self._keep_alive
        reply = options_reply(request_id=self.request_id, allow=allow, close=close, via=request.rules.via)
        self._finish(reply, is_upstreams=False)

    def caller_lost(self) -> None:
        if self.is_over:
            return
        self._drop_upstream()
        self._held = None
        self._enter_response(states.CUT)
        self._end(CALLER_GONE)

    def expired(self) -> None:
        """The whole exchange has taken longer than timeouts.total."""
        self.deadline = NEVER
        self._fail(Problem("upstream_timeout", "the exchange took longer than timeouts.total", sent="maybe"))

    def _end(self, code: str, problem: Problem | None = None, is_answered: bool = False) -> None:
        """Count the exchange out, once, and tell of it.

        `problem` is what became of it, where it is one of ours; `is_answered` that all of the upstream's response came.
        """
        self._enter(states.OVER)
        worker, integration, status = self._worker, self._integration, self._status
        stats = worker.metrics.unknown if integration is None else integration.stats
        outcome = code or _OUTCOMES[status]
        seconds = worker.leave(self._began)
        bucket = stats.record(outcome, seconds)
        if self._waits is not None:
            self._waits.end(worker.metrics, self._began + seconds, is_answered=is_answered)
        elif is_answered:
            worker.metrics.first_bytes.add(bucket, seconds)
        if code or self._preset or self._caller_name:
            self._count_apart(stats, code, outcome, problem)
        if self._share is not None:
            self._share.leave()
            self._share = None
        if self._signature is not None:
            self._signature.end()
        if self._request.rules.timeouts.total:
            worker.deadlines.forget(self)
        if code or status >= 400:
            self._report(code, seconds, is_answered, problem, logged=worker.access.errors, failed=stats)
        elif worker.access.every or worker.audit.uses:
            self._report(code, seconds, is_answered, problem, logged=worker.access.every)

    def _report(
        self,
        code: str,
        seconds: float,
        is_answered: bool,
        problem: Problem | None,
        *,
        logged: bool,
        failed: IntegrationStats | None = None,
    ) -> None:
        """Write the line of the access log if `logged`, and of the audit; note a failed request with its counters."""
        access, audit, note = self._worker.access, self._worker.audit, self._worker.metrics.note_failure
        used = audit.uses and self._has_used_credential
        if logged or used or (failed is not None and note is not None):
            line = self._line(code, seconds, is_answered, problem)
            if logged:
                access.write(line)
            if used:
                audit.use(line)
            if failed is not None and note is not None:
                note(failed, line._replace(caller=self._sender()))

    def _sender(self) -> str:
        """Return the name of the caller or operator that failures list."""
        operator = self._caller.operator
        return self._caller_name if operator is None else operator.name

    def _count_apart(self, stats: IntegrationStats, code: str, outcome: str, problem: Problem | None) -> None:
        """Count what many requests do not have: a caller who was asked for, a preset, a reason to be denied."""
        metrics = self._worker.metrics
        if self._caller_name:
            metrics.count_caller(self._caller_name, outcome)
        if self._preset:
            metrics.count_preset(self._preset, outcome)
        elif code and self._entry is None and self._request.head.target.startswith(PRESET):
            metrics.count_preset(UNKNOWN, outcome)
        if problem is not None and problem.denial is not None:
            stats.count_denial(problem.denial)

    @property
    def _has_used_credential(self) -> bool:
        """Whether it was sent to an upstream with what an integration adds, by a connection with what that has."""
        integration = self._integration
        return bool(self._address) and integration is not None and integration.name != NOBODY

    def _line(self, code: str, seconds: float, is_answered: bool, problem: Problem | None) -> AccessLine:
        """What the log says of it."""
        request, integration, destination = self._request, self._integration, self._destination
        entry, head = self._entry, request.head
        if entry is not None:
            head = entry.absolute(head)
        named, base = "", None
        if integration is not None:
            named, base = integration.name, integration.rules.base
        elif request.problem is None:
            # It may have been denied before anything was looked up, or to be told nothing of it.
            configured = self._index.configured(named_id(head, entry))
            if configured is not None:
                named, base = configured.id, configured.base
        if destination is not None:
            origin: Origin | None = destination.route.origin
        elif entry is not None:
            origin = entry.origin
        elif request.problem is None:
            origin = named_origin(head, base, None if integration is None else integration.rules)
        else:
            # What was read of a target may end in the middle of it.
            origin = None
        # A request that could not be read has no known door: it counts as the reverse proxy's.
        door = "forward" if request.problem is None and is_forward(head.target) else "reverse"
        if self._preset or head.target.startswith(PRESET):
            door = "preset"
        # A target that was not read may hold a password where a host belongs, or an unknown ID.
        shown = integration is not None and (destination is not None or code == "target_denied")
        waits = self._waits
        return AccessLine(
            named or UNKNOWN,
            self._caller_name,
            door if entry is None else "tunnel",
            head.method.decode("latin-1"),
            "" if origin is None else origin.host,
            0 if origin is None else origin.port,
            self._status,
            code,
            "" if problem is None else problem.detail,
            "" if problem is None else problem.error,
            _ATTEMPTS[self._retried, self._replayed],
            self.request_id.decode(),
            trace_id(head),
            self._peer,
            self._address,
            seconds,
            0.0 if waits is None else waits.grant,
            0.0 if waits is None else waits.connect,
            (seconds if is_answered else 0.0) if waits is None else waits.first_byte,
            request.received,
            self._sent,
            self._preset,
            head.target if shown else None,
        )

    @property
    def _peer(self) -> str:
        """Address of the caller; empty for an operator."""
        return self._caller.address if self._caller.operator is None else ""

    # Backpressure, one direction each.

    def upstream_full(self) -> None:
        self._caller.hold_body()

    def upstream_drained(self) -> None:
        self._caller.release_body()
        signed = self._signature
        if signed is not None:
            self._pour(signed)

    def caller_full(self) -> None:
        self._caller_blocked = True
        if (connection := self._attached()) is not None:
            connection.hold()

    def caller_drained(self) -> None:
        self._caller_blocked = False
        self._read_on()


def _as_whole(
    head: RequestHead, body: list[bytes], integration: CompiledIntegration, grant: Grant
) -> tuple[list[bytes], int, frozenset[bytes]]:
    """A body that is whole before anything is written: as it is written, its length, and what is stripped of its head.

    The caller's expectation was answered here.
    """
    stripped = integration.strip
    if integration.injection_points.body:
        body = [bodies.filled(head, b"".join(body), grant.body)]
    if head.marks is not None and head.expects_continue:
        stripped |= _EXPECT
    return body, len(body[0]) if len(body) == 1 else sum(map(len, body)), stripped
