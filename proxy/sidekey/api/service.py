"""Services that the handlers of the API share: store, threads, authentication, audit and counters."""

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
    USE_RECORD_INTERVAL,
    LoginOutcome,
    Operator,
    RateLimiter,
    operator_of_session,
    operator_of_token,
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
from sidekey.diagnostics.probe import ProbeResult
from sidekey.network.fetch import Fetcher
from sidekey.observe.history import History
from sidekey.observe.metrics import Metrics
from sidekey.policy.identifiers import valid_id
from sidekey.policy.urls import Origin
from sidekey.snapshot.egress import Egress
from sidekey.snapshot.snapshot import Integration, Preset, Snapshot, TestRequest
from sidekey.store.audit import AuditEntry
from sidekey.store.errors import Changed, Exists, StoreDenied, StoreError
from sidekey.store.no_store import AbsentStore
from sidekey.store.records import Record, digest_of
from sidekey.store.sessions import Session
from sidekey.store.state import Change, State
from sidekey.store.store import Store
from sidekey.store_manager import StoreManager

T = TypeVar("T")
B = TypeVar("B", bound=Body)
Arguments = TypeVarTuple("Arguments")

_TEST_INTERVAL = 1.0
"""Minimum seconds between two tests with one token."""

MAX_AUDITED = 100
"""Maximum events of one token in the audit per hour, so that nobody can fill the database."""

_IN_USE = "the name is in use: choose another, or change the existing one"

_NO_STORE = "nothing can be changed or sent without a store: add `store` to the config, and restart Sidekey"

_WARNING_INTERVAL = 10.0
"""Minimum seconds between two warnings with one reason, because anybody may try to log in."""

_READ_INTERVAL = 1.0
"""Minimum seconds between two reads of the store because of unknown tokens."""

_HOUR: Final = 3600.0


@dataclass(slots=True)
class _Window:
    """The hour after the first event of a token."""

    began: float
    events: int = 0


