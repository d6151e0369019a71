"""The grant source of fixed credentials."""

import pickle

import pytest

from sidekey.credentials.base import Credential, FixedCredential, Grant
from sidekey.credentials.fields import SecretUnreadable
from sidekey.errors import ProblemError
from sidekey.snapshot.secret_loader import SecretLoader
from sidekey.tokens.static import StaticSource
from support.drive_kinds import credential_of

GRANT = Grant(headers=(("Authorization", "Basic hunter2"),))
CALLING = {
    "type": "oauth2",
    "token_endpoint": "https://auth.example.com/t",
    "client_id": "c",
    "client_secret": {"env": "SECRET"},
}


def secrets(*, read: bool) -> SecretLoader:
    loader = SecretLoader(lambda: FixedCredential(GRANT))
    if read:
        loader.load()
    return loader


def unreadable() -> Credential:
    raise SecretUnreadable(((("auth", "password"), "the file does not exist"),))


def test_grant_is_available_with_its_secrets() -> None:
    assert StaticSource(secrets(read=True)).grant is GRANT
    assert StaticSource(secrets(read=False)).grant is None


async def test_new_secret_is_read_by_the_next_request() -> None:
    """No restart is needed."""
    source = StaticSource(secrets(read=False))
    assert await source.obtain() is GRANT
    assert source.grant is GRANT


async def test_missing_secret_is_a_problem() -> None:
    """It names the key and the reason."""
    with pytest.raises(ProblemError, match=r"auth\.password: the file does not exist"):
        await StaticSource(SecretLoader(unreadable)).obtain()


async def test_rejected_grant_has_no_replacement() -> None:
    source = StaticSource(secrets(read=True))
    assert source.report_rejection(GRANT, 401, b"") is False
    assert await source.refreshed_after(GRANT) is None


def test_calling_credential_is_a_defect() -> None:
    calling = SecretLoader(lambda: credential_of(CALLING))
    calling.load()
    with pytest.raises(TypeError, match="do not expire"):
        StaticSource(calling)


def test_source_is_redacted_and_not_pickled() -> None:
    source = StaticSource(secrets(read=True))
    for shown in (repr(source), str(source), f"{source}"):
        assert shown == "StaticSource(Grant(headers=['Authorization'], REDACTED))"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(source)
