"""One request and its response, from the parsed head to the last byte.

The methods follow the course of a request: admission, preparation, signing, sending, sending again, response, end.
A grant is what Sidekey adds to a request: headers, query parameters and body fields (`credentials.base.Grant`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

from sidekey.credentials.base import Grant
from sidekey.credentials.signing import OutgoingRequest
from sidekey.errors import CALLER_GONE, Problem, ProblemError
from sidekey.policy.callers import Callers
from sidekey.policy.decide import apply_rules, decide, decide_again
from sidekey.policy.decision import Admitted, Denied
from sidekey.policy.framing import CHUNKED
from sidekey.policy.headers import drop_fields, is_plain
from sidekey.policy.identifiers import preset_id, read_identifiers
from sidekey.policy.identify import caller_keys
from sidekey.policy.messages import RequestHead, ResponseHead
from sidekey.policy.redaction import Redactor
from sidekey.policy.tunnel import TunnelContext
from sidekey.policy.websocket import EARLY_BYTES, find_response_error, response_lines
from sidekey.presets.decide import PresetAdmitted, apply_preset, decide_preset
from sidekey.presets.preset import PARAMETERS_TOO_LARGE, PresetRules
from sidekey.proxy import states
from sidekey.proxy.content_coding import UnreadableCoding, accept_encoding_line
from sidekey.proxy.deadlines import NEVER
from sidekey.proxy.downstream.connection import CallerConnection
from sidekey.proxy.downstream.request_parser import CallerRequest
from sidekey.proxy.downstream.response_writer import response_head, serialize_options_response, serialize_problem
from sidekey.proxy.exchange import body_fields
from sidekey.proxy.exchange.report import ExchangeBase
from sidekey.proxy.exchange.response_body import HeldResponse, RedactedBody, redacted_head
from sidekey.proxy.exchange.signed_request import SignedRequest
from sidekey.proxy.exchange.timing import CONNECTION, GRANT, UNTIMED
from sidekey.proxy.exchange.websocket import WebSocket
from sidekey.proxy.limits import RETRY_AFTER, STOPPING, TOO_SLOW, BufferedBody, InFlightCounter
from sidekey.proxy.operators import Operator
from sidekey.proxy.routing.compiled import CompiledIntegration, Destination
from sidekey.proxy.routing.router import Router
from sidekey.proxy.transport import append_piece
from sidekey.proxy.upstream.connection import UpstreamConnection
from sidekey.proxy.upstream.request_writer import field_lines, line_without_method, request_head
from sidekey.proxy.worker import Worker
from sidekey.snapshot.request_rules import RequestRules
from sidekey.snapshot.snapshot import NO_INTEGRATION

T = TypeVar("T")

IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS"})
"""Methods of RFC 9110 9.2.2 that servers treat as idempotent."""

_CLOSING: Final = frozenset(
    {"request_invalid", "request_too_large", "request_timeout", "not_implemented", "door_denied"}
)
"""Problems after which the connection closes, since the meaning of the caller's next bytes is in doubt."""
_CLOSING_TUNNEL: Final = _CLOSING | {"caller_denied", "integration_denied", "integration_required"}
"""Problems after which a tunnel closes: the config may no longer have its caller or its integration."""
_CLOSE: Final = b"\r\nConnection: close\r\n\r\n"
_KEEP_ALIVE: Final = b"\r\nConnection: keep-alive\r\n\r\n"
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_LAST_CHUNK: Final = b"0\r\n\r\n"
_EXPECT: Final = frozenset({b"expect"})
_ACCEPT: Final = frozenset({b"sec-websocket-accept"})
_NO_BODY: Final[list[bytes]] = []
"""An empty body; never changed."""
_STEPS_PER_TURN: Final = 16
"""Steps of a redacted body, at most a mebibyte, before other exchanges have their turn."""


def _injected_path(destination: Destination) -> bytes:
    """Return the path and query with the injected query parameters."""
    path = destination.path
    return path + (b"" if path.endswith((b"?", b"&")) else b"&" if b"?" in path else b"?") + destination.route.query


def _complete_body(
    head: RequestHead, body: list[bytes], integration: CompiledIntegration, grant: Grant
) -> tuple[list[bytes], int, frozenset[bytes]]:
    """Return a complete body with the injected fields, its length, and the headers to strip.

    Expect is stripped too, because Sidekey itself sent 100 Continue to get the body.
    """
    stripped = integration.removed_headers
    if integration.injection_points.body:
        body = [body_fields.add_fields(head, b"".join(body), grant.body)]
    if head.control_headers is not None and head.expects_continue:
        stripped |= _EXPECT
    return body, len(body[0]) if len(body) == 1 else sum(map(len, body)), stripped


