"""The grant source of a kind that must call first: holds one token, renews it ahead of its end, says why there is none.

A token is `armed` once a request has used it: then `grant` is set, and the warm path reads nothing else. One that was
renewed in the background is not armed until the next request asks for it, so that only what is used is renewed again.

A source whose integration was changed or has gone is `retired`: it serves the requests in flight that hold it, and is
gone with the last of them.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from functools import partial
from random import SystemRandom
from typing import NamedTuple

from sidekey.core.policy import Policy, parse_learnt
from sidekey.credentials.base import Attempt, CallFault, CallingCredential, FixedCredential, Grant, Verdict
from sidekey.errors import Problem, ProblemError
from sidekey.network.backoff import pause
from sidekey.network.timers import call_weakly_at
from sidekey.observe.logs import get_logger
from sidekey.observe.metrics import CredentialSeries, Metrics
from sidekey.settings.snapshot import Integration
from sidekey.sources.tokens.auth_flow import Driver, Fetch, Fresh
from sidekey.sources.tokens.call_limit import CallLimit
from sidekey.sources.tokens.schedule import Schedule, schedule

_RANDOM = SystemRandom()

_GRAIN = 0.002
"""Seconds by which a timer may come early: uvloop's count in whole milliseconds."""

FORCED_EVERY = 60.0
"""Seconds between two renewals (or drops) that upstream answers force: a storm of 401s makes one call a minute."""


class _Held(NamedTuple):
    grant: Grant
    life: Schedule


class _Failure(NamedTuple):
    """Why an attempt brought no grant; no other begins before `until`."""

    code: str
    detail: str
    error: str
    until: float

    def problem(self, now: float) -> Problem:
        """A Problem of its own for each who hears it: they are raised in many tasks."""
        wait = self.until - now
        headers = (("Retry-After", str(math.ceil(wait))),) if wait > 0 else ()
        return Problem(self.code, self.detail, error=self.error, headers=headers)


