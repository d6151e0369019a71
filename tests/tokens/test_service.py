"""tokens/service.py: sources whose calls go to a real endpoint, under the integration's own rules."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from sidekey.core.policy import Policy
from sidekey.credentials.base import Call, Grant, Issued, Places, Traits, Verdict
from sidekey.credentials.keyring import Keyring
from sidekey.errors import Problem
from sidekey.network.dial import Dialer
from sidekey.observe.metrics import Metrics
from sidekey.settings.snapshot import Integration, NetworkRules, Trust
from sidekey.tokens.drive import Work
from sidekey.tokens.service import Tokens
from support.ca import Authority
from support.dialling import HOSTS, LOOPBACK
from support.raw import RawConnection
from support.upstream import OK, RawUpstream, answering


class Kind:
    """One GET; the answer's body is the token."""

    calls_a_minute = None

    def __init__(self, port: int) -> None:
        self._url = f"https://up.test:{port}/token"

    def obtain(self, attempt: object) -> Work:
        reply = yield Call("token endpoint", "GET", self._url)
        return Issued(Grant((("Authorization", f"Bearer {reply.body.decode()}"),)), 600)

    def verdict(self, status: int, body: bytes | None) -> Verdict:
        return Verdict.GOOD


def integration(ca: Authority, port: int) -> Integration:
    keyring = Keyring(lambda: Kind(port))
    keyring.refresh()
    traits = Traits(Places(("Authorization",)), calls=True)
    return Integration(
        "crm", "oauth2", Policy(), None, keyring, traits, Trust("file", str(ca.bundle)), allow_private=LOOPBACK
    )


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def tokens(metrics: Metrics) -> Tokens:
    """Rules that allow nothing private by themselves."""
    return Tokens(Dialer(NetworkRules(hosts=HOSTS)), metrics, lambda defect: "d1")


async def test_a_call_goes_out_under_the_integration_s_trust_and_allowance(
    tokens: Tokens, metrics: Metrics, ca: Authority
) -> None:
    """And the source is the same whoever asks for it."""
    async with RawUpstream(answering(OK), ssl_context=ca.server_context("up.test")) as upstream:
        crm = integration(ca, upstream.port)
        source = tokens.source(crm)
        assert tokens.source(crm) is source
        assert (await source.obtain()).headers == (("Authorization", "Bearer ok"),)
        assert (len(upstream.requests), dict(metrics.calls)) == (1, {("crm", "ok"): 1})
    await tokens.close()
    assert metrics.expiries == {}


async def test_another_trust_is_another_answer(tokens: Tokens, ca: Authority) -> None:
    """Without the integration's own CA the endpoint is not trusted."""
    async with RawUpstream(ssl_context=ca.server_context("up.test")) as upstream:
        source = tokens.source(replace(integration(ca, upstream.port), trust=Trust()))
        with pytest.raises(Problem) as failed:
            await source.obtain()
    assert failed.value.detail == "token endpoint: its certificate is refused: its issuer is not trusted"
    await tokens.close()


async def test_the_end_cuts_what_is_under_way(tokens: Tokens, ca: Authority) -> None:
    """No call, task or timer outlives it."""

    async def silent(connection: RawConnection) -> None:
        await connection.request()

    async with RawUpstream(silent, ssl_context=ca.server_context("up.test")) as upstream:
        waiting = asyncio.create_task(tokens.source(integration(ca, upstream.port)).obtain())
        connection = await upstream.connection()
        await tokens.close()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await connection.until_lost()
