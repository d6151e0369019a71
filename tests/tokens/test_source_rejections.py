"""tokens/source.py: what an upstream's refusal sets off, and how often."""

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


async def test_a_refusal_of_the_current_token_refreshes_it_once(rig: Rig) -> None:
    """The old one is not handed out any more: all who ask get the newer one, and the kind knows why it is asked."""
    old = await rig.source.obtain()
    rig.endpoint.open.clear()
    assert rig.source.report_rejection(old, 401, b"")
    assert rig.source.report_rejection(old, 401, b"")
    await settle()
    assert rig.source.grant is None
    waiting = [asyncio.create_task(rig.source.refreshed_after(old)) for _ in range(20)]
    waiting += [asyncio.create_task(rig.source.obtain()) for _ in range(20)]
    await rig.loop.advance(1.9)
    assert not any(each.done() for each in waiting)
    rig.endpoint.open.set()
    assert {token_of(grant) for grant in await asyncio.gather(*waiting)} == {"t2"}
    assert token_of(rig.source.grant) == "t2"
    assert len(rig.endpoint.calls) == 2
    assert [attempt.rejected for attempt in rig.kind.attempts] == [False, True]


async def test_requests_wait_two_seconds_for_the_successor_of_a_refused_token(rig: Rig) -> None:
    """The refusal may be the resource's own: then the old one serves, and the next refusal makes nobody wait again."""
    old = await rig.source.obtain()
    rig.endpoint.open.clear()
    assert rig.source.report_rejection(old, 401, b"")
    waiting = [asyncio.create_task(rig.source.obtain()) for _ in range(20)]
    await rig.loop.advance(1.99)
    assert not any(each.done() for each in waiting)
    await rig.loop.advance(0.01)
    assert [await each for each in waiting] == [old] * 20
    assert rig.source.grant is old
    assert rig.source.report_rejection(old, 401, b"")
    assert rig.source.grant is old
    await rig.loop.advance(1)
    rig.endpoint.open.set()
    await settle()
    assert token_of(await rig.source.obtain()) == "t2"
    assert len(rig.endpoint.calls) == 2


async def test_a_refresh_that_fails_ends_the_wait(rig: Rig) -> None:
    """A token that has not expired is used rather than none."""
    old = await rig.source.obtain()
    rig.endpoint.open.clear()
    assert rig.source.report_rejection(old, 401, b"")
    waiting = asyncio.create_task(rig.source.obtain())
    await rig.loop.advance(0.5)
    assert not waiting.done()
    rig.endpoint.down = {"outcome": "refused", "reason": "token endpoint returned 401 invalid_client"}
    rig.endpoint.open.set()
    assert await waiting is old
    assert rig.source.grant is old


async def test_a_refusal_during_a_background_refresh_makes_requests_wait_for_that(rig: Rig) -> None:
    """Once in a renewal interval, as for any other."""
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
async def test_the_config_says_how_often_a_refusal_may_force_a_refresh(interval: float) -> None:
    """`renewal_interval`, from one forced refresh to the next."""
    rig = Rig(traits={"renewal_interval": interval})
    grant = await rig.source.obtain()
    for _ in range(3):
        assert rig.source.report_rejection(grant, 401, b"")
        grant = await rig.source.refreshed_after(grant) or grant
        await rig.loop.advance(interval - 0.5)
        assert not rig.source.report_rejection(grant, 401, b"")
        await rig.loop.advance(0.5)
    assert rig.endpoint.moments == [0, 0, interval, 2 * interval]
    await rig.source.close()


async def test_the_one_live_token_is_refreshed_when_it_ends_and_not_before() -> None:
    """A new one would end the one that requests have just been sent with."""
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


