"""The grant source of a kind whose grants end: holds and refreshes one token, says why there is none.

A token is active once a request has used it: then `grant` is set, and the warm path reads nothing else. One that was
refreshed in the background becomes active when the next request asks for it, so that only what is used is refreshed
again. One that the upstream rejected is not active while another is fetched: requests wait for that, a little.

A source whose integration was changed or removed is retired: it serves the requests in flight that hold it, and is
freed with the last of them. Where the changed integration is still the same client of the same endpoint, its source
takes over what the retired one knows, and alone makes calls from then on.
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
from sidekey.policy.targets import Policy, parse_learnt
from sidekey.refresh import Failed, SingleFlight, call_weakly_at, growing
from sidekey.snapshot.snapshot import Integration
from sidekey.tokens.flow import CallLimit, Calls, Fetch, FlowResult, FlowRunner
from sidekey.tokens.ledger import TokenOrigin, Unavailable, origin_of
from sidekey.tokens.shared import SharedTokenFound, Sharing, TokenLeases, proof_of

LEAST_MARGIN = 30.0
"""Seconds before expiry by which a token is refreshed, where its life is long enough."""

JITTER = 0.1
"""The part of the margin by which a refresh may come earlier, so that many processes do not call at once."""


class Schedule(NamedTuple):
    """Moments of one token's life: `refresh_at` < `ends_at` < `expires_at`.

    From `ends_at` on it is not handed out: a request takes some time to the upstream, and must not arrive expired.
    """

    refresh_at: float
    ends_at: float
    expires_at: float


def schedule(called: float, life: float, jitter: float, renewed_after: float | None = None) -> Schedule:
    """The schedule of a token that lives `life` seconds and whose call was sent at `called`; `jitter` is 0 to 1.

    `renewed_after` is for one that costs no call: no process waits for another, and nothing is to be spared.
    """
    expiry = called + life
    if renewed_after is None:
        margin = min(max(LEAST_MARGIN, life / 10), life / 2)
        refresh_at = expiry - margin * (1 + JITTER * jitter)
    else:
        refresh_at = called + renewed_after
    return Schedule(refresh_at, expiry - min(1.0, life / 20), expiry)


_RANDOM = SystemRandom()

_GRAIN = 0.002
"""Seconds by which a timer may come early: uvloop counts in whole milliseconds."""

PATIENCE = 2.0
"""Seconds that requests wait for the successor of a token that was rejected: one resource may reject every token."""

PAUSES = (0.5, 0.5, 1.0)
"""Seconds before each further call of an attempt whose call brought a token that has ended.

