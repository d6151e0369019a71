"""One token source: schedule, single flight, refresh, back-off and failures."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from sidekey.credentials.base import Credential, FixedCredential, Grant
from sidekey.credentials.fields import SecretUnreadable
from sidekey.errors import ProblemError
from sidekey.snapshot.secret_loader import SecretLoader
from sidekey.tokens.source import plan_schedule
from support.manual_clock import settle
from support.tokens import LimitedKind, Rig, token_of

LIVES = st.floats(0.01, 1e9)
JITTERS = st.floats(0, 1)


@pytest.mark.parametrize(
    ("lifetime", "refresh", "end"),
    [
        (3600, 3240, 3599),
        (300, 270, 299),
        (100, 70, 99),
        (60, 30, 59),
        (50, 25, 49),
        (20, 10, 19),
        (2, 1, 1.9),
        (86400, 77760, 86399),
    ],
)
def test_margin_is_a_tenth_of_the_lifetime_within_30_s_and_half(lifetime: float, refresh: float, end: float) -> None:
    """The token is usable until a second, or 5 % of its lifetime, before expiry."""
    assert plan_schedule(1000.0, lifetime, 0.0) == pytest.approx((1000 + refresh, 1000 + end, 1000 + lifetime))


@given(LIVES, JITTERS)
def test_schedule_is_in_order(lifetime: float, jitter: float) -> None:
    plan = plan_schedule(0.0, lifetime, jitter)
    assert 0 < plan.refresh_at < plan.usable_until < plan.expires_at == lifetime


@given(LIVES, JITTERS)
def test_jitter_moves_the_refresh_earlier_by_at_most_a_tenth_of_the_margin(lifetime: float, jitter: float) -> None:
    plain, moved = plan_schedule(0.0, lifetime, 0.0), plan_schedule(0.0, lifetime, jitter)
    margin = lifetime - plain.refresh_at
    assert moved.usable_until == plain.usable_until
    assert plain.refresh_at - margin / 10 <= moved.refresh_at + 1e-6 * lifetime
    assert moved.refresh_at <= plain.refresh_at


@given(LIVES, JITTERS, st.floats(0.0, 1.0))
def test_token_without_a_call_has_its_own_refresh_time(lifetime: float, jitter: float, part: float) -> None:
    plan = plan_schedule(100.0, lifetime, jitter, lifetime * part)
    assert plan.refresh_at == 100.0 + lifetime * part
    assert plan[1:] == plan_schedule(100.0, lifetime, jitter)[1:]


DOWN = {"outcome": "unreachable", "reason": "token endpoint: it refused the connection"}


async def failure(rig: Rig) -> tuple[str, str, str | None]:
    """Code, detail and Retry-After of an `obtain` that must fail."""
    with pytest.raises(ProblemError) as failed:
        await rig.source.obtain()
    return failed.value.problem.code, failed.value.problem.detail, dict(failed.value.problem.headers).get("Retry-After")


async def test_a_token_that_was_waited_for_is_active(rig: Rig) -> None:
    """Requests then read `grant` only, until shortly before expiry."""
    assert rig.source.grant is None
    grant = await rig.source.obtain()
    assert rig.source.grant is grant
    assert await rig.source.obtain() is grant
    assert rig.expiry == 1000
    assert len(rig.endpoint.calls) == 1


async def test_lifetime_counts_from_the_call(rig: Rig) -> None:
    rig.endpoint.open.clear()
    waiting = asyncio.create_task(rig.source.obtain())
    await rig.loop.advance(40)
    rig.endpoint.open.set()
    await waiting
    assert rig.expiry == 1000


async def test_active_token_is_refreshed_in_the_background(rig: Rig) -> None:
    """The next request activates the new token without waiting."""
    old = await rig.source.obtain()
    await rig.loop.advance(899)
    assert rig.source.grant is old
    rig.endpoint.open.clear()
    await rig.loop.advance(1)
    assert len(rig.endpoint.calls) == 2
    assert rig.source.grant is old
    assert await rig.source.obtain() is old
    rig.endpoint.open.set()
    await settle()
    assert rig.source.grant is None
    assert token_of(await rig.source.obtain()) == "t2"
    assert token_of(rig.source.grant) == "t2"
    assert rig.expiry == 1900
    assert len(rig.endpoint.calls) == 2


async def test_jitter_moves_the_refresh_earlier_and_shortens_the_pauses() -> None:
    """Many processes then do not refresh or retry at the same time."""
    rig = Rig(jitter=lambda: 1.0)
    await rig.source.obtain()
    rig.endpoint.call_error = DOWN
    await rig.loop.advance(893, step=0.25)
    assert rig.endpoint.call_times == [0, 890, 890.75, 892.25]
    await rig.source.close()


async def test_idle_token_is_refreshed_once_and_expires(rig: Rig) -> None:
    await rig.source.obtain()
    await rig.loop.advance(900)
    assert rig.expiry == 1900
    await rig.loop.advance(998)
    assert rig.expiry == 1900
    await rig.loop.advance(1)
    assert (rig.expiry, rig.source.grant, len(rig.endpoint.calls)) == (None, None, 2)
    await rig.loop.advance(5000)
    assert len(rig.endpoint.calls) == 2
    assert token_of(await rig.source.obtain()) == "t3"


async def test_idle_token_is_refreshed_when_it_is_used_again(rig: Rig) -> None:
    """The request does not wait."""
    await rig.source.obtain()
    await rig.loop.advance(900)
    await rig.loop.advance(950)
    assert len(rig.endpoint.calls) == 2
    assert token_of(await rig.source.obtain()) == "t2"
    await settle()
    assert len(rig.endpoint.calls) == 3
    assert token_of(await rig.source.obtain()) == "t3"


async def test_constant_load_never_waits_or_gets_an_expired_token(rig: Rig) -> None:
    """Two-second tokens for twenty seconds: after the first call every `obtain` is answered without one to wait for."""
    rig.endpoint.lifetime = 2.0
    born = {token_of(await rig.source.obtain()): 0.0}
    for _ in range(2000):
        await rig.loop.advance(0.01)
        waiting = asyncio.create_task(rig.source.obtain())
        await asyncio.sleep(0)
        assert waiting.done()
        name = token_of(rig.source.grant)
        assert name is not None
        assert rig.loop.now < rig.endpoint.call_times[int(name[1:]) - 1] + 2
        born[name] = rig.loop.now
    assert 18 <= len(born) <= 21
    assert len(rig.endpoint.calls) <= 21


async def test_current_token_is_used_while_the_endpoint_is_down(rig: Rig) -> None:
    """The refresh is retried with growing pauses until the token expires."""
    old = await rig.source.obtain()
    rig.endpoint.call_error = DOWN
    await rig.loop.advance(998, step=0.5)
    assert rig.source.grant is old
    assert [round(moment) for moment in rig.endpoint.call_times] == [0, 900, 901, 903, 907, 915, 931, 963]
    await rig.loop.advance(1)
    assert (rig.source.grant, rig.expiry) == (None, None)
    assert await failure(rig) == ("credential_unavailable", DOWN["reason"], "24")
    rig.endpoint.call_error = None
    await rig.loop.advance(24)
    assert token_of(await rig.source.obtain()) == "t9"
    assert rig.outcomes() == {"ok": 2, "unreachable": 7}


async def test_successful_refresh_ends_the_back_off(rig: Rig) -> None:
    """The next failure starts at one second again."""
    await rig.source.obtain()
    rig.endpoint.call_error = DOWN
    await rig.loop.advance(904, step=0.5)
    rig.endpoint.call_error = None
    await rig.loop.advance(6, step=0.5)
    assert token_of(await rig.source.obtain()) == "t5"
    rig.endpoint.call_error = DOWN
    await rig.loop.advance(899, step=0.5)
    assert [round(moment) for moment in rig.endpoint.call_times[4:]] == [907, 1807, 1808]


async def test_failure_without_a_token_is_repeated_during_the_pause(rig: Rig) -> None:
    """502 with the reason and Retry-After, then one call for all requests."""
    rig.endpoint.call_error = DOWN
    assert await failure(rig) == ("credential_unavailable", DOWN["reason"], "1")
    assert await failure(rig) == ("credential_unavailable", DOWN["reason"], "1")
    assert len(rig.endpoint.calls) == 1
    await rig.loop.advance(1)
    failures = await asyncio.gather(*[failure(rig) for _ in range(50)])
    assert set(failures) == {("credential_unavailable", DOWN["reason"], "2")}
    assert len(rig.endpoint.calls) == 2
    rig.endpoint.call_error = None
    await rig.loop.advance(2)
    assert token_of(await rig.source.obtain()) == "t3"


@pytest.mark.parametrize(("retry_after", "remaining"), [(0.0, "1"), (17.5, "18"), (3600.0, "3600"), (86_400.0, "3600")])
async def test_retry_after_of_the_endpoint_is_respected(rig: Rig, retry_after: float, remaining: str) -> None:
    """Up to an hour, and sent to the caller in whole seconds."""
    rig.endpoint.reply_error = {
        "outcome": "rate_limited",
        "reason": "token endpoint answered 429",
        "retry_after": retry_after,
    }
    assert await failure(rig) == ("credential_unavailable", "token endpoint answered 429", remaining)
    await rig.loop.advance(float(remaining) - 0.6)
    await failure(rig)
    assert rig.outcomes() == {"rate_limited": 1}


@pytest.mark.parametrize(
    ("needs_config_change", "error"), [(False, "proxy_internal_error"), (True, "proxy_configuration_error")]
)
async def test_error_of_the_settings_is_a_configuration_error(rig: Rig, needs_config_change: bool, error: str) -> None:
    """RFC 9209."""
    rig.endpoint.reply_error = {
        "outcome": "refused",
        "reason": "token endpoint answered 401",
        "needs_config_change": needs_config_change,
    }
    with pytest.raises(ProblemError) as failed:
        await rig.source.obtain()
    assert (failed.value.problem.error, failed.value.problem.status) == (error, 502)


async def test_unreadable_secrets_cause_no_call_and_no_pause() -> None:
    missing = True

    def load() -> Credential:
        if missing:
            raise SecretUnreadable(((("auth", "client_secret"), "the file does not exist"),))
        return rig.kind

    rig = Rig(secrets=SecretLoader(load))
    for _ in range(3):
        with pytest.raises(ProblemError) as failed:
            await rig.source.obtain()
        problem = failed.value.problem
        assert "client_secret" in problem.detail
        assert (problem.code, problem.error, problem.headers) == (
            "credential_unavailable",
            "proxy_configuration_error",
            (),
        )
        # However often they could not be read, the next try is the loader's to allow: a second later.
        await rig.loop.advance(1)
    assert (rig.endpoint.calls, rig.outcomes()) == ([], {})
    missing = False
    assert token_of(await rig.source.obtain()) == "t1"
    await rig.source.close()


async def test_calls_to_the_endpoint_are_limited() -> None:
    """At most five calls in any minute; the problem has the limit and Retry-After."""
    rig = Rig(LimitedKind)
    rig.endpoint.lifetime = 2.0
    for _ in range(5):
        await rig.source.obtain()
        await rig.loop.advance(1.9)
    assert rig.loop.now == pytest.approx(9.5)
    reason = "token endpoint skipped: limit of 5 calls a minute reached"
    assert await failure(rig) == ("credential_unavailable", reason, "51")
    await rig.loop.advance(49)
    await failure(rig)
    assert rig.endpoint.call_times == pytest.approx([0, 1.9, 3.8, 5.7, 7.6])
    assert rig.outcomes() == {"ok": 5}
    await rig.source.close()


async def test_a_defect_is_reported_and_the_source_recovers(rig: Rig) -> None:
    """The problem contains only the ID of the log line."""
    rig.endpoint.defect = True
    assert await failure(rig) == ("internal_error", "a defect of Sidekey, logged as d1", "1")
    assert [type(defect) for defect in rig.defects] == [ZeroDivisionError]
    rig.endpoint.defect = False
    await rig.loop.advance(1)
    assert token_of(await rig.source.obtain()) == "t2"


async def test_fixed_credential_is_a_defect() -> None:
    secrets = SecretLoader(lambda: FixedCredential(Grant()))
    secrets.load()
    rig = Rig(secrets=secrets)
    assert (await failure(rig))[0] == "internal_error"
    assert [type(defect) for defect in rig.defects] == [TypeError]
    assert not rig.source.report_rejection(Grant(), 401, b"")


async def test_token_with_a_denied_base_url_is_refused(rig: Rig) -> None:
    rig.endpoint.base_url = "https://api.example.org"
    code, detail, _ = await failure(rig)
    assert code == "credential_unavailable"
    assert detail == "the base URL that the token endpoint returned is not allowed: it is not under any allowed domain"
    assert (rig.source.grant, rig.outcomes()) == (None, {"invalid": 1})


async def test_memory_of_a_refused_response_is_used_by_the_next_attempt(rig: Rig) -> None:
    """It may contain the only valid refresh token. Without memory in the error, the previous memory stays."""
    rig.endpoint.base_url = "https://api.example.org"
    await failure(rig)
    rig.endpoint.base_url = ""
    rig.endpoint.call_error = DOWN
    await rig.loop.advance(1)
    await failure(rig)
    rig.endpoint.call_error = None
    await rig.loop.advance(2)
    await rig.source.obtain()
    assert [attempt.memory for attempt in rig.kind.attempts] == [None, "memory of t1", "memory of t1"]


async def test_attempt_gets_the_wall_clock_and_the_memory(rig: Rig) -> None:
    await rig.source.obtain()
    await rig.loop.advance(900)
    assert [(attempt.now, attempt.memory, attempt.rejected) for attempt in rig.kind.attempts] == [
        (1_700_000_000, None, False),
        (1_700_000_900, "memory of t1", False),
    ]


async def test_close_cancels_the_call_and_drops_the_token(rig: Rig) -> None:
    """No timer, task or gauge is left."""
    await rig.source.obtain()
    rig.endpoint.open.clear()
    await rig.loop.advance(900)
    await rig.loop.advance(99)
    waiting = asyncio.create_task(rig.source.obtain())
    await settle()
    await rig.source.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (rig.source.grant, rig.expiry) == (None, None)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_failures_and_recovery_are_logged_without_a_secret(rig: Rig) -> None:
    """A warning for each failed attempt, one line on recovery, and a debug line for each token."""
    with structlog.testing.capture_logs() as lines:
        rig.endpoint.call_error = DOWN
        await failure(rig)
        rig.endpoint.call_error = None
        await rig.loop.advance(1)
        await rig.source.obtain()
    expected: list[dict[str, Any]] = [
        {"log_level": "warning", "event": "no token could be obtained", **DOWN},
        {"log_level": "info", "event": "tokens can be obtained again", "failures": 1},
        {"log_level": "debug", "event": "a token was issued", "lifetime": 1000.0},
    ]
    assert lines == [{"integration": "crm", **line} for line in expected]
    assert "t1" not in repr(rig.source)


async def test_reread_secrets_are_read_for_each_attempt() -> None:
    """An unreadable secret prevents the call."""
    readings = 0
    there = True

    def read() -> Credential:
        nonlocal readings
        readings += 1
        if not there:
            raise SecretUnreadable(((("auth", "token"), "the file does not exist"),))
        return rig.kind

    secrets = SecretLoader(read, (Path("token"),))
    rig = Rig(secrets=secrets)
    secrets.load()
    await rig.source.obtain()
    assert (readings, len(rig.endpoint.calls)) == (2, 1)
    there = False
    await rig.loop.advance(999)
    code, detail, _ = await failure(rig)
    assert (code, detail) == ("credential_unavailable", "auth.token: the file does not exist")
    assert len(rig.endpoint.calls) == 1
    there = True
    await rig.loop.advance(1)
    assert token_of(await rig.source.obtain()) == "t2"
    await rig.close()
