"""A CONNECT, from its head to its response: a refusal with the reason in the status line, or a tunnel."""

from __future__ import annotations

import asyncio
import ssl
from functools import partial
from typing import Final

from sidekey.ca.leaf_source import LeafSource
from sidekey.errors import CALLER_GONE, Problem, ProblemError
from sidekey.observe.access import AccessLine
from sidekey.observe.metrics import UNKNOWN
from sidekey.policy.decide_connect import decide_connect
from sidekey.policy.decision import Denied, TunnelAdmitted
from sidekey.policy.identify import named_id
from sidekey.policy.messages import trace_id
from sidekey.policy.urls import Authority
from sidekey.proxy.downstream.connection import NO_DESCRIPTOR, CallerConnection
from sidekey.proxy.downstream.request_parser import CallerRequest
from sidekey.proxy.downstream.response_writer import REQUEST_ID, serialize_problem
from sidekey.proxy.events import CallerEvents
from sidekey.proxy.limits import RETRY_AFTER, STOPPING
from sidekey.proxy.routing.compiled import CompiledIntegration
from sidekey.proxy.routing.router import RELOADED, Router
from sidekey.proxy.tunnel.passthrough import PassthroughTunnel
from sidekey.proxy.tunnel.registry import Tunnels
from sidekey.proxy.tunnel.tunnel import ConnectInfo, Tunnel, TunnelRecord, caller_name
from sidekey.proxy.upstream.pools import Pools
from sidekey.proxy.worker import Worker
from sidekey.snapshot.snapshot import NO_INTEGRATION

_ESTABLISHED: Final = b"HTTP/1.1 200 Connection established"
_HEAD_END: Final = b"\r\n\r\n"

_CERTIFICATE_LATE: Final = Problem(
    "overloaded", "the certificate for the host was not signed within timeouts.connect", headers=(RETRY_AFTER,)
)

Admission = TunnelAdmitted[CompiledIntegration]
"""The decision to admit a tunnel. If it `passes`, bytes go to the target unread. Otherwise Sidekey terminates TLS."""


