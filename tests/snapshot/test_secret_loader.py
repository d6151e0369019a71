import asyncio
import pickle
import threading

import pytest

from sidekey.credentials.base import Credential, FixedCredential, Grant, Supplemented
from sidekey.credentials.fields import SecretUnreadable
from sidekey.errors import ProblemError
from sidekey.snapshot.secret_loader import RETRY_SECONDS, SecretLoader
from support.drive_kinds import credential_of
from support.manual_clock import advance, in_still_time

CREDENTIAL = FixedCredential(Grant(headers=(("Authorization", "Basic hunter2"),)))
RESPONSYS = {
    "type": "responsys",
    "login_endpoint": "https://login.example.com",
    "username": "u",
    "password": {"insecure_value": "hunter2"},
}
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
    """Making a loader does no I/O."""
    secrets = Secrets(there=True)
    assert SecretLoader(secrets).credential is None
    assert secrets.readings == 0


def test_a_load_gets_the_credential() -> None:
    """Where the secrets are there the credential is, too."""
    loader = SecretLoader(Secrets(there=True))
    loader.load()
    assert loader.credential is CREDENTIAL
    assert loader.unreadable is None


def test_what_supplements_a_credential_is_kept_beside_it() -> None:
    """And not longer than the credential that it was read with."""
    kind = credential_of(RESPONSYS)
    found: list[Credential | Supplemented] = [Supplemented(kind, CREDENTIAL.grant), CREDENTIAL]
    loader = SecretLoader(lambda: found.pop(0))
    loader.load()
    assert (loader.credential, loader.supplement) == (kind, CREDENTIAL.grant)
    loader.load()
    assert (loader.credential, loader.supplement) == (CREDENTIAL, None)
    assert "hunter2" not in repr(loader)


def test_a_failed_load_keeps_the_reason() -> None:
    """The reason is for whoever reports it; there is no credential."""
    loader = SecretLoader(Secrets(there=False))
    loader.load()
    assert loader.credential is None
    assert loader.unreadable is UNREADABLE


def test_a_kept_reason_holds_no_frames() -> None:
    """They hold the loader and its integration: after a reload only the cyclic collector could free those."""
    loader = SecretLoader(Secrets(there=False))
    loader.load()
    assert loader.unreadable is not None
    assert loader.unreadable.__traceback__ is None


def test_a_failed_load_leaves_the_former_credential() -> None:
    """A secret that is being swapped does not stop the traffic."""
    secrets = Secrets(there=True)
    loader = SecretLoader(secrets)
    loader.load()
    secrets.there = False
    loader.load()
    assert loader.credential is CREDENTIAL
    assert loader.unreadable is UNREADABLE


async def test_without_its_secret_an_integration_has_no_credential() -> None:
    """The response is credential_unavailable and names the key and the reason."""
    with pytest.raises(ProblemError) as caught:
        await SecretLoader(Secrets(there=False)).obtain()
    problem = caught.value.problem
    assert (problem.code, problem.status, problem.error) == (
        "credential_unavailable",
        502,
        "proxy_configuration_error",
    )
    assert problem.detail == "auth.password: the file does not exist"


@in_still_time
async def test_a_secret_that_appears_is_used() -> None:
    """The next reading finds it; no restart is needed."""
    secrets = Secrets(there=False)
    loader = SecretLoader(secrets)
    with pytest.raises(ProblemError):
        await loader.obtain()
    secrets.there = True
    await advance(RETRY_SECONDS)
    assert await loader.obtain() is CREDENTIAL
    assert loader.unreadable is None


@in_still_time
async def test_a_failed_reading_is_not_repeated_at_once() -> None:
    """Requests that come faster than once a second share the result of the last reading."""
    secrets = Secrets(there=False)
    loader = SecretLoader(secrets)
    for _ in range(5):
        with pytest.raises(ProblemError):
            await loader.obtain()
    await advance(RETRY_SECONDS - 0.01)
    with pytest.raises(ProblemError):
        await loader.obtain()
    assert secrets.readings == 1
    await advance(0.01)
    with pytest.raises(ProblemError):
        await loader.obtain()
    assert secrets.readings == 2


@in_still_time
async def test_a_defect_reaches_who_waits_and_is_not_repeated_at_once() -> None:
    """Whoever answers the request reports it; until the next reading the secrets just cannot be read."""
    readings = 0

    def read() -> Credential:
        nonlocal readings
        readings += 1
        raise ZeroDivisionError

    loader = SecretLoader(read)
    with pytest.raises(ZeroDivisionError):
        await loader.obtain()
    with pytest.raises(ProblemError, match="have not been read yet"):
        await loader.obtain()
    assert readings == 1


async def test_what_was_read_is_not_read_again() -> None:
    """The credential stays."""
    secrets = Secrets(there=True)
    loader = SecretLoader(secrets)
    assert {id(await loader.obtain()) for _ in range(3)} == {id(CREDENTIAL)}
    assert secrets.readings == 1


async def test_those_who_wait_share_one_reading() -> None:
    """A burst of requests reads the secret once, and outside the loop's thread."""
    secrets = Secrets(there=True)
    loader = SecretLoader(secrets)
    assert await asyncio.gather(*(loader.obtain() for _ in range(50))) == [CREDENTIAL] * 50
    assert secrets.readings == 1
    assert threading.get_ident() not in secrets.threads


async def test_a_caller_that_leaves_does_not_end_the_reading() -> None:
    """The others still get the credential."""
    begun, release = threading.Event(), threading.Event()

    def load() -> Credential:
        begun.set()
        release.wait()
        return CREDENTIAL

    loader = SecretLoader(load)
    leaving = asyncio.create_task(loader.obtain())
    await asyncio.to_thread(begun.wait)
    staying = asyncio.create_task(loader.obtain())
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    release.set()
    assert await staying is CREDENTIAL


def test_a_loader_shows_no_secret() -> None:
    """And is not pickled."""
    loader = SecretLoader(Secrets(there=True))
    loader.load()
    assert repr(loader) == "SecretLoader(FixedCredential(Grant(headers=['Authorization'], REDACTED)))"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(loader)


@in_still_time
async def test_what_others_replace_is_read_anew() -> None:
    """Each time, also where a credential is there; one that cannot be read is not replaced by the former one."""
    secrets = Secrets(there=True)
    loader = SecretLoader(secrets)
    loader.load()
    assert await loader.obtain_reread() is CREDENTIAL
    assert secrets.readings == 2
    secrets.there = False
    with pytest.raises(ProblemError, match=r"auth\.password: the file does not exist"):
        await loader.obtain_reread()
    with pytest.raises(ProblemError, match=r"auth\.password: the file does not exist"):
        await loader.obtain_reread()
    assert secrets.readings == 3
    assert await loader.obtain() is CREDENTIAL
    secrets.there = True
    await advance(RETRY_SECONDS)
    assert await loader.obtain_reread() is CREDENTIAL
    assert (secrets.readings, loader.unreadable) == (4, None)
