"""Token sources over any sequence of requests, changes of the config, rejections and failures of the endpoint.

The provider of these tests ends a refresh token with its use, and everything with the second use.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ClassVar, NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from sidekey.credentials.base import (
    Attempt,
    Call,
    CallError,
    Credential,
    CredentialTraits,
    Grant,
    InjectionPoints,
    Issued,
    Lineage,
    Reply,
    Verdict,
)
from sidekey.credentials.fields import SecretUnreadable
from sidekey.errors import ProblemError
from sidekey.observe.metrics import Metrics
from sidekey.policy.targets import Policy
from sidekey.snapshot.secret_loader import SecretLoader
from sidekey.snapshot.snapshot import Integration
from sidekey.tokens.source import TokenSource
from support.manual_clock import ManualClockLoop, settle

Whose = tuple[int, int]
"""A client, and what its token is for."""


class Provider:
    """A token endpoint that responds while it is `open`. `broken` collects violated rules."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.down = self.odd = False
        self.broken: list[str] = []
        self._newest: dict[str, str] = {}
        self._calling: set[str] = set()
        self._count = 0

    async def fetch(self, call: Call) -> Reply:
        client, presented = call.body.decode().split(" ")
        if client in self._calling:
            self.broken.append("two calls at a time")
        self._calling.add(client)
        try:
            await self.open.wait()
        finally:
            self._calling.discard(client)
        if self.down:
            raise CallError("unreachable", "token endpoint: it refused the connection")
        if presented != self._newest.get(client, f"first-{client}"):
            self.broken.append(f"{presented} was spent")
        self._count += 1
        self._newest[client] = f"r{self._count}"
        return Reply(200, {}, f"r{self._count} {'odd' if self.odd else 'good'}".encode())


class Rotating:
    """A kind that presents the newest refresh token. Its grants name their owner."""

    calls_a_minute: ClassVar[int | None] = None

    def __init__(self, whose: Whose, secret: int) -> None:
        self._whose = whose
        self._secret = secret

    @property
    def lineage(self) -> Lineage:
        return Lineage((self._whose[0],), (self._whose[1],), (self._secret,))

    def obtain(self, attempt: Attempt) -> Generator[Call, Reply, Issued]:
        client = self._whose[0]
        presented = attempt.memory or f"first-{client}"
        reply = yield Call("token endpoint", "POST", "https://auth.test", body=f"{client} {presented}".encode())
        newest, word = reply.body.decode().split(" ")
        if word == "odd":
            raise CallError("invalid", "token endpoint did not return a token", memory=newest)
        return Issued(Grant((("Authorization", f"{self._whose} {newest}"),)), 100.0, memory=newest)

    def verdict(self, status: int, body: bytes | None) -> Verdict:
        return {401: Verdict.REJECTED, 500: Verdict.SPENT}[status]


