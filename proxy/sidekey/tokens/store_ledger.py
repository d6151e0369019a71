"""The ledger in the store: its leases are leases of the store, and the state between leases is sealed."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from sidekey.credentials.base import Grant
from sidekey.observe.log import get_logger
from sidekey.store.errors import StoreError
from sidekey.store.leases import Lease, LeaseLost
from sidekey.store.store import Store
from sidekey.tokens.ledger import (
    Chain,
    ChainState,
    LeaseUnavailable,
    Ledger,
    SharedToken,
    TokenLease,
    TokenLeaseLost,
    Unavailable,
)

LEASE_SECONDS: Final = 30
"""Seconds until a lease runs out, if calls use up no refresh token. Then another process calls as well.

One lease covers every call of an attempt, such as a login of several steps, and is not extended. So it is longer than
the time that other processes wait for it (`shared.LEASE_WAIT_SECONDS`): their attempts fail, and they try again later.
"""

INTENT_SECONDS: Final = 10
"""Seconds from acquiring a lease to its first intent, if calls may use up the refresh token."""

CALL_SECONDS: Final = 15
"""Seconds from an intent to the next one, or to the end of the lease: longer than a call may take.

If the process has ended by then, its refresh token counts as spent.
"""

RETRY_SECONDS: Final = 1.0
"""Seconds between two attempts to store a state."""

SHUTDOWN_SECONDS: Final = 5.0
"""Seconds that a shutdown waits for the store while a state is not stored."""


class StoreLedger(Ledger):
    """The ledger of a process with a store. Close it before the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._log = get_logger()
        self._unstored: dict[Chain, asyncio.Task[None]] = {}
        self._fences: dict[bytes, int] = {}
        """The last fencing token of each chain. A lower or equal one comes from an older copy of the database."""

    async def acquire(self, chain: Chain, *, rotates: bool) -> TokenLease | LeaseUnavailable:
        """Acquire the lease of the chain in the store. Raises Unavailable."""
        if chain in self._unstored:
            raise Unavailable("what the last call has brought is not stored yet")
        health = self._store.health
        if not health.up:
            # The store checks its health each second, so integrations need not wait for an unreachable database.
            raise _unavailable(health.problem)
        try:
            lease = await self._store.acquire_lease(*chain, INTENT_SECONDS if rotates else LEASE_SECONDS)
        except StoreError as error:
            raise _unavailable(error) from None
        state = _parse(lease.result)
        if not isinstance(lease, Lease):
            return LeaseUnavailable(lease.may_be_spent, state, lease.now)
        token_lease = _StoreLease(self, self._store, chain, lease, state)
        key = hashlib.sha256(f"{chain.name} {chain.lineage}".encode()).digest()
        last_fence = self._fences.get(key, 0)
        self._fences[key] = max(last_fence, lease.fence)
        if lease.fence <= last_fence and rotates:
            await token_lease.abandon()
            return LeaseUnavailable(spent=True, state=state, now=lease.now)
        return token_lease

    async def store(self, chain: Chain, write: Callable[[], Awaitable[None]]) -> None:
        """Run `write`. If the store fails, retry in the background, and grant no lease of the chain until it succeeds.

        Raises Unavailable, TokenLeaseLost.
        """
        try:
            await write()
        except LeaseLost:
            raise TokenLeaseLost from None
        except StoreError as error:
            self._log.warning("a token response cannot be stored yet", name=chain.name, reason=str(error))
            self._unstored[chain] = asyncio.get_running_loop().create_task(self._retry(chain, write))
            raise _unavailable(error) from None

    async def _retry(self, chain: Chain, write: Callable[[], Awaitable[None]]) -> None:
        try:
            while True:
                await asyncio.sleep(RETRY_SECONDS)
                with suppress(StoreError):
                    # A lost lease may have been released by an earlier attempt whose outcome was lost.
                    with suppress(LeaseLost):
                        await write()
                    self._log.info("a token response was stored", name=chain.name)
                    return
        finally:
            del self._unstored[chain]

    async def close(self) -> None:
        """Wait up to `SHUTDOWN_SECONDS` until every state is stored."""
        tasks = list(self._unstored.values())
        if not tasks:
            return
        _, pending = await asyncio.wait(tasks, timeout=SHUTDOWN_SECONDS)
        for task in pending:
            task.cancel()
        if pending:
            self._log.error("a token response could not be stored: its refresh token may be lost")


class _StoreLease(TokenLease):
    def __init__(self, ledger: StoreLedger, store: Store, chain: Chain, lease: Lease, state: ChainState) -> None:
        self.state = state
        self.now = lease.now
        self._ledger = ledger
        self._store = store
        self._chain = chain
        self._lease = lease

    async def intend(self) -> None:
        try:
            await self._store.record_intent(self._lease, CALL_SECONDS)
        except LeaseLost:
            raise TokenLeaseLost from None
        except StoreError as error:
            raise _unavailable(error) from None

    async def finish(self, state: ChainState) -> None:
        await self._ledger.store(
            self._chain,
            partial(self._store.finish_lease, self._lease, _serialize(state), replaces_token=state.memory is not None),
        )

    async def release(self) -> None:
        with suppress(Unavailable, TokenLeaseLost):
            await self._ledger.store(self._chain, partial(self._store.release_lease, self._lease))

    async def abandon(self) -> None:
        # If this cannot be written, the intent runs out, which has the same effect.
        with suppress(StoreError):
            await self._store.record_intent(self._lease, 0)


def _unavailable(reason: object) -> Unavailable:
    return Unavailable(f"the store cannot be used: {reason}")


def _serialize(state: ChainState) -> str:
    token = state.token
    written: dict[str, Any] = {"memory": state.memory}
    if token is not None:
        grant = token.grant
        written["token"] = {
            "asked": token.request,
            "base_url": grant.base_url,
            "body": grant.body,
            "called": token.called_at,
            "headers": grant.headers,
            "life": token.lifetime,
            "number": token.token_id,
            "proof": token.secret_digest,
            "query": grant.query,
            "secrets": [secret.decode("latin-1") for secret in grant.secrets],
        }
    return json.dumps(written)


def _parse(text: str | None) -> ChainState:
    """Parse a state. It was sealed, so a Sidekey wrote it, but perhaps another version, whose token is then dropped."""
    if text is None:
        return ChainState()
    written = json.loads(text)
    try:
        token = _parse_token(written["token"])
    except (KeyError, TypeError, ValueError):
        token = None
    return ChainState(written["memory"], token)


def _parse_token(written: dict[str, Any]) -> SharedToken:
    def pairs(key: str) -> tuple[tuple[str, str], ...]:
        return tuple((name, value) for name, value in written[key])

    secrets = tuple(secret.encode("latin-1") for secret in written["secrets"])
    grant = Grant(pairs("headers"), pairs("query"), pairs("body"), written["base_url"], secrets)
    return SharedToken(
        written["number"], written["asked"], written["proof"], grant, float(written["called"]), float(written["life"])
    )
