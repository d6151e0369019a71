"""What the handlers of the API share: the store, threads for what takes long, the audit, and the counters."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final, TypeVar, TypeVarTuple

from pydantic import BaseModel

from sidekey.api.auth.oidc.login import CompanyLogins
from sidekey.api.auth.operators import (
    NOTE_EVERY,
    Login,
    Operator,
    RateLimiter,
    operator_of,
    operator_of_session,
    unauthenticated,
    unknown_token,
)
from sidekey.api.auth.session_cache import SessionCache
from sidekey.api.errors import ApiProblem, ItemError, not_found
from sidekey.api.messages import ApiRequest, ApiResult, Condition
from sidekey.api.models import Body, read_body
from sidekey.api.sender import PresetSender
from sidekey.api.statuses import StatusView
from sidekey.config.reload import ReloadError
from sidekey.diagnostics.probe import Outcome
from sidekey.network.fetch import Fetcher
from sidekey.observe.history import History
from sidekey.observe.metrics import Metrics
from sidekey.policy.naming import valid_id
from sidekey.snapshot.snapshot import Integration, Preset, Snapshot, TestRequest
from sidekey.store.audit import AuditEntry
from sidekey.store.errors import Changed, Exists, StoreDenied, StoreError
from sidekey.store.no_store import AbsentStore
from sidekey.store.records import Record, digest_of
from sidekey.store.sessions import Session
from sidekey.store.state import Change, State
from sidekey.store.store import Store
from sidekey.store_manager import StoreManager

_HOUR: Final = 3600.0


@dataclass(slots=True)
class _Window:
    """The hour of one token that its first event began."""

    began: float
    events: int = 0


class AuditBudget:
    """Lists at most `limit` events of each token in an hour, and one further entry of `action` that says so."""

    def __init__(self, action: str, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._action = action
        self._limit = limit
        self._clock = clock
        self._windows: dict[str, _Window] = {}

    def admit(self, digest: str, entry: AuditEntry) -> AuditEntry | None:
        """Count an event. Return the entry to write, or None if the event is not listed."""
        now = self._clock()
        self._windows = {key: each for key, each in self._windows.items() if now - each.began < _HOUR}
        window = self._windows.setdefault(digest, _Window(now))
        window.events += 1
        if window.events <= self._limit:
            return entry
        if window.events == self._limit + 1:
            return AuditEntry(who=entry.who, label=entry.label, action=self._action, outcome="more not listed")
        return None


T = TypeVar("T")
B = TypeVar("B", bound=Body)
Arguments = TypeVarTuple("Arguments")

_TEST_EVERY = 1.0
"""Seconds between two tests by one token."""

MAX_LISTED = 100
"""Events of one budget and token that the audit lists in an hour, so that nobody can fill the database."""

_IN_USE = "the name is in use: choose another, or change what has it"

_NO_STORE = "nothing can be changed or sent without a store: add `store` to the config, and restart Sidekey"

_WARN_EVERY = 10.0
"""Seconds between two warnings of the same reason, for log-ins that anybody may try."""

_POLL_INTERVAL = 1.0
"""Seconds between two readings of the store for tokens that are not known."""


class ApiServices:
    """The state and the services that the handlers of one process share. `snapshot` returns the one in use.

    `probe` sends the test request of an integration that is served, by its ID, `probe_draft` that of one which nobody
    else may use, `probe_preset` the request of a preset as it is, with a payload of this Content-Type (empty: the
    preset's own), for the operator of this name. `report` logs a defect, returns its ID, and must not raise.
    """

    def __init__(
        self,
        managed: StoreManager | None,
        *,
        snapshot: Callable[[], Snapshot],
        probe: Callable[[str, TestRequest], Awaitable[Outcome]],
        probe_draft: Callable[[Integration, TestRequest], Awaitable[Outcome]],
        probe_preset: Callable[[Preset, bytes, str, str], Awaitable[Outcome]],
        metrics: Metrics,
        history: History,
        fetcher: Fetcher,
        report: Callable[[BaseException], str],
    ) -> None:
        self._managed = managed
        self.store: Final[Store | AbsentStore] = AbsentStore() if managed is None else managed.store
        self.probe = probe
        self.probe_draft = probe_draft
        self.sending = PresetSender(lambda: self.managed.store, probe_preset, report)
        self.metrics = metrics
        self._snapshot = snapshot
        self.report = report
        # A document may take long to validate: reads and log-ins have a thread of their own, and never wait for it. One
        # thread each leaves the other core to the loop.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="admin-api")
        self._validations = ThreadPoolExecutor(1, thread_name_prefix="admin-validation")
        self._tests = RateLimiter(_TEST_EVERY)
        self._uses = RateLimiter(NOTE_EVERY)
        self._looks = RateLimiter(_POLL_INTERVAL)
        self._looking: asyncio.Task[None] | None = None
        self._refusals = AuditBudget("refused change", MAX_LISTED)
        self.logins: Final = AuditBudget("login", MAX_LISTED)
        self._draft_tests = AuditBudget("test draft", MAX_LISTED)
        self._notes: set[asyncio.Task[None]] = set()
        self.history = history
        self.sessions = SessionCache(self.store)
        self.company = CompanyLogins(fetcher)
        self.login_warnings: Final = RateLimiter(_WARN_EVERY)

    @property
    def unread(self) -> str:
        """Why nothing of the store is in use yet; empty once its content is in use, or without a store."""
        return "" if self._managed is None else self._managed.unread

    @property
    def has_store(self) -> bool:
        """Return True if this process has a store."""
        return self._managed is not None

    @property
    def managed(self) -> StoreManager:
        """The store with what it has put in use. Raises ApiProblem without a store."""
        if self._managed is None:
            raise ApiProblem("store_required", _NO_STORE)
        return self._managed

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot in use."""
        return self._snapshot()

    @property
    def standings(self) -> StatusView:
        """How integrations stand now."""
        return StatusView(self.snapshot, self.history.failing(), time.time())

    def close(self) -> None:
        """End the threads; what is under way in them ends first."""
        self._thread.shutdown(wait=False)
        self._validations.shutdown(wait=False)

    async def run(self, work: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        """Call something that may take longer than the loop can wait, in the thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    async def validate(self, work: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        """Call something that validates a document that was sent, in the thread for that."""
        return await asyncio.get_running_loop().run_in_executor(self._validations, work, *arguments)

    async def respond(self, make: Callable[[*Arguments], BaseModel], *arguments: *Arguments) -> ApiResult:
        """Make and serialize a response in the thread: it may be long."""
        return await self.run(lambda: ApiResult.of(make(*arguments)))

    async def read(self, model: type[B], request: ApiRequest, wrong: Sequence[ItemError] = ()) -> B:
        """Validate the body of a request. Raises ApiProblem with all errors, and those that are known (`wrong`)."""
        return await self.validate(read_body, model, request.document, wrong)

    def authenticate(self, token: str | None) -> Operator:
        """Return the operator of a token. Raises ApiProblem, the same for every token that cannot be used."""
        if token is None:
            self.count_login("missing")
            raise unauthenticated("send a token: Authorization: Bearer sidekey_...")
        operator = self.operator(digest_of(token))
        if not isinstance(operator, Operator):
            # The store may have it.
            self.require_store()
            self.count_login(operator)
            raise unknown_token()
        self.count_login("ok")
        return operator

    def require_store(self) -> None:
        """Raise ApiProblem until the store was read."""
        if self.unread:
            raise _unavailable(self.unread)

    def require_writable(self) -> None:
        """Raise ApiProblem without a store."""
        if self._managed is None:
            raise ApiProblem("store_required", _NO_STORE)

    async def look_for(self, token: str) -> None:
        """Read the store if a token is not known: a command may have created it a moment ago."""
        if not self.unread and not isinstance(self.operator(digest_of(token)), Operator):
            # One pace for all tokens, because anybody can send them.
            await self._look("")

    async def _look(self, pace: str) -> None:
        """Read the store before the watch does, at most once a second for each pace. Wait for a read under way."""
        if self._looking is None or self._looking.done():
            if not self._looks.admit(pace):
                return
            self._looking = asyncio.get_running_loop().create_task(self._read_store())
        await asyncio.shield(self._looking)

    async def _read_store(self) -> None:
        # The metrics show the state of the store. What is loaded stays in use.
        with contextlib.suppress(StoreError):
            await self.store.read()

    def operator(self, digest: str) -> Operator | Login:
        """The operator whose token has this SHA-256, in hexadecimal, or why there is none."""
        found = operator_of(digest, self.snapshot.admin.tokens, self.store.state.tokens, time.time())
        if isinstance(found, Operator):
            self._use(found)
        return found

    def _use(self, operator: Operator) -> None:
        if operator.row and self._uses.admit(operator.digest):
            task = asyncio.get_running_loop().create_task(self._note_use(operator.row))
            self._notes.add(task)
            task.add_done_callback(self._notes.discard)

    def count_login(self, outcome: Login) -> None:
        """Count how an authentication ended."""
        self.metrics.admin_logins[outcome] += 1

    async def _note_use(self, row: str) -> None:
        try:
            await self.store.record_use(row)
        except StoreError:
            # How the store is, its metrics say; a use that is not noted is noted by a later one.
            return
        except Exception as defect:  # noqa: BLE001  the edge of a task
            self.report(defect)

    def admit_test(self, operator: Operator) -> None:
        """Raise ApiProblem where the operator's last test was a moment ago."""
        if not self._tests.admit(operator.digest):
            raise ApiProblem("too_many", "at most one test a second with one token", headers={"Retry-After": "1"})

    async def commit(self, request: ApiRequest, changes: Sequence[Change], fields: Iterable[str] = ()) -> State:
        """Make changes, and return once they are in use here. Raises ApiProblem, StoreError.

        The audit entry names the row of the first change. `fields` are the names of what is changed.
        """
        record = changes[0].record
        entry = replace(request.audit_entry(), id=record.id, row=record.row, fields=tuple(fields))
        try:
            return await self.managed.commit(changes, entry)
        except Exists:
            raise exists(request.condition) from None
        except ReloadError:
            text = "it is saved, but not in use here: Sidekey stops, or has a defect, which is in its log"
            raise ApiProblem("internal_error", text) from None

    async def note_refusal(self, request: ApiRequest, code: str) -> None:
        """Write into the audit that a change was refused. Raises StoreError."""
        refused = replace(request.audit_entry(), id=_name_in(request), outcome=code)
        entry = self._refusals.admit(request.operator.digest, refused)
        if entry is not None:
            await self.store.audit(entry)

    async def session_operator(self, cookie: str) -> Operator:
        """Return the operator of a session. Raises ApiProblem."""
        self.require_store()
        try:
            session = await self.sessions.find(cookie)
        except StoreError as error:
            raise problem_of(error) from None
        operator = None if session is None else self.operator_of(session)
        if session is not None and operator is None:
            # Another process may have created its token a moment ago.
            await self._look(session.token_sha256)
            operator = self.operator_of(session)
        if operator is None:
            raise unauthenticated("the session has ended: log in again")
        self._use(operator)
        return operator

    def operator_of(self, session: Session) -> Operator | None:
        """Return the operator of a session, or None if it has ended with its token or the rules."""
        return operator_of_session(session, self.snapshot.admin, self.store.state.tokens, time.time())

    async def note_draft_test(self, request: ApiRequest, *, ok: bool) -> None:
        """Write into the audit that the draft of an integration was sent, with secrets of the request alone."""
        outcome = "ok" if ok else "failed"
        tested = replace(
            request.audit_entry(), action="test draft", kind="integration", id=_name_in(request), outcome=outcome
        )
        entry = self._draft_tests.admit(request.operator.digest, tested)
        if entry is not None:
            # What is loaded can be tested while the store is away, which its metrics say.
            with contextlib.suppress(StoreError):
                await self.store.audit(entry)


def _name_in(request: ApiRequest) -> str:
    """The name that a change is about, as far as it may be one: what is sent may be anything."""
    sent = {} if request.body is None else request.body
    name = next(iter(request.names.values()), sent.get("id", sent.get("name")))
    return name if isinstance(name, str) and valid_id(name) else ""


def require_version(record: Record, condition: Condition) -> int:
    """Return the version of a record that a change may replace. Raises ApiProblem."""
    if not condition.allows(record.version):
        raise changed()
    return record.version


def missing_problem(condition: Condition) -> ApiProblem:
    """Return the problem of a change of what does not exist: 412 for `If-Match: *`, else 404."""
    if condition.versions is None:
        return ApiProblem("changed", "nothing has this name: to create it, send PUT with If-None-Match: *")
    return not_found()


def exists(condition: Condition, detail: str = _IN_USE) -> ApiProblem:
    """Return the problem of a name that is in use: 412 for `If-None-Match: *`, else 409."""
    return ApiProblem("changed" if condition.absent else "exists", detail)


def changed() -> ApiProblem:
    """Return the 412 of a change to a row that somebody else has changed."""
    return ApiProblem("changed", "somebody has changed it since it was read: read it again, and send the change again")


def problem_of(error: StoreError) -> ApiProblem:
    """Return the problem of an error of the store."""
    if isinstance(error, Changed):
        return changed()
    return ApiProblem("store_denied", str(error)) if isinstance(error, StoreDenied) else _unavailable(error.public)


def _unavailable(detail: str) -> ApiProblem:
    return ApiProblem("store_unavailable", detail, headers={"Retry-After": "5"})
