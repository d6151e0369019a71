"""The state that a token source takes over from the previous one after a change of the config."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from weakref import ref

import pytest

from sidekey.credentials.base import Credential, Grant, Lineage
from sidekey.credentials.certificates.identity import ClientIdentity
from sidekey.credentials.fields import SecretUnreadable
from sidekey.errors import Problem, ProblemError
from sidekey.snapshot.egress import Egress
from sidekey.snapshot.secret_loader import SecretLoader
from sidekey.snapshot.snapshot import Trust
from sidekey.tokens.source import TokenSource
from support.manual_clock import settle
from support.tokens import LINEAGE, Kind, LimitedKind, Rig, token_of

DOWN = {"outcome": "unreachable", "reason": "token endpoint: it refused the connection"}
RELOADED = "the config was reloaded while the request waited for a token: send the request again"


async def failure(waiting: Any) -> Problem:
    """Return the problem of a failing awaitable."""
    with pytest.raises(ProblemError) as failed:
        await waiting
    return failed.value.problem


def credential_with(rig: Rig, **changes: tuple[str, ...]) -> Kind:
    """Return a credential whose lineage has these changes."""
    return Kind(rig.endpoint, replace(LINEAGE, **changes))


class Certificate:
    """The parts of a certificate loader that a source uses."""

    def __init__(self, fingerprint: str | None) -> None:
        self.identity: ClientIdentity | None = None
        self._fingerprint = fingerprint
        if fingerprint is not None:
            self.read(fingerprint)

    def read(self, fingerprint: str) -> None:
        self.identity = ClientIdentity(b"", b"", fingerprint, 0, 1e12, "", "")


async def test_token_keeps_its_schedule_over_a_change(rig: Rig) -> None:
    """Without a call, even while the endpoint is down."""
    old = await rig.source.obtain()
    await rig.loop.advance(500)
    rig.endpoint.call_error = DOWN
    source = rig.change()
    assert (source.grant, rig.expiry) == (None, 1000)
    assert await source.obtain() is old
    assert source.grant is old
    rig.endpoint.call_error = None
    await rig.loop.advance(400)
    assert rig.endpoint.call_times == [0, 900]
    assert rig.kind.attempts[0].memory == "memory of t1"
    assert token_of(await source.obtain()) == "t2"
    assert rig.expiry == 1900


REFUSED = {"outcome": "refused", "reason": "token endpoint returned 401 invalid_client"}


@pytest.mark.parametrize("traits", [{}, {"single_live_token": True}], ids=str)
async def test_new_secret_obtains_a_token_at_once(traits: dict[str, Any]) -> None:
    """While the endpoint refuses it, the old token serves until it expires, also over further changes."""
    rig = Rig(traits=traits)
    old = await rig.source.obtain()
    rig.endpoint.reply_error = REFUSED
    source = rig.change(credential_with(rig, proof=("wrong",)))
    assert await source.obtain() is old
    assert len(rig.endpoint.calls) == 2
    assert (await failure(source.obtain_for_test())).detail == "token endpoint returned 401 invalid_client"
    source = rig.change(credential_with(rig, proof=("wrong",)))
    assert await source.obtain() is old
    await rig.loop.advance(300, step=1)
    assert source.grant is old
    # It is tried again as after every failure.
    assert 8 < len(rig.endpoint.calls) < 15
    rig.endpoint.reply_error = None
    source = rig.change(credential_with(rig, proof=("right",)))
    assert token_of(await source.obtain()) == f"t{len(rig.endpoint.calls)}"
    await source.obtain_for_test()
    await rig.loop.advance(100, step=1)
    calls = len(rig.endpoint.calls)
    rig.endpoint.reply_error = REFUSED
    source = rig.change(credential_with(rig, proof=("wrong",)))
    await source.obtain()
    await rig.loop.advance(999, step=1)
    assert (await failure(source.obtain())).detail == "token endpoint returned 401 invalid_client"
    assert len(rig.endpoint.calls) > calls
    await rig.close()


async def test_slow_endpoint_delays_requests_only_shortly_after_a_change_of_the_secret(rig: Rig) -> None:
    """Then they use the old token until the new one arrives."""
    old = await rig.source.obtain()
    rig.endpoint.open.clear()
    source = rig.change(credential_with(rig, proof=("another",)))
    waiting = asyncio.create_task(source.obtain())
    await rig.loop.advance(1.9, step=0.1)
    assert not waiting.done()
    await rig.loop.advance(0.2, step=0.1)
    assert await waiting is old
    rig.endpoint.open.set()
    await settle()
    assert token_of(await source.obtain()) == "t2"
    assert len(rig.endpoint.calls) == 2


async def test_a_test_obtains_a_token_unless_the_current_one_is_recent(rig: Rig) -> None:
    """The secret may have been revoked. Requests can still use the current token."""
    await rig.source.obtain_for_test()
    old = rig.source.current
    await rig.source.obtain_for_test()
    assert len(rig.endpoint.calls) == 1
    await rig.loop.advance(61)
    rig.endpoint.reply_error = REFUSED
    for _ in range(2):
        assert (await failure(rig.source.obtain_for_test())).detail == "token endpoint returned 401 invalid_client"
    assert len(rig.endpoint.calls) == 2
    assert rig.source.current is old
    rig.endpoint.reply_error = None
    await rig.loop.advance(2)
    await rig.source.obtain_for_test()
    assert token_of(await rig.source.obtain()) == "t3"


@pytest.mark.parametrize("trait", ["single_live_token", "rotates"])
async def test_a_test_keeps_a_token_that_a_new_one_would_revoke(trait: str) -> None:
    rig = Rig(traits={trait: True})
    await rig.source.obtain_for_test()
    await rig.loop.advance(800)
    await rig.source.obtain_for_test()
    assert len(rig.endpoint.calls) == 1
    await rig.close()


@pytest.mark.parametrize(
    "change",
    [
        {"client": ("another",)},
        {"egress": Egress(Trust("system"))},
        {"egress": Egress(Trust("file", "/ca.pem", "another", "PEM"))},
        {"certificate": "another"},
    ],
    ids=str,
)
async def test_another_client_takes_over_nothing(rig: Rig, change: dict[str, Any]) -> None:
    """A change of the CA or client certificate counts as another client."""
    rig.source = rig.make(
        rig.loaded(rig.kind), egress=Egress(Trust("file", "/ca.pem", "one", "PEM")), certificate=Certificate("one")
    )
    old = await rig.source.obtain()
    previous = rig.source
    kind = credential_with(rig, client=change["client"]) if "client" in change else Kind(rig.endpoint)
    source = rig.change(
        kind,
        egress=change.get("egress", Egress(Trust("file", "/moved.pem", "one", "PEM"))),
        certificate=Certificate(change.get("certificate", "one")),
    )
    assert token_of(await source.obtain()) == "t2"
    assert kind.attempts[0].memory is None
    assert previous.grant is old
    assert previous.report_rejection(old, 401, b"")
    assert token_of(await previous.refreshed_after(old)) == "t3"


async def test_moved_ca_and_certificate_files_change_nothing(rig: Rig) -> None:
    rig.source = rig.make(
        rig.loaded(rig.kind), egress=Egress(Trust("file", "/ca.pem", "one", "PEM")), certificate=Certificate("one")
    )
    old = await rig.source.obtain()
    source = rig.change(egress=Egress(Trust("file", "/moved.pem", "one", "PEM")), certificate=Certificate("one"))
    assert await source.obtain() is old


async def test_another_scope_keeps_the_refresh_token(rig: Rig) -> None:
    """The refresh token of the config may be spent."""
    old = await rig.source.obtain()
    previous, source = rig.source, rig.change(credential_with(rig, token=("another scope",)))
    assert token_of(await source.obtain()) == "t2"
    assert rig.kind.attempts[0].memory == "memory of t1"
    # Requests in flight keep what they had, and nothing is called for them.
    assert await previous.obtain() is previous.grant is old
    assert not previous.report_rejection(old, 401, b"")
    assert await previous.refreshed_after(old) is None
    await rig.loop.advance(999)
    problem = await failure(previous.obtain())
    assert (problem.code, problem.detail) == ("credential_unavailable", RELOADED)
    assert len(rig.endpoint.calls) == 2


async def test_token_with_a_base_url_that_the_new_policy_denies_is_dropped(rig: Rig) -> None:
    """The refresh token stays."""
    rig.endpoint.base_url = "https://api.example.com/rest"
    old = await rig.source.obtain()
    previous, source = rig.source, rig.change(domain="https://*.example.org")
    problem = await failure(source.obtain())
    assert problem.detail.startswith("the base URL that the token endpoint returned is not allowed")
    assert rig.kind.attempts[0].memory == "memory of t1"
    rig.endpoint.base_url = "https://api.example.org/rest"
    await rig.loop.advance(1)
    newer = await source.obtain()
    assert newer.base_url == "https://api.example.org/rest"
    # And the other way round.
    assert previous.grant is old
    assert previous.report_rejection(old, 401, b"")
    assert await previous.refreshed_after(old) is None
    await rig.loop.advance(998)
    assert (await failure(previous.obtain())).detail == RELOADED


async def test_result_of_a_running_attempt_is_taken_over(rig: Rig) -> None:
    """The refresh token is never presented twice."""
    rig.endpoint.open.clear()
    previous = rig.source
    waiting = [asyncio.create_task(previous.obtain()) for _ in range(3)]
    await settle()
    source = rig.change(credential_with(rig, proof=("another",)))
    waiting += [asyncio.create_task(source.obtain()) for _ in range(3)]
    await rig.loop.advance(5)
    assert not any(waiter.done() for waiter in waiting)
    rig.endpoint.open.set()
    assert [token_of(grant) for grant in await asyncio.gather(*waiting)] == ["t1"] * 3 + ["t2"] * 3
    assert len(rig.endpoint.calls) == 2
    assert [attempt.memory for attempt in rig.kind.attempts] == ["memory of t1"]


async def test_memory_of_a_failed_attempt_is_taken_over(rig: Rig) -> None:
    """It may contain the only valid refresh token."""
    rig.endpoint.base_url = "https://api.example.org"
    rig.endpoint.open.clear()
    waiting = asyncio.create_task(rig.source.obtain())
    await settle()
    source = rig.change(credential_with(rig, proof=("another",)), domain="https://*.example.org")
    rig.endpoint.open.set()
    assert (await failure(waiting)).code == "credential_unavailable"
    await source.obtain()
    assert [attempt.memory for attempt in rig.kind.attempts] == ["memory of t1"]


async def test_many_changes_during_one_attempt_make_one_call(rig: Rig) -> None:
    rig.endpoint.open.clear()
    waiting = [asyncio.create_task(rig.source.obtain())]
    for number in range(6):
        await settle()
        source = rig.change()
        if number % 2:
            waiting.append(asyncio.create_task(source.obtain()))
    waiting.append(asyncio.create_task(rig.source.obtain()))
    await settle()
    rig.endpoint.open.set()
    assert {token_of(grant) for grant in await asyncio.gather(*waiting)} == {"t1"}
    assert len(rig.endpoint.calls) == 1
    assert all(source.grant is not None for source in rig.sources[::2])


async def test_request_in_flight_keeps_no_intermediate_sources_alive(rig: Rig) -> None:
    """It depends on the newest source only."""
    old, previous = await rig.source.obtain(), rig.source
    between: list[ref[TokenSource]] = []
    for _ in range(1000):
        await rig.change().obtain()
        between.append(ref(rig.source))
        rig.sources.clear()
    assert [item() for item in between if item() is not None] == [rig.source]
    assert previous.report_rejection(old, 401, b"")
    assert token_of(await previous.refreshed_after(old)) == "t2"
    await rig.loop.advance(1000)
    assert token_of(await previous.obtain()) == "t3"


async def test_request_of_a_previous_config_gets_no_token_of_another_client(rig: Rig) -> None:
    """A token of another scope is not used either."""
    rig.endpoint.open.clear()
    first = asyncio.create_task(rig.source.obtain())
    await settle()
    second = asyncio.create_task(rig.change().obtain())
    await settle()
    third = asyncio.create_task(rig.change(credential_with(rig, client=("another",))).obtain())
    await settle()
    rig.endpoint.open.set()
    assert token_of(await first) == "t1"
    assert (await failure(second)).detail == RELOADED
    assert token_of(await third) == "t2"


async def test_retired_source_passes_rejections_to_its_successor(rig: Rig) -> None:
    """The request in flight is sent again with the new token. Both sources share one renewal interval."""
    old = await rig.source.obtain()
    previous, source = rig.source, rig.change()
    assert await source.obtain() is old
    assert previous.report_rejection(old, 401, b"")
    newer = await previous.refreshed_after(old)
    assert (token_of(newer), previous.grant, source.grant) == ("t2", newer, newer)
    assert not source.report_rejection(newer, 401, b"")
    assert previous.report_rejection(old, 401, b"")
    assert len(rig.endpoint.calls) == 2
    # What was borrowed ends there as well.
    await rig.loop.advance(999)
    assert previous.grant is None
    assert token_of(await previous.obtain()) == token_of(await source.obtain())
    assert previous.grant is source.grant


async def test_the_time_of_forced_refreshes_is_taken_over(rig: Rig) -> None:
    """Rejections cause one call a minute, however often the config changes."""
    grant = await rig.source.obtain()
    for _ in range(119):
        source = rig.change()
        grant = await source.obtain()
        if source.report_rejection(grant, 401, b""):
            grant = await source.refreshed_after(grant) or grant
        await rig.loop.advance(1)
    assert rig.endpoint.call_times == [0, 0, 60]


async def test_rejection_of_the_token_is_taken_over(rig: Rig) -> None:
    """A kind may use another flow then."""
    old = await rig.source.obtain()
    rig.source.report_rejection(old, 500, b"")
    source = rig.change()
    await source.obtain()
    assert [attempt.rejected for attempt in rig.kind.attempts] == [True]


async def test_pause_of_the_endpoint_is_taken_over(rig: Rig) -> None:
    """A change of secret, client or scope ends it."""
    rig.endpoint.reply_error = {"outcome": "rate_limited", "reason": "token endpoint returned 429", "retry_after": 3600}
    await failure(rig.source.obtain())
    await rig.loop.advance(600)
    problem = await failure(rig.change().obtain())
    assert (problem.detail, dict(problem.headers)) == ("token endpoint returned 429", {"Retry-After": "3000"})
    assert len(rig.endpoint.calls) == 1
    for calls, part in enumerate(("proof", "token", "client"), 2):
        await failure(rig.change(credential_with(rig, **{part: ("another",)})).obtain())
        assert len(rig.endpoint.calls) == calls


async def test_rate_limit_is_taken_over_by_another_client() -> None:
    """The platform limits the account."""
    rig = Rig(LimitedKind)
    rig.endpoint.reply_error = {"outcome": "refused", "reason": "login returned 400"}
    for number in range(20):
        changed: Lineage = replace(LINEAGE, proof=(str(number),), client=(str(number // 3),))
        await failure(rig.change(LimitedKind(rig.endpoint, changed)).obtain())
    assert len(rig.endpoint.calls) == 5
    problem = await failure(rig.change(LimitedKind(rig.endpoint)).obtain())
    assert problem.detail == "token endpoint skipped: limit of 5 calls a minute reached"
    await rig.close()


async def test_source_with_unreadable_secrets_takes_over_later(rig: Rig) -> None:
    """It makes no call before: the refresh token may be spent."""
    old = await rig.source.obtain()
    readable = False

    def read() -> Credential:
        if not readable:
            raise SecretUnreadable(((("auth", "client_secret"), "the file does not exist"),))
        return Kind(rig.endpoint)

    source = rig.change(secrets=SecretLoader(read))
    assert "the file does not exist" in (await failure(source.obtain())).detail
    # Another change before that leaves it to the next.
    source = rig.change(secrets=SecretLoader(read))
    readable = True
    assert await source.obtain() is old
    assert len(rig.endpoint.calls) == 1


async def test_previous_source_without_secrets_makes_no_call_later(rig: Rig) -> None:
    """Otherwise both sources would present the same refresh token."""
    readable = False

    def read() -> Credential:
        if not readable:
            raise SecretUnreadable(((("auth", "client_secret"), "does not exist"),))
        return Kind(rig.endpoint)

    previous = rig.source = rig.make(SecretLoader(read))
    await failure(previous.obtain())
    rig.endpoint.open.clear()
    waiting = [asyncio.create_task(rig.change().obtain())]
    await settle()
    readable = True
    await rig.loop.advance(1)
    waiting.append(asyncio.create_task(previous.obtain()))
    await settle()
    rig.endpoint.open.set()
    assert token_of(await waiting[0]) == "t1"
    assert (await failure(waiting[1])).detail == RELOADED
    assert len(rig.endpoint.calls) == 1


async def test_source_waits_for_its_certificate_before_it_takes_over(rig: Rig) -> None:
    rig.source = rig.make(rig.loaded(rig.kind), certificate=Certificate("one"))
    old = await rig.source.obtain()
    pending = Certificate(None)
    fails = True

    async def ready() -> None:
        if fails:
            raise ProblemError(Problem("credential_unavailable", "not fetched yet", headers=(("Retry-After", "9"),)))
        pending.read("one")

    source = rig.change(certificate=pending, ready=ready)
    problem = await failure(source.obtain())
    assert (problem.detail, problem.headers) == ("not fetched yet", ())
    fails = False
    assert await source.obtain() is old


async def test_unreadable_ca_file_keeps_the_state_for_the_next_change(rig: Rig) -> None:
    trust = Trust("file", "/ca.pem", "one", "PEM")
    rig.source = rig.make(rig.loaded(rig.kind), egress=Egress(trust))
    old = await rig.source.obtain()
    rig.endpoint.call_error = DOWN
    await failure(rig.change(egress=Egress(Trust("file", "/ca.pem"))).obtain())
    assert await rig.change(egress=Egress(trust)).obtain() is old


async def test_expired_token_is_not_taken_over(rig: Rig) -> None:
    """Its memory is."""
    await rig.source.obtain()
    await rig.loop.advance(899)
    rig.source.retire()
    await rig.loop.advance(100)
    source = rig.change()
    assert rig.expiry is None
    assert token_of(await source.obtain()) == "t2"
    assert [attempt.memory for attempt in rig.kind.attempts] == ["memory of t1"]


ONE = Grant(headers=(("X-Tenant", "one"),), query=(("key", "k1"),), secrets=(b"k1",))
TWO = Grant(headers=(("X-Tenant", "two"),))


def adding(rig: Rig, supplement: Grant | None) -> TokenSource:
    """Return the source after a change of the supplement only."""
    return rig.change(rig.kind, secrets=rig.loaded(rig.kind, supplement))


async def test_token_is_kept_after_a_change_of_its_supplement(rig: Rig) -> None:
    """Requests get the token with the new supplement at once."""
    bare = await rig.source.obtain()
    for supplement in (ONE, TWO):
        grant = await adding(rig, supplement).obtain()
        assert grant.original is bare
        assert grant.headers == (*supplement.headers, *bare.headers)
        assert grant.query == supplement.query
        assert grant.secrets == supplement.secrets
        assert rig.source.grant is await rig.source.obtain() is grant
    assert await adding(rig, None).obtain() is bare
    await adding(rig, ONE).obtain()
    await rig.loop.advance(900)
    renewed = await rig.source.obtain()
    assert (token_of(renewed), renewed.headers[0]) == ("t2", ("X-Tenant", "one"))
    assert [attempt.memory for attempt in rig.kind.attempts] == [None, "memory of t1"]


async def test_rejection_counts_for_a_token_with_another_supplement(rig: Rig) -> None:
    """A request in flight was sent with what the former config adds: its token is the one that is held."""
    old = await adding(rig, ONE).obtain()
    previous, source = rig.source, adding(rig, TWO)
    assert (await source.obtain()).headers[0] == ("X-Tenant", "two")
    assert previous.report_rejection(old, 401, b"")
    newer = await previous.refreshed_after(old)
    assert newer is not None
    assert (token_of(newer), newer.headers[0]) == ("t2", ("X-Tenant", "one"))
    assert len(rig.endpoint.calls) == 2
    assert (await source.obtain()).headers == (("X-Tenant", "two"), ("Authorization", "Bearer t2"))
    assert await previous.obtain() is await previous.obtain() is newer


async def test_spent_token_is_dropped_with_another_supplement(rig: Rig) -> None:
    """A response to a previous token does not drop it."""
    old = await adding(rig, ONE).obtain()
    source = adding(rig, TWO)
    await source.obtain()
    assert not source.report_rejection(old, 500, b"")
    assert source.current is None
    await rig.loop.advance(1000)
    assert token_of(await source.obtain()) == "t2"
    assert not source.report_rejection(old, 500, b"")
    assert source.current is not None