async def test_the_one_live_token_is_not_handed_out_while_another_is_fetched() -> None:
    """However long that takes; where it fails the old one is tried again."""
    rig = Rig(traits={"single_live_token": True})
    old = await rig.source.obtain()
    rig.endpoint.open.clear()
    assert rig.source.report_rejection(old, 401, b"")
    waiting = asyncio.create_task(rig.source.obtain())
    await rig.loop.advance(9.9)
    assert not waiting.done()
    rig.endpoint.down = {"outcome": "timeout", "reason": "token endpoint did not answer in time"}
    rig.endpoint.open.set()
    assert await waiting is old
    await rig.source.close()


async def test_a_storm_of_refusals_makes_one_call_a_minute(rig: Rig) -> None:
    """An upstream that refuses every token does not drive the endpoint."""
    grant = await rig.source.obtain()
    replays = 0
    for _ in range(180):
        for _ in range(10):
            if rig.source.report_rejection(grant, 401, b""):
                replays += 1
                grant = await rig.source.refreshed_after(grant) or grant
        await rig.loop.advance(1)
    assert replays == 3
    assert rig.endpoint.moments == [0, 0, 60, 120]


async def test_a_refusal_of_an_older_token_calls_nobody(rig: Rig) -> None:
    """The newer one is there already, active or not."""
    old = await rig.source.obtain()
    await rig.loop.advance(900)
    assert rig.source.grant is None
    assert rig.source.report_rejection(old, 401, b"")
    newer = await rig.source.refreshed_after(old)
    assert token_of(newer) == "t2"
    assert rig.source.grant is newer
    assert len(rig.endpoint.calls) == 2


async def test_a_refusal_during_a_background_refresh_waits_for_that(rig: Rig) -> None:
    """One call at a time; the newer token is on its way."""
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


async def test_a_refresh_that_fails_leaves_the_old_token_and_is_not_tried_again_for_a_minute(rig: Rig) -> None:
    """`refreshed_after` has none and raises nothing."""
    old = await rig.source.obtain()
    rig.endpoint.down = {"outcome": "timeout", "reason": "token endpoint did not respond in time"}
    assert rig.source.report_rejection(old, 401, b"")
    assert await rig.source.refreshed_after(old) is None
    assert await rig.source.obtain() is old
    await rig.loop.advance(59)
    assert not rig.source.report_rejection(old, 401, b"")
    assert len(rig.endpoint.calls) == 2
    await rig.loop.advance(1)
    rig.endpoint.down = None
    assert rig.source.report_rejection(old, 401, b"")
    assert token_of(await rig.source.refreshed_after(old)) == "t3"
    assert [attempt.rejected for attempt in rig.kind.attempts] == [False, True, True]


async def test_a_defect_in_a_refresh_is_no_reason_to_fail_the_caller(rig: Rig) -> None:
    """It is reported, and the response that was held goes to the caller."""
    old = await rig.source.obtain()
    rig.endpoint.defect = True
    assert rig.source.report_rejection(old, 401, b"")
    assert await rig.source.refreshed_after(old) is None
    assert len(rig.defects) == 1


async def test_the_back_off_stands_above_a_refusal(rig: Rig) -> None:
    """An endpoint that asked for time gets it."""
    old = await rig.source.obtain()
    rig.endpoint.down = {"outcome": "rate_limited", "reason": "token endpoint answered 429", "retry_after": 50}
    await rig.loop.advance(900)
    assert not rig.source.report_rejection(old, 401, b"")
    assert len(rig.endpoint.calls) == 2


async def test_the_same_token_again_is_none_that_is_newer(rig: Rig) -> None:
    """Some endpoints answer the token they gave before until it expires: a replay with it would be refused again."""
    rig.endpoint.token = "same"
    old = await rig.source.obtain()
    assert rig.source.report_rejection(old, 401, b"")
    assert await rig.source.refreshed_after(old) is None
    assert not rig.source.report_rejection(old, 401, b"")
    assert len(rig.endpoint.calls) == 2