class AtOnce(ThreadPoolExecutor):
    """Runs thread work on submission, so that each example is deterministic."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


class Config(NamedTuple):
    """A config and its source, which is created on demand."""

    whose: Whose
    secrets: SecretLoader
    source: list[TokenSource]
    grants: list[Grant]


class World:
    """All configs so far. The last one is in use."""

    def __init__(self) -> None:
        self.provider = Provider()
        self.configs: list[Config] = []
        self.readable = True
        self._whose: Whose = (0, 0)
        self._secret = 0
        self._previous: TokenSource | None = None
        self._waiting: list[asyncio.Task[None]] = []
        self.change("start", readable=True)

    def change(self, what: str, *, readable: bool) -> None:
        """Switch to another config, whose secrets may be unreadable at first."""
        if self.configs and self.configs[-1].source:
            (previous,) = self.configs[-1].source
            previous.retire()
            self._previous = previous
        client, token = self._whose
        # A client that comes back would begin with the refresh token of the config, and none does here.
        self._whose = (client + (what == "client"), token + (what == "token"))
        self._secret += what == "secret"
        kind, readable_at_once = Rotating(self._whose, self._secret), readable

        def read() -> Credential:
            if not (readable_at_once or self.readable):
                raise SecretUnreadable(((("auth",), "does not exist"),))
            return kind

        if not readable:
            self.readable = False
        secrets = SecretLoader(read)
        secrets.load()
        self.configs.append(Config(self._whose, secrets, [], []))

    def source(self, config: Config) -> TokenSource | None:
        """Return the config's source. Create it only if the config is in use."""
        if not config.source and config is self.configs[-1]:
            traits = CredentialTraits(InjectionPoints(("Authorization",)), calls=True)
            integration = Integration("crm", "oauth2", Policy(), None, config.secrets, traits)
            previous, self._previous = self._previous, None
            token_source = TokenSource(
                integration,
                self.provider.fetch,
                Metrics(),
                lambda defect: self.provider.broken.append(repr(defect)) or "d1",  # type: ignore[func-returns-value]
                ready=settle,
                previous=previous,
                jitter=float,
            )
            config.source.append(token_source)
        return config.source[0] if config.source else None

    def ask(self, back: int) -> None:
        """Send a request by the config in use, or by a previous one."""
        config = self.configs[-1 - back % len(self.configs)]
        source = self.source(config)
        if source is not None:
            self._waiting.append(asyncio.create_task(self._obtain(config, source)))

    async def _obtain(self, config: Config, source: TokenSource) -> None:
        try:
            self._got(config, await source.obtain())
        except ProblemError as raised:
            if raised.problem.code != "credential_unavailable":
                self.provider.broken.append(raised.problem.code)

    def reject(self, back: int, status: int) -> None:
        """Let the upstream reject the last grant of a config."""
        config = self.configs[-1 - back % len(self.configs)]
        if config.source and config.grants:
            grant = config.grants[-1]
            if config.source[0].report_rejection(grant, status, b""):
                self._waiting.append(asyncio.create_task(self._again(config, grant)))

    async def _again(self, config: Config, grant: Grant) -> None:
        newer = await config.source[0].refreshed_after(grant)
        if newer is not None:
            self._got(config, newer)
            if newer == grant:
                self.provider.broken.append("the rejected token came again")

    def _got(self, config: Config, grant: Grant) -> None:
        config.grants.append(grant)
        if not grant.headers[0][1].startswith(f"{config.whose} "):
            self.provider.broken.append(f"{grant.headers[0][1]} for {config.whose}")
        (source,) = config.source
        if source.grant is not grant and source.current is not None:
            # An exchange that waits for a connection would decline it again and again.
            self.provider.broken.append("what was handed out is not active")

    def leave(self, which: int) -> None:
        """Cancel a request."""
        if self._waiting:
            self._waiting[which % len(self._waiting)].cancel()

    async def end(self, loop: ManualClockLoop) -> None:
        """Recover: the config in use gets a token, and no request waits."""
        self.provider.open.set()
        self.provider.down = self.provider.odd = False
        self.readable = True
        await loop.advance(200, step=10)
        assert [item for item in self._waiting if not item.done()] == []
        self.ask(0)
        await loop.advance(10)
        assert self._waiting[-1].done()
        assert self.configs[-1].grants
        for config in self.configs:
            for source in config.source:
                await source.close()


BACK = st.integers(0, 2)
ACTIONS = st.one_of(
    st.tuples(st.just("ask"), BACK),
    st.tuples(st.just("ask"), BACK),
    st.tuples(st.just("reject"), BACK, st.sampled_from([401, 401, 500])),
    st.tuples(st.just("leave"), st.integers(0, 5)),
    st.tuples(st.just("change"), st.sampled_from(["words", "words", "secret", "token", "client"]), st.booleans()),
    st.tuples(st.just("advance"), st.sampled_from([0.0, 0.5, 1.5, 10.0, 61.0, 99.0])),
    st.tuples(st.just("endpoint"), st.sampled_from(["open", "slow", "down", "odd", "good"])),
    st.tuples(st.just("readable")),
)


@given(actions=st.lists(ACTIONS, min_size=5, max_size=30))
def test_no_refresh_token_is_presented_twice_and_no_token_goes_to_another_config(
    actions: list[tuple[object, ...]],
) -> None:
    """Each request gets a token of its own config, or the reason why there is none."""
    with asyncio.Runner(loop_factory=ManualClockLoop) as runner:
        runner.run(play(actions))


async def play(actions: list[tuple[object, ...]]) -> None:
    """Run all steps, each while the previous one is still in progress."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ManualClockLoop)
    loop.set_default_executor(AtOnce(1))
    world = World()
    for action in actions:
        match action:
            case ("ask", int(back)):
                world.ask(back)
            case ("reject", int(back), int(status)):
                world.reject(back, status)
            case ("leave", int(which)):
                world.leave(which)
            case ("change", str(what), bool(readable)):
                world.change(what, readable=readable)
            case ("advance", float(seconds)):
                await loop.advance(seconds)
            case ("endpoint", str(what)):
                if what in ("open", "slow"):
                    (world.provider.open.set if what == "open" else world.provider.open.clear)()
                else:
                    world.provider.down, world.provider.odd = what == "down", what == "odd"
            case ("readable",):
                world.readable = True
        await settle()
    await world.end(loop)
    assert world.provider.broken == []
    assert asyncio.all_tasks() == {asyncio.current_task()}
