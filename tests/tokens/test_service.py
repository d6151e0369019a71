"""The token sources of a process, with calls to a real endpoint and changes of the config."""

from __future__ import annotations

import asyncio
import gc
import weakref
from dataclasses import replace

import pytest

from sidekey.credentials.base import Call, CredentialTraits, Grant, InjectionPoints, Issued, Lineage, Verdict
from sidekey.credentials.certificates.identity import ClientIdentity, IdentitySource
from sidekey.errors import Problem, ProblemError
from sidekey.network.dial import Dialer
from sidekey.network.fetch import Fetcher
from sidekey.observe.metrics import Metrics
from sidekey.policy.targets import Policy
from sidekey.snapshot.egress import Egress
from sidekey.snapshot.secret_loader import SecretLoader
from sidekey.snapshot.snapshot import Integration, NetworkRules, Snapshot
from sidekey.tokens.flow import AuthFlow
from sidekey.tokens.ledger import Ledger, NoLedger
from sidekey.tokens.service import Tokens
from support.certificate_files import client_certificate_of, identity_of, require_client_certificate, valid_now
from support.certificates import IssuedCertificate as ClientCertificate
from support.dialling import HOSTS, LOOPBACK
from support.manual_clock import settle
from support.private_ca import Authority
from support.raw_connection import RawConnection
from support.shared_tokens import ScriptedLedger, SharedState
from support.upstream import OK, RawUpstream, respond_with


class Kind:
    """One GET; the response's body is the token."""

    calls_a_minute = None

    def __init__(self, port: int, client: str = "one") -> None:
        self.lineage = Lineage((port, client), (), ())
        self._url = f"https://up.test:{port}/token"

    def obtain(self, attempt: object) -> AuthFlow:
        reply = yield Call("token endpoint", "GET", self._url)
        return Issued(Grant((("Authorization", f"Bearer {reply.body.decode()}"),)), 600)

    def verdict(self, status: int, body: bytes | None) -> Verdict:
        return Verdict.GOOD


def integration(ca: Authority, port: int, client: str = "one") -> Integration:
    secrets = SecretLoader(lambda: Kind(port, client))
    secrets.load()
    traits = CredentialTraits(InjectionPoints(("Authorization",)), calls=True)
    return Integration("crm", "oauth2", Policy(), None, secrets, traits, Egress(ca.trust, LOOPBACK))


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def tokens(metrics: Metrics) -> Tokens:
    """Rules that allow nothing private by themselves."""
    return build_tokens(metrics, None)


def build_tokens(metrics: Metrics, certificate: IdentitySource | None, ledger: Ledger | None = None) -> Tokens:
    fetcher = Fetcher(Dialer(NetworkRules(hosts=HOSTS)), 16)
    return Tokens(fetcher, metrics, lambda _: "d1", identity_of=lambda _: certificate, ledger=ledger)


class Certificate:
    """An identity source that has none until it is asked for, or never."""

    def __init__(self, issued: ClientCertificate | None) -> None:
        self.identity: ClientIdentity | None = None
        self._issued = issued

    async def obtain(self) -> ClientIdentity:
        if self._issued is None:
            headers = (("Retry-After", "30"),)
            raise ProblemError(
                Problem("credential_unavailable", "it expired", error="proxy_configuration_error", headers=headers)
            )
        self.identity = identity_of(self._issued)
        return self.identity


async def test_call_uses_the_integrations_trust_and_private_addresses(
    tokens: Tokens, metrics: Metrics, ca: Authority
) -> None:
    async with RawUpstream(respond_with(OK), ssl_context=ca.server_context("up.test")) as upstream:
        crm = integration(ca, upstream.port)
        source = tokens.source(crm)
        assert tokens.source(crm) is source
        assert (await source.obtain()).headers == (("Authorization", "Bearer ok"),)
        assert (len(upstream.requests), dict(metrics.calls)) == (1, {("crm", "ok"): 1})
    await tokens.close()
    assert metrics.expiries == {}


