"""Send presets for people, each at most once: reserve a row, send, record the result. No browser can interrupt it."""

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
from sidekey.diagnostics.probe import Outcome, path_of
from sidekey.errors import Problem
from sidekey.observe.log import get_logger
from sidekey.snapshot.snapshot import Preset
from sidekey.store.audit import AuditEntry
from sidekey.store.errors import CommitUncertain, StoreError
from sidekey.store.sends import ACCEPTED, SENDING, UNKNOWN, Existing, Limited, NewSend, OtherBatch, Result, Send
from sidekey.store.store import Store

MAX_SENDS_OF_ONE: Final = 8
"""Sends and checks of one identity that may be under way."""

MAX_SENDS: Final = 64
"""Sends and checks of one process that may be under way."""

_MAX_UNRECORDED: Final = 1000
"""Results that wait until the store can be written. Without a result, a send reads as unknown after 90 seconds."""

_SHORTEST_PAUSE: Final = 1.0
_MAX_PAUSE: Final = 30.0
"""Seconds between two attempts to record results."""

_LAST: Final = 5.0
"""Seconds that the end of a process waits for sends that were cut, and for their results."""

_NOT_SENT: Final = "not_sent"
_OTHER_BATCH: Final = (
    "began more than 24 hours ago, after this row, or with another person, preset or `rows`: begin a new batch"
)


@dataclass(frozen=True, slots=True)
class Filled:
    """A preset with the content of one request. With a `problem` Sidekey refuses the request, and sends nothing."""

    preset: Preset
    data: bytes
    content_type: str
    problem: Problem | None


class SubmittedSend(NamedTuple):
    """What a person submitted.

    `fill` fills the preset. It raises ApiProblem if the person must correct something, and nothing is reserved then.
    `reserve` makes the row of the send and its audit entry of what was filled.
    """

    identity: str
    limits: tuple[int, int]
    fill: Callable[[], Awaitable[Filled]]
    reserve: Callable[[Filled], tuple[NewSend, AuditEntry]]


class SendResult(NamedTuple):
    """A send that this process has sent, or refused: its row with the result, and the outcome of the request."""

    send: Send
    outcome: Outcome


class _Unrecorded(NamedTuple):
    """A result that the store does not have yet."""

    new: NewSend
    result: Result
    audited: tuple[int, AuditEntry] | None


class _Hold(NamedTuple):
    """The refusal of an identity that has reached a limit, until `until` of the loop's clock."""

    limits: tuple[int, int]
    until: float
    limited: Limited


