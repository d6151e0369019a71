"""A token source without sockets or waiting: a loop with a manual clock, and a scripted endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any, ClassVar

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
    Verdict,
)
from sidekey.observe.metrics import Metrics
from sidekey.policy.targets import Policy, parse_domain
from sidekey.snapshot.secret_loader import SecretLoader
from sidekey.snapshot.snapshot import Integration
from sidekey.tokens.source import TokenSource
from support.manual_clock import ManualClockLoop

EPOCH = 1_700_000_000.0
"""Wall clock when the loop's clock is at 0."""


class Endpoint:
    """Responds at once with a new token t1, t2 and so on, unless a test sets another response."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.call_times: list[float] = []
        self.lifetime = 1000.0
        self.base_url = ""
        self.token: str | None = None
        """The token of every response, instead of a new one."""
        self.call_error: dict[str, Any] | None = None
        """Arguments of the `CallError` that each call raises."""
        self.reply_error: dict[str, Any] | None = None
        """Arguments of the `CallError` that the kind raises for each response."""
        self.answer: Callable[[float], Reply] | None = None
        """Builds the response at a time, for kinds with a parser of their own."""
        self.defect = False
        self.open = asyncio.Event()
        """Calls wait for it."""
        self.open.set()

    async def fetch(self, call: Call) -> Reply:
        self.calls.append(call)
        self.call_times.append(asyncio.get_running_loop().time())
        number = len(self.calls)
        await self.open.wait()
        if self.defect:
            raise ZeroDivisionError("secret text")
        if self.call_error is not None:
            raise CallError(**self.call_error)
        if self.answer is not None:
            return self.answer(self.call_times[-1])
        token = f"t{number}" if self.token is None else self.token
        return Reply(200, {}, f"{token} {self.lifetime} {self.base_url}".encode())


TRAITS = CredentialTraits(
    InjectionPoints(("Authorization",)), calls=True, discovers_base_url=True, watched=frozenset((401, 500))
)
LINEAGE = Lineage(("client",), ("token",), ("proof",))


class Kind:
    """A kind with one call for each token."""

    calls_a_minute: ClassVar[int | None] = None

    def __init__(self, endpoint: Endpoint, lineage: Lineage = LINEAGE) -> None:
        self.lineage = lineage
        self.attempts: list[Attempt] = []
        self._endpoint = endpoint

    def obtain(self, attempt: Attempt) -> Generator[Call, Reply, Issued]:
        self.attempts.append(attempt)
        reply = yield Call("token endpoint", "POST", "https://auth.example.com/token")
        if self._endpoint.reply_error is not None:
            raise CallError(**self._endpoint.reply_error)
        token, lifetime, base_url = reply.body.decode().split(" ")
        grant = Grant((("Authorization", f"Bearer {token}"),), base_url=base_url or None)
        return Issued(grant, float(lifetime), memory=f"memory of {token}")

    def verdict(self, status: int, body: bytes | None) -> Verdict:
        return {401: Verdict.REJECTED, 500: Verdict.SPENT}.get(status, Verdict.GOOD)


class LimitedKind(Kind):
    """The same kind with five calls a minute at most."""

    calls_a_minute = 5


class Rig:
    """A source of the integration `crm`, its endpoint and its metrics, on a `ManualClockLoop`.

    Without `jitter`, a token of 1000 s is refreshed after 900 s and unused after 999 s.
    """

    def __init__(
        self,
        kind: type[Kind] = Kind,
        secrets: SecretLoader | None = None,
        jitter: Callable[[], float] = float,
        traits: Mapping[str, Any] | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        if not isinstance(loop, ManualClockLoop):
            raise TypeError("this test needs the loop of tests/tokens/conftest.py")
        self.loop = loop
        self.endpoint = Endpoint()
        self.kind = kind(self.endpoint)
        self.metrics = Metrics()
        self.defects: list[BaseException] = []
        self._jitter = jitter
        self._traits = TRAITS._replace(**(traits or {}))
        self.sources: list[TokenSource] = []
        self.source = self.make(self.loaded(self.kind) if secrets is None else secrets)

    @staticmethod
    def loaded(kind: Kind, supplement: Grant | None = None) -> SecretLoader:
        """Build a loader that has read its secrets, with this credential and supplement."""
        secrets = SecretLoader(lambda: kind if supplement is None else Supplemented(kind, supplement))
        secrets.load()
        return secrets

    def make(
        self,
        secrets: SecretLoader,
        *,
        domain: str = "https://*.example.com",
        previous: TokenSource | None = None,
        ready: Callable[[], Awaitable[object]] | None = None,
        **integration: Any,
    ) -> TokenSource:
        """Build a source of `crm` with this allowed domain."""
        policy = Policy(domains=(parse_domain(domain),))
        source = TokenSource(
            Integration("crm", "oauth2", policy, None, secrets, self._traits, **integration),
            self.endpoint.fetch,
            self.metrics,
            self.report,
            ready=ready or nothing,
            previous=previous,
            jitter=self._jitter,
            wall_clock=lambda: EPOCH + self.loop.time(),
        )
        self.sources.append(source)
        return source

    def change(self, kind: Kind | None = None, **changes: Any) -> TokenSource:
        """Build the source of a changed config with this credential, as successor of the previous one."""
        self.kind = kind or Kind(self.endpoint)
        previous = self.source
        previous.retire()
        self.source = self.make(changes.pop("secrets", None) or self.loaded(self.kind), previous=previous, **changes)
        return self.source

    async def close(self) -> None:
        """Close all of its sources."""
        for source in self.sources:
            await source.close()

    def report(self, defect: BaseException) -> str:
        self.defects.append(defect)
        return "d1"

    @property
    def expiry(self) -> float | None:
        """Return the gauge in seconds after `EPOCH`."""
        moment = self.metrics.expiries.get(("crm", "token"))
        return None if moment is None else moment - EPOCH

    def outcomes(self) -> dict[str, int]:
        """Return the counted calls."""
        return {outcome: count for (_, outcome), count in self.metrics.calls.items()}


async def nothing() -> None:
    """Wait for no client certificate."""


def token_of(grant: Grant | None) -> str | None:
    """Return the token in a grant of `Kind`."""
    return None if grant is None else grant.headers[-1][1].removeprefix("Bearer ")