async def test_endpoint_is_not_trusted_without_the_integrations_ca(tokens: Tokens, ca: Authority) -> None:
    async with RawUpstream(ssl_context=ca.server_context("up.test")) as upstream:
        source = tokens.source(replace(integration(ca, upstream.port), egress=Egress(allow_private=LOOPBACK)))
        with pytest.raises(ProblemError) as failed:
            await source.obtain()
    assert failed.value.problem.detail == "token endpoint: its certificate is refused: its issuer is not trusted"
    await tokens.close()


async def test_close_cancels_calls_tasks_and_timers(tokens: Tokens, ca: Authority) -> None:

    async def silent(connection: RawConnection) -> None:
        await connection.request()

    async with RawUpstream(silent, ssl_context=ca.server_context("up.test")) as upstream:
        waiting = asyncio.create_task(tokens.source(integration(ca, upstream.port)).obtain())
        connection = await upstream.connection()
        await tokens.close()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await connection.until_lost()


async def test_endpoint_receives_the_client_certificate(metrics: Metrics, ca: Authority) -> None:
    """RFC 8705 2 and 3: the current certificate, fetched if necessary."""
    first, second = valid_now("first"), valid_now("second")
    context = require_client_certificate(ca.server_context("up.test"), first, second)
    certificate = Certificate(first)
    tokens = build_tokens(metrics, certificate)
    async with RawUpstream(respond_with(OK), ssl_context=context) as upstream:
        source = tokens.source(integration(ca, upstream.port))
        await source.obtain()
        certificate.identity = identity_of(second)
        await tokens.close()
        await source.obtain()
        assert [client_certificate_of(connection) for connection in upstream.connections] == [first.der, second.der]
    await tokens.close()


async def test_missing_certificate_prevents_the_call(metrics: Metrics, ca: Authority) -> None:
    """The problem is the certificate's, without its Retry-After."""
    tokens = build_tokens(metrics, Certificate(None))
    async with RawUpstream(ssl_context=ca.server_context("up.test")) as upstream:
        with pytest.raises(ProblemError) as failed:
            await tokens.source(integration(ca, upstream.port)).obtain()
        assert upstream.connections == []
    problem = failed.value.problem
    assert (problem.detail, problem.error, problem.headers) == ("it expired", "proxy_configuration_error", ())
    assert dict(metrics.calls) == {}
    await tokens.close()


def serve(tokens: Tokens, *integrations: Integration) -> None:
    """Serve these from now on."""
    tokens.prepare(Snapshot(integrations={item.id: item for item in integrations}))()


async def test_prepare_changes_nothing_before_the_commit(tokens: Tokens, metrics: Metrics, ca: Authority) -> None:
    """Another part may refuse the config after `prepare`."""
    async with RawUpstream(ssl_context=ca.server_context("up.test")) as upstream:
        previous, latter = (integration(ca, upstream.port) for _ in range(2))
        serve(tokens, previous)
        source = tokens.source(previous)
        grant = await source.obtain()
        tasks = asyncio.all_tasks()
        commit = tokens.prepare(Snapshot(integrations={"crm": latter}))
        assert (tokens.source(previous), source.grant, asyncio.all_tasks()) == (source, grant, tasks)
        assert set(metrics.expiries) == {("crm", "token")}
        commit()
        assert (source.grant, metrics.expiries) == (grant, {})
        assert tokens.source(latter) is not source
    await tokens.close()


async def test_unchanged_integration_keeps_its_token(tokens: Tokens, metrics: Metrics, ca: Authority) -> None:
    async with RawUpstream(ssl_context=ca.server_context("up.test")) as upstream:
        crm, other = integration(ca, upstream.port), replace(integration(ca, upstream.port), id="other")
        serve(tokens, crm)
        source = tokens.source(crm)
        grant = await source.obtain()
        serve(tokens, crm, other)
        assert tokens.source(crm) is source
        assert source.grant is grant
        assert len(metrics.expiries) == len(upstream.requests) == 1
    await tokens.close()


