"""A CONNECT, from its head to its response: refused with the reason in the status line, or a tunnel that begins."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from sidekey.ca.leaf_source import LeafSource
from sidekey.errors import CALLER_GONE, Problem, ProblemError
from sidekey.observe.access import AccessLine
from sidekey.observe.metrics import UNKNOWN
from sidekey.policy.decide import Denied, TunnelAdmitted, decide_connect, named_id
from sidekey.policy.messages import trace_id
from sidekey.policy.urls import Authority
from sidekey.proxy.downstream.connection import NO_DESCRIPTOR, CallerConnection
from sidekey.proxy.downstream.request_parser import CallerRequest
from sidekey.proxy.downstream.response_writer import REQUEST_ID, local_reply
from sidekey.proxy.events import CallerEvents
from sidekey.proxy.routing.compiled import CompiledIntegration
from sidekey.proxy.routing.router import RELOADED, Router
from sidekey.proxy.tunnel.passthrough import PassthroughTunnel
from sidekey.proxy.tunnel.registry import RETRY_AFTER, Tunnels
from sidekey.proxy.tunnel.tunnel import ConnectInfo, Tunnel, TunnelRecord, caller_name
from sidekey.proxy.upstream.pools import Pools
from sidekey.proxy.worker import Worker
from sidekey.snapshot.snapshot import NOBODY

_ESTABLISHED: Final = b"HTTP/1.1 200 Connection established"
_HEAD_END: Final = b"\r\n\r\n"

_STOPPING: Final = Problem("overloaded", "Sidekey is stopping", headers=(RETRY_AFTER,))
_UNSIGNED: Final = Problem(
    "overloaded", "the certificate for the host was not signed within timeouts.connect", headers=(RETRY_AFTER,)
)

Opened = TunnelAdmitted[CompiledIntegration]


class ConnectHandler(CallerEvents):
    """What answers one CONNECT. Once it has answered, nothing of it is left but the tunnel.

    `_candidate` is the integration that was named, as far as that may be told; `_authority` the target, once it was
    read; `_lifetime` the tunnel's place among all of them, once it was admitted. `_dialled_at` is when the connection
    was begun that its bytes are to pass to.
    """

    __slots__ = (
        "_authority",
        "_began",
        "_caller",
        "_caller_name",
        "_candidate",
        "_dialled_at",
        "_index",
        "_is_over",
        "_leaves",
        "_lifetime",
        "_pools",
        "_request",
        "_request_id",
        "_tunnels",
        "_worker",
    )

    def __init__(
        self,
        worker: Worker,
        index: Router,
        pools: Pools,
        tunnels: Tunnels,
        leaves: LeafSource,
        *,
        caller: CallerConnection,
        request: CallerRequest,
    ) -> None:
        self._worker = worker
        self._index = index
        self._pools = pools
        self._tunnels = tunnels
        self._leaves = leaves
        self._caller = caller
        self._request = request
        self._request_id = worker.next_id()
        self._began = self._dialled_at = 0.0
        self._caller_name = ""
        self._is_over = False
        self._authority: Authority | None = None
        self._candidate: CompiledIntegration | None = None
        self._lifetime: TunnelRecord | None = None

    # Decisions.

    def begin(self) -> None:
        """Admit the tunnel, or refuse it."""
        self._began = self._worker.clock()
        try:
            problem = self._start()
        except Exception as error:  # noqa: BLE001  not the business of whatever ended just before and let this one begin
            problem = self._worker.defect(error, self._request_id)
        if problem is not None:
            self._fail(problem)

    def _start(self) -> Problem | None:
        """Admit the tunnel and set it going, or say why not."""
        request = self._request
        if request.problem is not None:
            return request.problem
        opened = self._decide()
        if isinstance(opened, Problem):
            return opened
        if self._worker.finishing:
            return _STOPPING
        problem = self._tunnels.enter(caller_name(opened), request.rules)
        if problem is not None:
            return problem
        about = ConnectInfo(self._request_id.decode(), self._caller.address, self._began)
        self._lifetime = TunnelRecord(self._worker, self._tunnels, opened, about)
        if opened.candidate is not None and opened.candidate.rules.unresolved:
            self._wait(self._resolve)
            return None
        self._prepare(opened)
        return None

    def _decide(self) -> Opened | Problem:
        rules = self._request.rules
        decision = decide_connect(self._request.head, rules.callers, self._index, awaits_store=rules.awaits_store)
        self._candidate, self._authority = decision.candidate, decision.authority
        if isinstance(decision, Denied):
            self._caller_name = decision.caller
            return decision.problem
        self._caller_name = caller_name(decision)
        return decision

    async def _resolve(self) -> None:
        """Decide again once it is known what the named integration's targets are judged by."""
        candidate = self._candidate
        if candidate is None:
            raise RuntimeError("no integration was named")
        await self._index.resolve(candidate)
        if self._is_over:
            return
        opened = self._decide()
        if isinstance(opened, Problem):
            raise ProblemError(opened)
        if opened.candidate is not None and opened.candidate.rules.unresolved:
            raise ProblemError(RELOADED)
        self._prepare(opened)

    # What a tunnel needs before it begins: a certificate, or the connection that its bytes pass to.

    def _wait(self, work: Callable[[], Awaitable[None]]) -> None:
        self._worker.attempt(work, self._fail, self._request_id)

    def _prepare(self, opened: Opened) -> None:
        if opened.passes and opened.candidate is not None:
            self._wait(partial(self._connect, opened, opened.candidate))
        elif (context := self._leaves.context_for(opened.authority.host)) is not None:
            self._grant(Tunnel(self._worker, self._index, self._admitted(), opened, context))
        else:
            self._wait(partial(self._obtain_leaf, opened))

    async def _obtain_leaf(self, opened: Opened) -> None:
        try:
            async with asyncio.timeout(self._request.rules.timeouts.connect):
                context = await self._leaves.obtain(opened.authority.host)
        except TimeoutError:
            raise ProblemError(_UNSIGNED) from None
        self._grant(Tunnel(self._worker, self._index, self._admitted(), opened, context))

    async def _connect(self, opened: Opened, nobody: CompiledIntegration) -> None:
        worker, timeouts = self._worker, self._request.rules.timeouts
        passage = PassthroughTunnel(worker, self._admitted(), timeouts.tunnel_idle)
        if not worker.enter_passage(passage):
            raise ProblemError(NO_DESCRIPTOR)
        origin, far = opened.authority.origin("http"), passage.far
        begun = False
        self._dialled_at = worker.clock()
        try:
            await self._pools.connect_bare(lambda: far, origin, nobody.integration, nobody.stats, timeouts.connect)
            if far.is_lost:
                far.transport.abort()
                detail = "the upstream closed the connection at once"
                raise ProblemError(Problem("upstream_unreachable", detail, error="connection_refused"))
            passage.connected(self._connecting())
            begun = self._grant(passage)
            if not begun:
                far.transport.abort()
        finally:
            if not begun:
                worker.leave_passage(passage)

    def _connecting(self) -> float:
        """The seconds for which a connection has been awaited; 0 where none is."""
        return self._worker.clock() - self._dialled_at if self._dialled_at else 0.0

    def _admitted(self) -> TunnelRecord:
        lifetime = self._lifetime
        if lifetime is None:
            raise RuntimeError("the tunnel was not admitted")
        return lifetime

    # Responses.

    def _grant(self, tunnel: Tunnel | PassthroughTunnel) -> bool:
        """Say that the tunnel begins, and let it; whether it does: the caller may have left, or a drain be further."""
        if not self._is_over and self._worker.finishing:
            self._fail(_STOPPING)
        if self._is_over:
            return False
        self._is_over = True
        caller = self._caller
        caller.deliver(b"".join((_ESTABLISHED, REQUEST_ID, self._request_id, _HEAD_END)))
        transport, data, full = caller.hand_over()
        self._worker.handed_over(caller, tunnel)
        tunnel.begin(transport, data, full=full)
        return True

    def _fail(self, problem: Problem) -> None:
        """Refuse; the connection closes, since a caller may have sent on into the tunnel that there is not."""
        if self._is_over:
            return
        candidate = self._candidate
        reply = local_reply(
            problem,
            request_id=self._request_id,
            integration=None if candidate is None or candidate.name == NOBODY else candidate.name,
            sent="no",
            close=True,
            head=False,
            via=self._request.rules.via,
            phrase=problem.phrase.encode(),
        )
        self._caller.deliver(reply)
        self._end(problem.code, len(reply), problem)
        self._caller.exchange_over(keep_alive=False)

    def _end(self, code: str, sent: int, problem: Problem | None = None) -> None:
        """Count a CONNECT that comes to nothing, and log it; `problem` is what it was answered with."""
        self._is_over = True
        worker, candidate, authority = self._worker, self._candidate, self._authority
        seconds = worker.clock() - self._began
        stats = worker.metrics.unknown if candidate is None else candidate.stats
        stats.record(code, seconds)
        if problem is not None and problem.denial is not None:
            stats.count_denial(problem.denial)
        if self._caller_name:
            worker.metrics.count_caller(self._caller_name, code)
        if self._lifetime is not None:
            self._lifetime.end()
        connecting = self._connecting()
        if connecting:
            worker.metrics.connections.record(connecting)
        if worker.access.errors:
            line = AccessLine(
                integration=self._named(),
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
                peer=self._caller.address,
                upstream="",
                duration=seconds,
                grant=0.0,
                connect=connecting,
                first_byte=0.0,
                bytes_in=0,
                bytes_out=sent,
            )
            worker.access.write(line)

    def _named(self) -> str:
        """The integration that was named, also where the caller may not know of it."""
        if self._candidate is not None:
            return self._candidate.name
        head = self._request.head
        configured = None if self._request.problem is not None else self._index.configured(named_id(head))
        return UNKNOWN if configured is None else configured.id

    # From the caller's connection.

    def upload(self) -> None:
        """What follows a CONNECT is not read here."""

    def refuse(self, problem: Problem) -> None:
        """Answer with this."""
        self._fail(problem)

    def caller_lost(self) -> None:
        """The caller has left before the response."""
        if not self._is_over:
            self._end(CALLER_GONE, 0)

    def caller_full(self) -> None:
        """The response is short."""

    def caller_drained(self) -> None:
        """As above."""