@pytest.mark.parametrize("jitter", [0.0, 0.3, 0.5, 0.8, 0.99])
async def test_one_token_that_is_answered_with_what_is_left_of_it_is_never_sent_expired(jitter: float) -> None:
    """As Marketo does, in whole seconds, down to 0: few calls, and no caller fails, or waits for more than a second."""
    life = 3600
    secrets = SecretLoader(lambda: credential_of(AUTH))
    secrets.load()
    rig = Rig(secrets=secrets, jitter=lambda: jitter)
    ends = 0.0
    made = 0

    def answer(moment: float) -> Reply:
        nonlocal ends, made
        if moment >= ends:
            ends, made = moment + life, made + 1
        return reply({"access_token": f"t{made}", "expires_in": int(ends - moment)})

    rig.endpoint.answer = answer
    longest = 0.0
    while rig.loop.now < 2.5 * life:
        grant = rig.source.grant
        if grant is None:
            asking, began = asyncio.create_task(rig.source.obtain()), rig.loop.now
            await settle()
            while not asking.done():
                await rig.loop.advance(0.05)
            grant, longest = await asking, max(longest, rig.loop.now - began)
        assert (token_of(grant), rig.loop.now < ends) == (f"t{made}", True)
        left = ends - rig.loop.now
        await rig.loop.advance(0.1 if left < 5 else 1 if left < 60 else 10)
    assert made == 3
    assert len(rig.endpoint.calls) <= 3 * 12
    assert longest <= 1.05
    await rig.source.close()


async def test_an_endpoint_that_returns_nothing_but_ended_tokens_gets_few_calls() -> None:
    """Four in two seconds while the callers wait; after that one an attempt, by back-off."""
    secrets = SecretLoader(lambda: credential_of(AUTH))
    secrets.load()
    rig = Rig(secrets=secrets)
    rig.endpoint.answer = lambda moment: reply({"access_token": "t", "expires_in": 0})
    waiting = [asyncio.create_task(rig.source.obtain()) for _ in range(20)]
    await rig.loop.advance(1.9, step=0.1)
    assert not any(each.done() for each in waiting)
    await rig.loop.advance(0.1)
    for each in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(each, ProblemError)
        assert each.problem.detail == "token endpoint returned a token that has expired"
    for _ in range(30):
        with pytest.raises(ProblemError):
            await rig.source.obtain()
        await rig.loop.advance(0.5)
    assert rig.endpoint.moments == pytest.approx([0, 0.5, 1, 2, 3, 5, 9])
    assert rig.outcomes() == {"invalid": 7}
    await rig.source.close()


async def test_a_refresh_token_that_came_with_an_ended_token_is_the_one_that_is_used_next() -> None:
    """It has replaced the one before, whatever came with it."""
    auth = {**AUTH, "grant": {"type": "refresh_token", "refresh_token": {"env": "SECRET"}}}
    secrets = SecretLoader(lambda: credential_of(auth))
    secrets.load()
    rig = Rig(secrets=secrets)

    def answer(moment: float) -> Reply:
        life = 0 if moment < 1 else 600
        return reply({"access_token": "t", "refresh_token": f"r{len(rig.endpoint.calls)}", "expires_in": life})

    rig.endpoint.answer = answer
    waiting = asyncio.create_task(rig.source.obtain())
    await rig.loop.advance(1, step=0.5)
    await waiting
    sent = [dict(parse_qsl(call.body.decode()))["refresh_token"] for call in rig.endpoint.calls]
    assert sent[1:] == ["r1", "r2"]
    await rig.source.close()


async def test_a_refusal_of_a_token_that_has_ended_since_fetches_another(rig: Rig) -> None:
    """The request was under way when it ended."""
    old = await rig.source.obtain()
    rig.endpoint.life = 100.0
    await rig.loop.advance(900)
    await rig.loop.advance(99)
    assert (rig.source.grant, rig.expiry) == (None, None)
    assert rig.source.report_rejection(old, 401, b"")
    assert token_of(await rig.source.refreshed_after(old)) == "t3"


async def test_without_a_refresh_there_is_nothing_newer(rig: Rig) -> None:
    """Asked about the token that is held."""
    grant = await rig.source.obtain()
    assert await rig.source.refreshed_after(grant) is None
    assert len(rig.endpoint.calls) == 1