async def test_integration_that_is_built_later_keeps_its_token(tokens: Tokens, ca: Authority) -> None:
    """The resolved integration is another object than the loaded one."""
    async with RawUpstream(ssl_context=ca.server_context("up.test")) as upstream:
        loaded = integration(ca, upstream.port)
        serve(tokens, loaded)
        whole = replace(loaded, description="built whole")
        source = tokens.source(whole)
        serve(tokens, loaded)
        assert tokens.source(whole) is source
    await tokens.close()


async def test_changed_integration_of_the_same_client_keeps_its_token(
    tokens: Tokens, metrics: Metrics, ca: Authority
) -> None:
    """Over several changes, also without requests in between; another integration never gets the token."""
    async with RawUpstream(ssl_context=ca.server_context("up.test")) as upstream:
        first, second, third, fourth = (integration(ca, upstream.port) for _ in range(4))
        serve(tokens, first)
        grant = await tokens.source(first).obtain()
        serve(tokens, second)
        assert await tokens.source(second).obtain() is grant
        serve(tokens, third)
        assert metrics.expiries == {}
        serve(tokens, fourth, replace(fourth, id="other"))
        assert await tokens.source(replace(fourth, id="other")).obtain() is not grant
        assert await tokens.source(fourth).obtain() is grant
        assert set(metrics.expiries) == {("crm", "token"), ("other", "token")}
        assert dict(metrics.calls) == {("crm", "ok"): 1, ("other", "ok"): 1}
    await tokens.close()


async def test_a_token_does_not_outlive_its_integration(tokens: Tokens, ca: Authority) -> None:
    """An integration that was removed, or needed no token for a while, starts without one."""
    async with RawUpstream(ssl_context=ca.server_context("up.test")) as upstream:
        first, second, third = (integration(ca, upstream.port) for _ in range(3))
        serve(tokens, first)
        grant = await tokens.source(first).obtain()
        serve(tokens)
        serve(tokens, second)
        newer = await tokens.source(second).obtain()
        assert newer is not grant
        serve(tokens, replace(second, traits=second.traits._replace(calls=False)))
        serve(tokens, third)
        assert await tokens.source(third).obtain() is not newer
    await tokens.close()


async def test_changed_client_requests_its_own_token(tokens: Tokens, metrics: Metrics, ca: Authority) -> None:
    """Requests in flight keep the previous token."""
    async with RawUpstream(ssl_context=ca.server_context("up.test")) as upstream:
        previous, latter = (integration(ca, upstream.port, client) for client in ("one", "two"))
        serve(tokens, previous)
        old = tokens.source(previous)
        grant = await old.obtain()
        serve(tokens, latter)
        assert metrics.expiries == {}
        assert old.grant is await old.obtain() is grant
        new = tokens.source(latter)
        assert await new.obtain() is not grant
        assert set(metrics.expiries) == {("crm", "token")}
        serve(tokens)
        assert metrics.expiries == {}
    await tokens.close()


async def test_waiting_request_gets_its_token_despite_a_change(tokens: Tokens, metrics: Metrics, ca: Authority) -> None:
    """No metric reports it."""
    upstream = RawUpstream(respond_with(), ssl_context=ca.server_context("up.test"))
    async with upstream:
        previous = integration(ca, upstream.port)
        serve(tokens, previous)
        waiting = asyncio.create_task(tokens.source(previous).obtain())
        connection = await upstream.connection()
        await connection.request()
        serve(tokens)
        metrics.prepare(Snapshot(integrations={}))()
        await connection.send(OK)
        assert (await waiting).headers == (("Authorization", "Bearer ok"),)
        assert (metrics.calls, metrics.expiries) == ({}, {})
    await tokens.close()