class PresetSender:
    """Sends presets for the people of one process.

    `store` returns the store, or raises ApiProblem without one. `probe` sends a filled preset for the operator of a
    name, and `report` logs a defect and returns its ID.
    """

    def __init__(
        self,
        store: Callable[[], Store],
        probe: Callable[[Preset, bytes, str, str], Awaitable[Outcome]],
        report: Callable[[BaseException], str],
    ) -> None:
        self._store = store
        self._probe = probe
        self._report = report
        self._under_way: Counter[str] = Counter()
        self._holds: dict[str, _Hold] = {}
        self._tasks: set[asyncio.Task[SendResult | Send]] = set()
        self._unrecorded: deque[_Unrecorded] = deque()
        self._retrying: asyncio.Task[None] | None = None
        self._stopping = False

    async def find(self, identity: str, key: str, content: str) -> Send | None:
        """Return the ended send of a key, or None if the key is not in use. Raises ApiProblem, StoreError."""
        existing = await self._store().find_send(identity, key, content)
        return None if existing is None else _ended(existing)

    async def send(self, order: SubmittedSend) -> SendResult | Send:
        """Send what was ordered. Return the send, or that of another request with this key.

        Once begun, it goes on if the caller is cancelled. Raises ApiProblem, StoreError: nothing is sent.
        """
        task = asyncio.get_running_loop().create_task(self._guarded(order))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    @contextmanager
    def under_way(self, identity: str) -> Iterator[None]:
        """Count a send or check while it is under way. Raises ApiProblem if there are too many."""
        if self._stopping:
            raise ApiProblem("stopping", "Sidekey is stopping: send the request again in a moment", headers=_later(5))
        if self._under_way[identity] >= MAX_SENDS_OF_ONE or self._under_way.total() >= MAX_SENDS:
            raise ApiProblem("too_many", "several sends are under way: wait until one has ended", headers=_later(1))
        self._under_way[identity] += 1
        try:
            yield
        finally:
            self._under_way[identity] -= 1
            if not self._under_way[identity]:
                del self._under_way[identity]

    def stop(self) -> None:
        """Begin nothing new."""
        self._stopping = True

    async def finish(self) -> None:
        """Wait a short time until sends that were cut have ended, and until results are recorded."""
        self.stop()
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(_LAST):
                if self._tasks:
                    await asyncio.wait(self._tasks)
                if self._retrying is not None:
                    self._retrying.cancel()
                await self._record_all()
        if self._unrecorded:
            get_logger().warning(
                "results of sends could not be stored: they are shown as unknown", sends=len(self._unrecorded)
            )

    async def _guarded(self, order: SubmittedSend) -> SendResult | Send:
        try:
            with self.under_way(order.identity):
                return await self._whole(order)
        except (ApiProblem, StoreError):
            raise
        except Exception as defect:  # noqa: BLE001  the edge of a task, for which nobody may wait any more
            raise ApiProblem("internal_error", f"a defect of Sidekey, logged as {self._report(defect)}") from None

    async def _whole(self, order: SubmittedSend) -> SendResult | Send:
        self._check_hold(order)
        filled = await order.fill()
        new, entry = order.reserve(filled)
        try:
            found = await self._store().reserve_send(new, entry)
        except CommitUncertain:
            # If the commit took effect, the row of this attempt must not stay under way.
            self._keep(_Unrecorded(new, Result(_NOT_SENT, 0, "store_unavailable", 0, ""), None))
            raise
        if isinstance(found, Existing):
            return _ended(found)
        if isinstance(found, OtherBatch):
            raise invalid([ItemError("/batch/id", _OTHER_BATCH)])
        if isinstance(found, Limited):
            self._hold(order, found)
            raise _over(found, order.limits)
        began = time.perf_counter()
        outcome = await self._outcome(filled, new.who)
        result = _result(outcome, round((time.perf_counter() - began) * 1000))
        try:
            await self._store().record_send(new, result, found.audited)
        except StoreError:
            self._keep(_Unrecorded(new, result, found.audited))
        return SendResult(replace(found.send, **result._asdict()), outcome)

    async def _outcome(self, filled: Filled, who: str) -> Outcome:
        problem = filled.problem
        if problem is None and self._stopping:
            problem = Problem("overloaded", "Sidekey is stopping: nothing was sent")
        if problem is None:
            return await self._probe(filled.preset, filled.data, filled.content_type, who)
        return Outcome(f"POST {path_of(filled.preset)}", problem.status, problem.code, problem.detail, maybe_sent=False)

    def _hold(self, order: SubmittedSend, limited: Limited) -> None:
        now = asyncio.get_running_loop().time()
        self._holds = {identity: hold for identity, hold in self._holds.items() if hold.until > now}
        self._holds[order.identity] = _Hold(order.limits, now + limited.retry_after, limited)

    def _check_hold(self, order: SubmittedSend) -> None:
        """Raise ApiProblem while a limit is reached, without asking the database again."""
        hold = self._holds.get(order.identity)
        if hold is None or hold.limits != order.limits:
            return
        left = ceil(hold.until - asyncio.get_running_loop().time())
        if left > 0:
            raise _over(hold.limited._replace(retry_after=left), order.limits)

    def _keep(self, unrecorded: _Unrecorded) -> None:
        """Record a result once the store can be written. Until then, keep nothing of what the person typed."""
        if len(self._unrecorded) < _MAX_UNRECORDED:
            self._unrecorded.append(unrecorded._replace(new=replace(unrecorded.new, content="")))
        if self._retrying is None or self._retrying.done():
            self._retrying = asyncio.get_running_loop().create_task(self._retry())

    async def _retry(self) -> None:
        pause = _SHORTEST_PAUSE
        try:
            while self._unrecorded:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _MAX_PAUSE)
                # How the store is, its metrics say.
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


def new_send(request: ApiRequest, filled: Filled, key: str, content: str) -> tuple[NewSend, AuditEntry]:
    """Return the row to reserve for a filled preset, and the audit entry of the send."""
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
    return new, replace(entry, action="send", kind="preset", id=preset.id, row=preset.row, outcome="sent")


def _ended(existing: Existing) -> Send:
    """Return the send of a repeated key. Raises ApiProblem if it is under way, or has other content."""
    if not existing.same:
        text = "this Idempotency-Key was used for other content, or more than 24 hours ago: use a new one"
        raise ApiProblem("key_reused", text)
    if existing.send.outcome == SENDING:
        raise ApiProblem("sending", "it is being sent: ask for its result in a moment", headers=_later(2))
    return existing.send


def _over(limited: Limited, limits: tuple[int, int]) -> ApiProblem:
    minute, day = limits
    sends = f"{minute} a minute" if limited.limit == "per_minute" else f"{day} in 24 hours"
    text = f"you have reached your limit of {sends}"
    return ApiProblem(
        "send_limit", text, errors=[ItemError(f"/{limited.limit}", text)], headers=_later(limited.retry_after)
    )


def _result(outcome: Outcome, milliseconds: int) -> Result:
    if outcome.code is not None or not outcome.status:
        name = UNKNOWN if outcome.maybe_sent else _NOT_SENT
        return Result(name, 0, outcome.code or "", milliseconds, outcome.request_id)
    name = _OF_CLASS.get(outcome.status // 100, "failed")
    return Result(name, outcome.status, "", milliseconds, outcome.request_id)


_OF_CLASS: Final = {2: ACCEPTED, 3: "refused", 4: "refused"}
"""Outcomes by the first digit of the upstream's status. After any other one, the upstream may have acted."""


def _later(seconds: int) -> dict[str, str]:
    return {"Retry-After": str(seconds)}