@pytest.mark.parametrize("status", [200, 403])
async def test_a_response_that_says_nothing_of_the_token_changes_nothing(rig: Rig, status: int) -> None:
    """The kind's verdict decides."""
    grant = await rig.source.obtain()
    assert not rig.source.report_rejection(grant, status, b"")
    assert rig.source.grant is grant


async def test_a_spent_token_is_dropped_without_a_replay(rig: Rig) -> None:
    """The next request fetches another, and the kind knows why."""
    grant = await rig.source.obtain()
    assert not rig.source.report_rejection(grant, 500, b"")
    assert (rig.source.grant, rig.expiry) == (None, None)
    assert len(rig.endpoint.calls) == 1
    assert token_of(await rig.source.obtain()) == "t2"
    assert rig.kind.attempts[1].rejected


async def test_tokens_are_dropped_once_a_minute_at_most(rig: Rig) -> None:
    """An upstream that answers 500 to everything does not drive the endpoint either."""
    for _ in range(120):
        grant = await rig.source.obtain()
        rig.source.report_rejection(grant, 500, b"")
        await rig.loop.advance(1)
    assert rig.endpoint.moments == [0, 1, 61]


async def test_an_older_token_that_is_spent_leaves_the_current_one(rig: Rig) -> None:
    """A late response."""
    old = await rig.source.obtain()
    await rig.loop.advance(900)
    assert not rig.source.report_rejection(old, 500, b"")
    assert token_of(await rig.source.obtain()) == "t2"


async def test_the_limit_of_calls_stands_above_a_refusal() -> None:
    """With none left in this minute the response passes."""
    rig = Rig(LimitedKind)
    rig.endpoint.life = 2.0
    grant = await rig.source.obtain()
    for _ in range(4):
        await rig.loop.advance(1.95)
        grant = await rig.source.obtain()
    assert len(rig.endpoint.calls) == 5
    assert not rig.source.report_rejection(grant, 401, b"")
    assert len(rig.endpoint.calls) == 5
    await rig.source.close()


async def test_a_forced_refresh_is_logged(rig: Rig) -> None:
    """An operator sees why there are more calls than the tokens' lives ask for."""
    grant = await rig.source.obtain()
    with structlog.testing.capture_logs() as lines:
        rig.source.report_rejection(grant, 401, b"")
        await settle()
    assert [line["event"] for line in lines] == [
        "the upstream rejected the token; it is refreshed",
        "a token was issued",
    ]


async def test_a_retired_source_refreshes_nothing_ahead_of_its_end(rig: Rig) -> None:
    """It hands the token out to the end; who asks then has another one called for."""
    grant = await rig.source.obtain()
    rig.source.retire()
    await rig.loop.advance(998)
    assert rig.source.grant is grant
    await rig.loop.advance(1)
    assert (rig.source.grant, len(rig.endpoint.calls)) == (None, 1)
    assert token_of(await rig.source.obtain()) == "t2"
    assert rig.expiry is None


async def test_a_retired_source_refreshes_what_an_upstream_refused(rig: Rig) -> None:
    """The request in flight is sent once more, as it would have been."""
    grant = await rig.source.obtain()
    rig.source.retire()
    assert rig.source.report_rejection(grant, 401, b"")
    assert token_of(await rig.source.refreshed_after(grant)) == "t2"
    assert rig.outcomes() == {"ok": 1}


async def test_a_refresh_under_way_ends_in_a_retired_source(rig: Rig) -> None:
    """Nothing of it is told, and none follows."""
    await rig.source.obtain()
    rig.endpoint.open.clear()
    await rig.loop.advance(900)
    rig.source.retire()
    rig.endpoint.open.set()
    await rig.loop.advance(1)
    assert token_of(await rig.source.obtain()) == "t2"
    await rig.loop.advance(2000, step=10)
    assert (len(rig.endpoint.calls), rig.source.grant, rig.expiry) == (2, None, None)
