"""Obtain a token that processes share: use another process's token, or acquire the lease and make the calls."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Coroutine, Hashable
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import partial
from secrets import token_hex
from typing import Any, NamedTuple, TypeVar

from sidekey.credentials.base import Call, CallError, Issued, Reply
from sidekey.errors import ProblemError
from sidekey.observe.log import get_logger
from sidekey.snapshot.snapshot import Integration
from sidekey.tokens.flow import AttemptRunner, Fetch
from sidekey.tokens.ledger import (
    Chain,
    ChainState,
    LeaseUnavailable,
    Ledger,
    SharedToken,
    TokenLease,
    TokenLeaseLost,
    TokenOrigin,
    Unavailable,
)

T = TypeVar("T")

SHUTDOWN_SECONDS = 15.0
"""Seconds that a shutdown waits for leases: a call that was sent may have used up its refresh token."""


class TokenLeases:
    """Runs the work of all token sources of this process that need a lease of `ledger`."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_ending = False
        self._log = get_logger()

    def check(self) -> None:
        """Raise Unavailable once the process shuts down, because it might not live to store the new refresh token."""
        if self._is_ending:
            raise Unavailable("this process is ending")

    async def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run `work`, which acquires and ends a lease, in its own task. Raises what `work` raises, and Unavailable.

        The task survives a cancelled waiter, so that the lease is released and a new refresh token stored.
        """
        self.check()
        task = asyncio.get_running_loop().create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    def end(self) -> None:
        """Refuse new leases and calls from now on."""
        self._is_ending = True

    async def close(self, report: Callable[[BaseException], object]) -> None:
        """Wait up to `SHUTDOWN_SECONDS` until all leases have ended; pass defects to `report`."""
        self.end()
        tasks = set(self._tasks)
        if not tasks:
            return
        done, pending = await asyncio.wait(tasks, timeout=SHUTDOWN_SECONDS)
        for task in done:
            self._log_error(task.exception(), report)
        for task in pending:
            task.cancel()
        if pending:
            self._log.error("a token request did not finish in time: its refresh token may have been used")

    def _log_error(self, error: BaseException | None, report: Callable[[BaseException], object]) -> None:
        """Log the error of a task that nobody may wait for any more."""
        if isinstance(error, CallError):
            self._log.warning("no token could be obtained", outcome=error.outcome, reason=error.reason)
        elif error is not None and not isinstance(error, (ProblemError, TokenLeaseLost, Unavailable)):
            report(error)


LEASE_WAIT_SECONDS = 20.0
"""Seconds that an attempt waits for another process's lease: longer than one call may take.

A lease may last longer (`store_ledger.LEASE_SECONDS`). Then this attempt fails, and a later one gets the token.
"""

MIN_POLL_INTERVAL = 0.1
MAX_POLL_INTERVAL = 1.0
"""Seconds between two attempts to acquire the lease, growing from the minimum to the maximum."""

SPENT_REASON = (
    "the refresh token may be spent: a process ended, or had no response, while it presented it; enter a new refresh "
    "token"
)


class SharedTokenResult(NamedTuple):
    """A shared token, and when the call for it was sent, on this process's loop clock."""

    token: SharedToken
    called_at: float


Usable = Callable[[SharedTokenResult], bool]
"""Returns True if the token of another process may be used."""


