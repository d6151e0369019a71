"""Send presets for operators, each Idempotency-Key at most once: reserve a row, send, record the result.

A send continues if the browser disconnects.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from math import ceil
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from sidekey.api.auth.operators import Operator
from sidekey.api.errors import ApiProblem, ItemError, invalid
from sidekey.api.messages import ApiRequest
from sidekey.diagnostics.probe import ProbeResult, path_of
from sidekey.errors import Problem
from sidekey.observe.log import get_logger
from sidekey.snapshot.snapshot import Preset
from sidekey.store.audit import AuditEntry
from sidekey.store.errors import CommitUncertain, StoreError
from sidekey.store.sends import ACCEPTED, SENDING, UNKNOWN, Existing, Limited, NewSend, OtherBatch, Result, Send
from sidekey.store.store import Store

MAX_SENDS_PER_IDENTITY: Final = 8
"""Maximum sends and checks of one identity at the same time."""

MAX_SENDS: Final = 64
"""Maximum sends and checks of one process at the same time."""

_MAX_UNRECORDED: Final = 1000
"""Maximum results in memory until the store can be written. The send of a lost result is `unknown` after 90 seconds."""

_MIN_PAUSE: Final = 1.0
_MAX_PAUSE: Final = 30.0
"""Seconds between two attempts to record results."""

_SHUTDOWN_TIMEOUT: Final = 5.0
"""Seconds that shutdown waits for sends to end, and for their results to be recorded."""

_NOT_SENT: Final = "not_sent"
_OTHER_BATCH: Final = (
    "began more than 24 hours ago, after this row, or with another person, preset or `rows`: begin a new batch"
)


@dataclass(frozen=True, slots=True)
class FilledPreset:
    """A preset with the content of one request. With a `problem`, Sidekey sends nothing."""

    preset: Preset
    data: bytes
    content_type: str
    problem: Problem | None


class SubmittedSend(NamedTuple):
    """A send that an operator has submitted.

    `fill` fills the preset. It raises ApiProblem for invalid content, before anything is reserved. `build_row`
    returns the row of the send and its audit entry.
    """

    identity: str
    limits: tuple[int, int]
    fill: Callable[[], Awaitable[FilledPreset]]
    build_row: Callable[[FilledPreset], tuple[NewSend, AuditEntry]]


class SendResult(NamedTuple):
    """A send of this process: its row with the result, and the outcome of the request."""

    send: Send
    outcome: ProbeResult


class _Unrecorded(NamedTuple):
    """A result that the store does not have yet. `audited` is the audit entry of the send, if it has one."""

    new: NewSend
    result: Result
    audited: tuple[int, AuditEntry] | None


class _ReachedLimit(NamedTuple):
    """A limit that an identity has reached, until `until` on the loop's clock."""

    limits: tuple[int, int]
    until: float
    limited: Limited


