"""The grant source of a kind that must call first: holds and refreshes one token, says why there is none.

A token is active once a request has used it: then `grant` is set, and the warm path reads nothing else. One that was
refreshed in the background becomes active when the next request asks for it, so that only what is used is refreshed
again.

A source whose integration was changed or removed is retired: it serves the requests in flight that hold it, and is
freed with the last of them.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from random import SystemRandom
from typing import NamedTuple

from sidekey.core.policy import Policy, parse_learnt
from sidekey.credentials.base import Attempt, CallFault, CallingCredential, FixedCredential, Grant, Verdict
from sidekey.errors import Problem, ProblemError
from sidekey.network.backoff import growing
from sidekey.network.timers import call_weakly_at
from sidekey.observe.logs import get_logger
from sidekey.observe.metrics import CredentialSeries, Metrics
from sidekey.refresh import Failed, Refresh
from sidekey.runtime.snapshot import Integration
from sidekey.sources.tokens.auth_flow import Fetch, FlowRunner, Obtained
from sidekey.sources.tokens.call_limit import CallLimit
from sidekey.sources.tokens.schedule import Schedule, schedule

_RANDOM = SystemRandom()

_GRAIN = 0.002
"""Seconds by which a timer may come early: uvloop counts in whole milliseconds."""

FORCED_EVERY = 60.0
"""Seconds between two refreshes (or drops) that upstream responses force: a storm of 401s makes one call a minute."""


class _Held(NamedTuple):
    grant: Grant
    life: Schedule


class TokenSource:
    """Hands out the token of one integration. To be made on the event loop it lives on.

    `fetch` makes its calls; `report` is passed defects, returns the id under which one is logged and must not raise.
    """

    def __init__(
        self,
        integration: Integration,
        fetch: Fetch,
        metrics: Metrics,
        report: Callable[[BaseException], str],
        *,
        jitter: Callable[[], float] = _RANDOM.random,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.grant: Grant | None = None
        self._id = integration.id
        self._series = CredentialSeries(metrics, integration.id, "token")
        self._secrets = integration.secrets
        self._policy = integration.policy
        self._fetch = fetch
        self._report = report
        self._jitter = jitter
        self._wall = wall
        self._loop = asyncio.get_running_loop()
        self._log = get_logger(integration=integration.id)
        self._runner: FlowRunner | None = None
        self._refresh: Refresh[Grant, Problem] = Refresh(growing(jitter))
        self._held: _Held | None = None
        self._memory: str | None = None
        self._rejected = False
        self._timer: asyncio.TimerHandle | None = None
        self._forced_at = -math.inf

    def __repr__(self) -> str:
        return f"TokenSource({self._id})"

    async def obtain(self) -> Grant:
        """The token that is held, at once; else that of the attempt under way or of a new one.

        Raises ProblemError: credential_unavailable, with Retry-After where no attempt is made before, or
        internal_error.
        """
        held = self._valid()
        if held is not None:
            return self._activate(held)
        problem = self._refresh.error
        if problem is not None and self._refresh.blocked:
            raise ProblemError(self._until_retry(problem))
        if not self._refresh.running:
            self._start()
        outcome = await self._refresh.wait()
        if isinstance(outcome, Failed):
            raise ProblemError(self._until_retry(outcome.error))
        return outcome

    def report_rejection(self, grant: Grant, status: int, body: bytes | None) -> bool:
        """Take note of an upstream's response of a watched status to a request with `grant`.

        A refresh is forced only where the response is about the token that is held, and once in `FORCED_EVERY` seconds.
        """
        credential = self._secrets.credential
        if credential is None or isinstance(credential, FixedCredential):
            return False
        verdict = credential.verdict(status, body)
        if verdict is Verdict.GOOD:
            return False
        held = self._valid()
        if verdict is Verdict.SPENT:
            if held is not None and held.grant == grant and self._may_force():
                self._force("the upstream invalidated the token; it is dropped")
                self._drop()
            return False
        if (held is not None and held.grant != grant) or self._refresh.running:
            return True
        if not self._may_force() or not self._may_call():
            return False
        self._force("the upstream rejected the token; it is refreshed")
        self._start()
        return True

    async def refreshed_after(self, grant: Grant) -> Grant | None:
        """The token that replaced `grant`, after the attempt under way, if there is one; None where none did."""
        held = self._valid()
        if self._refresh.running and (held is None or held.grant == grant):
            await self._refresh.wait()
            held = self._valid()
        if held is None or held.grant == grant:
            return None
        return self._activate(held)

    def retire(self) -> None:
        """Refresh nothing ahead of its end any more, and write no metric. An attempt under way goes on."""
        self._series.retire()
        self._plan()

    async def close(self) -> None:
        """Forget the token and cancel the attempt under way, with everyone who waits for it."""
        await self._refresh.close()
        self._drop()

    def _valid(self) -> _Held | None:
        held = self._held
        return held if held is not None and self._loop.time() < held.life.ends_at else None

    def _activate(self, held: _Held) -> Grant:
        if self.grant is not held.grant:
            self.grant = held.grant
            self._plan()
        return held.grant

    def _drop(self) -> None:
        self._held = self.grant = None
        self._series.expires(None)
        self._plan()

    def _may_force(self) -> bool:
        return self._loop.time() >= self._forced_at + FORCED_EVERY

    def _may_call(self) -> bool:
        """Whether neither the back-off nor the limit of calls forbids an attempt now."""
        return not self._refresh.blocked and (self._runner is None or not self._runner.limit.wait(self._loop.time()))

    def _force(self, event: str) -> None:
        self._forced_at = self._loop.time()
        self._rejected = True
        self._log.info(event)

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
            return self._keep(await self._call())
        except CallFault as error:
            return self._failed(error)
        except ProblemError as raised:
            # A secret or certificate: whoever reads it knows when to read it again.
            return Failed(replace(raised.problem, headers=()), counts=False)
        except Exception as defect:  # noqa: BLE001  an attempt may have nobody who waits: a defect is reported here
            return Failed(Problem("internal_error", f"a defect of Sidekey, logged as {self._report(defect)}"))

    async def _call(self) -> Obtained:
        credential = await self._secrets.obtain()
        if isinstance(credential, FixedCredential):
            raise TypeError("a token source is for kinds that must call first")
        if self._runner is None:
            self._runner = self._make_runner(credential)
        return await self._runner.run(credential.obtain(Attempt(self._wall(), self._memory, self._rejected)))

    def _make_runner(self, credential: CallingCredential) -> FlowRunner:
        return FlowRunner(
            fetch=self._fetch,
            limit=CallLimit(credential.calls_a_minute),
            clock=self._loop.time,
            count=self._series.count_call,
            # The policy alone: a runner that referred back to its source would be in a cycle with it.
            learn=partial(_learn, self._policy),
        )

    def _keep(self, obtained: Obtained) -> Grant:
        issued = obtained.issued
        life = schedule(obtained.called, issued.life, self._jitter())
        self._held = _Held(issued.grant, life)
        self._memory = issued.memory
        self._rejected = False
        self.grant = issued.grant if self._refresh.waiting else None
        self._series.expires(self._wall() + life.expires_at - self._loop.time())
        if self._refresh.error is not None:
            self._log.info("tokens can be obtained again", failures=self._refresh.failures)
        self._log.debug("a token was issued", life=round(issued.life, 3))
        return issued.grant

    def _failed(self, error: CallFault) -> Failed[Problem]:
        if error.memory is not None:
            self._memory = error.memory
        status_error = "proxy_configuration_error" if error.settings else "proxy_internal_error"
        self._log.warning("no token could be obtained", outcome=error.outcome, reason=error.reason)
        return Failed(Problem("credential_unavailable", error.reason, error=status_error), error.retry_after)

    def _until_retry(self, problem: Problem) -> Problem:
        """The problem, with Retry-After where no attempt is made before."""
        wait = self._refresh.not_before - self._loop.time()
        return replace(problem, headers=(("Retry-After", str(math.ceil(wait))),)) if wait > 0 else problem


def _learn(policy: Policy, base_url: str) -> object:
    return policy.learn(parse_learnt(base_url))