class AuditBudget:
    """Limits the audit to `limit` events of each token in an hour. One more entry says that the rest is not listed."""

    def __init__(self, action: str, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._action = action
        self._limit = limit
        self._clock = clock
        self._windows: dict[str, _Window] = {}

    def admit(self, digest: str, entry: AuditEntry) -> AuditEntry | None:
        """Count an event of the token with this digest. Return the entry to write, or None beyond the limit."""
        now = self._clock()
        self._windows = {key: window for key, window in self._windows.items() if now - window.began < _HOUR}
        window = self._windows.setdefault(digest, _Window(now))
        window.events += 1
        if window.events <= self._limit:
            return entry
        if window.events == self._limit + 1:
            return AuditEntry(who=entry.who, label=entry.label, action=self._action, outcome="more not listed")
        return None


class ApiServices:
    """State and services that the handlers of one process share.

    `snapshot` returns the snapshot in use. `probe` sends the test request of a served integration by ID, and
    `probe_draft` that of a draft. `probe_preset` sends a preset with a payload, its Content-Type (empty: that of the
    preset), and the operator's name. `find_denial` looks up an origin, and returns why Sidekey may not connect to it,
    or "". `report` logs a defect, returns its ID, and must not raise.
    """

    def __init__(
        self,
        manager: StoreManager | None,
        *,
        snapshot: Callable[[], Snapshot],
        probe: Callable[[str, TestRequest], Awaitable[ProbeResult]],
        probe_draft: Callable[[Integration, TestRequest], Awaitable[ProbeResult]],
        probe_preset: Callable[[Preset, bytes, str, str], Awaitable[ProbeResult]],
        find_denial: Callable[[Origin, Egress], Awaitable[str]],
        metrics: Metrics,
        history: History,
        fetcher: Fetcher,
        report: Callable[[BaseException], str],
    ) -> None:
        self._manager = manager
        self.store: Final[Store | AbsentStore] = AbsentStore() if manager is None else manager.store
        self.probe = probe
        self.probe_draft = probe_draft
        self.find_denial = find_denial
        self.sender = PresetSender(lambda: self.manager.store, probe_preset, report)
        self.metrics = metrics
        self._snapshot = snapshot
        self.report = report
        # Validation of a document may take long, so reads and log-ins use another thread. One thread for
        # each leaves a core to the event loop.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="admin-api")
        self._validations = ThreadPoolExecutor(1, thread_name_prefix="admin-validation")
        self._test_limiter = RateLimiter(_TEST_INTERVAL)
        self._use_limiter = RateLimiter(USE_RECORD_INTERVAL)
        self._read_limiter = RateLimiter(_READ_INTERVAL)
        self._reading: asyncio.Task[None] | None = None
        self._refusal_audit = AuditBudget("refused change", MAX_AUDITED)
        self.login_audit: Final = AuditBudget("login", MAX_AUDITED)
        self._draft_test_audit = AuditBudget("test draft", MAX_AUDITED)
        self._tasks: set[asyncio.Task[None]] = set()
        self.history = history
        self.sessions = SessionCache(self.store)
        self.company_logins = CompanyLogins(fetcher, metrics, report)
        self.login_warning_limiter: Final = RateLimiter(_WARNING_INTERVAL)

    @property
    def unread_reason(self) -> str:
        """Why this process has not read the store yet, or an empty string if it has or if there is no store."""
        return "" if self._manager is None else self.manager.unread_reason

    @property
    def has_store(self) -> bool:
        """True if this process has a store."""
        return self._manager is not None

    @property
    def manager(self) -> StoreManager:
        """The store manager, which commits and publishes changes. Raises ApiProblem without a store."""
        if self._manager is None:
            raise ApiProblem("store_required", _NO_STORE)
        return self._manager

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot in use."""
        return self._snapshot()

    @property
    def statuses(self) -> StatusView:
        """The status of all integrations, as of now."""
        return StatusView(self.snapshot, self.history.failing(), time.time())

    def close(self) -> None:
        """Let the threads end after their current work."""
        self._thread.shutdown(wait=False)
        self._validations.shutdown(wait=False)

    async def run(self, work: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        """Call a function that would block the loop, in the thread for reads and log-ins."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    async def run_validation(self, work: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        """Call a function that validates a document, in the thread for validation."""
        return await asyncio.get_running_loop().run_in_executor(self._validations, work, *arguments)

    async def respond(self, build: Callable[[*Arguments], BaseModel], *arguments: *Arguments) -> ApiResult:
        """Build and serialize a response in the thread for reads and log-ins, because it may be long."""
        return await self.run(lambda: ApiResult.of(build(*arguments)))

    async def parse_body(self, model: type[B], request: ApiRequest, known_errors: Sequence[ItemError] = ()) -> B:
        """Validate the body of a request. Raises ApiProblem with its errors and the `known_errors`."""
        return await self.run_validation(read_body, model, request.document, known_errors)

    def authenticate(self, token: str | None) -> Operator:
        """Return the operator of a token, and count the authentication.

        Raises ApiProblem: without a token, for a token that cannot be used, or while the store is unread.
        """
        if token is None:
            self.count_login("missing")
            raise unauthenticated("send a token: Authorization: Bearer sidekey_...")
        operator = self.operator_of_token(digest_of(token))
        if not isinstance(operator, Operator):
            # The unread store may contain the token.
            self.require_store()
            self.count_login(operator)
            raise unknown_token()
        self.count_login("ok")
        return operator

    def require_store(self) -> None:
        """Raise ApiProblem if there is a store that this process has not read yet."""
        if self.unread_reason:
            raise _unavailable(self.unread_reason)

    def require_writable(self) -> None:
        """Raise ApiProblem if there is no store."""
        if self._manager is None:
            raise ApiProblem("store_required", _NO_STORE)

    async def discover_token(self, token: str) -> None:
        """Read the store if a token is unknown: a command may have created it a moment ago."""
        if not self.unread_reason and not isinstance(self.operator_of_token(digest_of(token)), Operator):
            # All tokens share one rate limit, because anybody can send unknown ones.
            await self._refresh_store("")

    async def _refresh_store(self, key: str) -> None:
        """Read the store now, at most once a second for each `key`, or wait for a read in progress."""
        if self._reading is None or self._reading.done():
            if not self._read_limiter.admit(key):
                return
            self._reading = asyncio.get_running_loop().create_task(self._read_store())
        await asyncio.shield(self._reading)

    async def _read_store(self) -> None:
        # The metrics report the error. The content that was read before stays in use.
        with contextlib.suppress(StoreError):
            await self.store.refresh()

    def operator_of_token(self, digest: str) -> Operator | LoginOutcome:
        """Return the operator of the token with this SHA-256 (hexadecimal), or why there is none. Record its use."""
        operator = operator_of_token(digest, self.snapshot.admin.tokens, self.store.state.tokens, time.time())
        if isinstance(operator, Operator):
            self._record_use_later(operator)
        return operator

    def _record_use_later(self, operator: Operator) -> None:
        if operator.row and self._use_limiter.admit(operator.digest):
            task = asyncio.get_running_loop().create_task(self._record_use(operator.row))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def count_login(self, outcome: LoginOutcome) -> None:
        """Count the outcome of an authentication."""
        self.metrics.admin_logins[outcome] += 1

    async def _record_use(self, row: str) -> None:
        try:
            await self.store.record_use(row)
        except StoreError:
            # The metrics report the error, and a later use of the token will be recorded.
            return
        except Exception as defect:  # noqa: BLE001  nobody awaits the task
            self.report(defect)

    def admit_test(self, operator: Operator) -> None:
        """Raise ApiProblem if the operator sent another test within the last second."""
        if not self._test_limiter.admit(operator.digest):
            raise ApiProblem("too_many", "at most one test a second with one token", headers={"Retry-After": "1"})

    async def commit(self, request: ApiRequest, changes: Sequence[Change], fields: Iterable[str] = ()) -> State:
        """Commit changes with an audit entry, and wait until this process uses them. Raises ApiProblem, StoreError.

        The audit entry names the row of the first change. `fields` are the names of the changed fields.
        """
        record = changes[0].record
        entry = replace(request.audit_entry(), id=record.id, row_id=record.row_id, fields=tuple(fields))
        try:
            return await self.manager.commit(changes, entry)
        except Exists:
            raise exists_problem(request.condition) from None
        except ReloadError:
            text = "it is saved, but not in use here: Sidekey is stopping, or its log has a defect"
            raise ApiProblem("internal_error", text) from None

    async def audit_refusal(self, request: ApiRequest, code: str) -> None:
        """Audit a refused change. Raises StoreError."""
        refusal = replace(request.audit_entry(), id=_audited_name(request), outcome=code)
        entry = self._refusal_audit.admit(request.operator.digest, refusal)
        if entry is not None:
            await self.store.audit(entry)

    async def session_operator(self, cookie: str) -> Operator:
        """Return the operator of a session. Raises ApiProblem."""
        self.require_store()
        try:
            session = await self.sessions.find(cookie)
        except StoreError as error:
            raise problem_of(error) from None
        operator = None if session is None else self.operator_of_session(session)
        if session is not None and operator is None:
            # Another process may have created the token of the session a moment ago.
            await self._refresh_store(session.token_sha256)
            operator = self.operator_of_session(session)
        if operator is None:
            raise unauthenticated("the session has ended: log in again")
        self._record_use_later(operator)
        return operator

    def operator_of_session(self, session: Session) -> Operator | None:
        """Return the operator of a session, or None if its token or the rules of `admin.oidc` have changed."""
        return operator_of_session(session, self.snapshot.admin, self.store.state.tokens, time.time())

    async def audit_draft_test(self, request: ApiRequest, *, ok: bool) -> None:
        """Audit the test of an integration draft, which used no secrets but those of the request."""
        outcome = "ok" if ok else "failed"
        test = replace(
            request.audit_entry(), action="test draft", kind="integration", id=_audited_name(request), outcome=outcome
        )
        entry = self._draft_test_audit.admit(request.operator.digest, test)
        if entry is not None:
            # A draft can be tested while the store is unavailable, which the metrics report.
            with contextlib.suppress(StoreError):
                await self.store.audit(entry)


def _audited_name(request: ApiRequest) -> str:
    """Return the name in the path or the body for the audit, or an empty string if it is not valid."""
    body = {} if request.body is None else request.body
    name = next(iter(request.path_parameters.values()), body.get("id", body.get("name")))
    return name if isinstance(name, str) and valid_id(name) else ""


def require_version(record: Record, condition: Condition) -> int:
    """Return the version of a record. Raises ApiProblem if the precondition does not allow it."""
    if not condition.allows(record.version):
        raise changed_problem()
    return record.version


def missing_problem(condition: Condition) -> ApiProblem:
    """Return the problem of a change to a missing resource: 412 for `If-Match: *`, else 404."""
    if condition.versions is None:
        return ApiProblem("changed", "nothing has this name: to create it, send PUT with If-None-Match: *")
    return not_found()


def exists_problem(condition: Condition, detail: str = _IN_USE) -> ApiProblem:
    """Return the problem of a name that is in use: 412 for `If-None-Match: *`, else 409."""
    return ApiProblem("changed" if condition.absent else "exists", detail)


def changed_problem() -> ApiProblem:
    """Return 412: the resource has changed since the client read it."""
    return ApiProblem("changed", "somebody has changed it since it was read: read it again, and send the change again")


def problem_of(error: StoreError) -> ApiProblem:
    """Convert an error of the store to a problem."""
    if isinstance(error, Changed):
        return changed_problem()
    return ApiProblem("store_denied", str(error)) if isinstance(error, StoreDenied) else _unavailable(error.public)


def _unavailable(detail: str) -> ApiProblem:
    return ApiProblem("store_unavailable", detail, headers={"Retry-After": "5"})
