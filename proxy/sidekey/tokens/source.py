"""Token source of one integration whose grants expire: keeps and refreshes one token, and the last error.

A token is active once a request has used it: then `grant` is set, and the warm path reads nothing else. A token that
was refreshed in the background becomes active when the next request obtains it, so that unused tokens are not refreshed
again. After an upstream rejected a token, requests wait briefly for its replacement.

`Tokens` creates and retires sources. The exchange obtains a grant before it sends a request, and reports the responses
that may reject it.

A source whose integration was changed or removed is retired: it serves the requests in flight that use it, and is
freed with the last of them. If the changed integration is still the same client of the same endpoint, its source
takes over the state of the retired source, and from then on only the new source calls the endpoint.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from random import SystemRandom
from typing import NamedTuple
from weakref import WeakSet

from sidekey.credentials.base import CallError, CallingCredential, FixedCredential, Grant, Verdict
from sidekey.errors import Problem, ProblemError
from sidekey.observe.log import get_logger
from sidekey.observe.metrics import CredentialSeries, Metrics
from sidekey.policy.targets import Policy, parse_discovered_base
from sidekey.refresh import Failed, SingleFlight, call_weakly_at, growing_pause
from sidekey.snapshot.secret_loader import RETRY_SECONDS
from sidekey.snapshot.snapshot import Integration
from sidekey.tokens.flow import AttemptRunner, CallLimit, Fetch, FlowResult, FlowRunner
from sidekey.tokens.ledger import TokenOrigin, Unavailable, origin_of
from sidekey.tokens.shared import SharedTokenResult, SharedTokenSource, TokenLeases, secret_digest_of

MIN_MARGIN = 30.0
"""Seconds before expiry at which a token is refreshed, if its lifetime is long enough."""

JITTER = 0.1
"""The share of the margin by which a refresh may come earlier, so that many processes do not call at once."""


class Schedule(NamedTuple):
    """When to refresh and stop using a token: `refresh_at` < `usable_until` < `expires_at`.

    A token is not handed out after `usable_until`, because the request must reach the upstream before it expires.
    """

    refresh_at: float
    usable_until: float
    expires_at: float


def plan_schedule(called_at: float, lifetime: float, jitter: float, renewed_after: float | None = None) -> Schedule:
    """Schedule a token that lives `lifetime` seconds from when its call was sent; `jitter` is 0 to 1.

    `renewed_after` replaces the margin for a token that Sidekey makes without a call.
    """
    expiry = called_at + lifetime
    if renewed_after is None:
        margin = min(max(MIN_MARGIN, lifetime / 10), lifetime / 2)
        refresh_at = expiry - margin * (1 + JITTER * jitter)
    else:
        refresh_at = called_at + renewed_after
    return Schedule(refresh_at, expiry - min(1.0, lifetime / 20), expiry)


_RANDOM = SystemRandom()

_GRAIN = 0.002
"""Seconds by which a timer may come early: uvloop counts in whole milliseconds."""

PATIENCE = 2.0
"""Seconds that requests wait for the replacement of a rejected token: one resource may reject every token."""

PAUSES = (0.5, 0.5, 1.0)
"""Seconds before each retry within an attempt, if the endpoint returned an expired token.