class Exchange(ExchangeBase):
    """One request and its response. Connections, the pool and the deadlines call its methods and never set its fields.

    `_request_phase` and `_response_phase` are bits of `proxy.states`.

    Admission: `_in_flight_counter` counts this request until it ends. `_unfilled_preset` is the request's preset until
    the body has filled in its parameters.

    Preparation: `_task` runs `prepare`, which awaits `_body_waiter` until the body is complete. `_awaits_connection` is
    True while the request waits for a connection from the pool. `_signed_request` is None unless Sidekey signs. `_body`
    was taken from the caller and is not written yet, `_replay_body` was written and may be written again. `_grant` is
    the grant that was chosen last.

    Sending: `_upstream` is the connection that carries the request. `_caller_blocked` is True while the caller takes no
    more of the response.

    Response: `_keep_alive` is True if the caller's connection stays open, `_chunked` if the body goes to the caller in
    chunks. `_redactor` removes the secrets of the grant that was written. `_redacted` is the body that it redacts,
    and `_stepping` is True while a task delivers that body. `_held_response` is held back because its status may reject
    the grant.
    """

    __slots__ = (
        "_awaits_connection",
        "_body",
        "_body_waiter",
        "_caller_blocked",
        "_chunked",
        "_grant",
        "_held_response",
        "_in_flight_counter",
        "_keep_alive",
        "_redacted",
        "_redactor",
        "_replay_body",
        "_request_phase",
        "_response_phase",
        "_signed_request",
        "_stepping",
        "_task",
        "_unfilled_preset",
        "_upstream",
        "deadline",
    )

    def __init__(
        self,
        worker: Worker,
        router: Router,
        caller: CallerConnection,
        request: CallerRequest,
        tunnel: TunnelContext | None = None,
    ) -> None:
        super().__init__(worker, router, caller, request, tunnel)
        self.deadline = NEVER
        self._request_phase = states.NEW
        self._response_phase = states.NONE
        self._in_flight_counter: InFlightCounter | None = None
        self._grant: Grant | None = None
        self._upstream: UpstreamConnection | None = None
        self._held_response: HeldResponse | None = None
        self._redactor: Redactor | None = None
        self._redacted: RedactedBody | None = None
        self._signed_request: SignedRequest | None = None
        self._unfilled_preset: PresetRules | None = None
        self._body: list[bytes] | None = None
        self._replay_body: list[bytes] | None = None
        self._task: asyncio.Task[None] | None = None
        self._body_waiter: asyncio.Future[None] | None = None
        self._keep_alive = request.head.keep_alive
        self._chunked = False
        self._caller_blocked = False
        self._awaits_connection = self._stepping = False

    def __repr__(self) -> str:
        request, response = states.REQUEST_NAMES[self._request_phase], states.RESPONSE_NAMES[self._response_phase]
        return f"Exchange({request}, {response})"

    def _enter(self, phase: int) -> None:
        previous = self._request_phase
        if not states.AFTER_REQUEST[previous] & phase:
            raise states.illegal(states.REQUEST_NAMES, previous, phase)
        self._request_phase = phase
        # A request that is sent at once, and whole, needs no WaitTimes.
        if phase != states.OVER and (phase != states.SENT or self._waits is not None):
            self._wait_times().begin(UNTIMED, self._worker.clock())

    def _enter_response(self, phase: int) -> None:
        previous = self._response_phase
        if not states.AFTER_RESPONSE[previous] & phase:
            raise states.illegal(states.RESPONSE_NAMES, previous, phase)
        self._response_phase = phase

    @property
    def is_over(self) -> bool:
        """Return True if the exchange has ended."""
        return self._request_phase == states.OVER

    @property
    def awaits_connection(self) -> bool:
        """Return True while the request waits for a connection from the pool."""
        return self._awaits_connection

    # Admission.

    def begin(self) -> None:
        self._began = self._worker.begin_request()
        try:
            problem = self._start()
        except ProblemError as raised:
            problem = raised.problem
        except Exception as error:  # noqa: BLE001  a defect must not reach the exchange that ended and started this one
            problem = self._worker.report_defect(error, self.request_id)
        if problem is not None:
            self._fail(problem)

    def _start(self) -> Problem | None:
        """Admit the request, then send it or prepare it in a task. Return the problem if it is refused."""
        worker, request = self._worker, self._request
        problem = request.problem or self._admit()
        if problem is not None:
            return problem
        if request.head.control_headers is not None and request.head.is_last_hop:
            self._respond_as_last_hop()
            return None
        if worker.is_full:
            return Problem("overloaded", "limits.in_flight is reached", headers=(RETRY_AFTER,))
        problem = self._take_slot()
        if problem is not None:
            return problem
        total = request.rules.timeouts.total
        if total:
            self.deadline = worker.deadlines.now + total
            worker.deadlines.watch(self)
        integration = self._require_integration()
        if (self._unfilled_preset is None and not integration.needs_slow_path) or self._prepare_body() is None:
            grant = integration.grant_source.grant
            if grant is not None and self._send_with(grant) is None:
                return None
        self._start_preparing()
        return None

    def _admit(self) -> Problem | None:
        """Find the caller, the integration and the destination. Return the problem if the request is refused."""
        operator = self._caller_connection.operator
        if operator is not None:
            return self._apply_decision(self._decide_as(operator))
        destination = self._find_fast()
        if destination is None:
            return self._admit_in_full()
        preset = destination.preset
        if preset is not None:
            preset_head = preset.build_head(self._request.head, destination.integration.rules.caller_fields)
            if isinstance(preset_head, Problem):
                return self._admit_in_full()
            self._use_preset(preset, preset_head)
        self._integration = destination.integration
        self._destination = destination
        return None

    def _find_fast(self) -> Destination | None:
        """Find the caller and the destination of a plain request, or return None to leave it to `_admit_in_full`."""
        head, callers, tunnel = self._request.head, self._request.rules.callers, self._tunnel
        identifiers = read_identifiers(head, tunnel) if head.control_headers is None else None
        if identifiers is None:
            return None
        if callers is None:
            return self._router.find_fast(head, identifiers.integration, None, tunnel)
        caller = callers.find(identifiers.token)
        if caller is None:
            return None
        destination = self._router.find_fast(head, identifiers.integration, caller, tunnel)
        if destination is not None:
            self._caller_name = caller.name
        return destination

    def _admit_in_full(self) -> Problem | None:
        """Admit or deny a caller's request with `policy.decide`. The fast path never denies."""
        request, tunnel = self._request, self._tunnel
        if tunnel is not None:
            request.replace_head(tunnel.make_absolute(request.head))
        if request.head.is_websocket:
            # Whatever the response is, bytes behind a handshake are never read as another request.
            self._keep_alive = False
            request.replace_head(request.head.with_websocket_key(os.urandom(16)))
            # The handshake may have waited behind another request for long, and a WebSocket lives long.
            request.pin(self._caller_connection.current_rules())
        rules = request.rules
        return self._apply_decision(self._decide(rules.callers, awaits_store=rules.awaits_store))

    def _decide(
        self, callers: Callers | None, *, awaits_store: bool = False
    ) -> Admitted[CompiledIntegration] | Denied[CompiledIntegration]:
        head = self._request.head
        if preset_id(head.target):
            return decide_preset(head, callers, self._router, awaits_store=awaits_store)
        return decide(head, callers, self._router, self._tunnel, awaits_store=awaits_store)

    def _decide_as(self, operator: Operator) -> Admitted[CompiledIntegration] | Denied[CompiledIntegration]:
        """Decide on a request that an operator sends, without a caller token."""
        if operator.draft is not None:
            return apply_preset(operator.draft, self._request.head, self._router)
        return self._decide(None)

    def _apply_decision(self, decision: Admitted[CompiledIntegration] | Denied[CompiledIntegration]) -> Problem | None:
        """Set integration, destination, caller and preset from a decision. Return the problem if it denies."""
        integration = decision.candidate
        self._integration = integration
        self._caller_name = decision.caller or self._caller_name
        if isinstance(decision, Denied):
            self._preset = decision.preset or self._preset
            return decision.problem
        target = decision.target
        self._destination = None if target is None else decision.candidate.destination(target)
        if isinstance(decision, PresetAdmitted):
            self._use_preset(decision.preset, decision.head)
        return None

    def _use_preset(self, preset: PresetRules, preset_head: RequestHead) -> None:
        """Use the head that the preset built from the caller's, and remember a preset that needs the body."""
        self._preset = preset.id
        self._request.replace_head(preset_head)
        if preset.has_body:
            self._unfilled_preset = preset

    def _take_slot(self) -> Problem | None:
        """Count the request at its destination instead of the previous one. Return the problem if it is full."""
        destination, previous = self._destination, self._in_flight_counter
        counter = (
            self._require_integration().in_flight_counter
            if destination is None
            else destination.route.in_flight_counter
        )
        if counter is previous:
            return None
        if previous is not None:
            previous.leave()
            self._in_flight_counter = None
        if counter is not None:
            if not counter.enter():
                return counter.problem
            self._in_flight_counter = counter
        return None

    def _require_integration(self) -> CompiledIntegration:
        integration = self._integration
        if integration is None:
            raise RuntimeError("the request was not admitted")
        return integration

    def _require_destination(self) -> Destination:
        destination = self._destination
        if destination is None:
            raise RuntimeError("the request has no destination")
        return destination

    # Preparation: what a request needs before it is sent.

    def _start_preparing(self, rejected: Grant | None = None) -> None:
        """Prepare the request in a task."""
        if self._body_waiter is None:
            self._begin_wait(UNTIMED)
        else:
            # The request needs its body, so reading it must not pause.
            self._enter(states.PREPARING)
        self._task = self._worker.run_in_task(partial(self.prepare, rejected), self._fail, self.request_id)

    async def prepare(self, rejected: Grant | None = None) -> None:
        """Await the body, missing secrets, the grant, certificate and signature, as needed, then send the request.

        `rejected` is the grant that the upstream has just rejected. The end of the exchange cancels the task. Raises
        ProblemError.
        """
        grant: Grant | None = None
        if rejected is not None:
            grant = await self._renew(rejected)
            if grant is None:
                return
        while (missing := self._prepare_body()) is not None:
            await missing()
            if self.is_over:
                return
        source = self._require_integration().grant_source
        while True:
            if grant is None:
                grant = source.grant
            if grant is None:
                grant = await self._obtain(source.obtain)
            if (step := self._send_with(grant)) is None or await step():
                return
            # The grant may have expired or been renewed during the step.
            grant = None

    def _begin_wait(self, kind: int) -> None:
        """Pause reading the body, and measure a wait of this kind from now on. This method itself does not wait."""
        if self._request_phase != states.PREPARING:
            self._enter(states.PREPARING)
        if not self._request.complete:
            self._caller_connection.pause_body()
        self._wait_times().begin(kind, self._worker.clock())

    def _prepare_body(self) -> Callable[[], Awaitable[None]] | None:
        """Fill the preset, check the signing rules, and take the body if a field is injected or the body is signed.

        Return None, or the step to await before the next call: receive the body, or read the integration's secrets.
        Raises ProblemError.
        """
        if self._unfilled_preset is not None:
            if self._must_receive_body():
                return self._receive_body
            self._fill(self._unfilled_preset)
        integration, request = self._require_integration(), self._request
        if integration.rules.unresolved:
            return self._resolve
        rules, signed = integration.signing, self._signed_request
        if rules is not None and signed is None:
            head = request.head
            problem = rules.refusal(head, self._require_destination().route.origin, integration.rules.policy)
            if problem is not None:
                raise ProblemError(problem)
            signed = self._signed_request = SignedRequest(
                rules.needs_body(head), bool(integration.injection_points.body)
            )
        is_needed = bool(integration.injection_points.body) or (signed is not None and signed.buffers_body)
        if not is_needed or self._body is not None:
            return None
        if self._must_receive_body():
            return self._receive_body
        buffer = None if signed is None else signed.buffer
        self._body = body = request.take_body() if buffer is None else buffer.collect()
        if integration.injection_points.body:
            problem = body_fields.check_names(request.head, b"".join(body), integration.injection_points.body)
            if problem is not None:
                raise ProblemError(problem)
        return None

    def _must_receive_body(self) -> bool:
        """Check the body as far as it has arrived. If it is incomplete, prepare to receive the rest and return True.

        Raises ProblemError.
        """
        problem = self._check_body()
        if problem is not None:
            raise ProblemError(problem)
        if self._request.complete:
            return False
        if self._body_waiter is None:
            # From now on, `body_received` checks each part. That may happen before the task awaits the body.
            self._body_waiter = asyncio.get_running_loop().create_future()
            if self._request.head.expects_continue:
                # Sidekey then removes Expect from the request (RFC 9110 10.1.1).
                self._caller_connection.deliver(_CONTINUE)
        return True

    async def _receive_body(self) -> None:
        """Await the rest of the body. `body_received` completes the waiter."""
        if self._body_waiter is not None:
            await self._body_waiter

    def _check_body(self) -> Problem | None:
        """Check the size and speed of a body that must be complete, and buffer its new pieces if it is signed."""
        request, signed = self._request, self._signed_request
        head, limits = request.head, request.rules.limits
        size = max(head.length, request.received)
        if self._unfilled_preset is not None:
            return PARAMETERS_TOO_LARGE if size > limits.preset_parameters else None
        if signed is None or not signed.buffers_body:
            return body_fields.check_head(head, size, limits.replay_body)
        if size > limits.signed_body:
            detail = "the body is signed and over limits.signed_body, so it cannot be held"
            return Problem("request_too_large", detail)
        buffer = signed.buffer
        if buffer is None:
            if request.complete:
                # A body that came with its head reserves bytes only if it must wait for the grant: see `_obtain`.
                return None
            buffer = BufferedBody(self._worker, self._require_integration().name)
            signed.set_buffer(buffer)
        problem = buffer.add(request.take_body(), head.length)
        if problem is None and not request.complete:
            is_too_slow = buffer.is_too_slow(self._worker.deadlines.now, request.rules.timeouts.idle)
            return TOO_SLOW if is_too_slow else None
        return problem

    def _fill(self, preset: PresetRules) -> None:
        """Replace the request by the preset, filled with the parameters in the body. Raises ProblemError."""
        request = self._request
        limits = request.rules.limits
        payload = b"".join(request.take_body())
        filled = preset.fill(request.head, payload, max_body=limits.preset_body, max_target=limits.target)
        if isinstance(filled, Problem):
            raise ProblemError(filled)
        self._unfilled_preset = None
        request.replace(filled.head, filled.body)
        integration = self._require_integration()
        # Another request's grant may have set the base URL while the parameters arrived.
        if (self._destination is None or integration.discovers_base_url) and not integration.rules.unresolved:
            self._reapply_rules(integration)

    async def _resolve(self) -> None:
        """Read the integration's missing secrets, then decide again, since its targets depend on them.

        The rest of the body, which is read afterwards, may be malformed, which ends the exchange.
        """
        resolved = await self._router.resolve(self._require_integration())
        # A preset always uses its integration.
        passthrough = None if self._preset else self._router.passthrough
        self._apply_new_decision(decide_again(self._request.head, resolved, passthrough))
        self._caller_connection.resume_body()

    def _reapply_rules(self, integration: CompiledIntegration) -> None:
        """Check the target against the integration's current rules, then as `_apply_new_decision`."""
        head, tunnel = self._request.head, self._tunnel
        # `_find_fast` does not make the target of a request in a tunnel absolute.
        self._apply_new_decision(apply_rules(head if tunnel is None else tunnel.make_absolute(head), integration))

    def _apply_new_decision(self, decision: Admitted[CompiledIntegration] | Denied[CompiledIntegration]) -> None:
        """Apply a later decision, and count the request at its destination. Raises ProblemError."""
        problem = self._apply_decision(decision) or self._take_slot()
        if problem is not None:
            raise ProblemError(problem)

    async def _obtain(self, obtain: Callable[[], Awaitable[T]]) -> T:
        """Await a grant or a client certificate, and reserve bytes for a signed body. Raises ProblemError."""
        signed, body = self._signed_request, self._body
        if signed is not None and signed.buffers_body and signed.buffer is None and body:
            buffer = BufferedBody(self._worker, self._require_integration().name)
            signed.set_buffer(buffer)
            problem = buffer.add(body, 0)
            if problem is not None:
                raise ProblemError(problem)
            self._body = buffer.collect()
        self._begin_wait(GRANT)
        return await obtain()

    def _send_with(self, grant: Grant) -> Callable[[], Awaitable[bool]] | None:
        """Send the request with this grant, or enqueue it for a connection. Raises ProblemError.

        Return None, or the step to await first: obtain a client certificate, or sign in a thread. The step returns True
        if it sent the request, and False if the grant must be chosen again.
        """
        self._grant = grant
        integration = self._require_integration()
        if integration.discovers_base_url:
            integration.apply_base_url(grant)
            if self._require_destination().rules is not integration.rules:
                # The grant set another base URL, so the destination was chosen by other rules.
                self._reapply_rules(integration)
        certificate = integration.certificate
        if certificate is not None:
            identity = certificate.identity
            if identity is None:
                return self._obtain_certificate
            integration.bind_certificate(self._require_destination().route, identity)
        signed = self._signed_request
        if signed is not None:
            problem = self._build_signed_request(signed, grant)
            if problem is not None:
                raise ProblemError(problem)
            if signed.is_slow:
                return self._sign_and_send
        self._send_or_enqueue()
        return None

    async def _obtain_certificate(self) -> bool:
        certificate = self._require_integration().certificate
        if certificate is not None:
            await self._obtain(certificate.obtain)
        return False

    # Signing.

    def _build_signed_request(self, signed: SignedRequest, grant: Grant) -> Problem | None:
        """Build the request to sign with this grant. Return the problem if it cannot be signed."""
        request, destination, signer = self._request, self._require_destination(), grant.signer
        head, route, integration = request.head, destination.route, destination.integration
        if route.grant is not grant:
            integration.compile(route, grant)
        if signer is None:
            raise RuntimeError("the grant has no signer")
        body, length, stripped = self._body or _NO_BODY, head.length, integration.removed_headers
        if signed.streams_body:
            body = _NO_BODY
        elif integration.injection_points.body or head.control_headers is not None or len(body) > 1:
            body, length, stripped = _complete_body(head, body, integration, grant)
        else:
            # The fast way for most bodies: one piece, and nothing to add.
            length = len(body[0]) if body else 0
        injected = (*route.lines, accept_encoding_line(head.fields)) if integration.redacts else route.lines
        lines = field_lines(head, injected, stripped, length=length, via=request.rules.via)
        path = _injected_path(destination) if route.query else destination.path
        outgoing = OutgoingRequest(head.method, route.scheme, route.authority, path, lines, head)
        return signed.set_content(outgoing, body, 0 if signed.streams_body else length, signer)

    async def _sign_and_send(self) -> bool:
        """Sign in a thread, then send. Return False if the grant has expired or was renewed meanwhile."""
        signed, worker = self._signed_request, self._worker
        if signed is None:
            raise RuntimeError("Sidekey does not sign this request")
        self._begin_wait(UNTIMED)
        await worker.signing_permits.acquire()
        try:
            signature = signed.sign_in_thread(worker)
        except BaseException:
            # For example, no thread can start.
            worker.signing_permits.release()
            raise
        # A thread cannot be cancelled: it keeps its permit until it ends, even if the exchange is over.
        signature.add_done_callback(worker.end_signing)
        # After the exchange is over, `leave_thread` reports an error of the thread. `shield` would report it as well.
        await asyncio.wait((signature,))
        signed.leave_thread(signature)
        signature.result()
        if self._grant is not self._require_integration().grant_source.grant:
            return False
        self._send_or_enqueue()
        return True

    # Sending.

    def _send_or_enqueue(self) -> None:
        """Send the request on an idle connection, or enqueue it for a new one or one that becomes free."""
        integration, pool = self._require_integration(), self._require_destination().route.pool
        if pool is None:
            raise RuntimeError("no client certificate is bound to the route")
        # A second attempt needs a new connection: other idle ones may be stale as well, and the upstream may close a
        # connection after it rejected a grant.
        is_second_attempt = self._retried or self._replayed
        connection = None if is_second_attempt else pool.take_idle()
        if connection is not None:
            try:
                self._send(connection)
            except Exception:
                if connection.exchange is None:
                    # Nothing was written, and `take_idle` removed the connection from the pool.
                    pool.offer(connection)
                raise
            return
        self._begin_wait(CONNECTION)
        self._awaits_connection = True
        connect = pool.connect_for if is_second_attempt else pool.enqueue
        connect(self, integration.stats, self._request.rules.timeouts.connect)

    def take_connection(self, connection: UpstreamConnection) -> bool:
        """Send the request on a new or free connection. Return False if the pool keeps the connection.

        The request does not use it if its grant was renewed meanwhile.
        """
        if not self._awaits_connection or self._grant is not self._require_integration().grant_source.grant:
            return False
        self._awaits_connection = False
        try:
            self._send(connection)
        except Exception as error:  # noqa: BLE001  a defect must not reach the exchange that released the connection
            problem = self._worker.report_defect(error, self.request_id)
        else:
            return True
        # `_fail` aborts a connection that already carries the request, so the pool must not give it to another one.
        is_attached = connection.exchange is self
        self._fail(problem)
        return is_attached

    def connection_declined(self) -> None:
        """Prepare again, after `take_connection` declined because the grant expired or was renewed."""
        if self._awaits_connection:
            self._awaits_connection = False
            self._start_preparing()

    def connect_failed(self, problem: Problem) -> None:
        """End the exchange: the pool cannot connect."""
        self._fail(problem)

    def _send(self, connection: UpstreamConnection) -> None:
        """Write the head and the part of the body that has arrived, in one piece."""
        if self._signed_request is not None:
            self._send_signed(connection, self._signed_request)
            return
        request, destination, grant = self._request, self._require_destination(), self._grant
        head, route, integration = request.head, destination.route, destination.integration
        if grant is None:
            raise RuntimeError("the exchange has no grant")
        if route.grant is not grant:
            integration.compile(route, grant)
        self._redactor = route.redactor
        body = request.take_body()
        if self._body is not None:
            body = self._body + body
            self._body = None
        self._keep_for_replay(connection, body)
        length, stripped = head.length, integration.removed_headers
        if integration.injection_points.body:
            body, length, stripped = _complete_body(head, body, integration, grant)
        line = line_without_method(_injected_path(destination)) if route.query else destination.line
        injected = route.injected
        if integration.redacts:
            injected += accept_encoding_line(head.fields)
        pieces = request_head(head, line, injected, stripped, length=length, head_end=request.rules.head_end)
        pieces += self._frame_body(body, chunked=length == CHUNKED)
        self._write(connection, b"".join(pieces), whole=request.complete)

    def _send_signed(self, connection: UpstreamConnection, signed: SignedRequest) -> None:
        """Write the signed head, and as much of the body as the upstream takes now."""
        request, destination = self._request, self._require_destination()
        self._redactor = destination.route.redactor
        head, whole = request.head, request.complete
        pieces = signed.write(self._worker.wall)
        body, self._body = self._body or _NO_BODY, None
        if signed.streams_body:
            body = body + request.take_body()
            pieces += self._frame_body(body, chunked=head.length == CHUNKED)
        self._keep_for_replay(connection, body)
        self._write(connection, b"".join(pieces), whole=whole and signed.is_written)
        if not signed.is_written:
            self._write_next_chunk(signed)

    def _keep_for_replay(self, connection: UpstreamConnection, body: list[bytes]) -> None:
        """Keep the body if the request may be sent again: after a rejected grant or on a stale reused connection."""
        request = self._request
        head = request.head
        size = max(head.length, request.received)
        if size <= request.rules.limits.replay_body and (
            self._require_integration().watched or (connection.reused and head.method in IDEMPOTENT)
        ):
            self._replay_body = list(body)
        else:
            self._replay_body = None

    def _write_next_chunk(self, signed: SignedRequest) -> None:
        """Write the next piece of a signed body if the upstream accepts it, and schedule the piece after it.

        Writing all of a long body in one turn of the loop would block the loop for some milliseconds.
        """
        connection = self._attached()
        if signed.is_scheduled or signed.is_written or connection is None or connection.full:
            return
        piece = signed.next_piece()
        whole = signed.is_written
        if whole:
            self._enter(states.SENT)
        connection.send(piece, whole=whole)
        if not whole:
            signed.set_scheduled(True)
            self._worker.run_soon(self._write_later_chunk, self._fail, self.request_id)

    def _write_later_chunk(self) -> None:
        signed = self._signed_request
        if signed is not None:
            signed.set_scheduled(False)
            self._write_next_chunk(signed)

    def _write(self, connection: UpstreamConnection, data: bytes, *, whole: bool) -> None:
        request = self._request
        self._enter(states.SENT if whole else states.SENDING)
        self._upstream = connection
        self._address = connection.address
        # `prepare` returns now. Its task would otherwise stay in memory until the response ends.
        self._task = None
        if self._caller_blocked:
            # A 100 Continue filled the write buffer.
            connection.pause()
        connection.begin_exchange(self, request.rules, data, whole=whole, to_head=request.head.method == b"HEAD")
        if not whole and not connection.full:
            self._caller_connection.resume_body()

    def _frame_body(self, body: list[bytes], *, chunked: bool) -> list[bytes]:
        """Return body pieces with chunk framing if `chunked`."""
        if not chunked:
            return body
        framed = [b"%x\r\n" % sum(map(len, body)), *body, b"\r\n"] if body else []
        if self._request.complete:
            framed.append(_LAST_CHUNK)
        return framed

    def body_received(self) -> None:
        waiter = self._body_waiter
        if waiter is not None:
            problem = self._check_body()
            if problem is not None:
                self._fail(problem)
            elif self._request.complete:
                self._body_waiter = None
                waiter.set_result(None)
            return
        if self._request_phase != states.SENDING or (connection := self._attached()) is None:
            # `_request` keeps the pieces until they can be written.
            return
        request = self._request
        body = request.take_body()
        if self._replay_body is not None:
            for piece in body:
                append_piece(self._replay_body, piece)
            if request.received > request.rules.limits.replay_body:
                self._replay_body = None
        pieces = self._frame_body(body, chunked=request.head.length == CHUNKED)
        if request.complete:
            self._enter(states.SENT)
        connection.send(pieces[0] if len(pieces) == 1 else b"".join(pieces), whole=request.complete)

    def _attached(self) -> UpstreamConnection | None:
        """Return the connection that carries this exchange now."""
        connection = self._upstream
        return connection if connection is not None and connection.exchange is self else None

    # Sending again: a retry after a stale connection, or a replay with a newer grant.

    def upstream_lost(self, problem: Problem, *, stale: bool) -> None:
        """Retry an idempotent request once if its connection was stale (RFC 9112 9.3.1), else fail."""
        may_retry = stale and not self._retried and self._request.head.method in IDEMPOTENT
        if may_retry and self._replay_body is not None and self._request_phase == states.SENT:
            self._retried = True
            self._discard_response()
            self._start_preparing()
            return
        self._fail(problem)

    def _discard_response(self) -> None:
        """Discard the response, and prepare to write the request again with the replay body."""
        self._drop_upstream()
        self._held_response = self._redacted = None
        self._status = 0
        self._wait_times().discard_head()
        self._chunked = False
        self._body = self._replay_body
        if self._response_phase != states.NONE:
            self._enter_response(states.NONE)

    def _check_rejection(self, held: HeldResponse) -> None:
        """Renew the grant and replay the request if the response rejects the grant; otherwise deliver the response.

        A request is replayed once, and only if its body was kept.
        """
        self._enter_response(states.CHECKED)
        grant = self._grant
        newer = grant is not None and self._require_integration().grant_source.report_rejection(
            grant, self._status, held.content
        )
        if not newer or self._replay_body is None or self._replayed or self._request_phase != states.SENT:
            self._deliver_held(held)
            return
        self._replayed = True
        if (connection := self._attached()) is not None:
            connection.pause()
        self._start_preparing(grant)

    async def _renew(self, rejected: Grant) -> Grant | None:
        """Await the grant that replaces the rejected one, and discard the response.

        If there is no newer grant, deliver the response and return None.
        """
        self._begin_wait(GRANT)
        grant = await self._require_integration().grant_source.refreshed_after(rejected)
        if grant is not None:
            self._discard_response()
        elif self._held_response is not None:
            self._enter(states.SENT)
            self._deliver_held(self._held_response)
            self._resume_response()
        return grant

    # Response.

    def continue_received(self) -> None:
        head = self._request.head
        if not self._require_integration().watched:
            # A connection that sent a byte is not stale, so no retry follows, and without `watched` no replay.
            self._replay_body = None
        if head.expects_continue and not self._has_answered_expectation:
            self._caller_connection.deliver(_CONTINUE)

    @property
    def _has_answered_expectation(self) -> bool:
        """Return True if Sidekey itself sent 100 Continue, to get a body that it needs whole (RFC 9110 10.1.1)."""
        signed = self._signed_request
        return bool(self._require_integration().injection_points.body) if signed is None else not signed.streams_body

    def upgrade_received(self, head: ResponseHead, data: bytes) -> None:
        """Deliver the 101 response to a WebSocket handshake, and end: a `WebSocket` takes over both connections."""
        worker, caller, connection, request = self._worker, self._caller_connection, self._attached(), self._request
        if connection is None:
            return
        rules = caller.current_rules()
        problem = self._enter_websocket(head, rules)
        if problem is not None:
            self._fail(problem)
            return
        self._time_response_head()
        self._status = head.status
        fields = drop_fields(head.fields, _ACCEPT)
        if self._redactor is not None:
            fields = self._redactor.clean(fields)
        ending = response_lines(request.head) + request.rules.head_end
        pieces = response_head(head, fields, self.request_id, ending, chunked=False, to_head=False)
        self._enter_response(states.COMPLETE)
        self._deliver(b"".join(pieces))
        counter, self._in_flight_counter = self._in_flight_counter, None
        line = self._line("", worker.clock() - self._began, True, None)
        websocket = WebSocket(
            worker,
            request.rules.timeouts.tunnel_idle,
            self.deadline,
            caller=caller,
            counter=counter,
            line=line,
            keys=caller_keys(request.head, rules.callers, self._tunnel),
            destination=self._require_destination(),
        )
        self._upstream = None
        self._end("", None, upstream_completed=True)
        websocket.open(connection, data)

    def _enter_websocket(self, head: ResponseHead, rules: RequestRules) -> Problem | None:
        """Count the WebSocket that a 101 response opens. Return the problem if it must not open."""
        worker, request = self._worker, self._request
        problem = find_response_error(request.head, head)
        if problem is None and self._caller_connection.has_more_input:
            problem = EARLY_BYTES
        if problem is None and rules is not request.rules:
            problem = self._check_again(rules)
        if problem is None and worker.finishing:
            problem = STOPPING
        return problem or worker.enter_websocket(self._caller_name, rules)

    def _check_again(self, rules: RequestRules) -> Problem | None:
        """Return the problem if the handshake would be refused by these rules, which a reload has set since then."""
        decision = self._decide(rules.callers, awaits_store=rules.awaits_store)
        if isinstance(decision, Denied):
            return decision.problem
        target, destination = decision.target, self._require_destination()
        is_same = (
            # The handshake has the credential of this integration.
            decision.candidate.name == self._require_integration().name
            and target is not None
            and target.origin == destination.route.origin
            and target.request_target.encode("latin-1") == destination.path
        )
        if not is_same:
            detail = "since a reload, another integration or URL serves this request: connect again"
            return Problem("target_denied", detail, denial="outside_policy")
        self._caller_name = decision.caller or self._caller_name
        return None

    def response_received(self, head: ResponseHead | None, body: list[bytes], *, whole: bool) -> None:
        if head is not None and self._redactor is not None and self._require_integration().redacts:
            self._time_response_head()
            if not self._redact(head, self._redactor):
                return
            head = redacted_head(head)
        redacted = self._redacted
        if redacted is None:
            self._deliver_part(head, body, whole=whole)
            return
        redacted.add(body, whole=whole)
        if whole:
            # The upstream is done, but the caller may read the response much later. The rest of the request is useless.
            self._release_upstream()
            if not self._request.complete:
                self._caller_connection.pause_body()
        self._deliver_redacted(redacted, head)

    def _deliver_part(self, head: ResponseHead | None, body: list[bytes], *, whole: bool) -> None:
        """Frame a part of the response, already redacted, and deliver it or hold it."""
        out = body
        if head is not None:
            pieces = self._response_head(head)
            if head.status in self._require_integration().watched:
                self._time_response_head()
                self._enter_response(states.HELD)
                self._held_response = HeldResponse(pieces, chunked=self._chunked, readable=is_plain(head.fields))
            else:
                out = pieces
                if body:
                    out += self._chunk(body) if self._chunked else body
        elif body and self._chunked and self._held_response is None:
            out = self._chunk(body)
        if self._held_response is not None:
            self._hold_back(self._held_response, body, whole=whole)
            return
        if whole:
            if self._chunked:
                # `out` may be the list of the connection, which must not change.
                out = [*out, _LAST_CHUNK]
            self._finish(out[0] if len(out) == 1 else b"".join(out))
            return
        if head is not None:
            self._time_response_head()
            self._replay_body = None
            self._enter_response(states.PASSING)
        elif self._response_phase != states.PASSING:
            raise states.illegal(states.RESPONSE_NAMES, self._response_phase, states.PASSING)
        self._deliver(out[0] if len(out) == 1 else b"".join(out))

    def _time_response_head(self) -> None:
        """Record the time to the head of a response that arrives in parts. `_report` records it for a whole one."""
        self._wait_times().record_head(self._worker.clock())

    def _response_head(self, head: ResponseHead) -> list[bytes]:
        """Build the head for the caller. It sets the framing, and whether the caller's connection stays open."""
        request, redactor = self._request, self._redactor
        rules, http_1_1 = request.rules, request.head.http_1_1
        self._status = head.status
        if not request.complete or self._worker.draining:
            # After an early response, the rest of this request could pass for the next one (RFC 9112 9.3).
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

    def _hold_back(self, held: HeldResponse, body: list[bytes], *, whole: bool) -> None:
        """Add to the held response. Once it is complete or too long to hold, check whether it rejects the grant."""
        held.add(body, whole=whole)
        if whole:
            self._release_upstream()
        if self._response_phase == states.HELD and (whole or held.is_full):
            self._check_rejection(held)

    def _deliver_held(self, held: HeldResponse) -> None:
        """Deliver the held response. More of its body may follow."""
        self._held_response = None
        if held.whole:
            self._finish(held.serialize())
            return
        self._replay_body = None
        self._enter_response(states.PASSING)
        self._deliver(held.serialize())

    def _deliver(self, data: bytes) -> None:
        self._sent += len(data)
        self._caller_connection.deliver(data)

    # Redacted bodies.

    def _redact(self, head: ResponseHead, redactor: Redactor) -> bool:
        """Prepare to redact the body after this head. If it cannot be decoded, end the exchange and return False."""
        self._status = head.status
        if head.length:
            try:
                self._redacted = RedactedBody(head, redactor)
            except UnreadableCoding as error:
                self._fail_unreadable(error)
                return False
        return True

    def _fail_unreadable(self, error: UnreadableCoding) -> None:
        """Fail, since a body that cannot be decoded may hold a secret."""
        integration, grant = self._require_integration(), self._grant
        if grant is not None and self._response_phase != states.PASSING and self._status in integration.watched:
            # The status alone may reject the grant, and then the next request must not use it.
            integration.grant_source.report_rejection(grant, self._status, None)
        self._fail(Problem("upstream_protocol_error", str(error), sent="maybe"))

    @property
    def _is_stalled(self) -> bool:
        """Return True while the response must wait until the caller has read more, or until the grant is renewed."""
        return self._caller_blocked or self._response_phase == states.CHECKED

    def _deliver_redacted(self, redacted: RedactedBody, head: ResponseHead | None = None) -> None:
        """Redact and deliver the part of the body that has arrived, in steps. `head` comes with the first part.

        After `_STEPS_PER_TURN` steps, a task delivers the rest, so that other exchanges have their turn.
        """
        for _ in range(_STEPS_PER_TURN):
            if head is None and self._is_stalled:
                return
            try:
                piece = redacted.step()
            except UnreadableCoding as error:
                self._fail_unreadable(error)
                return
            if piece or head is not None or redacted.over:
                self._deliver_part(head, [piece] if piece else [], whole=redacted.over)
                head = None
            if self.is_over or not redacted.can_step:
                return
        if not self._stepping:
            self._stepping = True
            if (connection := self._attached()) is not None:
                connection.pause()
            self._worker.run_in_task(self._deliver_redacted_rest, self._fail, self.request_id)

    async def _deliver_redacted_rest(self) -> None:
        """Deliver the rest of a body that takes many steps, one call for each turn of the loop."""
        try:
            while True:
                await asyncio.sleep(0)
                redacted = self._redacted
                if self.is_over or self._is_stalled or redacted is None or not redacted.can_step:
                    break
                self._deliver_redacted(redacted)
        finally:
            self._stepping = False
        self._resume_response()

    def _resume_response(self) -> None:
        """Deliver the part of the response that has arrived, then read on, unless the response is stalled."""
        redacted = self._redacted
        if redacted is not None and redacted.can_step and not (self.is_over or self._is_stalled or self._stepping):
            self._deliver_redacted(redacted)
        if self.is_over or self._is_stalled or (redacted is not None and redacted.can_step):
            return
        if (connection := self._attached()) is not None:
            connection.resume()

    # End.

    def _finish(self, data: bytes, *, upstream_completed: bool = True) -> None:
        """Deliver the last bytes of the response, the upstream's or Sidekey's own, and end the exchange."""
        self._enter_response(states.COMPLETE)
        if data:
            self._deliver(data)
        self._release_upstream()
        self._end("", None, upstream_completed)
        self._caller_connection.exchange_ended(keep_alive=self._keep_alive)

    def _release_upstream(self) -> None:
        """Release the connection. It closes if the response came before the end of the request."""
        if (connection := self._attached()) is not None:
            connection.release(reusable=self._request.complete and self._request_phase != states.SENDING)
        self._upstream = None

    def _drop_upstream(self) -> None:
        """Abort the connection if it still carries this exchange."""
        if (connection := self._attached()) is not None:
            connection.abort()
        self._upstream = None

    def request_unreadable(self, problem: Problem) -> None:
        self._fail(problem)

    def _fail(self, problem: Problem) -> None:
        """End with an error response, or cut a response that has begun, so that it never looks complete."""
        if self.is_over:
            return
        sent = "maybe" if self._retried or self._upstream is not None else problem.sent
        self._drop_upstream()
        self._held_response = None
        if self._response_phase == states.PASSING:
            self._enter_response(states.CUT)
            self._end(problem.code, problem)
            self._caller_connection.close(cut=True)
            return
        request, worker, integration = self._request, self._worker, self._integration
        keep_alive = self._keep_alive and request.complete and request.head.http_1_1
        closing = _CLOSING if self._tunnel is None else _CLOSING_TUNNEL
        self._keep_alive = keep_alive and problem.code not in closing and not worker.draining
        self._status = problem.status
        response = serialize_problem(
            problem,
            request_id=self.request_id,
            # Callers of a preset do not see its integration.
            integration=None
            if integration is None or self._preset or integration.name == NO_INTEGRATION
            else integration.name,
            sent=sent,
            close=not self._keep_alive,
            to_head=request.head.method == b"HEAD",
            via=request.rules.via,
        )
        self._enter_response(states.COMPLETE)
        self._deliver(response)
        self._end(problem.code, problem)
        self._caller_connection.exchange_ended(keep_alive=self._keep_alive)

    def _respond_as_last_hop(self) -> None:
        """Respond to an OPTIONS request whose Max-Forwards is 0 (RFC 9110 7.6.2)."""
        request = self._request
        self._status = 204
        self._keep_alive &= request.complete and request.head.http_1_1 and not self._worker.draining
        allow = self._require_integration().rules.allow.encode()
        close = not self._keep_alive
        response = serialize_options_response(
            request_id=self.request_id, allow=allow, close=close, via=request.rules.via
        )
        self._finish(response, upstream_completed=False)

    def caller_lost(self) -> None:
        if self.is_over:
            return
        self._drop_upstream()
        self._held_response = None
        self._enter_response(states.CUT)
        self._end(CALLER_GONE)

    def expired(self) -> None:
        """Fail because the whole exchange took longer than timeouts.total."""
        self.deadline = NEVER
        self._fail(Problem("upstream_timeout", "the exchange took longer than timeouts.total", sent="maybe"))

    def _end(self, code: str, problem: Problem | None = None, upstream_completed: bool = False) -> None:
        """Release all resources and report the exchange. Called once.

        `problem` is set if Sidekey failed the request. `upstream_completed` is True if the whole response came from the
        upstream.
        """
        self._enter(states.OVER)
        self._awaits_connection = False
        task = self._task
        if task is not None:
            # Break the reference cycle between task and exchange.
            self._task = self._body_waiter = None
            task.cancel()
        if self._in_flight_counter is not None:
            self._in_flight_counter.leave()
            self._in_flight_counter = None
        if self._signed_request is not None:
            self._signed_request.end()
        if self._request.rules.timeouts.total:
            self._worker.deadlines.forget(self)
        self._report(code, problem, upstream_completed)

    # Backpressure: first of the request, then of the response.

    def upstream_full(self) -> None:
        self._caller_connection.pause_body()

    def upstream_drained(self) -> None:
        self._caller_connection.resume_body()
        signed = self._signed_request
        if signed is not None:
            self._write_next_chunk(signed)

    def caller_full(self) -> None:
        self._caller_blocked = True
        if (connection := self._attached()) is not None:
            connection.pause()

    def caller_drained(self) -> None:
        self._caller_blocked = False
        self._resume_response()
