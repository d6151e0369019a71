"""Loading secrets: a failed load keeps the previous credential, and concurrent requests share one load."""

import asyncio
import threading

import pytest

from sidekey.credentials.base import Credential, FixedCredential, Grant, Supplemented
from sidekey.credentials.fields import SecretUnreadable
from sidekey.errors import ProblemError
from sidekey.snapshot.secret_loader import RETRY_SECONDS, SecretLoader
from support.drive_kinds import credential_of
from support.manual_clock import advance, with_manual_clock

CREDENTIAL = FixedCredential(Grant(headers=(("Authorization", "Basic hunter2"),)))
RESPONSYS = {
    "type": "responsys",
    "login_endpoint": "https://login.example.com",
    "username": "u",
    "password": {"insecure_value": "hunter2"},
}
UNREADABLE = SecretUnreadable(((("auth", "password"), "the file does not exist"),))


class Secrets:
    """Secrets that may be missing. Counts its reads."""

    def __init__(self, *, there: bool) -> None:
        self.there = there
        self.reads = 0
        self.threads: set[int] = set()

    def __call__(self) -> Credential:
        self.reads += 1
        self.threads.add(threading.get_ident())
        if not self.there:
            raise UNREADABLE
        return CREDENTIAL


def test_new_loader_reads_nothing() -> None:
    secrets = Secrets(there=True)
    assert SecretLoader(secrets).credential is None
    assert secrets.reads == 0


def test_supplement_is_kept_as_long_as_its_credential() -> None:
    kind = credential_of(RESPONSYS)
    results: list[Credential | Supplemented] = [Supplemented(kind, CREDENTIAL.grant), CREDENTIAL]
    loader = SecretLoader(lambda: results.pop(0))
    loader.load()
    assert (loader.credential, loader.supplement) == (kind, CREDENTIAL.grant)
    loader.load()
    assert (loader.credential, loader.supplement) == (CREDENTIAL, None)
    assert "hunter2" not in repr(loader)


def test_kept_reason_has_no_traceback() -> None:
    """Its frames refer to the loader and its integration, which would wait for the cyclic collector after a reload."""
    loader = SecretLoader(Secrets(there=False))
    loader.load()
    assert loader.unreadable is not None
    assert loader.unreadable.__traceback__ is None


def test_failed_load_keeps_the_previous_credential() -> None:
    """Replacing a secret does not stop the traffic."""
    secrets = Secrets(there=True)
    loader = SecretLoader(secrets)
    loader.load()
    secrets.there = False
    loader.load()
    assert loader.credential is CREDENTIAL
    assert loader.unreadable is UNREADABLE


async def test_missing_secret_is_credential_unavailable() -> None:
    """The problem names the key and the reason."""
    with pytest.raises(ProblemError) as caught:
        await SecretLoader(Secrets(there=False)).obtain()
    problem = caught.value.problem
    assert (problem.code, problem.status, problem.error) == (
        "credential_unavailable",
        502,
        "proxy_configuration_error",
    )
    assert problem.detail == "auth.password: the file does not exist"


@with_manual_clock
async def test_secret_that_appears_later_is_used() -> None:
    secrets = Secrets(there=False)
    loader = SecretLoader(secrets)
    with pytest.raises(ProblemError):
        await loader.obtain()
    secrets.there = True
    await advance(RETRY_SECONDS)
    assert await loader.obtain() is CREDENTIAL
    assert loader.unreadable is None


@with_manual_clock
async def test_failed_load_is_repeated_at_most_once_a_second() -> None:
    """Requests in between share the result of the last load."""
    secrets = Secrets(there=False)
    loader = SecretLoader(secrets)
    for _ in range(5):
        with pytest.raises(ProblemError):
            await loader.obtain()
    await advance(RETRY_SECONDS - 0.01)
    with pytest.raises(ProblemError):
        await loader.obtain()
    assert secrets.reads == 1
    await advance(0.01)
    with pytest.raises(ProblemError):
        await loader.obtain()
    assert secrets.reads == 2


@with_manual_clock
async def test_defect_reaches_the_waiting_request_and_is_not_repeated() -> None:
    """Until the next load, the secrets just count as not read."""
    reads = 0

    def read() -> Credential:
        nonlocal reads
        reads += 1
        raise ZeroDivisionError

    loader = SecretLoader(read)
    with pytest.raises(ZeroDivisionError):
        await loader.obtain()
    with pytest.raises(ProblemError, match="have not been read yet"):
        await loader.obtain()
    assert reads == 1


async def test_loaded_credential_is_not_read_again() -> None:
    secrets = Secrets(there=True)
    loader = SecretLoader(secrets)
    assert {id(await loader.obtain()) for _ in range(3)} == {id(CREDENTIAL)}
    assert secrets.reads == 1


async def test_waiting_requests_share_one_load() -> None:
    """It runs outside the loop's thread."""
    secrets = Secrets(there=True)
    loader = SecretLoader(secrets)
    assert await asyncio.gather(*(loader.obtain() for _ in range(50))) == [CREDENTIAL] * 50
    assert secrets.reads == 1
    assert threading.get_ident() not in secrets.threads


async def test_cancelled_request_does_not_cancel_the_load() -> None:
    """The other requests still get the credential."""
    begun, release = threading.Event(), threading.Event()

    def load() -> Credential:
        begun.set()
        release.wait()
        return CREDENTIAL

    loader = SecretLoader(load)
    cancelled = asyncio.create_task(loader.obtain())
    await asyncio.to_thread(begun.wait)
    staying = asyncio.create_task(loader.obtain())
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    release.set()
    assert await staying is CREDENTIAL


@with_manual_clock
async def test_obtain_reread_always_reads() -> None:
    """If the read fails, the previous credential is not used."""
    secrets = Secrets(there=True)
    loader = SecretLoader(secrets)
    loader.load()
    assert await loader.obtain_again() is CREDENTIAL
    assert secrets.reads == 2
    secrets.there = False
    with pytest.raises(ProblemError, match=r"auth\.password: the file does not exist"):
        await loader.obtain_again()
    with pytest.raises(ProblemError, match=r"auth\.password: the file does not exist"):
        await loader.obtain_again()
    assert secrets.reads == 3
    assert await loader.obtain() is CREDENTIAL
    secrets.there = True
    await advance(RETRY_SECONDS)
    assert await loader.obtain_again() is CREDENTIAL
    assert (secrets.reads, loader.unreadable) == (4, None)
