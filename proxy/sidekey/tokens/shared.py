"""Obtains a token that processes share: takes what another has obtained, or, in its turn, makes the calls itself."""

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
from sidekey.tokens.flow import Calls, Fetch
from sidekey.tokens.ledger import (
    Chain,
    LeaseUnavailable,
    Ledger,
    SharedToken,
    TokenLease,
    TokenLeaseLost,
    TokenOrigin,
    TurnState,
    Unavailable,
)

T = TypeVar("T")

LINGER = 15.0
"""Seconds for which the end of a process waits for its turns: a call that was sent may have spent what it presented."""


class TokenLeases:
    """Where the turns of `ledger` are taken in this process, by all of its token sources."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_ending = False
        self._log = get_logger()

    def check(self) -> None:
        """Raise Unavailable once the process ends: what would be presented now, nobody may be left to keep."""
        if self._is_ending:
            raise Unavailable("this process is ending")

    async def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What a turn gives, from when it is asked for until it has ended. Raises what it does, and as `check`.

        Whoever stops waiting must not keep what is taken from being given back, nor what a call brings from being kept.
        """
        self.check()
        task = asyncio.get_running_loop().create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    def end(self) -> None:
        """Make no call from now on that is not under way."""
        self._is_ending = True

    async def close(self, report: Callable[[BaseException], object]) -> None:
        """Wait, for some time, until all turns have ended; `report` is passed the defects of those that fail."""
        self.end()
        tasks = set(self._tasks)
        if not tasks:
            return
        ended, left = await asyncio.wait(tasks, timeout=LINGER)
        for task in ended:
            self._note(task.exception(), report)
        for task in left:
            task.cancel()
        if left:
            self._log.error("a token request did not finish in time: its refresh token may have been used")

    def _note(self, error: BaseException | None, report: Callable[[BaseException], object]) -> None:
        """Tell what nobody waits for any more."""
        if isinstance(error, CallError):
            self._log.warning("no token could be obtained", outcome=error.outcome, reason=error.reason)
        elif error is not None and not isinstance(error, (ProblemError, TokenLeaseLost, Unavailable)):
            report(error)


WAIT = 20.0
"""Seconds for which an attempt waits for another process's turn: longer than one lasts whose process has ended."""

FIRST_LOOK = 0.1
MAX_POLL_INTERVAL = 1.0
"""Seconds between two looks at whether it has ended, which grow from the first to the longest."""

SPENT = (
    "the refresh token may be spent: a process ended, or had no response, while it presented it; enter a new refresh "
    "token"
)


class SharedTokenFound(NamedTuple):
    """A token that processes share, and when the call for it was sent, on the loop's clock."""

    token: SharedToken
    called: float


Usable = Callable[[SharedTokenFound], bool]


class Sharing:
    """The part of a token source that is there where an integration's processes must call one at a time."""

    def __init__(self, turns: TokenLeases, integration: Integration, fetch: Fetch) -> None:
        self._turns = turns
        self._integration = integration
        self._rotates = integration.traits.rotates
        self._fetch = fetch

    async def obtain(self, origin: TokenOrigin, usable: Usable, calls: Calls) -> SharedTokenFound:
        """The token that another process has left, where it is `usable`, or what `calls` bring.

        Raises CallFault, Unavailable, and what `calls` raise.
        """
        look = partial(self._look, chain_of(self._integration, origin), origin, usable, calls)
        loop = asyncio.get_running_loop()
        end, pause = loop.time() + WAIT, FIRST_LOOK
        while True:
            # Where a turn is lost another process has it, and with it the newer token.
            with suppress(TokenLeaseLost):
                found = await self._turns.run(look)
                if isinstance(found, SharedTokenFound):
                    return found
                if found.spent:
                    raise CallError("refused", SPENT, settings=True)
            if loop.time() >= end:
                raise CallError("timeout", "another process is obtaining the token, and has not ended yet")
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, MAX_POLL_INTERVAL)

    async def _look(
        self, chain: Chain, origin: TokenOrigin, usable: Usable, calls: Calls
    ) -> SharedTokenFound | LeaseUnavailable:
        """What is there, where it can be used; else what this turn brings, where it is nobody else's."""
        clock = asyncio.get_running_loop().time
        looked, asked = clock(), asked_of(origin)
        taken = await self._turns.ledger.take(chain, rotates=self._rotates)
        token = taken.left.token
        if token is not None and token.asked == asked:
            # The clocks are compared so that the token seems older by what that took, and never younger.
            found = SharedTokenFound(token, looked - max(0.0, taken.now - token.called))
            if usable(found):
                if isinstance(taken, TokenLease):
                    await taken.release()
                return found
        if not isinstance(taken, TokenLease):
            return taken
        return await self._call(taken, taken.now - clock(), asked, proof_of(origin), calls)

    async def _call(self, turn: TokenLease, ahead: float, asked: str, proof: str, calls: Calls) -> SharedTokenFound:
        """What the calls bring. `ahead` is by how much the ledger's clock is ahead of the loop's."""
        presented = False
        calls.memory = turn.left.memory

        async def fetch(call: Call) -> Reply:
            nonlocal presented
            self._turns.check()
            if self._rotates:
                await turn.intend()
                # The end may have begun meanwhile: what is sent now would be waited for from the beginning.
                self._turns.check()
                presented = True
            return await self._fetch(call)

        try:
            obtained = await calls.run(fetch)
        except CallError as error:
            if presented and not error.unspent:
                await turn.give_up()
            else:
                await _end(turn, calls.memory)
            raise
        except (ProblemError, Unavailable):
            # Nothing was sent: a certificate could not be read, the intent not be kept, or the process ends.
            await _end(turn, calls.memory)
            raise
        except Exception:
            # A defect; or the turn is another's by now, and neither changes anything.
            await (turn.give_up() if presented else turn.release())
            raise
        issued: Issued = obtained.issued
        token = SharedToken(token_hex(8), asked, proof, issued.grant, obtained.called + ahead, issued.life)
        await turn.leave(TurnState(issued.memory, token))
        return SharedTokenFound(token, obtained.called)


async def _end(turn: TokenLease, memory: str | None) -> None:
    """End a turn without a token. A response may have brought what is presented next nevertheless."""
    if memory == turn.left.memory:
        await turn.release()
    else:
        await turn.leave(TurnState(memory, turn.left.token))


def chain_of(integration: Integration, origin: TokenOrigin) -> Chain:
    """Whose token it is. What trusts the endpoint, and the client's certificate, are no part of it.

    With another of these the refresh token of the config is still as spent as it was; and so it is where a stored
    integration has another destination, to which all that came of it is bound.
    """
    name = integration.row or f"file:{integration.id}"
    return Chain(name, _spelled(origin.kind.client), integration.destinations)


def asked_of(origin: TokenOrigin) -> str:
    """What a token is asked for, in which all must agree who use it."""
    return _spelled((origin.kind.token, origin.trust, origin.certificate))


def proof_of(origin: TokenOrigin) -> str:
    """Return the digest of the secret with which a token is requested, and of how it is presented."""
    return hashlib.sha256(_spelled(origin.kind.proof).encode()).hexdigest()


def _spelled(value: Hashable) -> str:
    """One spelling of what a lineage is made of, the same in every process."""
    return json.dumps(_plain(value), separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if is_dataclass(value):
        return [_plain(getattr(value, each.name)) for each in fields(value)]
    raise TypeError(f"a lineage must be made of texts, numbers and tuples, and not of {type(value).__name__}")
