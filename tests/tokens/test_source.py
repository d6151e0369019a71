"""tokens/source.py: refreshed ahead of the end, ended ahead of expiry."""

from __future__ import annotations

import asyncio
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
    ("life", "refresh", "end"),
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
def test_the_margin_is_a_tenth_but_at_least_30_s_and_at_most_half_the_life(
    life: float, refresh: float, end: float
) -> None:
    """expiry - min(max(30 s, 10 % of the life), half the life); handed out until a second before expiry, or 5 %."""
    assert plan_schedule(1000.0, life, 0.0) == pytest.approx((1000 + refresh, 1000 + end, 1000 + life))


@given(LIVES, JITTERS)
def test_the_moments_of_a_life_are_in_order(life: float, jitter: float) -> None:
    """A token is used for some time, refreshed while it can be handed out, and never handed out expired."""
    plan = plan_schedule(0.0, life, jitter)
    assert 0 < plan.refresh_at < plan.usable_until < plan.expires_at == life


@given(LIVES, JITTERS)
def test_jitter_only_makes_a_refresh_earlier_by_a_tenth_of_the_margin(life: float, jitter: float) -> None:
    """It moves neither the end nor the refresh beyond that."""
    plain, moved = plan_schedule(0.0, life, 0.0), plan_schedule(0.0, life, jitter)
    margin = life - plain.refresh_at
    assert moved.usable_until == plain.usable_until
    assert plain.refresh_at - margin / 10 <= moved.refresh_at + 1e-6 * life
    assert moved.refresh_at <= plain.refresh_at


@given(LIVES, JITTERS, st.floats(0.0, 1.0))
def test_what_costs_no_call_is_renewed_when_it_says(life: float, jitter: float, part: float) -> None:
    """No process waits for another; its end is as that of every token."""
    plan = plan_schedule(100.0, life, jitter, life * part)
    assert plan.refresh_at == 100.0 + life * part
    assert plan[1:] == plan_schedule(100.0, life, jitter)[1:]


DOWN = {"outcome": "unreachable", "reason": "token endpoint: it refused the connection"}


async def failure(rig: Rig) -> tuple[str, str, str | None]:
    """Code, detail and Retry-After of an `obtain` that must fail."""
    with pytest.raises(ProblemError) as failed:
        await rig.source.obtain()
    return failed.value.problem.code, failed.value.problem.detail, dict(failed.value.problem.headers).get("Retry-After")


async def test_five_hundred_requests_on_a_cold_cache_make_one_call(rig: Rig) -> None:
    """All of them get the token that comes of it."""
    rig.endpoint.open.clear()
    waiting = [asyncio.create_task(rig.source.obtain()) for _ in range(500)]
    await settle()
    rig.endpoint.open.set()
    grants = await asyncio.gather(*waiting)
    assert {token_of(grant) for grant in grants} == {"t1"}
    assert (len(rig.endpoint.calls), rig.outcomes()) == (1, {"ok": 1})


async def test_a_leader_that_leaves_still_serves_those_who_wait(rig: Rig) -> None:
    """The call is nobody's own."""
    rig.endpoint.open.clear()
    leader, follower = asyncio.create_task(rig.source.obtain()), asyncio.create_task(rig.source.obtain())
    await settle()
    leader.cancel()
    await settle()
    assert leader.cancelled()
    rig.endpoint.open.set()
    assert token_of(await follower) == "t1"
    assert len(rig.endpoint.calls) == 1


async def test_a_token_that_was_waited_for_is_active(rig: Rig) -> None:
    """From then on the warm path reads `grant` and nothing else, until shortly before expiry."""
    assert rig.source.grant is None
    grant = await rig.source.obtain()
    assert rig.source.grant is grant
    assert await rig.source.obtain() is grant
    assert rig.expiry == 1000
    assert len(rig.endpoint.calls) == 1


async def test_life_counts_from_before_the_call(rig: Rig) -> None:
    """An endpoint that takes long to answer has used up a part of it."""
    rig.endpoint.open.clear()
    waiting = asyncio.create_task(rig.source.obtain())
    await rig.loop.advance(40)
    rig.endpoint.open.set()
    await waiting
    assert rig.expiry == 1000


async def test_a_used_token_is_refreshed_in_the_background_and_the_new_one_waits_for_a_request(rig: Rig) -> None:
    """The first request after it activates it, without a call and without waiting."""
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
    """Many processes neither renew nor retry at once."""
    rig = Rig(jitter=lambda: 1.0)
    await rig.source.obtain()
    rig.endpoint.down = DOWN
    await rig.loop.advance(893, step=0.25)
    assert rig.endpoint.moments == [0, 890, 890.75, 892.25]
    await rig.source.close()


async def test_an_idle_token_lapses_without_a_further_call(rig: Rig) -> None:
    """It was refreshed once after its last use; then it is dropped, and the gauge with it."""
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


