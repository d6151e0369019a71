import pytest

from sidekey.credentials.base import Credential, FixedCredential, Grant
from sidekey.credentials.fields import SecretUnreadable
from sidekey.credentials.secret_loader import Keyring
from sidekey.errors import ProblemError
from sidekey.sources.static import StaticSource
from support.issuing import credential_of

GRANT = Grant(headers=(("Authorization", "Basic hunter2"),))
CALLING = {
    "type": "oauth2",
    "token_endpoint": "https://auth.example.com/t",
    "client_id": "c",
    "client_secret": {"env": "SECRET"},
}


def keyring(*, read: bool) -> Keyring:
    made = Keyring(lambda: FixedCredential(GRANT))
    if read:
        made.refresh()
    return made


def unreadable() -> Credential:
    raise SecretUnreadable(((("auth", "password"), "the file does not exist"),))


def test_the_grant_is_there_as_soon_as_the_secrets_are() -> None:
    """The warm path is a plain attribute read."""
    assert StaticSource(keyring(read=True)).grant is GRANT
    assert StaticSource(keyring(read=False)).grant is None


async def test_a_secret_that_appears_is_used() -> None:
    """The next request reads it; no restart is needed, and later ones find the grant."""
    source = StaticSource(keyring(read=False))
    assert await source.obtain() is GRANT
    assert source.grant is GRANT


async def test_without_its_secret_there_is_no_grant() -> None:
    """The answer names the key and the reason."""
    with pytest.raises(ProblemError, match=r"auth\.password: the file does not exist"):
        await StaticSource(Keyring(unreadable)).obtain()


async def test_a_refused_grant_has_no_successor() -> None:
    """The answer goes to the caller."""
    source = StaticSource(keyring(read=True))
    assert source.weigh(GRANT, 401, b"") is False
    assert await source.newer(GRANT) is None


def test_a_kind_that_calls_is_no_static_one() -> None:
    """A defect of ours, not of a config."""
    calling = Keyring(lambda: credential_of(CALLING))
    calling.refresh()
    with pytest.raises(TypeError, match="need no call"):
        StaticSource(calling)


def test_a_source_shows_no_secret() -> None:
    """Only the names of the headers."""
    assert repr(StaticSource(keyring(read=True))) == "StaticSource(Grant(headers=['Authorization'], REDACTED))"
