"""The report at the end of an exchange: metrics, lines in the access and audit logs, and failed requests."""

from __future__ import annotations

from typing import Final

from sidekey.errors import Problem
from sidekey.observe.access import AccessLine
from sidekey.observe.metrics import SEPARATE_STATUSES, UNKNOWN, IntegrationStats
from sidekey.policy.decide import named_origin
from sidekey.policy.identifiers import PRESET
from sidekey.policy.identify import is_forward, named_id
from sidekey.policy.messages import trace_id
from sidekey.policy.tunnel import TunnelContext
from sidekey.policy.urls import Origin
from sidekey.policy.websocket import SWITCHING_PROTOCOLS
from sidekey.proxy.downstream.connection import CallerConnection
from sidekey.proxy.downstream.request_parser import CallerRequest
from sidekey.proxy.events import ExchangeEvents
from sidekey.proxy.exchange.timing import WaitTimes
from sidekey.proxy.routing.compiled import CompiledIntegration, Destination
from sidekey.proxy.routing.router import Router
from sidekey.proxy.worker import Worker
from sidekey.snapshot.snapshot import NO_INTEGRATION

_OUTCOMES: Final[tuple[str, ...]] = tuple(
    str(status) if status in SEPARATE_STATUSES else f"{status // 100}xx" for status in range(600)
)
"""Metric outcome for each upstream status."""
_ATTEMPTS: Final[dict[tuple[bool, bool], str]] = {
    (False, False): "",
    (True, False): "retried",
    (False, True): "replayed",
    (True, True): "retried,replayed",
}
"""The `attempt` field of the log, by whether the request was retried, and replayed with a newer grant."""


