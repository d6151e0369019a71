import asyncio
import threading

import pytest

from sidekey.credentials import static
from sidekey.credentials.base import Credential, FixedCredential, Grant
from sidekey.credentials.fields import SecretUnreadable
from sidekey.credentials.static import StaticSource
from sidekey.errors import Problem

GRANT = Grant(headers=(("Authorization", "Basic hunter2"),))
UNREADABLE = SecretUnreadable(((("auth", "password"), "the file does not exist"),))


class Secrets:
    """A place of secrets that can be filled, and counts its readings."""

    def __init__(self, *, there: bool) -> None:
        self.there = there
        self.readings = 0
        self.threads: set[int] = set()

    def __call__(self) -> Credential:
        self.readings += 1
        self.threads.add(threading.get_ident())
        if not self.there:
            raise UNREADABLE
        return FixedCredential(GRANT)


def test_nothing_is_read_before_it_is_asked_for() -> None:
    """Making a source does no I/O."""
    secrets = Secrets(there=True)
    assert StaticSource(secrets).grant is None
    assert secrets.readings == 0


def test_a_refresh_gets_the_grant() -> None:
    """Where the secrets are there the grant is, too."""
    source = StaticSource(Secrets(there=True))
    source.refresh()
    assert source.grant is GRANT
    assert source.unreadable is None


def test_a_failed_refresh_keeps_the_reason() -> None:
    """The reason is for whoever reports it; there is no grant."""
    source = StaticSource(Secrets(there=False))
    source.refresh()
    assert source.grant is None
    assert source.unreadable is UNREADABLE


def test_a_failed_refresh_leaves_the_former_grant() -> None:
    """A secret that is being swapped does not stop the traffic."""
    secrets = Secrets(there=True)
    source = StaticSource(secrets)
    source.refresh()
    secrets.there = False
    source.refresh()
    assert source.grant is GRANT


async def test_without_its_secret_an_integration_has_no_credential() -> None:
    """The answer is credential_unavailable and names the key and the reason."""
    source = StaticSource(Secrets(there=False))
    with pytest.raises(Problem) as caught:
        await source.obtain()
    problem = caught.value
    assert (problem.code, problem.status, problem.error) == (
        "credential_unavailable",
        502,
        "proxy_configuration_error",
    )
    assert problem.detail == "auth.password: the file does not exist"


async def test_a_secret_that_appears_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next reading finds it; no restart is needed."""
    monkeypatch.setattr(static, "RETRY_SECONDS", 0.0)
    secrets = Secrets(there=False)
    source = StaticSource(secrets)
    with pytest.raises(Problem):
        await source.obtain()
    secrets.there = True
    assert await source.obtain() is GRANT
    assert source.unreadable is None


async def test_a_failed_reading_is_not_repeated_at_once() -> None:
    """Requests that come faster than once a second share the answer of the last reading."""
    secrets = Secrets(there=False)
    source = StaticSource(secrets)
    for _ in range(5):
        with pytest.raises(Problem):
            await source.obtain()
    assert secrets.readings == 1


async def test_those_who_wait_share_one_reading() -> None:
    """A burst of requests reads the secret once, and outside the loop's thread."""
    secrets = Secrets(there=True)
    source = StaticSource(secrets)
    assert await asyncio.gather(*(source.obtain() for _ in range(50))) == [GRANT] * 50
    assert secrets.readings == 1
    assert threading.get_ident() not in secrets.threads


async def test_a_caller_that_leaves_does_not_end_the_reading() -> None:
    """The others still get the grant."""
    begun, release = threading.Event(), threading.Event()

    def load() -> Credential:
        begun.set()
        release.wait()
        return FixedCredential(GRANT)

    source = StaticSource(load)
    leaving = asyncio.create_task(source.obtain())
    await asyncio.to_thread(begun.wait)
    staying = asyncio.create_task(source.obtain())
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    release.set()
    assert await staying is GRANT


def test_a_source_shows_no_secret() -> None:
    """Neither the grant nor what reads it stands in its repr."""
    source = StaticSource(Secrets(there=True))
    source.refresh()
    assert repr(source) == "StaticSource(Grant(headers=['Authorization'], REDACTED))"
