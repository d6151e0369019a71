"""The store as the process uses it: callers are on the process's event loop, the work is done in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Self, TypeVar

from sidekey.snapshot.store import DEFAULT_SENDS_RETENTION
from sidekey.store import audit, failures, last_used, leases, maintenance, sends, sessions, usage
from sidekey.store.audit import MATCH_ALL, AuditEntry, AuditFilter, AuditPage
from sidekey.store.database import Database, Transaction
from sidekey.store.errors import StoreDenied, StoreError, StoreRefused, StoreUnavailable, StoreUnusable
from sidekey.store.failures import Failure
from sidekey.store.leases import Lease, LeaseBinding, NotLeased
from sidekey.store.maintenance import PurposeOf, RotationResult, VerificationResult
from sidekey.store.repository import RowRepository
from sidekey.store.sealing import KeyRing
from sidekey.store.sends import Existing, Limited, NewSend, OtherBatch, Reserved, Result, Send, SendPage
from sidekey.store.sessions import NewCookie, Position, Session, SessionPage
from sidekey.store.state import Change, State
from sidekey.store.thread import StoreThread
from sidekey.store.usage import Failing, Hour

T = TypeVar("T")

POLL_INTERVAL: Final = 1.0
"""Maximum seconds between two polls for changes. The minimum is half of it, so that processes do not poll in step."""

MAINTENANCE_INTERVAL: Final = 3600.0
"""Seconds between two verifications of all rows, and between two deletions of old audit entries."""

_MIN_POLL_INTERVAL: Final = 0.02
"""Minimum seconds between two polls. Any user of the database can announce changes at any rate."""

_START_TIMEOUT: Final = 2.0
"""Seconds that `start` waits for the first attempt to open the store. The attempt continues after that."""

_MAX_PAUSE: Final = 10.0
"""Maximum seconds between two attempts to open the store."""

_CLOSE_TIMEOUT: Final = 2.0
"""Seconds that `close` waits for the database to disconnect."""


@dataclass(frozen=True, slots=True)
class Health:
    """State of the connection.

    `up` is True if the last call reached the database and had its keys. Otherwise `problem` has the reason, and
    `public` the reason for unauthenticated readers. `read_only` is True if the database user may not change the store.
    """

    up: bool
    problem: str = ""
    public: str = ""
    read_only: bool = False


class Store:
    """One store. Every method can raise StoreUnavailable, and StoreRefused if a key or a privilege is missing.

    `retention` is the number of seconds that audit entries are kept, `history` that of sends and failures.
    """

    def __init__(
        self, database: Database, ring: KeyRing, *, retention: float, history: float = DEFAULT_SENDS_RETENTION
    ) -> None:
        self._database = database
        self._retention, self._history = retention, history
        self._thread = StoreThread()
        self._repository = RowRepository(database, ring)
        self._ring = ring
        self._watching: Future[None] | None = None
        opening = "store: the database does not respond yet"
        self._health = Health(up=False, problem=opening, public=opening)

    @classmethod
    async def open(
        cls,
        database: Database,
        ring: KeyRing,
        *,
        retention: float,
        history: float = DEFAULT_SENDS_RETENTION,
        create: bool = True,
    ) -> Self:
        """Open the store. `create` creates it if there is none. Raises StoreUnavailable, StoreRefused."""
        store = cls(database, ring, retention=retention, history=history)
        error = await store._try_open(None, create=create)
        if error is not None:
            await store.close()
            raise error
        return store

    @classmethod
    async def start(
        cls, database: Database, ring: KeyRing, *, retention: float, history: float = DEFAULT_SENDS_RETENTION
    ) -> Self:
        """Open the store, or leave that to `watch` if the database cannot be reached now.

        Raises StoreUnusable and StoreRefused, which need an operator. If the database is slow, `watch` finds these too.
        """
        store = cls(database, ring, retention=retention, history=history)
        error = await store._try_open(_START_TIMEOUT, create=True)
        if isinstance(error, StoreUnusable | StoreRefused):
            await store.close()
            raise error
        return store

    async def _try_open(self, max_seconds: float | None, *, create: bool) -> StoreError | None:
        """Make the first attempt to open the store. Return its error if it fails within `max_seconds`."""
        try:
            async with asyncio.timeout(max_seconds):
                return await self._thread.run(self._open(create=create))
        except TimeoutError:
            # The attempt continues in the thread.
            return None
        except BaseException:
            await self.close()
            raise

    @property
    def id(self) -> str:
        """The random ID of the store, to which sealed values are bound."""
        return self._repository.authenticator.store

    @property
    def ring(self) -> KeyRing:
        """The keys in use."""
        return self._ring

    @property
    def state(self) -> State:
        """The rows that were read last."""
        return self._repository.state

    @property
    def created(self) -> bool:
        """True if this process created the store."""
        return self._repository.created

    @property
    def health(self) -> Health:
        """The state of the connection."""
        return self._health

    def switch_keys(self, ring: KeyRing, retention: float, history: float, url: str | None = None) -> None:
        """Switch to this key ring, these retentions and, if set, this URL of the same database."""
        self._ring, self._retention, self._history = ring, retention, history
        self._thread.start(self._repository.switch_keys(ring, url))

    def check_keys(self, ring: KeyRing) -> None:
        """Raise StoreRefused for a ring that lacks a key of the store, and StoreUnavailable. Blocks."""
        self._thread.start(self._repository.check_keys(ring)).result()

    async def refresh(self) -> State:
        """Read the changes since the last read, and return the current state."""
        return await self._thread.run(self._poll())

    async def commit(self, changes: Sequence[Change], *entries: AuditEntry) -> State:
        """Make all changes, or none, with their audit entries, and return the new state. Raises Changed, Exists."""
        return await self._thread.run(self._commit(changes, entries))

    async def audit(self, entry: AuditEntry, previous: tuple[int, AuditEntry] | None = None) -> int:
        """Write an audit entry without a change, in place of the `previous` one if any. Return its number."""
        return await self._write(lambda transaction: audit.add(transaction, entry, previous))

    async def audit_page(
        self, *, before: int | None = None, row_id: str | None = None, audit_filter: AuditFilter = MATCH_ALL
    ) -> AuditPage:
        """Return audit entries before this number (None: the newest), of one row or matching the filter."""
        return await self._query(partial(audit.page, before=before, row_id=row_id, audit_filter=audit_filter))

    async def acquire_lease(
        self, name: str, lineage: str, destinations: Sequence[str], seconds: int
    ) -> Lease | NotLeased:
        """Acquire the lease to renew a token, unless another process holds it.

        The new token is bound to the first of `destinations`. A stored token for any of `destinations` is returned.
        """
        bindings = [LeaseBinding(lineage, destination) for destination in destinations]
        return await self._write(
            lambda transaction: leases.acquire(transaction, self._repository.authenticator, name, bindings, seconds)
        )

    async def record_intent(self, lease: Lease, seconds: int) -> None:
        """Record that the token will be presented in the next `seconds`, or with 0 that it may be spent.

        Raises LeaseLost.
        """
        await self._write(
            lambda transaction: leases.record_intent(transaction, self._repository.authenticator, lease, seconds)
        )

    async def finish_lease(self, lease: Lease, result: str, *, replaces_token: bool) -> None:
        """Store the sealed result of a call and release the lease. Raises LeaseLost.

        `replaces_token` means that the call spent the first token of the lineage, and that the result replaces it.
        """
        await self._write(
            lambda transaction: leases.finish(
                transaction, self._repository.authenticator, lease, result, replaces_token=replaces_token
            )
        )

    async def release_lease(self, lease: Lease) -> None:
        """Release the lease of a token that was certainly not presented. Raises LeaseLost."""
        await self._write(lambda transaction: leases.release(transaction, self._repository.authenticator, lease))

    async def record_use(self, row_id: str) -> None:
        """Record that a row was used now."""
        await self._write(partial(last_used.record, row_id=row_id))

    async def last_uses(self) -> Mapping[str, int]:
        """Return the last use of each row, in seconds since the epoch."""
        return await self._query(last_used.read)

    async def add_usage(self, hours: Sequence[Hour]) -> None:
        """Add sorted usage of this process. An uncertain commit raises nothing, so that callers do not add it again."""
        await self._thread.run(self._repository.append(lambda transaction: usage.add(transaction, hours)))

    async def usage(self, kind: str, names: Sequence[str], since: int) -> tuple[list[Hour], dict[str, int]]:
        """Return the usage of integrations or presets from this hour on, and their last uses."""

        async def read(transaction: Transaction) -> tuple[list[Hour], dict[str, int]]:
            hours = await usage.read(transaction, kind, names, since)
            return hours, await usage.last_uses(transaction, kind, names)

        return await self._query(read)

    async def failing_integrations(self, since: int) -> dict[str, Failing]:
        """Return when each integration used since this hour was used last, and since when it fails, 0 if it works."""
        return await self._query(partial(usage.read_failing, since=since))

    async def add_failures(self, sample: Sequence[Failure]) -> None:
        """Add failures, one a second for each integration."""
        await self._thread.run(self._repository.append(lambda transaction: failures.add(transaction, sample)))

    async def failures(self, integration: str, before: int) -> list[Failure]:
        """Return a page of failures before this time, newest first, with one more if there are more."""
        return await self._query(partial(failures.page, integration=integration, before=before))

    def new_cookie(self) -> NewCookie:
        """Generate the cookie of a new session. Raises StoreUnavailable until the store is open."""
        return sessions.new_cookie(self._repository.authenticator)

    def session_id(self, cookie: str) -> str | None:
        """Return the ID of a cookie's session, or None if Sidekey did not make the cookie."""
        return sessions.session_id(self._repository.authenticator, cookie)

    async def log_in(self, session: Session, entry: AuditEntry | None, previous: str | None = None) -> None:
        """Store a session of the console and its audit entry, if any, in one transaction. End the `previous` one."""

        async def begin(transaction: Transaction) -> None:
            if previous is not None:
                await sessions.end(transaction, previous)
            await sessions.begin(transaction, self._repository.authenticator, session)
            if entry is not None:
                await audit.add(transaction, entry)

        await self._write(begin)

    async def get_session(self, session_id: str) -> Session | None:
        """Return the session with this ID, or None if it does not exist, has ended, or was altered."""
        return await self._query(
            lambda transaction: sessions.find(transaction, self._repository.authenticator, session_id)
        )

    async def find_session_by_prefix(self, prefix: str) -> Session | None:
        """Return the session with this prefix of its ID, which the console shows, or None."""
        return await self._query(
            lambda transaction: sessions.find_by_prefix(transaction, self._repository.authenticator, prefix)
        )

    async def log_out(self, session: str, entry: AuditEntry | None = None) -> None:
        """End a session, with an audit entry, if any."""

        async def end(transaction: Transaction) -> None:
            await sessions.end(transaction, session)
            if entry is not None:
                await audit.add(transaction, entry)

        await self._write(end)

    def identity_digest(self, identity: str) -> str:
        """Return the digest of a company log-in's identity, for its sessions."""
        return sessions.identity_digest(self._repository.authenticator, identity)

    async def session_page(self, before: Position) -> SessionPage:
        """Return the sessions that began before this time and ID."""
        return await self._query(lambda transaction: sessions.page(transaction, self._repository.authenticator, before))

    async def find_send(self, identity: str, key: str, content: str) -> Existing | None:
        """Return the send of an identity that has this key, if any, and compare its content."""
        return await self._query(
            lambda transaction: sends.find_existing(transaction, self._repository.authenticator, identity, key, content)
        )

    async def reserve_send(self, new: NewSend, entry: AuditEntry) -> Reserved | Existing | Limited | OtherBatch:
        """Write the row of a send and its audit entry, unless its key is in use or a limit is reached."""
        return await self._write(
            lambda transaction: sends.reserve(transaction, self._repository.authenticator, new, entry)
        )

    async def record_send(self, new: NewSend, result: Result, audited: tuple[int, AuditEntry] | None) -> None:
        """Write the result of an attempt, unless the attempt has a result already, so that the call may be repeated."""
        await self._write(partial(sends.record, new=new, result=result, audited=audited))

    async def get_send(self, identity: str, key: str) -> Send | None:
        """Return the send of an identity that has this key, if any."""
        return await self._query(partial(sends.get, identity=identity, key=key))

    async def send_page(
        self, *, identity: str = "", preset: str = "", who: str = "", before: int | None = None
    ) -> SendPage:
        """Return a page of sends; see `sends.page`."""
        return await self._query(partial(sends.page, identity=identity, preset=preset, who=who, before=before))

    async def get_batch(self, batch: str) -> tuple[Send, ...]:
        """Return the sends of a batch, in the order in which they were reserved."""
        return await self._query(partial(sends.get_batch, batch=batch))

    async def rotate_key(self, purpose_of: PurposeOf, who: str) -> RotationResult:
        """Re-encrypt with the first key everything that another key encrypts."""
        return await self._thread.run(maintenance.rotate(self._repository, purpose_of, who))

    async def verify(self, purpose_of: PurposeOf) -> VerificationResult:
        """Verify everything in the store, and list every finding."""
        return await self._thread.run(maintenance.verify(self._repository, purpose_of))

    def watch(self, on_change: Callable[[], None], report: Callable[[BaseException], object]) -> None:
        """Open the store if it is not open, and look for changes from now on.

        Whenever `state` or `health` changes, for whatever reason, `on_change` is called on the running event loop.
        `report` is called there with each defect, and the watch continues.
        """
        loop = asyncio.get_running_loop()
        # Read on this thread, because a change before the other thread begins to watch must be reported too.
        reported = self.state, self._health
        self._watching = self._thread.start(
            self._watch(
                reported, lambda: _call_soon(loop, on_change), lambda defect: _call_soon(loop, partial(report, defect))
            )
        )

    async def _query(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        return await self._thread.run(self._repository.query(work))

    async def _write(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        return await self._thread.run(self._write_in_thread(work))

    async def close(self) -> None:
        """End the watch and disconnect."""
        if self._watching is not None:
            self._watching.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await self._thread.run(self._database.close())
        await self._thread.close()

    # All methods below run in the store's thread.

    async def _open(self, *, create: bool) -> StoreError | None:
        """Open the store, and return the error, if any."""
        try:
            await self._repository.open(create=create)
        except StoreError as error:
            self._set_health(error)
            return error
        self._set_health(None)
        return None

    async def _write_in_thread(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        result = await self._repository.write(work)
        # Update `health` now, because people look at it right after their change.
        self._set_health(None)
        return result

    async def _commit(self, changes: Sequence[Change], entries: Sequence[AuditEntry]) -> State:
        try:
            state = await self._repository.commit(changes, entries)
        except StoreDenied:
            # The store can still be read, so this process keeps serving.
            raise
        except (StoreUnavailable, StoreRefused) as error:
            self._set_health(error)
            raise
        self._set_health(None)
        return state

    async def _poll(self, *, verify_all: bool = False) -> State:
        try:
            state = await self._repository.refresh(verify_all=verify_all)
        except StoreError as error:
            self._set_health(error)
            raise
        self._set_health(None)
        return state

    async def _watch(
        self, reported: tuple[State, Health], notify: Callable[[], None], report: Callable[[BaseException], None]
    ) -> None:
        failures = 0
        verified_at = time.monotonic()
        deleted_at = -MAINTENANCE_INTERVAL
        polled_at = 0.0
        while True:
            try:
                if not self._repository.is_open:
                    failures += 1
                    await asyncio.sleep(_pause(failures))
                    await self._open(create=True)
                else:
                    await self._database.wait(POLL_INTERVAL * random.uniform(0.5, 1.0))  # noqa: S311  spreads load
                    await asyncio.sleep(polled_at + _MIN_POLL_INTERVAL - time.monotonic())
                    now = polled_at = time.monotonic()
                    verify_all = now - verified_at >= MAINTENANCE_INTERVAL
                    await self._poll(verify_all=verify_all)
                    if verify_all:
                        verified_at = now
                    if now - deleted_at >= MAINTENANCE_INTERVAL:
                        deleted_at = now
                        await self._delete_old()
            except StoreError as error:
                self._set_health(error)
            except Exception as defect:  # noqa: BLE001  the edge of a task: the next attempt may go well
                report(defect)
            if reported[0] is not self.state or reported[1] != self._health:
                reported = self.state, self._health
                notify()

    async def _delete_old(self) -> None:
        """Delete old rows, or record that the database user may not: then another process deletes them."""

        async def delete_old_audit(transaction: Transaction) -> None:
            # Use the database's clock: one process with a wrong clock must not delete the entries of all.
            await audit.delete_old(transaction, int(await transaction.now() - self._retention))

        try:
            await self._repository.write(delete_old_audit)
            # In small transactions, so that other processes can write in between.
            while await self._repository.write(partial(sends.delete_old, history=self._history)):
                pass
            while await self._repository.write(usage.delete_old):
                pass
            while await self._repository.write(partial(failures.delete_old, history=self._history)):
                pass
        except StoreDenied:
            read_only = True
        else:
            read_only = False
        self._health = replace(self._health, read_only=read_only)

    def _set_health(self, error: StoreError | None) -> None:
        problem, public = ("", "") if error is None else (str(error), error.public)
        self._health = replace(self._health, up=error is None, problem=problem, public=public)


def _pause(failures: int) -> float:
    """Return random seconds until the next attempt to open the store, so that processes do not retry in step."""
    return min(_MAX_PAUSE, 2.0 ** (failures - 1)) * random.uniform(0.5, 1.0)  # noqa: S311  spreads load


def _call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    # The loop may have closed meanwhile.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(callback)
