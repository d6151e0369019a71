"""What the handlers of the API share: the store, a thread for what takes long, the audit, and the counters."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

from sidekey.admin.api.gateway import Gateway
from sidekey.admin.api.operators import NOTE_EVERY, Operator, Paces, authenticate
from sidekey.admin.api.problems import ApiProblem
from sidekey.admin.api.route import Ask
from sidekey.observe.metrics import Metrics
from sidekey.store.audit import AuditEntry
from sidekey.store.errors import Changed, Exists, StoreError, StoreRefused, StoreUnavailable
from sidekey.store.records import Record
from sidekey.store.state import Change, State

if TYPE_CHECKING:
    from sidekey.store.store import Store

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

MOST_FIELDS = 100
"""Names of fields that an entry of the audit has at most."""

_TEST_EVERY = 1.0
"""Seconds between two tests by one token."""


class Service:
    """The API of one process. `report` logs a defect, returns its id, and must not raise."""

    def __init__(self, gateway: Gateway, metrics: Metrics, report: Callable[[BaseException], str]) -> None:
        self.gateway = gateway
        self.metrics = metrics
        self.report = report
        # One thread: reading, validating and rendering one request after another leave the other core to the loop.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="admin-api")
        self._tests = Paces(_TEST_EVERY)
        self._uses = Paces(NOTE_EVERY)
        self._notes: set[asyncio.Task[None]] = set()

    @property
    def store(self) -> Store:
        """The store."""
        return self.gateway.store

    def close(self) -> None:
        """End the thread; what is under way in it ends first."""
        self._thread.shutdown(wait=False)

    async def run(self, work: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        """Call something that may take longer than the loop can wait, in the thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def authenticate(self, header: str | None) -> Operator:
        """The operator of an Authorization field. Raises ApiProblem."""
        configured = self.gateway.snapshot.admin.tokens
        logins = self.metrics.admin_logins
        operator = authenticate(header, configured, self.store.state.tokens, time.time(), logins.count)
        if operator.row and self._uses.admit(operator.digest):
            task = asyncio.get_running_loop().create_task(self._note_use(operator.row))
            self._notes.add(task)
            task.add_done_callback(self._notes.discard)
        return operator

    async def _note_use(self, row: str) -> None:
        try:
            await self.store.note_use(row)
        except StoreError:
            # How the store is, its metrics say; a use that is not noted is noted by a later one.
            return
        except Exception as defect:  # noqa: BLE001  the edge of a task
            self.report(defect)

    def admit_test(self, operator: Operator) -> None:
        """Raise ApiProblem where the operator's last test was a moment ago."""
        if not self._tests.admit(operator.digest):
            raise ApiProblem("too_many", "at most one test a second with one token", headers={"Retry-After": "1"})

    async def now(self) -> State:
        """The state of the store as it is now, for a change of it. Raises ApiProblem."""
        try:
            return await self.store.read()
        except (StoreUnavailable, StoreRefused) as error:
            raise unavailable(error) from None

    async def commit(self, ask: Ask, action: str, changes: Sequence[Change], fields: Iterable[str] = ()) -> State:
        """Do changes, of which the first names what it is about; return once they are in use here. Raises ApiProblem.

        `fields` are the names of what is changed.
        """
        record = changes[0].record
        entry = AuditEntry(
            who=ask.operator.name,
            action=action,
            kind=record.kind,
            id=record.id,
            row=record.row,
            fields=tuple(fields)[:MOST_FIELDS],
            source=ask.source,
        )
        try:
            state = await self.store.commit(changes, entry)
        except Changed:
            raise changed() from None
        except Exists:
            raise ApiProblem("exists", "the name is in use: choose another, or change what has it") from None
        except (StoreUnavailable, StoreRefused) as error:
            raise unavailable(error) from None
        await self.gateway.use(state)
        return state

    async def note_refusal(self, ask: Ask, kind: str, id: str, action: str, code: str) -> None:  # noqa: A002
        """Write into the audit that an operator tried what is not theirs to do."""
        entry = AuditEntry(
            who=ask.operator.name, action=action, kind=kind, id=id, source=ask.source, outcome=code
        )
        try:
            await self.store.audit(entry)
        except (StoreUnavailable, StoreRefused) as error:
            raise unavailable(error) from None


def expect(record: Record, version: int | None) -> int:
    """The version that a change is for, where the record still has it. Raises ApiProblem."""
    if version != record.version:
        raise changed()
    return record.version


def changed() -> ApiProblem:
    """The 412 of a change that was made of what is not there any more."""
    return ApiProblem("changed", "somebody has changed it since it was read: read it again, and send the change again")


def unavailable(error: StoreError) -> ApiProblem:
    """The 503 of a store; its texts name no secret."""
    return ApiProblem("store_unavailable", str(error), headers={"Retry-After": "5"})