class ConnectHandler(CallerEvents):
    """Responds to one CONNECT. Once a tunnel has begun, this object is no longer used.

    `_candidate` is the integration that the CONNECT names and `_authority` its target. Both are None until they are
    known. `_record` counts and logs the tunnel, once it is admitted. `_task` runs `open`. `_connect_began` is the time
    at which `open` began to connect to the target of a passthrough tunnel, or 0.
    """

    __slots__ = (
        "_authority",
        "_began",
        "_caller_connection",
        "_caller_name",
        "_candidate",
        "_connect_began",
        "_is_over",
        "_leaves",
        "_pools",
        "_record",
        "_request",
        "_request_id",
        "_router",
        "_task",
        "_tunnels",
        "_worker",
    )

    def __init__(
        self,
        worker: Worker,
        router: Router,
        pools: Pools,
        tunnels: Tunnels,
        leaves: LeafSource,
        *,
        caller: CallerConnection,
        request: CallerRequest,
    ) -> None:
        self._worker = worker
        self._router = router
        self._pools = pools
        self._tunnels = tunnels
        self._leaves = leaves
        self._caller_connection = caller
        self._request = request
        self._request_id = worker.next_id()
        self._began = self._connect_began = 0.0
        self._caller_name = ""
        self._is_over = False
        self._authority: Authority | None = None
        self._candidate: CompiledIntegration | None = None
        self._record: TunnelRecord | None = None
        self._task: asyncio.Task[None] | None = None

    # Decisions.

    def begin(self) -> None:
        """Admit the tunnel, or refuse it."""
        self._began = self._worker.clock()
        try:
            problem = self._start()
        except Exception as error:  # noqa: BLE001  a defect must not reach the exchange that ended and started this one
            problem = self._worker.report_defect(error, self._request_id)
        if problem is not None:
            self._fail(problem)

    def _start(self) -> Problem | None:
        """Admit the tunnel, then begin it now or in a task. Return the problem if it is refused."""
        request = self._request
        if request.problem is not None:
            return request.problem
        admission = self._decide()
        if isinstance(admission, Problem):
            return admission
        if self._worker.finishing:
            return STOPPING
        problem = self._worker.enter_tunnel(caller_name(admission), request.rules)
        if problem is not None:
            return problem
        info = ConnectInfo(self._request_id.decode(), self._caller_connection.address, self._began)
        self._record = TunnelRecord(self._worker, self._tunnels, admission, info)
        if not self._open_at_once(admission):
            self._task = self._worker.run_in_task(partial(self.open, admission), self._fail, self._request_id)
        return None

    def _decide(self) -> Admission | Problem:
        rules = self._request.rules
        decision = decide_connect(self._request.head, rules.callers, self._router, awaits_store=rules.awaits_store)
        self._candidate, self._authority = decision.candidate, decision.authority
        if isinstance(decision, Denied):
            self._caller_name = decision.caller
            return decision.problem
        self._caller_name = caller_name(decision)
        return decision

    # Preparation: secrets, and the connection to the target or a certificate.

    async def open(self, admission: Admission) -> None:
        """Await missing secrets, then the connection to the target or a certificate, and begin the tunnel.

        Raises ProblemError.
        """
        candidate, timeouts = admission.candidate, self._request.rules.timeouts
        if candidate is not None and candidate.rules.unresolved:
            await self._router.resolve(candidate)
            decision = self._decide()
            if isinstance(decision, Problem):
                raise ProblemError(decision)
            admission, candidate = decision, decision.candidate
            if candidate is not None and candidate.rules.unresolved:
                raise ProblemError(RELOADED)
        if admission.passes and candidate is not None:
            await self._open_passthrough(admission, candidate)
            return
        if self._open_at_once(admission):
            return
        try:
            async with asyncio.timeout(timeouts.connect):
                context = await self._leaves.obtain(admission.authority.host)
        except TimeoutError:
            raise ProblemError(_CERTIFICATE_LATE) from None
        self._open_with(admission, context)

    def _open_at_once(self, admission: Admission) -> bool:
        """Begin the tunnel if it needs only a certificate, and that is cached. Return False otherwise."""
        candidate = admission.candidate
        if candidate is not None and (admission.passes or candidate.rules.unresolved):
            return False
        context = self._leaves.context_for(admission.authority.host)
        if context is None:
            return False
        self._open_with(admission, context)
        return True

    def _open_with(self, admission: Admission, context: ssl.SSLContext) -> None:
        certified = self._caller_connection.certified
        self._accept(
            Tunnel(self._worker, self._router, self._require_record(), admission, context, certified=certified)
        )

    async def _open_passthrough(self, admission: Admission, integration: CompiledIntegration) -> None:
        """Connect to the target, then begin a passthrough tunnel. Raises ProblemError."""
        worker, timeouts = self._worker, self._request.rules.timeouts
        tunnel = PassthroughTunnel(worker, self._require_record(), timeouts.tunnel_idle)
        if not worker.enter_passthrough(tunnel):
            raise ProblemError(NO_DESCRIPTOR)
        origin, upstream_end = admission.authority.origin("http"), tunnel.upstream_end
        begun = False
        self._connect_began = worker.clock()
        try:
            await self._pools.connect_unpooled(
                lambda: upstream_end, origin, integration.integration, integration.stats, timeouts.connect
            )
            if upstream_end.is_lost:
                upstream_end.transport.abort()
                detail = "the upstream closed the connection at once"
                raise ProblemError(Problem("upstream_unreachable", detail, error="connection_refused"))
            tunnel.set_connect_seconds(self._connect_seconds())
            begun = self._accept(tunnel)
            if not begun:
                upstream_end.transport.abort()
        finally:
            if not begun:
                worker.leave_passthrough(tunnel)

    def _connect_seconds(self) -> float:
        """Return the seconds since Sidekey began to connect to the target, or 0 if it did not."""
        return self._worker.clock() - self._connect_began if self._connect_began else 0.0

    def _require_record(self) -> TunnelRecord:
        record = self._record
        if record is None:
            raise RuntimeError("the tunnel was not admitted")
        return record

    # Responses.

    def _accept(self, tunnel: Tunnel | PassthroughTunnel) -> bool:
        """Respond with 200 and begin the tunnel. Return False if the caller has left or Sidekey is stopping."""
        if not self._is_over and self._worker.finishing:
            self._fail(STOPPING)
        if self._is_over:
            return False
        self._is_over = True
        # Break the reference cycle between task and handler.
        self._task = None
        caller = self._caller_connection
        caller.deliver(b"".join((_ESTABLISHED, REQUEST_ID, self._request_id, _HEAD_END)))
        transport, data, full = caller.release_transport()
        self._worker.replace_connection(caller, tunnel)
        tunnel.begin(transport, data, full=full)
        return True

    def _fail(self, problem: Problem) -> None:
        """Refuse the CONNECT and close the connection: the caller may have sent data for the tunnel already."""
        if self._is_over:
            return
        candidate = self._candidate
        response = serialize_problem(
            problem,
            request_id=self._request_id,
            integration=None if candidate is None or candidate.name == NO_INTEGRATION else candidate.name,
            sent="no",
            close=True,
            to_head=False,
            via=self._request.rules.via,
            phrase=problem.phrase.encode(),
        )
        self._caller_connection.deliver(response)
        self._end(problem.code, len(response), problem)
        self._caller_connection.exchange_ended(keep_alive=False)

    def _end(self, code: str, sent: int, problem: Problem | None = None) -> None:
        """Count and log a CONNECT that opened no tunnel. `problem` is the response, if one was sent."""
        self._is_over = True
        task, self._task = self._task, None
        if task is not None and not self._connect_began:
            # An attempt to connect continues, so that its outcome is counted.
            task.cancel()
        worker, candidate, authority = self._worker, self._candidate, self._authority
        seconds = worker.clock() - self._began
        stats = worker.metrics.unknown if candidate is None else candidate.stats
        stats.record(code, seconds)
        if problem is not None and problem.denial is not None:
            stats.count_denial(problem.denial)
        if self._caller_name:
            worker.metrics.count_caller(self._caller_name, code)
        if self._record is not None:
            self._record.end()
        connect_seconds = self._connect_seconds()
        if connect_seconds:
            worker.metrics.connections.record(connect_seconds)
        if worker.access.logs_errors:
            line = AccessLine(
                integration=self._integration_name(),
                caller=self._caller_name,
                door="tunnel",
                method="CONNECT",
                host="" if authority is None else authority.host,
                port=0 if authority is None else authority.port,
                status=0 if problem is None else problem.status,
                code=code,
                reason="" if problem is None else problem.detail,
                error="" if problem is None else problem.error,
                attempt="",
                request_id=self._request_id.decode(),
                trace_id=trace_id(self._request.head),
                peer=self._caller_connection.address,
                upstream="",
                duration=seconds,
                grant=0.0,
                connect=connect_seconds,
                first_byte=0.0,
                bytes_in=0,
                bytes_out=sent,
            )
            worker.access.write(line)

    def _integration_name(self) -> str:
        """Return the integration that the CONNECT named, even if the caller may not use it."""
        if self._candidate is not None:
            return self._candidate.name
        head = self._request.head
        configured = None if self._request.problem is not None else self._router.find_configured(named_id(head))
        return UNKNOWN if configured is None else configured.id

    # Events of the caller's connection.

    def body_received(self) -> None:
        """Do nothing: bytes that follow a CONNECT are for the tunnel."""

    def request_unreadable(self, problem: Problem) -> None:
        """Refuse the CONNECT with this problem."""
        self._fail(problem)

    def caller_lost(self) -> None:
        """Count a CONNECT whose caller left before the response."""
        if not self._is_over:
            self._end(CALLER_GONE, 0)

    def caller_full(self) -> None:
        """Do nothing: the response is short."""

    def caller_drained(self) -> None:
        """Do nothing, as in `caller_full`."""
