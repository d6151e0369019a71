"""Processes that share the tokens of an integration, without sockets, store or waiting: each may die at any step."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

from sidekey.credentials.base import (
    Attempt,
    Call,
    CallError,
    CredentialTraits,
    Grant,
    InjectionPoints,
    Issued,
    Lineage,
    Reply,
    Supplemented,
)
from sidekey.errors import ProblemError
from sidekey.observe.metrics import Metrics
from sidekey.policy.targets import Policy, parse_domain
from sidekey.snapshot.secret_loader import SecretLoader
from sidekey.snapshot.snapshot import Integration
from sidekey.tokens.ledger import Chain, ChainState, LeaseUnavailable, Ledger, TokenLease, TokenLeaseLost, Unavailable
from sidekey.tokens.shared import SHUTDOWN_SECONDS, TokenLeases
from sidekey.tokens.source import TokenSource
from support.manual_clock import advance
from support.tokens import EPOCH, Endpoint, Kind, nothing, token_of

HOLD = 10.0
"""Seconds of a lease, and of an intent."""


@dataclass
class _Entry:
    fence: int = 0
    until: float = 0.0
    stage: str = "free"
    state: ChainState = field(default_factory=ChainState)
    to: str = ""


class SharedState:
    """The state that processes share. `events` are all operations in order, with the name of the process."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str], _Entry] = {}
        self.events: list[str] = []
        self.is_down = False


class ScriptedLedger(Ledger):
    """The ledger of one process.

    The process dies before the event `dies_at`. The ledger is unavailable at `down_at`, its lease lost at `loses_at`.
    """

    def __init__(self, name: str, shared: SharedState) -> None:
        self.name = name
        self.shared = shared
        self.dies_at = ""
        self.down_at = ""
        self.waits_at = ""
        self.loses_at = ""
        self.gate = asyncio.Event()
        """The event `waits_at` waits for this."""

    async def acquire(self, chain: Chain, *, rotates: bool) -> TokenLease | LeaseUnavailable:
        await self.do("acquire")
        entry = self.shared.entries.setdefault((chain.name, chain.lineage), _Entry())
        now = asyncio.get_running_loop().time()
        state = entry.state if entry.to in chain.destinations else ChainState()
        spent = entry.stage == "intended" and entry.until <= now
        spent = spent or (state is not entry.state and entry.state.memory is not None)
        if spent or (entry.stage != "free" and entry.until > now):
            return LeaseUnavailable(spent, state, EPOCH + now)
        entry.fence, entry.until, entry.stage = entry.fence + 1, now + HOLD, "held"
        return _Lease(self, entry, state, chain.destinations[0])

    async def do(self, event: str) -> None:
        """Record an event, unless the process is dead or the store down."""
        if event == self.dies_at:
            self.dies_at = "any"
        if self.dies_at == "any":
            await asyncio.Event().wait()
        if event == self.waits_at:
            await self.gate.wait()
        if self.shared.is_down or event == self.down_at:
            raise Unavailable("it cannot be reached")
        if event == self.loses_at:
            raise TokenLeaseLost
        self.shared.events.append(f"{self.name} {event}")


class _Lease(TokenLease):
    def __init__(self, process: ScriptedLedger, entry: _Entry, state: ChainState, to: str) -> None:
        self.state = state
        self.now = EPOCH + asyncio.get_running_loop().time()
        self._to = to
        self._process = process
        self._entry = entry
        self._fence = entry.fence

    async def intend(self) -> None:
        await self._process.do("intend")
        self._check()
        self._entry.stage, self._entry.until = "intended", asyncio.get_running_loop().time() + HOLD

    async def finish(self, state: ChainState) -> None:
        await self._process.do("finish")
        self._check()
        self._entry.stage, self._entry.state, self._entry.to = "free", state, self._to

    async def release(self) -> None:
        await self._process.do("release")
        if self._entry.fence == self._fence:
            self._entry.stage = "free"

    async def abandon(self) -> None:
        await self._process.do("abandon")
        if self._entry.fence == self._fence:
            self._entry.stage, self._entry.until = "intended", 0.0

    def _check(self) -> None:
        if self._entry.fence != self._fence:
            raise TokenLeaseLost


