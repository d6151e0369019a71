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
    made = SecretLoader(lambda: FixedCredential(GRANT))
    if read:
        made.load()
    return made


def unreadable() -> Credential:
    raise SecretUnreadable(((("auth", "password"), "the file does not exist"),))


def test_the_grant_is_there_as_soon_as_the_secrets_are() -> None:
    """The warm path is a plain attribute read."""
    assert StaticSource(secrets(read=True)).grant is GRANT
    assert StaticSource(secrets(read=False)).grant is None


async def test_a_secret_that_appears_is_used() -> None:
    """The next request reads it; no restart is needed, and later ones find the grant."""
    source = StaticSource(secrets(read=False))
    assert await source.obtain() is GRANT
    assert source.grant is GRANT


async def test_without_its_secret_there_is_no_grant() -> None:
    """The response names the key and the reason."""
    with pytest.raises(ProblemError, match=r"auth\.password: the file does not exist"):
        await StaticSource(SecretLoader(unreadable)).obtain()


async def test_a_refused_grant_has_no_successor() -> None:
    """The response goes to the caller."""
    source = StaticSource(secrets(read=True))
    assert source.report_rejection(GRANT, 401, b"") is False
    assert await source.refreshed_after(GRANT) is None


def test_a_kind_that_calls_is_not_static() -> None:
    """A defect of ours, not of a config."""
    calling = SecretLoader(lambda: credential_of(CALLING))
    calling.load()
    with pytest.raises(TypeError, match="do not expire"):
        StaticSource(calling)


def test_a_source_shows_no_secret() -> None:
    """Only the names of the headers; and it is not pickled."""
    source = StaticSource(secrets(read=True))
    for shown in (repr(source), str(source), f"{source}"):
        assert shown == "StaticSource(Grant(headers=['Authorization'], REDACTED))"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(source)