Platforms that return one token for its whole life say in its last second that it lives 0 seconds.
"""

STORE_PAUSE = 1.0
"""Seconds until the next attempt, where no token is asked for: no endpoint is to be spared."""

_RELOADED = Problem(
    "credential_unavailable",
    "the config was reloaded while the request waited for a token: send the request again",
    error="proxy_configuration_error",
)


class _Held(NamedTuple):
    """A token, what requests are sent with (`SecretLoader.supplement`), and how long."""

    token: Grant
    grant: Grant
    life: Schedule


class _Known(NamedTuple):
    """What one source leaves to the next. Of `refresh` only the last error and the pause after it count."""

    held: _Held | None
    stale: bool
    memory: str | None
    rejected: bool
    number: str
    forced_at: float
    refresh: SingleFlight[Grant, Problem]


class TokenSource:
    """Hands out the token of one integration. To be made on the event loop it lives on.

    `fetch` makes its calls, `ready` waits until a client certificate is there where one is needed (ProblemError: there
    is none); `report` is passed defects, returns the id under which one is logged and must not raise. `former` is the
    source of what the integration was before, to be retired by then. With `turns` the token is shared with other
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
        former: TokenSource | None = None,
        turns: TokenLeases | None = None,
        jitter: Callable[[], float] = _RANDOM.random,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.grant: Grant | None = None
        self._integration = integration
        self._series = CredentialSeries(metrics, integration.id, "token")
        self._secrets = integration.secrets
        self._policy = integration.policy
        self._interval = integration.traits.renewal_interval
        self._single_live = integration.traits.single_live_token
        self._one_at_a_time = integration.traits.one_at_a_time
        self._rereads = bool(integration.traits.reread)
        self._fetch = fetch
        self._ready = ready
        self._report = report
        self._jitter = jitter
        self._wall = wall
        self._loop = asyncio.get_running_loop()
        self._log = get_logger(integration=integration.id)
        self._limit: CallLimit | None = None
        self._refresh: SingleFlight[Grant, Problem] = SingleFlight(growing(jitter))
        self._held: _Held | None = None
        self._stale = False
        """Another secret obtained the last token. It serves only until the present secret has obtained one."""
        self._obtained_at = -math.inf
        self._memory: str | None = None
        self._rejected = False
        self._sharing = None if turns is None else Sharing(turns, integration, fetch)
        self._number = ""
        """That of the last shared token; another is newer."""
        self._doubted_until = -math.inf
        """Until when requests wait for an attempt under way, although a token is held."""
        self._timer: asyncio.TimerHandle | None = None
        self._forced_at = -math.inf
        self._former: TokenSource | None = None
        """The source whose knowledge may be taken over; it is not known yet whether it may."""
        self._heir: TokenSource | None = None
        """The source that has taken over what this one knew."""
        self.followers: WeakSet[TokenSource] = WeakSet()
        """Those whose heir this one is."""
        if former is not None:
            self._former = former.make_way_for(self)
            self._inherit()

    def __repr__(self) -> str:
        return f"TokenSource({self._integration.id})"

    async def obtain(self) -> Grant:
        """The token that is held, at once; else that of the attempt under way or of a new one.

        A token that was rejected is handed out once the attempt under way has failed, or after `PATIENCE`.

        Raises ProblemError: credential_unavailable, with Retry-After where no attempt is made before, or
        internal_error.
        """
        if self._former is not None:
            await self._settle()
        held = self.held
        if held is not None and self._is_doubted:
            await self._wait_in_doubt()
            held = self.held
        if held is not None:
            return self._activate(held)
        if self._heir is not None:
            return await self._obtain_by(self._heir)
        return await self._renew()

    async def _renew(self) -> Grant:
        """Return the token of the attempt under way or of a new one. Raises ProblemError."""
        problem = self._refresh.error
        if problem is not None and self._refresh.blocked:
            raise ProblemError(self._until_retry(problem))
        if not self._refresh.running:
            self._start()
        outcome = await self._refresh.wait()
        if isinstance(outcome, Failed):
            raise ProblemError(self._until_retry(outcome.error))
        return outcome

    async def prove(self) -> None:
        """Fetch a token for a test of the integration, unless its secrets have obtained the held one just now.

        If a new token could end another one, the held token suffices, however old it is. Raises ProblemError.
        """
        if self._former is not None:
            await self._settle()
        suffices = self._one_at_a_time or self._loop.time() < self._obtained_at + self._interval
        if suffices and self.held is not None and not self._stale and self._refresh.error is None:
            return
        if self._heir is not None:
            raise ProblemError(_RELOADED)
        await self._renew()

    def report_rejection(self, grant: Grant, status: int, body: bytes | None) -> bool:
        """Take note of an upstream's response of a watched status to a request with `grant`.

        A refresh is forced only where the response is about the token that is held, and once in a renewal interval.
        """
        credential = self._secrets.credential
        if credential is None or isinstance(credential, FixedCredential):
            return False
        if self._heir is not None:
            return self._is_one_with(self._heir) and self._heir.report_rejection(grant, status, body)
        verdict = credential.verdict(status, body)
        if verdict is Verdict.GOOD:
            return False
        held = self.held
        if verdict is Verdict.SPENT:
            if held is not None and held.token == _token(grant) and self._may_force():
                self._force("the upstream invalidated the token; it is dropped")
                self._drop()
            return False
        if held is not None and held.token != _token(grant):
            return True
        if self._refresh.running:
            if held is not None and self._may_force():
                self._force("the upstream rejected the token, which is being refreshed")
                self._doubt()
            return True
        if not self._may_force() or not self._may_call():
            return False
        self._force("the upstream rejected the token; it is refreshed")
        self._doubt()
        self._start()
        return True

    async def refreshed_after(self, grant: Grant) -> Grant | None:
        """The token that replaced `grant`, after the attempt under way, if there is one; None where none did."""
        heir = self._heir
        if heir is not None:
            newer = await heir.refreshed_after(grant) if self._is_one_with(heir) else None
            return None if newer is None else self._borrow(heir)
        held, token = self.held, _token(grant)
        if self._refresh.running and (held is None or held.token == token):
            await self._refresh.wait()
            held = self.held
        if held is None or held.token == token:
            return None
        return self._activate(held)

    def retire(self) -> None:
        """Refresh nothing ahead of its end any more, and write no metric. An attempt under way goes on."""
        self._series.retire()
        self._plan()

    async def close(self) -> None:
        """Forget the token and cancel the attempt under way, with everyone who waits for it.

        A call that may spend what is shared goes on: it is one of the `turns`.
        """
        await self._refresh.close()
        self._drop()

    def _activate(self, held: _Held) -> Grant:
        if self.grant is not held.grant:
            self.grant = held.grant
            self._plan()
        return held.grant

    def _drop(self) -> None:
        self._held = self.grant = None
        self._series.expires(None)
        self._plan()

    def _allows(self, grant: Grant) -> bool:
        """Whether the policy allows the base URL that came with a token, if one did."""
        try:
            if grant.base_url is not None:
                _learn(self._policy, grant.base_url)
        except ValueError:
            return False
        return True

    # A token that was rejected.

    def _may_force(self) -> bool:
        return self._loop.time() >= self._forced_at + self._interval

    def _may_call(self) -> bool:
        """Whether neither the back-off nor the limit of calls forbids an attempt now."""
        return not self._refresh.blocked and (self._limit is None or not self._limit.wait(self._loop.time()))

    def _force(self, event: str) -> None:
        self._forced_at = self._loop.time()
        self._rejected = True
        self._log.info(event)

    def _doubt(self) -> None:
        """Hand out what is held only after the attempt under way, or some time.

        Where a new token ends the one before, what is held is worth nothing until the attempt has failed.
        """
        self._doubted_until = math.inf if self._single_live else self._loop.time() + PATIENCE
        self.grant = None

    @property
    def _is_doubted(self) -> bool:
        return self._refresh.running and self._loop.time() < self._doubted_until

    async def _wait_in_doubt(self) -> None:
        until = self._doubted_until
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until if math.isfinite(until) else None):
                await self._refresh.wait()

    # What a source takes over from the one before, and what that one borrows for its last requests.

    def make_way_for(self, heir: TokenSource) -> TokenSource:
        """The source whose knowledge `heir` may take over: this one, or the one that this one would have taken it from.

        In the second case this one has none, and depends on `heir` from now on.
        """
        former = self._former
        if former is None:
            return self
        self._former = None
        self.follow(heir)
        return former

    def hand_over(self, heir: TokenSource) -> _Known:
        """What is known so far, for `heir`, which alone makes calls from now on. What is held serves here as well."""
        known = _Known(
            self._held, self._stale, self._memory, self._rejected, self._number, self._forced_at, self._refresh
        )
        self._memory = None
        self.follow(heir)
        return known

    def follow(self, heir: TokenSource) -> None:
        """Depend on `heir` from now on, with all that depended on this one.

        If they still depended on this one, the oldest request in flight would keep a source for each reload since.
        """
        self._heir = heir
        for follower in tuple(self.followers):
            follower.follow(heir)
        self.followers.clear()
        heir.followers.add(self)

    async def _settle(self) -> None:
        """Wait until it is known what may be taken over, then for an attempt under way, which may spend a token.

        Raises ProblemError where a secret or certificate that decides it cannot be had.
        """
        try:
            await self._secrets.obtain()
            await self._ready()
        except ProblemError as raised:
            raise ProblemError(replace(raised.problem, headers=())) from None
        while (former := self._former) is not None and self.origin is not None and not self._inherit():
            await former.wait_for_attempt()

    async def wait_for_attempt(self) -> None:
        """Wait until the attempt under way has ended, if there is one."""
        if self._refresh.running:
            await self._refresh.wait()

    def _inherit(self) -> bool:
        """Take over what may be taken over; False while that is not known, or an attempt is under way."""
        former, own = self._former, self.origin
        if former is None:
            return True
        if own is None:
            return False
        others = former.origin
        if others is None or own.is_client_of(others):
            if former.is_calling:
                return False
            # One that could not be read so far may be the same client's: from now on it makes no calls either.
            known = former.hand_over(self)
            if others is not None:
                self._take_over(known, own, others)
        self._former = None
        self._limit = former.limit
        return True

    def _take_over(self, known: _Known, own: TokenOrigin, others: TokenOrigin) -> None:
        self._memory, self._rejected, self._number = known.memory, known.rejected, known.number
        same_secret = own.proves_like(others)
        self._stale = known.stale or not same_secret
        if same_secret:
            # Another secret may be what the last renewal has failed for want of.
            self._forced_at = known.forced_at
        if not own.has_token_of(others):
            return
        if same_secret:
            self._refresh.go_on(known.refresh)
        held = known.held
        if held is None or self._loop.time() >= held.life.ends_at or not self._allows(held.token):
            return
        self._hold(self._supplemented(held.token, held.life))
        self._log.debug("the token is kept after a change of its integration")
        if not same_secret:
            self._doubt()
            self._start()

    @property
    def origin(self) -> TokenOrigin | None:
        """Whose its token is; None while that cannot be known."""
        return origin_of(self._integration)

    @property
    def limit(self) -> CallLimit | None:
        """How many calls may be made; None before the first."""
        return self._limit

    @property
    def is_calling(self) -> bool:
        """Whether an attempt is under way."""
        return self._refresh.running

    @property
    def held(self) -> _Held | None:
        """The token that may be handed out now."""
        held = self._held
        return held if held is not None and self._loop.time() < held.life.ends_at else None

    def _is_one_with(self, heir: TokenSource) -> bool:
        """Whether the heir's token is what a request by this source's config may have."""
        own, others = self.origin, heir.origin
        return own is not None and others is not None and own.has_token_of(others)

    def _borrow(self, heir: TokenSource) -> Grant | None:
        """Hand out the heir's token, where the policy of this source's config allows that as well."""
        held, own = heir.held, self._held
        if held is None or not self._is_one_with(heir) or not self._allows(held.token):
            return None
        if own is None or own.token is not held.token:
            own = self._held = self._supplemented(held.token, held.life)
        return self._activate(own)

    async def _obtain_by(self, heir: TokenSource) -> Grant:
        if self._is_one_with(heir):
            await heir.obtain()
        grant = self._borrow(heir)
        if grant is None:
            raise ProblemError(_RELOADED)
        return grant

    # The timer: where the token is used, at its refresh point or at the next attempt after a failure; else at its end.

    def _plan(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._held is not None:
            self._timer = call_weakly_at(self._loop, min(self._held.life.ends_at, self._due()), self._tick)

    def _due(self) -> float:
        """When to refresh in the background."""
        if self._held is None or self.grant is None or self._refresh.running or self._series.retired:
            return math.inf
        if self._stale:
            return self._refresh.not_before
        if self._single_live:
            # It would end the token that requests have just been sent with.
            return math.inf
        return max(self._held.life.refresh_at, self._refresh.not_before)

    def _tick(self) -> None:
        now = self._loop.time() + _GRAIN
        if self._held is None or now >= self._held.life.ends_at:
            self._drop()
        elif now >= self._due():
            self._start()
        else:
            self._plan()

    # The attempts.

    def _start(self) -> None:
        self._refresh.start(self._attempt, then=self._plan)
        self._plan()

    async def _attempt(self) -> Grant | Failed[Problem]:
        try:
            credential = await self._calling_credential()
            if self._sharing is not None:
                return self._keep_shared(await self._share(self._sharing, credential))
            return self._keep(await self._call(credential))
        except CallError as error:
            return self._failed(error)
        except Unavailable as error:
            reason = f"no token is asked for: {error}"
            self._log.warning("no token could be obtained", outcome="unreachable", reason=reason)
            return Failed(Problem("credential_unavailable", reason), STORE_PAUSE, counts=False)
        except ProblemError as raised:
            # A secret or certificate: whoever reads it knows when to read it again.
            return Failed(replace(raised.problem, headers=()), counts=False)
        except Exception as defect:  # noqa: BLE001  an attempt may have nobody who waits: a defect is reported here
            return Failed(Problem("internal_error", f"a defect of Sidekey, logged as {self._report(defect)}"))

    async def _calling_credential(self) -> CallingCredential:
        credential = await (self._secrets.obtain_reread() if self._rereads else self._secrets.obtain())
        if isinstance(credential, FixedCredential):
            raise TypeError("a token source is for kinds whose grants end")
        return credential

    async def _call(self, credential: CallingCredential) -> FlowResult:
        calls = self._calls(credential)
        try:
            return await calls.run(self._fetch)
        finally:
            self._memory = calls.memory

    async def _share(self, sharing: Sharing, credential: CallingCredential) -> SharedTokenFound:
        await self._ready()
        origin = self.origin
        if origin is None:
            raise CallError("unreachable", "no token is asked for: trusted_ca cannot be read", settings=True)
        return await sharing.obtain(origin, partial(self._is_newer, proof_of(origin)), self._calls(credential))

    def _calls(self, credential: CallingCredential) -> Calls:
        return Calls(
            credential,
            partial(self._make_runner, credential),
            self._wall,
            self._memory,
            rejected=self._rejected,
            pauses=() if self._refresh.failures else PAUSES,
        )

    def _make_runner(self, credential: CallingCredential, fetch: Fetch) -> FlowRunner:
        limit = self._limit = (self._limit or CallLimit(None)).at_most(credential.calls_a_minute)
        return FlowRunner(
            fetch=fetch,
            limit=limit,
            clock=self._loop.time,
            count=self._series.count_call,
            learn=partial(_learn, self._policy),
        )

    def _keep(self, obtained: FlowResult) -> Grant:
        issued = obtained.issued
        life = schedule(obtained.called, issued.life, self._jitter(), issued.renewed_after)
        return self._hand_out(self._supplemented(issued.grant, life), issued.life)

    def _keep_shared(self, found: SharedTokenFound) -> Grant:
        token, called = found
        self._number = token.number
        life = schedule(called, token.life, self._jitter())
        return self._hand_out(self._supplemented(token.grant, life), token.life)

    def _is_newer(self, proof: str, found: SharedTokenFound) -> bool:
        """Return True if a token of another process may be used.

        The first token of a secret must come of that secret. Later ones may come of another secret. Otherwise
        processes that have read a new secret, and those that have not yet, would end each other's tokens.
        """
        token, called = found
        is_first = self._stale or not self._number
        is_newer = token.proof == proof if is_first else token.number != self._number
        return is_newer and self._loop.time() < schedule(called, token.life, 0.0).ends_at and self._allows(token.grant)

    def _supplemented(self, token: Grant, life: Schedule) -> _Held:
        supplement = self._secrets.supplement
        return _Held(token, token if supplement is None else token.supplemented(supplement), life)

    def _hand_out(self, held: _Held, seconds: float) -> Grant:
        self._rejected = self._stale = False
        self._obtained_at = self._loop.time()
        self.grant = held.grant if self._refresh.waiting else None
        self._hold(held)
        if self._refresh.error is not None:
            self._log.info("tokens can be obtained again", failures=self._refresh.failures)
        self._log.debug("a token was issued", lifetime=round(seconds, 3))
        return held.grant

    def _hold(self, held: _Held) -> None:
        self._held = held
        self._series.expires(self._wall() + held.life.expires_at - self._loop.time())
        self._plan()

    def _failed(self, error: CallError) -> Failed[Problem]:
        status_error = "proxy_configuration_error" if error.settings else "proxy_internal_error"
        self._log.warning("no token could be obtained", outcome=error.outcome, reason=error.reason)
        return Failed(Problem("credential_unavailable", error.reason, error=status_error), error.retry_after)

    def _until_retry(self, problem: Problem) -> Problem:
        """The problem, with Retry-After where no attempt is made before."""
        wait = self._refresh.not_before - self._loop.time()
        return replace(problem, headers=(("Retry-After", str(math.ceil(wait))),)) if wait > 0 else problem


def _token(grant: Grant) -> Grant:
    """The token that is in what a request was sent with."""
    return grant if grant.issued is None else grant.issued


def _learn(policy: Policy, base_url: str) -> object:
    return policy.learn(parse_learnt(base_url))