class ExchangeBase(ExchangeEvents):
    """Base of `Exchange`: the fields that the report needs, which `Exchange` sets, and the report itself.

    `_caller_connection` is the connection that sent the request. `_tunnel` is the tunnel that carries it, if any.
    `_integration` and `_destination` are None until they are known. `_preset` is the ID of the preset that was used,
    `_caller_name` the name of the caller whose token the request has. `_address` is the address of the last upstream.
    `_status` and `_sent` are the status and size of the response. `_waits` is None if the request was sent at once and
    the response came whole.
    """

    __slots__ = (
        "_address",
        "_began",
        "_caller_connection",
        "_caller_name",
        "_destination",
        "_integration",
        "_preset",
        "_replayed",
        "_request",
        "_retried",
        "_router",
        "_sent",
        "_status",
        "_tunnel",
        "_waits",
        "_worker",
        "request_id",
    )

    def __init__(
        self,
        worker: Worker,
        router: Router,
        caller: CallerConnection,
        request: CallerRequest,
        tunnel: TunnelContext | None,
    ) -> None:
        self.request_id = worker.next_id()
        self._worker = worker
        self._router = router
        self._caller_connection = caller
        self._request = request
        self._tunnel = tunnel
        self._integration: CompiledIntegration | None = None
        self._destination: Destination | None = None
        self._preset = self._address = self._caller_name = ""
        self._began = 0.0
        self._waits: WaitTimes | None = None
        self._sent = self._status = 0
        self._replayed = self._retried = False

    def _wait_times(self) -> WaitTimes:
        waits = self._waits
        if waits is None:
            waits = self._waits = WaitTimes(self._began)
        return waits

    def _report(self, code: str, problem: Problem | None, upstream_completed: bool) -> None:
        """Count and log the exchange, which has ended.

        `code` is the code of the problem that ended it, or empty. `upstream_completed` is True if the whole response
        came from the upstream.
        """
        worker, integration, status = self._worker, self._integration, self._status
        stats = worker.metrics.unknown if integration is None else integration.stats
        outcome = code or _OUTCOMES[status]
        seconds = worker.end_request(self._began)
        bucket = stats.record(outcome, seconds)
        if self._waits is not None:
            self._waits.end(worker.metrics, self._began + seconds, upstream_completed=upstream_completed)
        elif upstream_completed:
            worker.metrics.first_bytes.add(bucket, seconds)
        if code or self._preset or self._caller_name:
            self._count_labels(stats, code, outcome, problem)
        if code or status >= 400:
            self._log(code, seconds, upstream_completed, problem, logged=worker.access.logs_errors, failed=stats)
        elif worker.access.logs_all or worker.audit.logs_uses:
            # A WebSocket writes the access line at its end.
            logged = worker.access.logs_all and status != SWITCHING_PROTOCOLS
            self._log(code, seconds, upstream_completed, problem, logged=logged)

    def _log(
        self,
        code: str,
        seconds: float,
        upstream_completed: bool,
        problem: Problem | None,
        *,
        logged: bool,
        failed: IntegrationStats | None = None,
    ) -> None:
        """Write the line of the access log, if `logged`, and of the audit log.

        `failed` is set if the request failed: the statistics of its integration, for the list of failed requests.
        """
        access, audit, note_failure = self._worker.access, self._worker.audit, self._worker.metrics.note_failure
        used = audit.logs_uses and self._has_used_credential
        if logged or used or (failed is not None and note_failure is not None):
            line = self._line(code, seconds, upstream_completed, problem)
            if logged:
                access.write(line)
            if used:
                audit.log_use(line)
            if failed is not None and note_failure is not None:
                note_failure(failed, line._replace(caller=self._sender()))

    def _sender(self) -> str:
        """Return the name of the caller or operator for the list of failed requests."""
        operator = self._caller_connection.operator
        return self._caller_name if operator is None else operator.name

    def _count_labels(self, stats: IntegrationStats, code: str, outcome: str, problem: Problem | None) -> None:
        """Count the request by caller, preset and reason of denial. Few requests have one of them."""
        metrics = self._worker.metrics
        if self._caller_name:
            metrics.count_caller(self._caller_name, outcome)
        if self._preset:
            metrics.count_preset(self._preset, outcome)
        elif code and self._tunnel is None and self._request.head.target.startswith(PRESET):
            metrics.count_preset(UNKNOWN, outcome)
        if problem is not None and problem.denial is not None:
            stats.count_denial(problem.denial)

    @property
    def _has_used_credential(self) -> bool:
        """Return True if the request was sent to an upstream with an integration's credential."""
        integration = self._integration
        return bool(self._address) and integration is not None and integration.name != NO_INTEGRATION

    def _line(self, code: str, seconds: float, upstream_completed: bool, problem: Problem | None) -> AccessLine:
        request, integration, destination = self._request, self._integration, self._destination
        tunnel, head = self._tunnel, request.head
        if tunnel is not None:
            head = tunnel.make_absolute(head)
        named, base = "", None
        if integration is not None:
            named, base = integration.name, integration.rules.base
        elif request.problem is None:
            # The request was denied before the look-up, or the response must not name the integration, but the log may.
            configured = self._router.find_configured(named_id(head, tunnel))
            if configured is not None:
                named, base = configured.id, configured.base
        if destination is not None:
            origin: Origin | None = destination.route.origin
        elif tunnel is not None:
            origin = tunnel.origin
        elif request.problem is None:
            origin = named_origin(head, base, None if integration is None else integration.rules)
        else:
            # The target may be incomplete.
            origin = None
        # The door of a request that could not be read is unknown: it counts as the reverse proxy's.
        door = "forward" if request.problem is None and is_forward(head.target) else "reverse"
        if self._preset or head.target.startswith(PRESET):
            door = "preset"
        # Another target may contain a password in place of a host, or an unknown ID.
        shown = integration is not None and (destination is not None or code == "target_denied")
        waits = self._waits
        return AccessLine(
            named or UNKNOWN,
            self._caller_name,
            door if tunnel is None else "tunnel",
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
            (seconds if upstream_completed else 0.0) if waits is None else waits.first_byte,
            request.received,
            self._sent,
            self._preset,
            head.target if shown else None,
        )

    @property
    def _peer(self) -> str:
        """Return the address of the caller, or nothing for an operator."""
        return self._caller_connection.address if self._caller_connection.operator is None else ""