class SharedTokenSource:
    """Obtains the shared tokens of one token source."""

    def __init__(self, leases: TokenLeases, integration: Integration, fetch: Fetch) -> None:
        self._leases = leases
        self._integration = integration
        self._rotates = integration.traits.rotates
        self._fetch = fetch

    async def obtain(self, origin: TokenOrigin, usable: Usable, runner: AttemptRunner) -> SharedTokenResult:
        """Return the token of another process if it is `usable`, or else obtain one with `runner`.

        Raises CallError, Unavailable, and what `runner` raises.
        """
        acquire_or_read = partial(self._acquire, build_chain(self._integration, origin), origin, usable, runner)
        loop = asyncio.get_running_loop()
        end, pause = loop.time() + LEASE_WAIT_SECONDS, MIN_POLL_INTERVAL
        while True:
            # After a lost lease another process has the newer token.
            with suppress(TokenLeaseLost):
                result = await self._leases.run(acquire_or_read)
                if isinstance(result, SharedTokenResult):
                    return result
                if result.spent:
                    raise CallError("refused", SPENT_REASON, needs_config_change=True)
            if loop.time() >= end:
                raise CallError("timeout", "another process is obtaining the token, and has not ended yet")
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, MAX_POLL_INTERVAL)

    async def _acquire(
        self, chain: Chain, origin: TokenOrigin, usable: Usable, runner: AttemptRunner
    ) -> SharedTokenResult | LeaseUnavailable:
        """Return the shared token if it is usable, else request one if the lease is free."""
        clock = asyncio.get_running_loop().time
        started, request = clock(), describe_request(origin)
        acquired = await self._leases.ledger.acquire(chain, rotates=self._rotates)
        token = acquired.state.token
        if token is not None and token.request == request:
            # `started` precedes the ledger's `now`, so the token may seem older than it is, and never younger.
            shared = SharedTokenResult(token, started - max(0.0, acquired.now - token.called_at))
            if usable(shared):
                if isinstance(acquired, TokenLease):
                    await acquired.release()
                return shared
        if not isinstance(acquired, TokenLease):
            return acquired
        return await self._call(acquired, acquired.now - clock(), request, secret_digest_of(origin), runner)

    async def _call(
        self, lease: TokenLease, ahead: float, request: str, secret_digest: str, runner: AttemptRunner
    ) -> SharedTokenResult:
        """Obtain a token with `runner` and store it. `ahead` is the ledger's clock minus the loop's."""
        presented = False
        runner.memory = lease.state.memory

        async def fetch(call: Call) -> Reply:
            nonlocal presented
            self._leases.check()
            if self._rotates:
                await lease.intend()
                # A shutdown may have begun meanwhile, and would have to wait for the whole call.
                self._leases.check()
                presented = True
            return await self._fetch(call)

        try:
            result = await runner.run(fetch)
        except CallError as error:
            if presented and not error.unspent:
                await lease.abandon()
            else:
                await _release(lease, runner.memory)
            raise
        except (ProblemError, Unavailable):
            # Nothing was sent: a certificate is unreadable, the intent was not stored, or the process shuts down.
            await _release(lease, runner.memory)
            raise
        except Exception:
            # A defect, or a lost lease, for which `abandon` and `release` do nothing.
            await (lease.abandon() if presented else lease.release())
            raise
        issued: Issued = result.issued
        token = SharedToken(
            token_hex(8), request, secret_digest, issued.grant, result.called_at + ahead, issued.lifetime
        )
        await lease.finish(ChainState(issued.memory, token))
        return SharedTokenResult(token, result.called_at)


async def _release(lease: TokenLease, memory: str | None) -> None:
    """End a lease without a token. A response may have contained a new refresh token nevertheless."""
    if memory == lease.state.memory:
        await lease.release()
    else:
        await lease.finish(ChainState(memory, lease.state.token))


def build_chain(integration: Integration, origin: TokenOrigin) -> Chain:
    """Build the token chain of an integration. Trusted CAs and client certificate do not matter.

    With other CAs or another certificate a spent refresh token of the config is still spent. This is also so after a
    change of destination, because all tokens of the chain are bound to their destination.
    """
    name = integration.row or f"file:{integration.id}"
    return Chain(name, _serialize(origin.lineage.client), integration.destinations)


def describe_request(origin: TokenOrigin) -> str:
    """Describe the request for a token. Integrations use each other's token only if the descriptions are equal."""
    return _serialize((origin.lineage.token, origin.trust, origin.certificate))


def secret_digest_of(origin: TokenOrigin) -> str:
    """Return a digest of the secret that requests a token, and of how it is presented."""
    return hashlib.sha256(_serialize(origin.lineage.proof).encode()).hexdigest()


def _serialize(value: Hashable) -> str:
    """Serialize parts of a lineage identically in every process."""
    return json.dumps(_plain(value), separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if is_dataclass(value):
        return [_plain(getattr(value, field.name)) for field in fields(value)]
    raise TypeError(f"a lineage may contain strings, numbers, tuples and dataclasses, but not {type(value).__name__}")