class RotatingEndpoint(Endpoint):
    """A provider's endpoint that revokes all tokens when a refresh token is used twice. Calls name it in the body."""

    def __init__(self) -> None:
        super().__init__()
        self.valid: str | None = "r0"
        """The current refresh token. None if refresh tokens can be used again."""
        self.revoked = False
        self.issues_expired_tokens = False
        """Responses have only expired access tokens."""

    async def fetch(self, call: Call) -> Reply:
        number = len(self.calls) + 1
        reply = await super().fetch(call)
        if reply.status != 200:
            return reply
        if self.valid is not None:
            if call.body.decode() != self.valid:
                self.revoked = True
                return Reply(400, {}, b"")
            self.valid = f"r{number}"
        lifetime = 0 if self.issues_expired_tokens else self.lifetime
        return Reply(200, {}, f"t{number} {lifetime} r{number}".encode())


class RotatingKind(Kind):
    """A kind with a new refresh token after each call."""

    calls_a_minute: ClassVar[int | None] = None

    def __init__(self, endpoint: Endpoint, token: str = "r0", *, scope: str = "", secret: str = "") -> None:
        super().__init__(endpoint, Lineage(("client", token), (scope,), (secret,)))
        self.token = token

    def obtain(self, attempt: Attempt) -> Generator[Call, Reply, Issued]:
        self.attempts.append(attempt)
        presented = attempt.memory or self.token
        reply = yield Call("token endpoint", "POST", "https://auth.example.com/token", body=presented.encode())
        if reply.status != 200:
            raise CallError("refused", f"token endpoint returned {reply.status}", unspent=True)
        token, lifetime, memory = reply.body.decode().split(" ")
        if float(lifetime) == 0:
            raise CallError("invalid", "it has expired", memory=memory, expired=True, unspent=True)
        grant = Grant((("Authorization", f"Bearer {token}"),), secrets=(token.encode(),))
        return Issued(grant, float(lifetime), memory=memory)


ROTATING = CredentialTraits(InjectionPoints(("Authorization",)), calls=True, watched=frozenset((401,)), rotates=True)
SINGLE_LIVE = ROTATING._replace(rotates=False, single_live_token=True)


class Node:
    """A process: a source of the integration `crm`, and the ledger that it shares with others."""

    def __init__(
        self,
        name: str,
        shared: SharedState,
        endpoint: Endpoint,
        traits: CredentialTraits = ROTATING,
        *,
        ahead: float = 0.0,
        supplement: Grant | None = None,
    ) -> None:
        """`ahead` is the lead of this process over the ledger's clock in seconds. Each token gets `supplement`."""
        self.ledger = ScriptedLedger(name, shared)
        self.leases = TokenLeases(self.ledger)
        self.metrics = Metrics()
        self.defects: list[BaseException] = []
        self._endpoint = endpoint
        self._traits = traits
        self._ahead = ahead
        self._supplement = supplement
        self.sources: list[TokenSource] = []
        self.source = self.make(RotatingKind(endpoint))

    def make(self, kind: Kind, previous: TokenSource | None = None, **integration: Any) -> TokenSource:
        supplement = self._supplement
        secrets = SecretLoader(lambda: kind if supplement is None else Supplemented(kind, supplement))
        secrets.load()
        policy = Policy(domains=(parse_domain("https://*.example.com"),))
        loop = asyncio.get_running_loop()
        source = TokenSource(
            Integration("crm", "oauth2", policy, None, secrets, self._traits, **integration),
            self._fetch,
            self.metrics,
            self._report,
            ready=nothing,
            previous=previous,
            leases=self.leases,
            jitter=float,
            wall_clock=lambda: EPOCH + self._ahead + loop.time(),
        )
        self.sources.append(source)
        return source

    def change(self, kind: Kind, **integration: Any) -> TokenSource:
        """Replace the source, as a change of the config does."""
        previous = self.source
        previous.retire()
        self.source = self.make(kind, previous, **integration)
        return self.source

    async def token(self) -> str | None:
        """Return the token of a request now."""
        return token_of(await self.source.obtain())

    async def problem(self) -> str:
        """Return why a request has no token now."""
        with pytest.raises(ProblemError) as failed:
            await self.source.obtain()
        return failed.value.problem.detail

    async def die(self) -> None:
        """End without a graceful shutdown."""
        self.ledger.dies_at = "any"
        ending = asyncio.create_task(self.end())
        await advance(SHUTDOWN_SECONDS)
        await ending

    async def end(self) -> None:
        """Shut down gracefully, as `Tokens.close` does."""
        self.leases.end()
        for source in self.sources:
            await source.close()
        await self.leases.close(self._report)

    async def close(self) -> None:
        await self.end()
        assert self.defects == []

    async def _fetch(self, call: Call) -> Reply:
        await self.ledger.do("call")
        reply = await self._endpoint.fetch(call)
        await self.ledger.do("response")
        return reply

    def _report(self, defect: BaseException) -> str:
        self.defects.append(defect)
        return "d1"
