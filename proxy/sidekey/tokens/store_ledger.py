"""The ledger in the store: a turn is a lease there, and what it leaves is sealed."""

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
    LeaseUnavailable,
    Ledger,
    SharedToken,
    TokenLease,
    TokenLeaseLost,
    TurnState,
    Unavailable,
)

HOLD: Final = 30
"""Seconds that a turn may take whose calls spend nothing; then another process calls as well."""

BEFORE: Final = 10
"""Seconds from the beginning of a turn to the first intent, where calls may spend what they present."""

PRESENT: Final = 15
"""Seconds from an intent to the end of the turn, or to the next: longer than a call may take.

A process that has ended by then leaves what it presented as spent.
"""

RETRY: Final = 1.0
"""Seconds between two attempts to keep what could not be kept."""

LINGER: Final = 5.0
"""Seconds for which the end of the process waits for the store, where something could not be kept."""


class StoreLedger(Ledger):
    """To be closed before its store is."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._log = get_logger()
        self._unkept: dict[Chain, asyncio.Task[None]] = {}
        self._fences: dict[bytes, int] = {}
        """The last fencing number of each chain. One that is not greater comes from an older copy of the database."""

    async def take(self, chain: Chain, *, rotates: bool) -> TokenLease | LeaseUnavailable:
        """Take the lease of the chain. Raises Unavailable."""
        if chain in self._unkept:
            raise Unavailable("what the last call has brought is not stored yet")
        health = self._store.health
        if not health.up:
            # The store looks for itself each second: many integrations need not each wait for a database that is away.
            raise _unavailable(health.problem)
        try:
            found = await self._store.lease(*chain, BEFORE if rotates else HOLD)
        except StoreError as error:
            raise _unavailable(error) from None
        left = _read(found.result)
        if not isinstance(found, Lease):
            return LeaseUnavailable(found.unknown, left, found.now)
        turn = _StoreTurn(self, self._store, chain, found, left)
        key = hashlib.sha256(f"{chain.name} {chain.lineage}".encode()).digest()
        former = self._fences.get(key, 0)
        self._fences[key] = max(former, found.fence)
        if found.fence <= former and rotates:
            await turn.give_up()
            return LeaseUnavailable(spent=True, left=left, now=found.now)
        return turn

    async def keep(self, chain: Chain, write: Callable[[], Awaitable[None]]) -> None:
        """Write what must be kept; where that is impossible now, nobody has a turn here until it is done.

        Raises Unavailable, TurnLost.
        """
        try:
            await write()
        except LeaseLost:
            raise TokenLeaseLost from None
        except StoreError as error:
            self._log.warning("a token response cannot be stored yet", name=chain.name, reason=str(error))
            self._unkept[chain] = asyncio.get_running_loop().create_task(self._keep_trying(chain, write))
            raise _unavailable(error) from None

    async def _keep_trying(self, chain: Chain, write: Callable[[], Awaitable[None]]) -> None:
        try:
            while True:
                await asyncio.sleep(RETRY)
                with suppress(StoreError):
                    # A lease that is lost may have been given back by an attempt whose outcome nobody was told.
                    with suppress(LeaseLost):
                        await write()
                    self._log.info("a token response was stored", name=chain.name)
                    return
        finally:
            del self._unkept[chain]

    async def close(self) -> None:
        """Wait, for some time, until everything is kept."""
        tasks = list(self._unkept.values())
        if not tasks:
            return
        _, left = await asyncio.wait(tasks, timeout=LINGER)
        for task in left:
            task.cancel()
        if left:
            self._log.error("a token response could not be stored: its refresh token may be lost")


class _StoreTurn(TokenLease):
    def __init__(self, ledger: StoreLedger, store: Store, chain: Chain, lease: Lease, left: TurnState) -> None:
        self.left = left
        self.now = lease.now
        self._ledger = ledger
        self._store = store
        self._chain = chain
        self._lease = lease

    async def intend(self) -> None:
        try:
            await self._store.intend(self._lease, PRESENT)
        except LeaseLost:
            raise TokenLeaseLost from None
        except StoreError as error:
            raise _unavailable(error) from None

    async def leave(self, left: TurnState) -> None:
        await self._ledger.keep(
            self._chain, partial(self._store.finish, self._lease, _write(left), spent=left.memory is not None)
        )

    async def release(self) -> None:
        with suppress(Unavailable, TokenLeaseLost):
            await self._ledger.keep(self._chain, partial(self._store.release, self._lease))

    async def give_up(self) -> None:
        # Where this cannot be written the intent runs out, which says the same.
        with suppress(StoreError):
            await self._store.intend(self._lease, 0)


def _unavailable(why: object) -> Unavailable:
    return Unavailable(f"the store cannot be used: {why}")


def _write(left: TurnState) -> str:
    token = left.token
    written: dict[str, Any] = {"memory": left.memory}
    if token is not None:
        grant = token.grant
        written["token"] = {
            "asked": token.asked,
            "base_url": grant.base_url,
            "body": grant.body,
            "called": token.called,
            "headers": grant.headers,
            "life": token.life,
            "number": token.number,
            "proof": token.proof,
            "query": grant.query,
            "secrets": [each.decode("latin-1") for each in grant.secrets],
        }
    return json.dumps(written)


def _read(text: str | None) -> TurnState:
    """What was left. It is sealed, so it is as some Sidekey wrote it; of another version's a token may not be read."""
    if text is None:
        return TurnState()
    written = json.loads(text)
    try:
        token = _token(written["token"])
    except (KeyError, TypeError, ValueError):
        token = None
    return TurnState(written["memory"], token)


def _token(written: dict[str, Any]) -> SharedToken:
    def pairs(key: str) -> tuple[tuple[str, str], ...]:
        return tuple((name, value) for name, value in written[key])

    secrets = tuple(each.encode("latin-1") for each in written["secrets"])
    grant = Grant(pairs("headers"), pairs("query"), pairs("body"), written["base_url"], secrets)
    return SharedToken(
        written["number"], written["asked"], written["proof"], grant, float(written["called"]), float(written["life"])
    )