Platforms that return the same token until it expires report a lifetime of 0 in its last second.
"""

STORE_PAUSE = 1.0
"""Seconds until the next attempt if the ledger is unavailable. No endpoint was called, so the pause does not grow."""

_RELOADED = Problem(
    "credential_unavailable",
    "the config was reloaded while the request waited for a token: send the request again",
    error="proxy_configuration_error",
)


class _CurrentToken(NamedTuple):
    """An issued token, the grant that requests use (the token with `SecretLoader.supplement`), and its schedule."""

    token: Grant
    grant: Grant
    schedule: Schedule


class _TokenState(NamedTuple):
    """State that a source transfers to its successor. Of `refresh`, the successor copies the error and the back-off."""

    current: _CurrentToken | None
    stale: bool
    memory: str | None
    rejected: bool
    shared_token_id: str
    forced_at: float
    refresh: SingleFlight[Grant, Problem]


class TokenSource:
    """Hands out the token of one integration. Create it on the event loop that it lives on.

    `fetch` makes its calls. `jitter` returns 0 to 1. `ready` waits for the client certificate, if the integration has
    one (ProblemError: it cannot be loaded). `report` logs a defect, returns the ID of its log line and must not raise.
    `previous` is the retired source of the integration before its change. With `leases` the token is shared with other
    processes, which call one at a time.
    """

    def __init__(
        self,
        integration: Integration,
        fetch: Fetch,
        metrics: Metrics,
        report: Callable[[BaseException], str],
        *,
        ready: Callable[[], Awaitable[object]],
        previous: TokenSource | None = None,
        leases: TokenLeases | None = None,
        jitter: Callable[[], float] = _RANDOM.random,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.grant: Grant | None = None
        self._integration = integration
        self._series = CredentialSeries(metrics, integration.id, "token")
        self._secrets = integration.secrets
        self._policy = integration.policy
        self._renewal_interval = integration.traits.renewal_interval
        self._single_live = integration.traits.single_live_token
        self._needs_lease = integration.traits.needs_lease
        self._fetch = fetch
        self._ready = ready
        self._report = report
        self._jitter = jitter
        self._wall_clock = wall_clock
        self._loop = asyncio.get_running_loop()
        self._log = get_logger(integration=integration.id)
        self._limit: CallLimit | None = None
        self._refresh: SingleFlight[Grant, Problem] = SingleFlight(growing_pause(jitter))
        self._current: _CurrentToken | None = None
        self._stale = False
        """The last token was obtained with another secret, and is used only until the current secret obtains one."""
        self._obtained_at = -math.inf
        self._memory: str | None = None
        """Input of the next attempt, such as a rotated refresh token (`Attempt.memory`)."""
        self._rejected = False
        """An upstream rejected the last token (`Attempt.rejected`)."""
        self._shared_source = None if leases is None else SharedTokenSource(leases, integration, fetch)
        self._shared_token_id = ""
        """ID of the last shared token. The ledger has only the newest token, so a token with another ID is newer."""
        self._withheld_until = -math.inf
        """Until when requests wait for the running attempt, although there is a current token."""
        self._timer: asyncio.TimerHandle | None = None
        self._forced_at = -math.inf
        """When a response last forced a refresh, or invalidated the token."""
        self._previous: TokenSource | None = None
        """The source whose state this one may take over. None once that is decided."""
        self._successor: TokenSource | None = None
        """The source that has taken over this source's state."""
        self.predecessors: WeakSet[TokenSource] = WeakSet()
        """The sources whose successor this one is."""
        if previous is not None:
            self._previous = previous.predecessor_for(self)
            self._inherit()

    def __repr__(self) -> str:
        return f"TokenSource({self._integration.id})"

    async def obtain(self) -> Grant:
        """Return the current token, or else the token of the running attempt or of a new one.

        A rejected token is handed out again once the running attempt has failed, or after `PATIENCE`.

        Raises ProblemError: credential_unavailable, with Retry-After if attempts are paused, or internal_error.
        """
        if self._previous is not None:
            await self._wait_for_previous()
        current = self.current
        if current is not None and self._is_withheld:
            await self._wait_while_withheld()
            current = self.current
        if current is not None:
            return self._activate(current)
        if self._successor is not None:
            return await self._obtain_from(self._successor)
        return await self._renew()

    async def _renew(self) -> Grant:
        """Return the token of the running attempt or of a new one. Raises ProblemError."""
        problem = self._refresh.error
        if problem is not None and self._refresh.blocked:
            raise ProblemError(self._with_retry_after(problem))
        if not self._refresh.running:
            self._start()
        outcome = await self._refresh.wait()
        if isinstance(outcome, Failed):
            raise ProblemError(self._with_retry_after(outcome.error))
        return outcome

    async def obtain_for_test(self) -> None:
        """Fetch a token for a test of the integration, unless its secrets have just obtained the current token.

        If a new token could revoke another one, the current token suffices, however old it is. Raises ProblemError.
        """
        if self._previous is not None:
            await self._wait_for_previous()
        suffices = self._needs_lease or self._loop.time() < self._obtained_at + self._renewal_interval
        if suffices and self.current is not None and not self._stale and self._refresh.error is None:
            return
        if self._successor is not None:
            raise ProblemError(_RELOADED)
        await self._renew()

    def report_rejection(self, grant: Grant, status: int, body: bytes | None) -> bool:
        """Handle a response with a watched status to a request with `grant`; return True if a retry is worthwhile.

        A response forces a refresh only if it is about the current token, and once in a renewal interval.
        """
        credential = self._secrets.credential
        if credential is None or isinstance(credential, FixedCredential):
            return False
        if self._successor is not None:
            return self._shares_token_with(self._successor) and self._successor.report_rejection(grant, status, body)
        verdict = credential.verdict(status, body)
        if verdict is Verdict.GOOD:
            return False
        current = self.current
        if verdict is Verdict.SPENT:
            if current is not None and current.token == _issued_token(grant) and self._may_force():
                self._note_forced_refresh("the upstream invalidated the token; it is dropped")
                self._drop()
            return False
        if current is not None and current.token != _issued_token(grant):
            return True
        if self._refresh.running:
            if current is not None and self._may_force():
                self._note_forced_refresh("the upstream rejected the token, which is being refreshed")
                self._withhold()
            return True
        if not self._may_force() or not self._may_call():
            return False
        self._note_forced_refresh("the upstream rejected the token; it is refreshed")
        self._withhold()
        self._start()
        return True

    async def refreshed_after(self, grant: Grant) -> Grant | None:
        """Wait for a running attempt, then return the token that replaced `grant`, or None."""
        successor = self._successor
        if successor is not None:
            newer = await successor.refreshed_after(grant) if self._shares_token_with(successor) else None
            return None if newer is None else self._borrow(successor)
        current, token = self.current, _issued_token(grant)
        if self._refresh.running and (current is None or current.token == token):
            await self._refresh.wait()
            current = self.current
        if current is None or current.token == token:
            return None
        return self._activate(current)

    def retire(self) -> None:
        """Stop refreshing ahead of expiry and writing metrics. A running attempt continues."""
        self._series.retire()
        self._set_timer()

    async def close(self) -> None:
        """Forget the token and cancel the running attempt and its waiters.

        A call that may use up a shared refresh token continues: it is a task of `leases`.
        """
        await self._refresh.close()
        self._drop()

    def _activate(self, current: _CurrentToken) -> Grant:
        if self.grant is not current.grant:
            self.grant = current.grant
            self._set_timer()
        return current.grant

    def _drop(self) -> None:
        self._current = self.grant = None
        self._series.set_expiry(None)
        self._set_timer()

    def _allows_base_url(self, grant: Grant) -> bool:
        """Return True if the policy allows the base URL of a grant, or the grant has none."""
        try:
            if grant.base_url is not None:
                _check_base_url(self._policy, grant.base_url)
        except ValueError:
            return False
        return True

    # Rejected tokens.

    def _may_force(self) -> bool:
        return self._loop.time() >= self._forced_at + self._renewal_interval

    def _may_call(self) -> bool:
        """Return True if neither the back-off nor the rate limit forbids an attempt now."""
        return not self._refresh.blocked and (self._limit is None or not self._limit.wait_seconds(self._loop.time()))

    def _note_forced_refresh(self, event: str) -> None:
        self._forced_at = self._loop.time()
        self._rejected = True
        self._log.info(event)

    def _withhold(self) -> None:
        """Withhold the current token until the refresh ends or `PATIENCE` is over.

        If a new token revokes the previous one, the current token is useless unless the refresh fails.
        """
        self._withheld_until = math.inf if self._single_live else self._loop.time() + PATIENCE
        self.grant = None

    @property
    def _is_withheld(self) -> bool:
        return self._refresh.running and self._loop.time() < self._withheld_until

    async def _wait_while_withheld(self) -> None:
        until = self._withheld_until
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until if math.isfinite(until) else None):
                await self._refresh.wait()

    # A source takes over the state of the previous source, which borrows its successor's token for its last requests.

    def predecessor_for(self, successor: TokenSource) -> TokenSource:
        """Return the source whose state `successor` may take over.

        If this source still waits to take over another source's state, return that source, and make `successor` the
        successor of this one.
        """
        previous = self._previous
        if previous is None:
            return self
        self._previous = None
        self.set_successor(successor)
        return previous

    def transfer_to(self, successor: TokenSource) -> _TokenState:
        """Return the state for `successor`, which makes all later calls. The current token stays usable here."""
        state = _TokenState(
            self._current,
            self._stale,
            self._memory,
            self._rejected,
            self._shared_token_id,
            self._forced_at,
            self._refresh,
        )
        self._memory = None
        self.set_successor(successor)
        return state

    def set_successor(self, successor: TokenSource) -> None:
        """Use the token of `successor` from now on, and make it the successor of all predecessors, too.

        A chain of successors would keep one source alive for each reload since the oldest request in flight.
        """
        self._successor = successor
        for predecessor in tuple(self.predecessors):
            predecessor.set_successor(successor)
        self.predecessors.clear()
        successor.predecessors.add(self)

    async def _wait_for_previous(self) -> None:
        """Wait for the running attempt of the previous source, then take over its state if it is the same client's.

        If `trusted_ca` cannot be read, keep `_previous`: the attempt that follows fails for that reason.

        Raises ProblemError if a secret or certificate cannot be loaded.
        """
        try:
            await self._secrets.obtain()
            await self._ready()
        except ProblemError as raised:
            raise ProblemError(replace(raised.problem, headers=())) from None
        while (previous := self._previous) is not None and self.origin is not None and not self._inherit():
            await previous.wait_for_attempt()

    async def wait_for_attempt(self) -> None:
        """Wait for the running attempt, if there is one."""
        if self._refresh.running:
            await self._refresh.wait()

    def _inherit(self) -> bool:
        """Take over the previous state if it is the same client's.

        Return False if this must be repeated: an origin is unknown, or the previous source is calling.
        """
        previous, origin = self._previous, self.origin
        if previous is None:
            return True
        if origin is None:
            return False
        previous_origin = previous.origin
        if previous_origin is None or origin.same_client(previous_origin):
            if previous.is_calling:
                return False
            # A previous source without an origin may be the same client's: from now on it makes no calls either.
            state = previous.transfer_to(self)
            if previous_origin is not None:
                self._take_over(state, origin, previous_origin)
        self._previous = None
        self._limit = previous.limit
        return True

    def _take_over(self, state: _TokenState, origin: TokenOrigin, previous_origin: TokenOrigin) -> None:
        self._memory, self._rejected, self._shared_token_id = state.memory, state.rejected, state.shared_token_id
        secret_unchanged = origin.same_secret(previous_origin)
        self._stale = state.stale or not secret_unchanged
        if secret_unchanged:
            # A new secret may be what the last refresh lacked, so it need not wait for the renewal interval.
            self._forced_at = state.forced_at
        if not origin.same_token(previous_origin):
            return
        if secret_unchanged:
            self._refresh.resume_from(state.refresh)
        current = state.current
        if (
            current is None
            or self._loop.time() >= current.schedule.usable_until
            or not self._allows_base_url(current.token)
        ):
            return
        self._set_current(self._build_current(current.token, current.schedule))
        self._log.debug("the token is kept after a change of its integration")
        if not secret_unchanged:
            self._withhold()
            self._start()

    @property
    def origin(self) -> TokenOrigin | None:
        """Identity of the token, or None while it cannot be determined."""
        return origin_of(self._integration)

    @property
    def limit(self) -> CallLimit | None:
        """Rate limit of the calls, or None before the first call."""
        return self._limit

    @property
    def is_calling(self) -> bool:
        """True while an attempt is running."""
        return self._refresh.running

    @property
    def current(self) -> _CurrentToken | None:
        """The token that may be handed out now."""
        current = self._current
        return current if current is not None and self._loop.time() < current.schedule.usable_until else None

    def _shares_token_with(self, successor: TokenSource) -> bool:
        """Return True if the successor's token is valid for this source's config."""
        origin, successor_origin = self.origin, successor.origin
        return origin is not None and successor_origin is not None and origin.same_token(successor_origin)

    def _borrow(self, successor: TokenSource) -> Grant | None:
        """Hand out the successor's token if the policy of this source's config allows it as well."""
        borrowed, current = successor.current, self._current
        if borrowed is None or not self._shares_token_with(successor) or not self._allows_base_url(borrowed.token):
            return None
        if current is None or current.token is not borrowed.token:
            current = self._current = self._build_current(borrowed.token, borrowed.schedule)
        return self._activate(current)

    async def _obtain_from(self, successor: TokenSource) -> Grant:
        if self._shares_token_with(successor):
            await successor.obtain()
        grant = self._borrow(successor)
        if grant is None:
            raise ProblemError(_RELOADED)
        return grant

    # One timer: for an active token the next refresh or retry, for an inactive one the end of its use.

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._current is not None:
            self._timer = call_weakly_at(
                self._loop, min(self._current.schedule.usable_until, self._refresh_due()), self._on_timer
            )

    def _refresh_due(self) -> float:
        """Return when to refresh in the background."""
        if self._current is None or self.grant is None or self._refresh.running or self._series.retired:
            return math.inf
        if self._stale:
            return self._refresh.not_before
        if self._single_live:
            # A new token would revoke the token of requests in flight.
            return math.inf
        return max(self._current.schedule.refresh_at, self._refresh.not_before)

    def _on_timer(self) -> None:
        now = self._loop.time() + _GRAIN
        if self._current is None or now >= self._current.schedule.usable_until:
            self._drop()
        elif now >= self._refresh_due():
            self._start()
        else:
            self._set_timer()

    # Attempts to obtain a token.

    def _start(self) -> None:
        self._refresh.start(self._attempt, then=self._set_timer)
        self._set_timer()

    async def _attempt(self) -> Grant | Failed[Problem]:
        try:
            credential = await self._calling_credential()
            if self._shared_source is not None:
                return self._accept_shared(await self._obtain_shared(self._shared_source, credential))
            return self._accept(await self._call(credential))
        except CallError as error:
            return self._failed(error)
        except Unavailable as error:
            reason = f"no token is asked for: {error}"
            self._log.warning("no token could be obtained", outcome="unreachable", reason=reason)
            return Failed(Problem("credential_unavailable", reason), STORE_PAUSE, counts=False)
        except ProblemError as raised:
            # A secret or certificate cannot be loaded. Its loader decides when to retry.
            return Failed(replace(raised.problem, headers=()), counts=False)
        except Exception as defect:  # noqa: BLE001  nobody may wait for the attempt: report the defect here
            return Failed(Problem("internal_error", f"a defect of Sidekey, logged as {self._report(defect)}"))

    async def _calling_credential(self) -> CallingCredential:
        """Return the credential. Raises CallError if a file that is read for each call is unreadable or expired."""
        if self._secrets.files:
            try:
                credential = await self._secrets.obtain_again()
            except ProblemError as raised:
                reason = raised.problem.detail
                raise CallError("unreadable", reason, needs_config_change=True, unspent=True) from None
        else:
            credential = await self._secrets.obtain()
        if isinstance(credential, FixedCredential):
            raise TypeError("a token source is for kinds whose grants expire")
        return credential

    async def _call(self, credential: CallingCredential) -> FlowResult:
        runner = self._build_attempt_runner(credential)
        try:
            return await runner.run(self._fetch)
        finally:
            self._memory = runner.memory

    async def _obtain_shared(self, source: SharedTokenSource, credential: CallingCredential) -> SharedTokenResult:
        await self._ready()
        origin = self.origin
        if origin is None:
            raise CallError("unreachable", "no token is asked for: trusted_ca cannot be read", needs_config_change=True)
        is_usable = partial(self._is_usable_shared, secret_digest_of(origin))
        return await source.obtain(origin, is_usable, self._build_attempt_runner(credential))

    def _build_attempt_runner(self, credential: CallingCredential) -> AttemptRunner:
        return AttemptRunner(
            credential,
            partial(self._build_flow_runner, credential),
            self._wall_clock,
            self._memory,
            rejected=self._rejected,
            pauses=() if self._refresh.failures else PAUSES,
        )

    def _build_flow_runner(self, credential: CallingCredential, fetch: Fetch) -> FlowRunner:
        limit = self._limit = (self._limit or CallLimit(None)).with_maximum(credential.calls_a_minute)
        return FlowRunner(
            fetch=fetch,
            limit=limit,
            clock=self._loop.time,
            count=self._series.count_call,
            check_base_url=partial(_check_base_url, self._policy),
        )

    def _accept(self, result: FlowResult) -> Grant:
        issued = result.issued
        schedule = plan_schedule(result.called_at, issued.lifetime, self._jitter(), issued.renewed_after)
        return self._install(self._build_current(issued.grant, schedule), issued.lifetime)

    def _accept_shared(self, shared: SharedTokenResult) -> Grant:
        token, called_at = shared
        self._shared_token_id = token.token_id
        schedule = plan_schedule(called_at, token.lifetime, self._jitter())
        return self._install(self._build_current(token.grant, schedule), token.lifetime)

    def _is_usable_shared(self, secret_digest: str, shared: SharedTokenResult) -> bool:
        """Return True if a token of another process may be used.

        The first token after a change of the secret must be obtained with the new secret. Later tokens may come from
        either: otherwise processes with the new secret and processes with the old one would revoke each other's tokens.
        """
        token, called_at = shared
        is_first = self._stale or not self._shared_token_id
        is_newer = token.secret_digest == secret_digest if is_first else token.token_id != self._shared_token_id
        usable_until = plan_schedule(called_at, token.lifetime, 0.0).usable_until
        return is_newer and self._loop.time() < usable_until and self._allows_base_url(token.grant)

    def _build_current(self, token: Grant, schedule: Schedule) -> _CurrentToken:
        supplement = self._secrets.supplement
        return _CurrentToken(token, token if supplement is None else token.supplemented(supplement), schedule)

    def _install(self, current: _CurrentToken, lifetime: float) -> Grant:
        self._rejected = self._stale = False
        self._obtained_at = self._loop.time()
        self.grant = current.grant if self._refresh.waiting else None
        self._set_current(current)
        if self._refresh.error is not None:
            self._log.info("tokens can be obtained again", failures=self._refresh.failures)
        self._log.debug("a token was issued", lifetime=round(lifetime, 3))
        return current.grant

    def _set_current(self, current: _CurrentToken) -> None:
        self._current = current
        self._series.set_expiry(self._wall_clock() + current.schedule.expires_at - self._loop.time())
        self._set_timer()

    def _failed(self, error: CallError) -> Failed[Problem]:
        status_error = "proxy_configuration_error" if error.needs_config_change else "proxy_internal_error"
        problem = Problem("credential_unavailable", error.reason, error=status_error)
        is_unreadable = error.outcome == "unreadable"
        # No call was made: the pause does not grow, and each reason is logged once.
        if not is_unreadable or problem != self._refresh.error:
            self._log.warning("no token could be obtained", outcome=error.outcome, reason=error.reason)
        if is_unreadable:
            self._series.count_call(error.outcome)
            return Failed(problem, RETRY_SECONDS, counts=False)
        return Failed(problem, error.retry_after)

    def _with_retry_after(self, problem: Problem) -> Problem:
        """Add Retry-After to the problem if attempts are paused."""
        wait = self._refresh.not_before - self._loop.time()
        return replace(problem, headers=(("Retry-After", str(math.ceil(wait))),)) if wait > 0 else problem


def _issued_token(grant: Grant) -> Grant:
    """Return the issued token of the grant that a request was sent with."""
    return grant if grant.original is None else grant.original


def _check_base_url(policy: Policy, base_url: str) -> object:
    return policy.with_base(parse_discovered_base(base_url))