class TokenSource:
    """Hands out the token of one integration. To be made on the event loop it lives on.

    `fetch` makes its calls; `report` is told of defects, answers the id under which one is logged and must not raise.
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
        self._keyring = integration.keyring
        self._policy = integration.policy
        self._fetch = fetch
        self._report = report
        self._jitter = jitter
        self._wall = wall
        self._loop = asyncio.get_running_loop()
        self._log = get_logger(integration=integration.id)
        self._driver: Driver | None = None
        self._held: _Held | None = None
        self._memory: str | None = None
        self._rejected = False
        self._flight: asyncio.Task[Grant | _Failure] | None = None
        self._awaited = False
        self._timer: asyncio.TimerHandle | None = None
        self._failures = 0
        self._failure: _Failure | None = None
        self._forced_at = -math.inf

    def __repr__(self) -> str:
        return f"TokenSource({self._id})"

    async def obtain(self) -> Grant:
        """The token that is held, at once; else the one that comes of the attempt under way or of a new one.

        Raises ProblemError: credential_unavailable, with Retry-After where no attempt is made before, or
        internal_error.
        """
        held = self._valid()
        if held is not None:
            return self._arm(held)
        if self._flight is None:
            now = self._loop.time()
            if self._failure is not None and now < self._failure.until:
                raise ProblemError(self._failure.problem(now))
            self._take_off()
        outcome = await self._landing()
        if isinstance(outcome, _Failure):
            raise ProblemError(outcome.problem(self._loop.time()))
        return outcome

    def weigh(self, grant: Grant, status: int, body: bytes | None) -> bool:
        """Hear that an upstream answered a request with `grant` by a watched status; `body` None: not read whole.

        A renewal is forced only where the answer speaks of the token that is held, and once in `FORCED_EVERY` seconds.
        """
        credential = self._keyring.credential
        if credential is None or isinstance(credential, FixedCredential):
            return False
        verdict = credential.verdict(status, body)
        if verdict is Verdict.GOOD:
            return False
        held = self._valid()
        if verdict is Verdict.SPENT:
            if held is not None and held.grant == grant and self._may_force():
                self._force("the upstream gave the credential up; it is dropped")
                self._drop()
            return False
        if (held is not None and held.grant != grant) or self._flight is not None:
            return True
        if not self._may_force() or not self._may_call():
            return False
        self._force("the upstream refused the credential; it is renewed")
        self._take_off()
        return True

    async def newer(self, grant: Grant) -> Grant | None:
        """The token that came after `grant`, waiting for an attempt under way; None where none came."""
        held = self._valid()
        if self._flight is not None and (held is None or held.grant == grant):
            await self._landing()
            held = self._valid()
        if held is None or held.grant == grant:
            return None
        return self._arm(held)

    def retire(self) -> None:
        """Renew nothing ahead of its end any more and tell nothing by metric. An attempt under way goes on."""
        self._series.retire()
        self._plan()

    async def close(self) -> None:
        """Forget the token and end the attempt under way, with everyone who waits for it."""
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.wait([self._flight])
        self._drop()

    def _valid(self) -> _Held | None:
        held = self._held
        return held if held is not None and self._loop.time() < held.life.ends_at else None

    def _arm(self, held: _Held) -> Grant:
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
        """Whether neither the back-off nor the limit of calls stands against an attempt now."""
        now = self._loop.time()
        if self._failure is not None and now < self._failure.until:
            return False
        return self._driver is None or not self._driver.limit.wait(now)

    def _force(self, event: str) -> None:
        self._forced_at = self._loop.time()
        self._rejected = True
        self._log.info(event)

    # The timer: at the refresh point, or at the next attempt after a failure, where the token is used; else at its end.

    def _plan(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._held is not None:
            self._timer = call_weakly_at(self._loop, min(self._held.life.ends_at, self._due()), self._tick)

    def _due(self) -> float:
        """When to renew in the background."""
        if self._held is None or self.grant is None or self._flight is not None or self._series.retired:
            return math.inf
        return max(self._held.life.refresh_at, -math.inf if self._failure is None else self._failure.until)

    def _tick(self) -> None:
        now = self._loop.time() + _GRAIN
        if self._held is None or now >= self._held.life.ends_at:
            self._drop()
        elif now >= self._due():
            self._take_off()
        else:
            self._plan()

    # The flight: one attempt at a time, in a task of its own, so that no caller who leaves ends it for the others.

    def _take_off(self) -> None:
        self._awaited = False
        self._flight = self._loop.create_task(self._fly())
        self._plan()

    async def _landing(self) -> Grant | _Failure:
        if self._flight is None:
            raise RuntimeError("there is no attempt to wait for")
        self._awaited = True
        return await asyncio.shield(self._flight)

    async def _fly(self) -> Grant | _Failure:
        outcome: Grant | _Failure
        try:
            outcome = self._keep(await self._renew())
        except CallFault as fault:
            outcome = self._failed(fault)
        except ProblemError as raised:
            # The secrets: whoever reads them knows when to read again.
            problem = raised.problem
            outcome = self._failure = _Failure(problem.code, problem.detail, problem.error, self._loop.time())
        except Exception as defect:  # noqa: BLE001  the edge of a task: a defect is reported and answered
            detail = f"a defect of Sidekey, logged as {self._report(defect)}"
            outcome = self._failure = _Failure("internal_error", detail, "proxy_internal_error", self._pause(None))
        finally:
            self._flight = None
        self._plan()
        return outcome

    async def _renew(self) -> Fresh:
        credential = await self._keyring.obtain()
        if isinstance(credential, FixedCredential):
            raise TypeError("a token source takes kinds that must call first")
        if self._driver is None:
            self._driver = self._make_driver(credential)
        return await self._driver.run(credential.obtain(Attempt(self._wall(), self._memory, self._rejected)))

    def _make_driver(self, credential: CallingCredential) -> Driver:
        return Driver(
            fetch=self._fetch,
            limit=CallLimit(credential.calls_a_minute),
            clock=self._loop.time,
            count=self._series.count_call,
            # The policy alone: a driver that referred back to its source would outlive it.
            learn=partial(_learn, self._policy),
        )

    def _keep(self, fresh: Fresh) -> Grant:
        issued = fresh.issued
        life = schedule(fresh.called, issued.life, self._jitter())
        self._held = _Held(issued.grant, life)
        self._memory = issued.memory
        self.grant = issued.grant if self._awaited else None
        self._series.expires(self._wall() + life.expires_at - self._loop.time())
        if self._failure is not None:
            self._log.info("calls for a token work again", failures=self._failures)
        self._failure, self._failures, self._rejected = None, 0, False
        self._log.debug("a token was issued", life=round(issued.life, 3))
        return issued.grant

    def _failed(self, fault: CallFault) -> _Failure:
        if fault.memory is not None:
            self._memory = fault.memory
        error = "proxy_configuration_error" if fault.settings else "proxy_internal_error"
        self._failure = _Failure("credential_unavailable", fault.reason, error, self._pause(fault.retry_after))
        self._log.warning("no token could be got", outcome=fault.outcome, reason=fault.reason)
        return self._failure

    def _pause(self, asked: float | None) -> float:
        """Note one more failure in a row; the moment of the next attempt."""
        self._failures += 1
        return self._loop.time() + pause(self._failures, self._jitter(), asked)


def _learn(policy: Policy, base_url: str) -> object:
    return policy.learn(parse_learnt(base_url))