async def test_a_token_used_again_after_its_refresh_point_is_refreshed_at_once(rig: Rig) -> None:
    """It was idle when the timer came by; the request that wakes it does not wait."""
    await rig.source.obtain()
    await rig.loop.advance(900)
    await rig.loop.advance(950)
    assert len(rig.endpoint.calls) == 2
    assert token_of(await rig.source.obtain()) == "t2"
    await settle()
    assert len(rig.endpoint.calls) == 3
    assert token_of(await rig.source.obtain()) == "t3"


async def test_under_constant_load_no_request_ever_waits_or_sees_an_expired_token(rig: Rig) -> None:
    """Two-second tokens for twenty seconds: after the first call every `obtain` is answered without one to wait for."""
    rig.endpoint.life = 2.0
    born = {token_of(await rig.source.obtain()): 0.0}
    for _ in range(2000):
        await rig.loop.advance(0.01)
        waiting = asyncio.create_task(rig.source.obtain())
        await asyncio.sleep(0)
        assert waiting.done()
        name = token_of(rig.source.grant)
        assert name is not None
        assert rig.loop.now < rig.endpoint.moments[int(name[1:]) - 1] + 2
        born[name] = rig.loop.now
    assert 18 <= len(born) <= 21
    assert len(rig.endpoint.calls) <= 21


async def test_the_old_token_serves_while_the_endpoint_is_down(rig: Rig) -> None:
    """F72: the refresh is tried again with growing pauses, until the token ends."""
    old = await rig.source.obtain()
    rig.endpoint.down = DOWN
    await rig.loop.advance(998, step=0.5)
    assert rig.source.grant is old
    assert [round(moment) for moment in rig.endpoint.moments] == [0, 900, 901, 903, 907, 915, 931, 963]
    await rig.loop.advance(1)
    assert (rig.source.grant, rig.expiry) == (None, None)
    assert await failure(rig) == ("credential_unavailable", DOWN["reason"], "24")
    rig.endpoint.down = None
    await rig.loop.advance(24)
    assert token_of(await rig.source.obtain()) == "t9"
    assert rig.outcomes() == {"ok": 2, "unreachable": 7}


async def test_a_refresh_that_works_again_ends_the_back_off(rig: Rig) -> None:
    """The next failure begins at one second once more."""
    await rig.source.obtain()
    rig.endpoint.down = DOWN
    await rig.loop.advance(904, step=0.5)
    rig.endpoint.down = None
    await rig.loop.advance(6, step=0.5)
    assert token_of(await rig.source.obtain()) == "t5"
    rig.endpoint.down = DOWN
    await rig.loop.advance(899, step=0.5)
    assert [round(moment) for moment in rig.endpoint.moments[4:]] == [907, 1807, 1808]


async def test_without_a_token_a_failure_is_kept_for_a_while(rig: Rig) -> None:
    """F73: 502 with the reason and Retry-After, no call before its time, then one for all who ask."""
    rig.endpoint.down = DOWN
    assert await failure(rig) == ("credential_unavailable", DOWN["reason"], "1")
    assert await failure(rig) == ("credential_unavailable", DOWN["reason"], "1")
    assert len(rig.endpoint.calls) == 1
    await rig.loop.advance(1)
    failures = await asyncio.gather(*[failure(rig) for _ in range(50)])
    assert set(failures) == {("credential_unavailable", DOWN["reason"], "2")}
    assert len(rig.endpoint.calls) == 2
    rig.endpoint.down = None
    await rig.loop.advance(2)
    assert token_of(await rig.source.obtain()) == "t3"


@pytest.mark.parametrize(("asked", "told"), [(0.0, "1"), (17.5, "18"), (3600.0, "3600"), (86_400.0, "3600")])
async def test_retry_after_of_the_endpoint_is_respected(rig: Rig, asked: float, told: str) -> None:
    """O20: up to an hour, and told on to the caller in whole seconds."""
    rig.endpoint.refuses = {"outcome": "rate_limited", "reason": "token endpoint answered 429", "retry_after": asked}
    assert await failure(rig) == ("credential_unavailable", "token endpoint answered 429", told)
    await rig.loop.advance(float(told) - 0.6)
    await failure(rig)
    assert rig.outcomes() == {"rate_limited": 1}


@pytest.mark.parametrize(("settings", "error"), [(False, "proxy_internal_error"), (True, "proxy_configuration_error")])
async def test_an_error_that_only_the_config_can_correct_says_so(rig: Rig, settings: bool, error: str) -> None:
    """RFC 9209: the operator's to correct."""
    rig.endpoint.refuses = {"outcome": "refused", "reason": "token endpoint answered 401", "settings": settings}
    with pytest.raises(ProblemError) as failed:
        await rig.source.obtain()
    assert (failed.value.problem.error, failed.value.problem.status) == (error, 502)


