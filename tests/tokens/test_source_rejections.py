"""Rejections by an upstream: when they force a refresh, and how often."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qsl

import pytest
import structlog

from sidekey.credentials.base import Reply
from sidekey.errors import ProblemError
from sidekey.snapshot.secret_loader import SecretLoader
from support.drive_kinds import credential_of, reply
from support.manual_clock import settle
from support.tokens import LimitedKind, Rig, token_of

AUTH = {
    "type": "oauth2",
    "token_endpoint": "https://auth.example.com/token",
    "client_id": "id",
    "client_secret": {"env": "SECRET"},
}


async def test_rejection_of_the_current_token_refreshes_it_once(rig: Rig) -> None:
    """All requests get the new token, and the attempt is marked as rejected."""
    old = await rig.source.obtain()
    rig.endpoint.open.clear()
    assert rig.source.report_rejection(old, 401, b"")
    assert rig.source.report_rejection(old, 401, b"")
    await settle()
    assert rig.source.grant is None
    waiting = [asyncio.create_task(rig.source.refreshed_after(old)) for _ in range(20)]
    waiting += [asyncio.create_task(rig.source.obtain()) for _ in range(20)]
    await rig.loop.advance(1.9)
    assert not any(waiter.done() for waiter in waiting)
    rig.endpoint.open.set()
    assert {token_of(grant) for grant in await asyncio.gather(*waiting)} == {"t2"}
    assert token_of(rig.source.grant) == "t2"
    assert len(rig.endpoint.calls) == 2
    assert [attempt.rejected for attempt in rig.kind.attempts] == [False, True]


async def test_requests_wait_two_seconds_for_the_replacement(rig: Rig) -> None:
    """The resource may reject every token: then requests use the old one, and the next rejection causes no wait."""
    old = await rig.source.obtain()
    rig.endpoint.open.clear()
    assert rig.source.report_rejection(old, 401, b"")
    waiting = [asyncio.create_task(rig.source.obtain()) for _ in range(20)]
    await rig.loop.advance(1.99)
    assert not any(waiter.done() for waiter in waiting)
    await rig.loop.advance(0.01)
    assert [await waiter for waiter in waiting] == [old] * 20
    assert rig.source.grant is old
    assert rig.source.report_rejection(old, 401, b"")
    assert rig.source.grant is old
    await rig.loop.advance(1)
    rig.endpoint.open.set()
    await settle()
    assert token_of(await rig.source.obtain()) == "t2"
    assert len(rig.endpoint.calls) == 2


async def test_failed_refresh_ends_the_wait(rig: Rig) -> None:
    old = await rig.source.obtain()
    rig.endpoint.open.clear()
    assert rig.source.report_rejection(old, 401, b"")
    waiting = asyncio.create_task(rig.source.obtain())
    await rig.loop.advance(0.5)
    assert not waiting.done()
    rig.endpoint.call_error = {"outcome": "refused", "reason": "token endpoint returned 401 invalid_client"}
    rig.endpoint.open.set()
    assert await waiting is old
    assert rig.source.grant is old


async def test_rejection_during_a_refresh_withholds_the_token(rig: Rig) -> None:
    """Once in a renewal interval."""
    old = await rig.source.obtain()
    rig.endpoint.open.clear()
    await rig.loop.advance(900)
    assert rig.source.grant is old
    assert rig.source.report_rejection(old, 401, b"")
    assert rig.source.grant is None
    waiting = asyncio.create_task(rig.source.obtain())
    await rig.loop.advance(1)
    assert not waiting.done()
    rig.endpoint.open.set()
    assert token_of(await waiting) == "t2"
    assert len(rig.endpoint.calls) == 2


@pytest.mark.parametrize("interval", [1.0, 300.0])
async def test_renewal_interval_limits_forced_refreshes(interval: float) -> None:
    rig = Rig(traits={"renewal_interval": interval})
    grant = await rig.source.obtain()
    for _ in range(3):
        assert rig.source.report_rejection(grant, 401, b"")
        grant = await rig.source.refreshed_after(grant) or grant
        await rig.loop.advance(interval - 0.5)
        assert not rig.source.report_rejection(grant, 401, b"")
        await rig.loop.advance(0.5)
    assert rig.endpoint.call_times == [0, 0, interval, 2 * interval]
    await rig.source.close()


async def test_single_live_token_is_refreshed_at_its_end() -> None:
    """A new token would revoke the token of requests in flight."""
    rig = Rig(traits={"single_live_token": True})
    await rig.source.obtain()
    for _ in range(998):
        await rig.loop.advance(1)
        assert token_of(await rig.source.obtain()) == "t1"
    assert len(rig.endpoint.calls) == 1
    rig.endpoint.open.clear()
    await rig.loop.advance(1)
    assert rig.source.grant is None
    waiting = asyncio.create_task(rig.source.obtain())
    await settle()
    rig.endpoint.open.set()
    assert token_of(await waiting) == "t2"
    await rig.source.close()


async def test_single_live_token_is_withheld_during_a_refresh() -> None:
    """If the refresh fails, the old token is used again."""
    rig = Rig(traits={"single_live_token": True})
    old = await rig.source.obtain()
    rig.endpoint.open.clear()
    assert rig.source.report_rejection(old, 401, b"")
    waiting = asyncio.create_task(rig.source.obtain())
    await rig.loop.advance(9.9)
    assert not waiting.done()
    rig.endpoint.call_error = {"outcome": "timeout", "reason": "token endpoint did not answer in time"}
    rig.endpoint.open.set()
    assert await waiting is old
    await rig.source.close()


async def test_many_rejections_make_one_call_a_minute(rig: Rig) -> None:
    grant = await rig.source.obtain()
    replays = 0
    for _ in range(180):
        for _ in range(10):
            if rig.source.report_rejection(grant, 401, b""):
                replays += 1
                grant = await rig.source.refreshed_after(grant) or grant
        await rig.loop.advance(1)
    assert replays == 3
    assert rig.endpoint.call_times == [0, 0, 60, 120]


async def test_rejection_of_an_older_token_makes_no_call(rig: Rig) -> None:
    old = await rig.source.obtain()
    await rig.loop.advance(900)
    assert rig.source.grant is None
    assert rig.source.report_rejection(old, 401, b"")
    newer = await rig.source.refreshed_after(old)
    assert token_of(newer) == "t2"
    assert rig.source.grant is newer
    assert len(rig.endpoint.calls) == 2


async def test_rejection_during_a_refresh_waits_for_its_token(rig: Rig) -> None:
    old = await rig.source.obtain()
    rig.endpoint.open.clear()
    await rig.loop.advance(900)
    assert rig.source.report_rejection(old, 401, b"")
    waiting = asyncio.create_task(rig.source.refreshed_after(old))
    await settle()
    assert not waiting.done()
    rig.endpoint.open.set()
    assert token_of(await waiting) == "t2"
    assert len(rig.endpoint.calls) == 2


async def test_failed_forced_refresh_keeps_the_token_for_a_minute(rig: Rig) -> None:
    """`refreshed_after` returns None."""
    old = await rig.source.obtain()
    rig.endpoint.call_error = {"outcome": "timeout", "reason": "token endpoint did not respond in time"}
    assert rig.source.report_rejection(old, 401, b"")
    assert await rig.source.refreshed_after(old) is None
    assert await rig.source.obtain() is old
    await rig.loop.advance(59)
    assert not rig.source.report_rejection(old, 401, b"")
    assert len(rig.endpoint.calls) == 2
    await rig.loop.advance(1)
    rig.endpoint.call_error = None
    assert rig.source.report_rejection(old, 401, b"")
    assert token_of(await rig.source.refreshed_after(old)) == "t3"
    assert [attempt.rejected for attempt in rig.kind.attempts] == [False, True, True]


async def test_defect_in_a_refresh_does_not_fail_the_request(rig: Rig) -> None:
    """It is reported."""
    old = await rig.source.obtain()
    rig.endpoint.defect = True
    assert rig.source.report_rejection(old, 401, b"")
    assert await rig.source.refreshed_after(old) is None
    assert len(rig.defects) == 1


async def test_rejection_does_not_end_the_back_off(rig: Rig) -> None:
    old = await rig.source.obtain()
    rig.endpoint.call_error = {"outcome": "rate_limited", "reason": "token endpoint answered 429", "retry_after": 50}
    await rig.loop.advance(900)
    assert not rig.source.report_rejection(old, 401, b"")
    assert len(rig.endpoint.calls) == 2


async def test_refresh_with_the_same_token_has_no_replacement(rig: Rig) -> None:
    """Some endpoints return the same token until it expires."""
    rig.endpoint.token = "same"
    old = await rig.source.obtain()
    assert rig.source.report_rejection(old, 401, b"")
    assert await rig.source.refreshed_after(old) is None
    assert not rig.source.report_rejection(old, 401, b"")
    assert len(rig.endpoint.calls) == 2


@pytest.mark.parametrize("jitter", [0.0, 0.3, 0.5, 0.8, 0.99])
async def test_repeated_token_with_its_remaining_lifetime_is_never_sent_expired(jitter: float) -> None:
    """Marketo returns whole seconds down to 0. No request fails, or waits longer than about a second."""
    lifetime = 3600
    secrets = SecretLoader(lambda: credential_of(AUTH))
    secrets.load()
    rig = Rig(secrets=secrets, jitter=lambda: jitter)
    ends = 0.0
    count = 0

    def response(moment: float) -> Reply:
        nonlocal ends, count
        if moment >= ends:
            ends, count = moment + lifetime, count + 1
        return reply({"access_token": f"t{count}", "expires_in": int(ends - moment)})

    rig.endpoint.answer = response
    longest = 0.0
    while rig.loop.now < 2.5 * lifetime:
        grant = rig.source.grant
        if grant is None:
            asking, began = asyncio.create_task(rig.source.obtain()), rig.loop.now
            await settle()
            while not asking.done():
                await rig.loop.advance(0.05)
            grant, longest = await asking, max(longest, rig.loop.now - began)
        assert (token_of(grant), rig.loop.now < ends) == (f"t{count}", True)
        left = ends - rig.loop.now
        await rig.loop.advance(0.1 if left < 5 else 1 if left < 60 else 10)
    assert count == 3
    assert len(rig.endpoint.calls) <= 3 * 12
    assert longest <= 1.05
    await rig.source.close()


async def test_endpoint_that_returns_only_expired_tokens_gets_few_calls() -> None:
    """Four in two seconds, then one for each attempt."""
    secrets = SecretLoader(lambda: credential_of(AUTH))
    secrets.load()
    rig = Rig(secrets=secrets)
    rig.endpoint.answer = lambda moment: reply({"access_token": "t", "expires_in": 0})
    waiting = [asyncio.create_task(rig.source.obtain()) for _ in range(20)]
    await rig.loop.advance(1.9, step=0.1)
    assert not any(waiter.done() for waiter in waiting)
    await rig.loop.advance(0.1)
    for error in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(error, ProblemError)
        assert error.problem.detail == "token endpoint returned a token that has expired"
    for _ in range(30):
        with pytest.raises(ProblemError):
            await rig.source.obtain()
        await rig.loop.advance(0.5)
    assert rig.endpoint.call_times == pytest.approx([0, 0.5, 1, 2, 3, 5, 9])
    assert rig.outcomes() == {"invalid": 7}
    await rig.source.close()


async def test_refresh_token_of_an_expired_token_is_used_next() -> None:
    auth = {**AUTH, "grant": {"type": "refresh_token", "refresh_token": {"env": "SECRET"}}}
    secrets = SecretLoader(lambda: credential_of(auth))
    secrets.load()
    rig = Rig(secrets=secrets)

    def response(moment: float) -> Reply:
        lifetime = 0 if moment < 1 else 600
        return reply({"access_token": "t", "refresh_token": f"r{len(rig.endpoint.calls)}", "expires_in": lifetime})

    rig.endpoint.answer = response
    waiting = asyncio.create_task(rig.source.obtain())
    await rig.loop.advance(1, step=0.5)
    await waiting
    sent = [dict(parse_qsl(call.body.decode()))["refresh_token"] for call in rig.endpoint.calls]
    assert sent[1:] == ["r1", "r2"]
    await rig.source.close()


async def test_rejection_of_an_expired_token_fetches_another(rig: Rig) -> None:
    old = await rig.source.obtain()
    rig.endpoint.lifetime = 100.0
    await rig.loop.advance(900)
    await rig.loop.advance(99)
    assert (rig.source.grant, rig.expiry) == (None, None)
    assert rig.source.report_rejection(old, 401, b"")
    assert token_of(await rig.source.refreshed_after(old)) == "t3"


async def test_token_without_a_refresh_has_no_replacement(rig: Rig) -> None:
    grant = await rig.source.obtain()
    assert await rig.source.refreshed_after(grant) is None
    assert len(rig.endpoint.calls) == 1


@pytest.mark.parametrize("status", [200, 403])
async def test_response_with_a_good_verdict_changes_nothing(rig: Rig, status: int) -> None:
    grant = await rig.source.obtain()
    assert not rig.source.report_rejection(grant, status, b"")
    assert rig.source.grant is grant


async def test_spent_token_is_dropped_without_a_retry(rig: Rig) -> None:
    """The next request fetches another one."""
    grant = await rig.source.obtain()
    assert not rig.source.report_rejection(grant, 500, b"")
    assert (rig.source.grant, rig.expiry) == (None, None)
    assert len(rig.endpoint.calls) == 1
    assert token_of(await rig.source.obtain()) == "t2"
    assert rig.kind.attempts[1].rejected


async def test_tokens_are_dropped_at_most_once_a_minute(rig: Rig) -> None:
    for _ in range(120):
        grant = await rig.source.obtain()
        rig.source.report_rejection(grant, 500, b"")
        await rig.loop.advance(1)
    assert rig.endpoint.call_times == [0, 1, 61]


async def test_spent_older_token_keeps_the_current_one(rig: Rig) -> None:
    old = await rig.source.obtain()
    await rig.loop.advance(900)
    assert not rig.source.report_rejection(old, 500, b"")
    assert token_of(await rig.source.obtain()) == "t2"


async def test_rejection_does_not_exceed_the_rate_limit() -> None:
    rig = Rig(LimitedKind)
    rig.endpoint.lifetime = 2.0
    grant = await rig.source.obtain()
    for _ in range(4):
        await rig.loop.advance(1.95)
        grant = await rig.source.obtain()
    assert len(rig.endpoint.calls) == 5
    assert not rig.source.report_rejection(grant, 401, b"")
    assert len(rig.endpoint.calls) == 5
    await rig.source.close()


async def test_a_forced_refresh_is_logged(rig: Rig) -> None:
    grant = await rig.source.obtain()
    with structlog.testing.capture_logs() as lines:
        rig.source.report_rejection(grant, 401, b"")
        await settle()
    assert [line["event"] for line in lines] == [
        "the upstream rejected the token; it is refreshed",
        "a token was issued",
    ]


async def test_retired_source_does_not_refresh_ahead_of_expiry(rig: Rig) -> None:
    """The next request after expiry fetches another token."""
    grant = await rig.source.obtain()
    rig.source.retire()
    await rig.loop.advance(998)
    assert rig.source.grant is grant
    await rig.loop.advance(1)
    assert (rig.source.grant, len(rig.endpoint.calls)) == (None, 1)
    assert token_of(await rig.source.obtain()) == "t2"
    assert rig.expiry is None


async def test_retired_source_refreshes_a_rejected_token(rig: Rig) -> None:
    grant = await rig.source.obtain()
    rig.source.retire()
    assert rig.source.report_rejection(grant, 401, b"")
    assert token_of(await rig.source.refreshed_after(grant)) == "t2"
    assert rig.outcomes() == {"ok": 1}


async def test_running_refresh_ends_in_a_retired_source(rig: Rig) -> None:
    """Without a metric or another refresh."""
    await rig.source.obtain()
    rig.endpoint.open.clear()
    await rig.loop.advance(900)
    rig.source.retire()
    rig.endpoint.open.set()
    await rig.loop.advance(1)
    assert token_of(await rig.source.obtain()) == "t2"
    await rig.loop.advance(2000, step=10)
    assert (len(rig.endpoint.calls), rig.source.grant, rig.expiry) == (2, None, None)