async def test_close_cancels_calls_of_retired_sources(tokens: Tokens, ca: Authority) -> None:
    async with RawUpstream(respond_with(), ssl_context=ca.server_context("up.test")) as upstream:
        previous = integration(ca, upstream.port)
        serve(tokens, previous)
        waiting = asyncio.create_task(tokens.source(previous).obtain())
        await (await upstream.connection()).request()
        serve(tokens)
        await tokens.close()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_retired_source_is_freed_with_its_last_user(tokens: Tokens, ca: Authority) -> None:
    """Without the garbage collector."""
    async with RawUpstream(ssl_context=ca.server_context("up.test")) as upstream:
        previous = integration(ca, upstream.port)
        serve(tokens, previous)
        gc.collect()
        gc.disable()
        try:
            await tokens.source(previous).obtain()
            seen = weakref.ref(tokens.source(previous))
            serve(tokens)
            # The task that got the token has ended, but not yet let go.
            await asyncio.sleep(0)
            assert seen() is None
        finally:
            gc.enable()
    await tokens.close()


async def test_source_whose_state_was_taken_over_is_freed_with_its_last_user(tokens: Tokens, ca: Authority) -> None:
    """Also after a change during an attempt."""
    async with RawUpstream(ssl_context=ca.server_context("up.test")) as upstream:
        serve(tokens, integration(ca, upstream.port))
        gc.collect()
        gc.disable()
        try:
            grants, seen = [], []
            for number in range(3):
                current_one = integration(ca, upstream.port)
                serve(tokens, current_one)
                source = tokens.source(current_one)
                seen += [weakref.ref(source), weakref.ref(current_one.secrets._read)]
                if number == 0:
                    waiting = asyncio.create_task(source.obtain())
                    await upstream.connection()
                else:
                    grants.append(await source.obtain())
                del source, current_one
            grants.append(await waiting)
            del waiting
            await asyncio.sleep(0)
            assert len({id(grant) for grant in grants}) == 1
            assert [item() is None for item in seen] == [True] * 4 + [False] * 2
            serve(tokens)
            await asyncio.sleep(0)
            assert [item() is None for item in seen] == [True] * 6
        finally:
            gc.enable()
    await tokens.close()


async def test_close_waits_for_a_call_with_a_shared_refresh_token(metrics: Metrics, ca: Authority) -> None:
    """The waiting request is cancelled, the call is not, and its result is stored."""
    called, answered = asyncio.Event(), asyncio.Event()

    async def slow(connection: RawConnection) -> None:
        await connection.request()
        called.set()
        await answered.wait()
        await connection.send(OK)

    shared = SharedState()
    tokens = build_tokens(metrics, None, ScriptedLedger("a", shared))
    async with RawUpstream(slow, ssl_context=ca.server_context("up.test")) as upstream:
        result = integration(ca, upstream.port)
        rotating = replace(result, traits=result.traits._replace(rotates=True))
        waiting = asyncio.create_task(tokens.source(rotating).obtain())
        await called.wait()
        closing = asyncio.create_task(tokens.close())
        await settle()
        assert (waiting.cancelled(), closing.done(), shared.events) == (True, False, ["a acquire", "a intend"])
        with pytest.raises(ProblemError, match="this process is ending"):
            await tokens.source(replace(rotating, id="other")).obtain()
        answered.set()
        await closing
    assert shared.events == ["a acquire", "a intend", "a finish"]


@pytest.mark.parametrize("traits", [{"rotates": True}, {"single_live_token": True}, {}], ids=str)
async def test_only_kinds_that_revoke_each_others_tokens_share_them(
    traits: dict[str, bool], metrics: Metrics, ca: Authority
) -> None:
    """Other kinds never use the ledger."""
    tokens = build_tokens(metrics, None, NoLedger("ask another"))
    async with RawUpstream(respond_with(OK), ssl_context=ca.server_context("up.test")) as upstream:
        result = integration(ca, upstream.port)
        source = tokens.source(replace(result, traits=result.traits._replace(**traits)))
        if not traits:
            assert (await source.obtain()).headers
        else:
            with pytest.raises(ProblemError) as failed:
                await source.obtain()
            assert "no token is asked for: ask another" in failed.value.problem.detail
        assert len(upstream.connections) == (not traits)
        await tokens.close()
