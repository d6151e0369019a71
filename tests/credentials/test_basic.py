from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sidekey.credentials.base import CredentialTraits, FixedCredential, Grant, InjectionPoints
from sidekey.credentials.basic import BasicSettings
from sidekey.credentials.context import Context
from sidekey.credentials.fields import SecretUnreadable
from support.stored import BASIC, destination, harmless

PRINTABLE = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1)


def grant_of(username: object, password: str) -> Grant:
    settings = BasicSettings.model_validate(
        {"type": "basic", "username": username, "password": {"env": "PASSWORD"}}, context=Context("file")
    )
    values = {"PASSWORD": password, "USER": "tenant:svc"}
    read, reasons = settings.read(lambda ref: ref.value if ref.source == "plain" else values[ref.value], {})
    if reasons:
        raise SecretUnreadable(reasons)
    credential = settings.credential(read)
    assert isinstance(credential, FixedCredential)
    return credential.grant


@pytest.mark.parametrize(
    ("username", "password", "value"),
    [
        # RFC 7617 2 and 2.1.
        ("Aladdin", "open sesame", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        ("test", "123\u00a3", "Basic dGVzdDoxMjPCow=="),
    ],
)
def test_the_examples_of_the_rfc_come_out(username: str, password: str, value: str) -> None:
    """User name and password are joined by a colon, in UTF-8, then base64."""
    assert grant_of(username, password).headers == (("Authorization", value),)


@given(PRINTABLE.filter(lambda name: ":" not in name), PRINTABLE)
def test_a_server_reads_back_what_was_written(username: str, password: str) -> None:
    """Splitting at the first colon gives the two again, colons of the password and all."""
    ((_, value),) = grant_of(username, password).headers
    assert b64decode(value.removeprefix("Basic ")).decode().partition(":")[::2] == (username, password)


def test_the_password_and_the_pair_are_secrets() -> None:
    """A plain user name is none; an upstream decodes the pair, and may show what it read."""
    assert grant_of("Aladdin", "open s\u00e9same").secrets == (
        b"open s\xc3\xa9same",
        b"QWxhZGRpbjpvcGVuIHPDqXNhbWU=",
    )


def test_a_colon_in_a_written_user_name_is_an_error_of_the_config() -> None:
    """The server would take what follows for the password (RFC 7617 2)."""
    with pytest.raises(ValidationError, match="must not contain a colon"):
        grant_of("tenant:svc", "hunter2")


def test_a_colon_in_a_user_name_that_is_read_makes_it_unusable() -> None:
    """The same rule holds for what stands in a file or a variable."""
    with pytest.raises(SecretUnreadable, match=r"auth\.username: must not contain a colon"):
        grant_of({"env": "USER"}, "hunter2")


def test_the_traits_name_one_header() -> None:
    """And nothing is called or watched."""
    auth = {"type": "basic", "username": "svc", "password": {"env": "PASSWORD"}}
    assert BasicSettings.model_validate(auth, context=Context("file")).traits() == CredentialTraits(
        InjectionPoints(headers=("Authorization",))
    )


def test_stored_user_name_and_password_belong_to_one_destination() -> None:
    """They are sealed apart, and neither is part of where the other may go."""
    assert harmless(BasicSettings) == {"provider"}
    assert destination(BASIC)["auth"] == {"type": "basic"}


def named(secret: str, **more: object) -> BasicSettings:
    """Of a user name that is a secret."""
    name = {"insecure_value": secret}
    return BasicSettings.model_validate({"type": "basic", "username": name, **more}, context=Context("file"))


def test_a_secret_user_name_needs_no_password() -> None:
    """As with API keys that are user names: what is behind the colon is empty, and the key alone is a secret too."""
    settings = named("sk_live")
    read, reasons = settings.read(lambda ref: ref.value, {})
    credential = settings.credential(read)
    assert reasons == ()
    assert isinstance(credential, FixedCredential)
    assert credential.grant.headers == (("Authorization", "Basic c2tfbGl2ZTo="),)
    assert credential.grant.secrets == (b"sk_live", b"c2tfbGl2ZTo=")


def test_a_secret_user_name_may_have_a_password() -> None:
    """Both are secrets then."""
    settings = named("sk", password={"insecure_value": "pw"})
    read, _ = settings.read(lambda ref: ref.value, {})
    credential = settings.credential(read)
    assert isinstance(credential, FixedCredential)
    assert credential.grant.secrets == (b"sk", b"pw", b"c2s6cHc=")


@pytest.mark.parametrize(
    ("auth", "places"),
    [
        ({}, {("username",): "missing", ("password",): "missing"}),
        ({"username": "svc"}, {("password",): "missing"}),
        ({"password": {"env": "P"}}, {("username",): "missing"}),
        ({"username": {"env": "K"}}, {}),
        ({"username": {"insecure_value": "a:b"}, "password": {"env": "P"}}, {("username",): "value_error"}),
        ({"secret_username": {"env": "K"}, "username": {"env": "K"}}, {("secret_username",): "extra_forbidden"}),
    ],
)
def test_there_is_exactly_one_user_name(auth: dict[str, object], places: dict[tuple[str, ...], str]) -> None:
    """And a password, unless the name is the secret."""
    found: dict[tuple[int | str, ...], str] = {}
    try:
        BasicSettings.model_validate({"type": "basic", **auth}, context=Context("file"))
    except ValidationError as error:
        found = {each["loc"]: each["type"] for each in error.errors()}
    assert found == places
