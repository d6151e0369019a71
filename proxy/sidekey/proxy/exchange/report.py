"""The end of an exchange: its counts, its line in the log and in the audit, and the list of failed requests."""

from __future__ import annotations

from typing import Final

from sidekey.errors import Problem
from sidekey.observe.access import AccessLine
from sidekey.observe.metrics import SEPARATE_STATUSES, UNKNOWN, IntegrationStats
from sidekey.policy.decide import is_forward, named_id, named_origin
from sidekey.policy.messages import trace_id
from sidekey.policy.naming import PRESET
from sidekey.policy.tunnel import TunnelEntry
from sidekey.policy.urls import Origin
from sidekey.proxy.downstream.connection import CallerConnection
from sidekey.proxy.downstream.request_parser import CallerRequest
from sidekey.proxy.events import ExchangeEvents
from sidekey.proxy.exchange.timing import WaitTimes
from sidekey.proxy.routing.compiled import CompiledIntegration, Destination
from sidekey.proxy.routing.router import Router
from sidekey.proxy.worker import Worker
from sidekey.snapshot.snapshot import NOBODY

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


class ReportedExchange(ExchangeEvents):
    """The reporting half of an exchange. `Exchange` sets the fields as it goes.

    `_entry` is the tunnel that carries the request. `_integration` and `_destination` are set as far as they are known.
    `_preset` is the ID of the preset that was used, `_caller_name` the caller's name. `_address` is that of the last
    upstream. `_status` and `_sent` are the response's status and bytes. `_waits` has the times for the log, unless the
    request waited for nothing but a response that came whole.
    """

    __slots__ = (
        "_address",
        "_began",
        "_caller",
        "_caller_name",
        "_destination",
        "_entry",
        "_index",
        "_integration",
        "_preset",
        "_replayed",
        "_request",
        "_retried",
        "_sent",
        "_status",
        "_waits",
        "_worker",
        "request_id",
    )

    def __init__(
        self, worker: Worker, index: Router, caller: CallerConnection, request: CallerRequest, entry: TunnelEntry | None
    ) -> None:
        self.request_id = worker.next_id()
        self._worker = worker
        self._index = index
        self._caller = caller
        self._request = request
        self._entry = entry
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

    def _report(self, code: str, problem: Problem | None, is_answered: bool) -> None:
        """Count and log the exchange, which is over.

        `code` is that of a problem of our own, if there is one; `is_answered` is True if the upstream's response came
        whole.
        """
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
        if code or status >= 400:
            self._log(code, seconds, is_answered, problem, logged=worker.access.errors, failed=stats)
        elif worker.access.every or worker.audit.uses:
            self._log(code, seconds, is_answered, problem, logged=worker.access.every)

    def _log(
        self,
        code: str,
        seconds: float,
        is_answered: bool,
        problem: Problem | None,
        *,
        logged: bool,
        failed: IntegrationStats | None = None,
    ) -> None:
        """Write the lines of the access log, if `logged`, and of the audit. List a failed request by its counters."""
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
        """Count what few requests have: a caller's name, a preset, a reason to be denied."""
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
        """Return True if the request was sent to an upstream by an integration's rules."""
        integration = self._integration
        return bool(self._address) and integration is not None and integration.name != NOBODY

    def _line(self, code: str, seconds: float, is_answered: bool, problem: Problem | None) -> AccessLine:
        """Return the line of the log."""
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
