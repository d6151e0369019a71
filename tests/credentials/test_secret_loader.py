import asyncio
import pickle
import threading

import pytest

from sidekey.credentials import secret_loader as keyring
from sidekey.credentials.base import Credential, FixedCredential, Grant
from sidekey.credentials.fields import SecretUnreadable
from sidekey.credentials.secret_loader import Keyring
from sidekey.errors import ProblemError

CREDENTIAL = FixedCredential(Grant(headers=(("Authorization", "Basic hunter2"),)))
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
        return CREDENTIAL


def test_nothing_is_read_before_it_is_asked_for() -> None:
    """Making a keyring does no I/O."""
    secrets = Secrets(there=True)
    assert Keyring(secrets).credential is None
    assert secrets.readings == 0


def test_a_refresh_gets_the_credential() -> None:
    """Where the secrets are there the credential is, too."""
    ring = Keyring(Secrets(there=True))
    ring.refresh()
    assert ring.credential is CREDENTIAL
    assert ring.unreadable is None


def test_a_failed_refresh_keeps_the_reason() -> None:
    """The reason is for whoever reports it; there is no credential."""
    ring = Keyring(Secrets(there=False))
    ring.refresh()
    assert ring.credential is None
    assert ring.unreadable is UNREADABLE


def test_a_kept_reason_holds_no_frames() -> None:
    """They hold the keyring and its integration: after a reload only the cyclic collector could free those."""
    ring = Keyring(Secrets(there=False))
    ring.refresh()
    assert ring.unreadable is not None
    assert ring.unreadable.__traceback__ is None


def test_a_failed_refresh_leaves_the_former_credential() -> None:
    """A secret that is being swapped does not stop the traffic."""
    secrets = Secrets(there=True)
    ring = Keyring(secrets)
    ring.refresh()
    secrets.there = False
    ring.refresh()
    assert ring.credential is CREDENTIAL
    assert ring.unreadable is UNREADABLE


async def test_without_its_secret_an_integration_has_no_credential() -> None:
    """The answer is credential_unavailable and names the key and the reason."""
    with pytest.raises(ProblemError) as caught:
        await Keyring(Secrets(there=False)).obtain()
    problem = caught.value.problem
    assert (problem.code, problem.status, problem.error) == (
        "credential_unavailable",
        502,
        "proxy_configuration_error",
    )
    assert problem.detail == "auth.password: the file does not exist"


async def test_a_secret_that_appears_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next reading finds it; no restart is needed."""
    monkeypatch.setattr(keyring, "RETRY_SECONDS", 0.0)
    secrets = Secrets(there=False)
    ring = Keyring(secrets)
    with pytest.raises(ProblemError):
        await ring.obtain()
    secrets.there = True
    assert await ring.obtain() is CREDENTIAL
    assert ring.unreadable is None


async def test_a_failed_reading_is_not_repeated_at_once() -> None:
    """Requests that come faster than once a second share the answer of the last reading."""
    secrets = Secrets(there=False)
    ring = Keyring(secrets)
    for _ in range(5):
        with pytest.raises(ProblemError):
            await ring.obtain()
    assert secrets.readings == 1


async def test_what_was_read_is_not_read_again() -> None:
    """The credential stays."""
    secrets = Secrets(there=True)
    ring = Keyring(secrets)
    assert {id(await ring.obtain()) for _ in range(3)} == {id(CREDENTIAL)}
    assert secrets.readings == 1


async def test_those_who_wait_share_one_reading() -> None:
    """A burst of requests reads the secret once, and outside the loop's thread."""
    secrets = Secrets(there=True)
    ring = Keyring(secrets)
    assert await asyncio.gather(*(ring.obtain() for _ in range(50))) == [CREDENTIAL] * 50
    assert secrets.readings == 1
    assert threading.get_ident() not in secrets.threads


async def test_a_caller_that_leaves_does_not_end_the_reading() -> None:
    """The others still get the credential."""
    begun, release = threading.Event(), threading.Event()

    def load() -> Credential:
        begun.set()
        release.wait()
        return CREDENTIAL

    ring = Keyring(load)
    leaving = asyncio.create_task(ring.obtain())
    await asyncio.to_thread(begun.wait)
    staying = asyncio.create_task(ring.obtain())
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    release.set()
    assert await staying is CREDENTIAL


def test_a_keyring_shows_no_secret() -> None:
    """And is not pickled."""
    ring = Keyring(Secrets(there=True))
    ring.refresh()
    assert repr(ring) == "Keyring(FixedCredential(Grant(headers=['Authorization'], REDACTED)))"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(ring)