class PresetSender:
    """Sends the presets that operators submit to one process.

    `store` returns the store, or raises ApiProblem without one. `probe` sends a preset with its payload, Content-Type
    and the operator's name. `report` logs a defect and returns its ID.
    """

    def __init__(
        self,
        store: Callable[[], Store],
        probe: Callable[[Preset, bytes, str, str], Awaitable[ProbeResult]],
        report: Callable[[BaseException], str],
    ) -> None:
        self._store = store
        self._probe = probe
        self._report = report
        self._running: Counter[str] = Counter()
        self._reached: dict[str, _ReachedLimit] = {}
        self._tasks: set[asyncio.Task[SendResult | Send]] = set()
        self._unrecorded: deque[_Unrecorded] = deque()
        self._retrying: asyncio.Task[None] | None = None
        self._stopping = False

    async def find_completed(self, identity: str, key: str, content: str) -> Send | None:
        """Return the completed send of a key, or None for a new key.

        Raises ApiProblem if it is running or had other content, and StoreError.
        """
        existing = await self._store().find_send(identity, key, content)
        return None if existing is None else _completed(existing)

    async def send(self, submitted: SubmittedSend) -> SendResult | Send:
        """Send a preset, or return the send of an earlier request with this key.

        The send continues if the caller is cancelled. Raises ApiProblem, StoreError: then nothing was sent.
        """
        task = asyncio.get_running_loop().create_task(self._run(submitted))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    @contextmanager
    def count_running(self, identity: str) -> Iterator[None]:
        """Count a send or check of an identity while it runs. Raises ApiProblem if too many run, or on shutdown."""
        if self._stopping:
            raise ApiProblem(
                "stopping", "Sidekey is stopping: send the request again in a moment", headers=_retry_after(5)
            )
        if self._running[identity] >= MAX_SENDS_PER_IDENTITY or self._running.total() >= MAX_SENDS:
            raise ApiProblem(
                "too_many", "several sends are under way: wait until one has ended", headers=_retry_after(1)
            )
        self._running[identity] += 1
        try:
            yield
        finally:
            self._running[identity] -= 1
            if not self._running[identity]:
                del self._running[identity]

    def stop(self) -> None:
        """Refuse new sends."""
        self._stopping = True

    async def finish(self) -> None:
        """Refuse new sends, and wait a few seconds until running ones have ended and results are recorded."""
        self.stop()
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(_SHUTDOWN_TIMEOUT):
                if self._tasks:
                    await asyncio.wait(self._tasks)
                if self._retrying is not None:
                    self._retrying.cancel()
                await self._record_all()
        if self._unrecorded:
            get_logger().warning(
                "results of sends could not be stored: they are shown as unknown", sends=len(self._unrecorded)
            )

    async def _run(self, submitted: SubmittedSend) -> SendResult | Send:
        try:
            with self.count_running(submitted.identity):
                return await self._reserve_and_send(submitted)
        except (ApiProblem, StoreError):
            raise
        except Exception as defect:  # noqa: BLE001  the edge of a task, which the caller may have left
            raise ApiProblem("internal_error", f"a defect of Sidekey, logged as {self._report(defect)}") from None

    async def _reserve_and_send(self, submitted: SubmittedSend) -> SendResult | Send:
        self._check_limit(submitted)
        filled = await submitted.fill()
        row, entry = submitted.build_row(filled)
        try:
            reservation = await self._store().reserve_send(row, entry)
        except CommitUncertain:
            # If the commit took effect, the row must not stay in the state `sending`.
            self._queue_result(_Unrecorded(row, Result(_NOT_SENT, 0, "store_unavailable", 0, ""), None))
            raise
        if isinstance(reservation, Existing):
            return _completed(reservation)
        if isinstance(reservation, OtherBatch):
            raise invalid([ItemError("/batch/id", _OTHER_BATCH)])
        if isinstance(reservation, Limited):
            self._remember_limit(submitted, reservation)
            raise _limit_problem(reservation, submitted.limits)
        started = time.perf_counter()
        outcome = await self._probe_unless_stopping(filled, row.who)
        result = _result(outcome, round((time.perf_counter() - started) * 1000))
        try:
            await self._store().record_send(row, result, reservation.audited)
        except StoreError:
            self._queue_result(_Unrecorded(row, result, reservation.audited))
        return SendResult(replace(reservation.send, **result._asdict()), outcome)

    async def _probe_unless_stopping(self, filled: FilledPreset, who: str) -> ProbeResult:
        problem = filled.problem
        if problem is None and self._stopping:
            problem = Problem("overloaded", "Sidekey is stopping: nothing was sent")
        if problem is None:
            return await self._probe(filled.preset, filled.data, filled.content_type, who)
        return ProbeResult(
            f"POST {path_of(filled.preset)}", problem.status, problem.code, problem.detail, maybe_sent=False
        )

    def _remember_limit(self, submitted: SubmittedSend, limited: Limited) -> None:
        now = asyncio.get_running_loop().time()
        self._reached = {identity: limit for identity, limit in self._reached.items() if limit.until > now}
        self._reached[submitted.identity] = _ReachedLimit(submitted.limits, now + limited.retry_after, limited)

    def _check_limit(self, submitted: SubmittedSend) -> None:
        """Raise ApiProblem while a reached limit lasts, without a query to the database."""
        reached = self._reached.get(submitted.identity)
        if reached is None or reached.limits != submitted.limits:
            return
        remaining = ceil(reached.until - asyncio.get_running_loop().time())
        if remaining > 0:
            raise _limit_problem(reached.limited._replace(retry_after=remaining), submitted.limits)

    def _queue_result(self, unrecorded: _Unrecorded) -> None:
        """Record a result once the store can be written. Memory holds no content until then."""
        if len(self._unrecorded) < _MAX_UNRECORDED:
            self._unrecorded.append(unrecorded._replace(new=replace(unrecorded.new, content="")))
        if self._retrying is None or self._retrying.done():
            self._retrying = asyncio.get_running_loop().create_task(self._retry())

    async def _retry(self) -> None:
        pause = _MIN_PAUSE
        try:
            while self._unrecorded:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _MAX_PAUSE)
                # The metrics report the error.
                with suppress(StoreError):
                    await self._record_all()
        except Exception as defect:  # noqa: BLE001  the edge of a task
            self._report(defect)

    async def _record_all(self) -> None:
        while self._unrecorded:
            await self._store().record_send(*self._unrecorded[0])
            self._unrecorded.popleft()


