"""Running an auth flow: calls, outcomes, and the rate limit."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from threading import current_thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.credentials.base import Call, CallError, Grant, Issued, Outcome, Reply
from sidekey.policy.targets import Policy, parse_discovered_base, parse_domain
from sidekey.tokens.flow import WINDOW, AttemptRunner, AuthFlow, CallLimit, Fetch, FlowResult, FlowRunner
from support.manual_clock import advance
from support.shared_tokens import RotatingEndpoint, RotatingKind

OK = Reply(200, {}, b"ok")


def call(step: str, previous: Outcome = "ok") -> Call:
    return Call(step, "POST", "https://auth.example.com/token", previous_outcome=previous)


@dataclass
class ScriptedRunner:
    """A runner whose calls take two seconds and return `answers` in order."""

    answers: list[Reply | CallError]
    limit: CallLimit = field(default_factory=lambda: CallLimit(None))
    now: float = 100.0
    steps: list[str] = field(default_factory=list)
    counted: list[Outcome] = field(default_factory=list)

    async def fetch(self, call: Call) -> Reply:
        self.steps.append(call.step)
        self.now += 2
        reply = self.answers.pop(0)
        if isinstance(reply, CallError):
            raise reply
        return reply

    def learn(self, base_url: str) -> Policy:
        return Policy(domains=(parse_domain("https://*.example.com"),)).with_base(parse_discovered_base(base_url))

    async def run(self, flow: AuthFlow) -> FlowResult:
        runner = FlowRunner(self.fetch, self.limit, lambda: self.now, self.counted.append, self.learn)
        return await runner.run(flow)


def one_call() -> AuthFlow:
    reply = yield call("token endpoint")
    return Issued(Grant((("Authorization", reply.body.decode()),)), 60)


def refresh_then_login() -> AuthFlow:
    """Yield a login after a refresh without a good response."""
    try:
        reply = yield call("refresh")
        previous: Outcome = "refused"
        if reply.status == 200:
            return Issued(Grant(), 60)
    except CallError as error:
        previous = error.outcome
    yield call("login", previous)
    return Issued(Grant(), 60)


def refusing() -> AuthFlow:
    yield call("token endpoint")
    raise CallError("refused", "token endpoint answered 401 invalid_client")


def learning(base_url: str) -> AuthFlow:
    yield call("login")
    return Issued(Grant(base_url=base_url), 60, memory="refresh-2")


async def test_reply_reaches_the_flow_and_the_lifetime_counts_from_the_call() -> None:
    """The token was issued after the call was sent, never before."""
    runner = ScriptedRunner([OK])
    fresh = await runner.run(one_call())
    assert fresh.issued.grant.headers == (("Authorization", "ok"),)
    assert (fresh.called_at, runner.now) == (100, 102)
    assert runner.counted == ["ok"]


@pytest.mark.parametrize(
    ("first", "outcome"), [(Reply(500, {}, b""), "refused"), (CallError("timeout", "refresh did not"), "timeout")]
)
async def test_flow_may_continue_after_a_failed_call(first: Reply | CallError, outcome: Outcome) -> None:
    """Both calls are counted by their outcome, and the lifetime counts from the last one."""
    runner = ScriptedRunner([first, OK])
    fresh = await runner.run(refresh_then_login())
    assert runner.steps == ["refresh", "login"]
    assert runner.counted == [outcome, "ok"]
    assert fresh.called_at == 102


async def test_error_of_the_flow_is_the_outcome_of_its_call() -> None:
    runner = ScriptedRunner([OK])
    with pytest.raises(CallError, match="invalid_client"):
        await runner.run(refusing())
    assert runner.counted == ["refused"]


async def test_call_without_a_response_is_counted_once() -> None:
    runner = ScriptedRunner([CallError("unreachable", "token endpoint: it refused the connection")])
    with pytest.raises(CallError, match="refused the connection"):
        await runner.run(one_call())
    assert runner.counted == ["unreachable"]


async def test_call_over_the_limit_ends_the_attempt_uncounted() -> None:
    """The reason names the limit, and Retry-After the wait."""
    runner = ScriptedRunner([Reply(500, {}, b"")], limit=CallLimit(1))
    with pytest.raises(CallError) as failed:
        await runner.run(refresh_then_login())
    assert (failed.value.outcome, failed.value.retry_after) == ("rate_limited", 58)
    assert failed.value.unspent
    assert failed.value.reason == "login skipped: limit of 1 calls a minute reached"
    assert (runner.steps, runner.counted) == (["refresh"], ["refused"])


@pytest.mark.parametrize(
    ("base_url", "words"),
    [
        ("https://api.example.org", "it is not under any allowed domain"),
        ("http://api.example.com", "it must be https on port 443"),
        ("https://user:pw@api.example.com", "it must be an absolute URL without userinfo, query and dot segments"),
    ],
)
async def test_denied_base_url_fails_the_attempt(base_url: str, words: str) -> None:
    """The outcome is invalid, and the reason does not repeat the URL."""
    runner = ScriptedRunner([OK])
    with pytest.raises(CallError) as failed:
        await runner.run(learning(base_url))
    assert failed.value.reason == f"the base URL that the login returned is not allowed: {words}"
    assert failed.value.unspent
    assert (failed.value.outcome, runner.counted) == ("invalid", ["invalid"])
    assert failed.value.memory == "refresh-2"


async def test_allowed_base_url_is_accepted() -> None:
    runner = ScriptedRunner([OK])
    fresh = await runner.run(learning("https://t1.example.com"))
    assert (fresh.issued.grant.base_url, runner.counted) == ("https://t1.example.com", ["ok"])


async def test_token_expired_on_arrival_is_an_error() -> None:
    """Its call took longer than its lifetime."""

    def flow() -> AuthFlow:
        yield call("token endpoint")
        return Issued(Grant(), 2, memory="refresh-2")

    runner = ScriptedRunner([OK])
    with pytest.raises(CallError, match="token endpoint returned a token that had expired on arrival") as failed:
        await runner.run(flow())
    assert (runner.counted, failed.value.memory, failed.value.expired) == (["invalid"], "refresh-2", True)


async def test_defect_is_raised_and_closes_the_flow() -> None:
    """No call is counted."""
    closed = []

    def flow() -> AuthFlow:
        try:
            yield call("token endpoint")
        finally:
            closed.append(True)
        raise AssertionError

    runner = ScriptedRunner([])
    with pytest.raises(IndexError):
        await runner.run(flow())
    assert (runner.counted, closed) == ([], [True])


def no_call(ran: list[str]) -> AuthFlow:
    """Signs in the thread that it is run by."""
    yield from ()
    ran.append(current_thread().name)
    return Issued(Grant(), 60)


async def test_flow_without_calls_is_not_limited() -> None:
    """Its lifetime counts from its start."""
    runner, ran = ScriptedRunner([], CallLimit(5)), list[str]()
    for _ in range(6):
        assert (await runner.run(no_call(ran))).called_at == 100.0
    assert (runner.counted, runner.steps) == ([], [])
    assert set(ran) == {current_thread().name}


def test_the_sixth_call_waits_until_the_first_is_a_minute_old() -> None:
    """Each call that leaves the window permits another one."""
    limit = CallLimit(5)
    for moment in (0.0, 1.0, 2.0, 3.0, 4.0):
        assert limit.wait_seconds(moment) == 0
        limit.record(moment)
    assert limit.wait_seconds(4.0) == 56
    assert limit.wait_seconds(59.5) == 0.5
    assert limit.wait_seconds(60.0) == 0
    limit.record(60.0)
    assert limit.wait_seconds(60.0) == 1


def test_new_limit_remembers_previous_calls() -> None:
    """A change of the config permits no additional calls."""
    limit = CallLimit(3)
    for moment in (0.0, 1.0, 2.0):
        limit.record(moment)
    assert limit.with_maximum(3) is limit
    assert limit.with_maximum(2).wait_seconds(2.0) == 59
    assert limit.with_maximum(4).wait_seconds(2.0) == 0
    more = limit.with_maximum(4)
    more.record(2.0)
    assert more.wait_seconds(2.0) == 58
    assert limit.with_maximum(None).wait_seconds(2.0) == 0


# Multiples of 1/64 s, because their sums and differences have no rounding error.
@given(st.integers(1, 6), st.lists(st.integers(0, 30 * 64).map(lambda steps: steps / 64), max_size=60))
def test_no_minute_has_more_calls_than_the_limit(most: int, gaps: list[float]) -> None:
    limit, calls, now = CallLimit(most), [], 0.0
    for gap in gaps:
        now += gap
        if limit.wait_seconds(now) == 0:
            limit.record(now)
            calls.append(now)
    assert all(later - earlier >= WINDOW for earlier, later in zip(calls, calls[most:], strict=False))


def runner(fetch: Fetch) -> FlowRunner:
    """One that counts nothing and takes every base URL."""
    return FlowRunner(fetch, CallLimit(None), asyncio.get_running_loop().time, lambda _: None, lambda _: None)


def calls_of(endpoint: RotatingEndpoint, memory: str | None = None) -> AttemptRunner:
    """The calls for a token of the family."""
    return AttemptRunner(RotatingKind(endpoint), runner, lambda: 0.0, memory, rejected=False, pauses=(0.5, 0.5))


async def test_memory_is_that_of_the_last_token() -> None:
    endpoint = RotatingEndpoint()
    calls = calls_of(endpoint)
    obtained = await calls.run(endpoint.fetch)
    assert (calls.memory, obtained.issued.memory) == ("r1", "r1")
    assert [call.body for call in endpoint.calls] == [b"r0"]


async def test_expired_token_is_requested_again_with_its_memory() -> None:
    """After each pause and once more; then the last error is raised."""
    endpoint = RotatingEndpoint()
    endpoint.issues_expired_tokens = True
    calls = calls_of(endpoint)
    running = asyncio.create_task(calls.run(endpoint.fetch))
    await advance(1, step=0.5)
    with pytest.raises(CallError, match="it has expired"):
        await running
    assert [call.body for call in endpoint.calls] == [b"r0", b"r1", b"r2"]
    assert (endpoint.call_times, calls.memory) == ([0, 0.5, 1.0], "r3")


@pytest.mark.parametrize("memory", [None, "r0"])
async def test_failed_call_keeps_the_memory(memory: str | None) -> None:
    endpoint = RotatingEndpoint()
    endpoint.call_error = {"outcome": "timeout", "reason": "no response"}
    calls = calls_of(endpoint, memory)
    with pytest.raises(CallError, match="no response"):
        await calls.run(endpoint.fetch)
    assert (calls.memory, len(endpoint.calls)) == (memory, 1)


async def test_exception_of_fetch_is_raised() -> None:
    """Without a retry."""

    async def fetch(call: Call, calls: list[Call]) -> Reply:
        calls.append(call)
        raise ZeroDivisionError

    sent: list[Call] = []
    with pytest.raises(ZeroDivisionError):
        await calls_of(RotatingEndpoint()).run(partial(fetch, calls=sent))
    assert len(sent) == 1