async def test_secrets_that_cannot_be_read_are_reported_as_such_and_delay_nothing_after() -> None:
    """No call is made or counted, and the token comes as soon as they can be read."""
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


async def test_over_the_limit_of_calls_nothing_is_called() -> None:
    """Five calls in any minute, whatever happens; the response says so and for how long."""
    rig = Rig(LimitedKind)
    rig.endpoint.life = 2.0
    for _ in range(5):
        await rig.source.obtain()
        await rig.loop.advance(1.9)
    assert rig.loop.now == pytest.approx(9.5)
    reason = "token endpoint skipped: limit of 5 calls a minute reached"
    assert await failure(rig) == ("credential_unavailable", reason, "51")
    await rig.loop.advance(49)
    await failure(rig)
    assert rig.endpoint.moments == pytest.approx([0, 1.9, 3.8, 5.7, 7.6])
    assert rig.outcomes() == {"ok": 5}
    await rig.source.close()


async def test_a_defect_is_reported_and_the_source_recovers(rig: Rig) -> None:
    """The response names the id under which it is logged and nothing else."""
    rig.endpoint.defect = True
    assert await failure(rig) == ("internal_error", "a defect of Sidekey, logged as d1", "1")
    assert [type(defect) for defect in rig.defects] == [ZeroDivisionError]
    rig.endpoint.defect = False
    await rig.loop.advance(1)
    assert token_of(await rig.source.obtain()) == "t2"


async def test_a_credential_that_needs_no_call_is_a_defect() -> None:
    """Such an integration has a static source."""
    secrets = SecretLoader(lambda: FixedCredential(Grant()))
    secrets.load()
    rig = Rig(secrets=secrets)
    assert (await failure(rig))[0] == "internal_error"
    assert [type(defect) for defect in rig.defects] == [TypeError]
    assert not rig.source.report_rejection(Grant(), 401, b"")


async def test_a_learnt_base_url_outside_the_policy_leaves_no_token(rig: Rig) -> None:
    """O25: refused, and said so."""
    rig.endpoint.base_url = "https://api.example.org"
    code, detail, _ = await failure(rig)
    assert code == "credential_unavailable"
    assert detail == "the base URL that the token endpoint returned is not allowed: it is not under any allowed domain"
    assert (rig.source.grant, rig.outcomes()) == (None, {"invalid": 1})


async def test_what_a_refused_response_leaves_is_what_the_next_attempt_gets(rig: Rig) -> None:
    """A refresh token that was rotated is the only one that is valid; an error that leaves nothing changes nothing."""
    rig.endpoint.base_url = "https://api.example.org"
    await failure(rig)
    rig.endpoint.base_url = ""
    rig.endpoint.down = DOWN
    await rig.loop.advance(1)
    await failure(rig)
    rig.endpoint.down = None
    await rig.loop.advance(2)
    await rig.source.obtain()
    assert [attempt.memory for attempt in rig.kind.attempts] == [None, "memory of t1", "memory of t1"]


async def test_an_attempt_gets_the_wall_clock_and_what_the_last_one_left(rig: Rig) -> None:
    """For signed claims, and for kinds that renew by the former token."""
    await rig.source.obtain()
    await rig.loop.advance(900)
    assert [(attempt.now, attempt.memory, attempt.rejected) for attempt in rig.kind.attempts] == [
        (1_700_000_000, None, False),
        (1_700_000_900, "memory of t1", False),
    ]


async def test_the_end_cuts_the_call_under_way_and_forgets_the_token(rig: Rig) -> None:
    """No timer and no task stays, those who wait are ended, and the gauge goes."""
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
    """A warning for each failed attempt, one line when calls work again, a debug line for each token."""
    with structlog.testing.capture_logs() as lines:
        rig.endpoint.down = DOWN
        await failure(rig)
        rig.endpoint.down = None
        await rig.loop.advance(1)
        await rig.source.obtain()
    expected: list[dict[str, Any]] = [
        {"log_level": "warning", "event": "no token could be obtained", **DOWN},
        {"log_level": "info", "event": "tokens can be obtained again", "failures": 1},
        {"log_level": "debug", "event": "a token was issued", "lifetime": 1000.0},
    ]
    assert lines == [{"integration": "crm", **line} for line in expected]
    assert "t1" not in repr(rig.source)


async def test_what_others_replace_is_read_anew_for_each_attempt() -> None:
    """And where it cannot be read nothing is called, until it can."""
    readings = 0
    there = True

    def read() -> Credential:
        nonlocal readings
        readings += 1
        if not there:
            raise SecretUnreadable(((("auth", "token"), "the file does not exist"),))
        return rig.kind

    secrets = SecretLoader(read)
    rig = Rig(secrets=secrets, traits={"reread": frozenset({("token",)})})
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