def limits_of(operator: Operator) -> tuple[int, int]:
    """Return how many sends an operator may make in a minute and in 24 hours."""
    return operator.per_minute or 0, operator.per_day or 0


def new_send(request: ApiRequest, filled: FilledPreset, key: str, content: str) -> tuple[NewSend, AuditEntry]:
    """Build the row to reserve for a filled preset, and the audit entry of the send."""
    operator, preset = request.operator, filled.preset
    per_minute, per_day = limits_of(operator)
    new = NewSend(
        identity=operator.identity,
        key=key,
        who=operator.name,
        label=operator.label,
        content=content,
        integration=preset.rules.integration,
        preset=preset.id,
        target=preset.url,
        method=preset.rules.method.decode(),
        host="" if filled.problem is not None else urlsplit(preset.url).hostname or "",
        per_minute=per_minute,
        per_day=per_day,
    )
    entry = request.audit_entry()
    return new, replace(entry, action="send", kind="preset", id=preset.id, row_id=preset.row, outcome="sent")


def _completed(existing: Existing) -> Send:
    """Return the send of a repeated key. Raises ApiProblem if it is running, or has other content."""
    if not existing.has_same_content:
        text = "this Idempotency-Key was used for other content, or more than 24 hours ago: use a new one"
        raise ApiProblem("key_reused", text)
    if existing.send.outcome == SENDING:
        raise ApiProblem("sending", "it is being sent: fetch its result in a moment", headers=_retry_after(2))
    return existing.send


def _limit_problem(limited: Limited, limits: tuple[int, int]) -> ApiProblem:
    minute, day = limits
    sends = f"{minute} a minute" if limited.limit == "per_minute" else f"{day} in 24 hours"
    text = f"you have reached your limit of {sends}"
    return ApiProblem(
        "send_limit", text, errors=[ItemError(f"/{limited.limit}", text)], headers=_retry_after(limited.retry_after)
    )


def _result(outcome: ProbeResult, milliseconds: int) -> Result:
    if outcome.code is not None or not outcome.status:
        name = UNKNOWN if outcome.maybe_sent else _NOT_SENT
        return Result(name, 0, outcome.code or "", milliseconds, outcome.request_id)
    name = _OUTCOME_BY_STATUS_CLASS.get(outcome.status // 100, "failed")
    return Result(name, outcome.status, "", milliseconds, outcome.request_id)


_OUTCOME_BY_STATUS_CLASS: Final = {2: ACCEPTED, 3: "refused", 4: "refused"}
"""Outcomes by the first digit of the upstream's status. After any other status, the upstream may have acted."""


def _retry_after(seconds: int) -> dict[str, str]:
    return {"Retry-After": str(seconds)}
