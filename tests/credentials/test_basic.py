"""The kind `basic`: encoding, secrets, and the rules for user names."""

from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sidekey.credentials.base import FixedCredential, Grant
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
def test_examples_of_rfc_7617_match(username: str, password: str, value: str) -> None:
    assert grant_of(username, password).headers == (("Authorization", value),)


@given(PRINTABLE.filter(lambda name: ":" not in name), PRINTABLE)
def test_server_decodes_the_same_name_and_password(username: str, password: str) -> None:
    """It splits at the first colon, so the password may contain colons."""
    ((_, value),) = grant_of(username, password).headers
    assert b64decode(value.removeprefix("Basic ")).decode().partition(":")[::2] == (username, password)


def test_password_and_encoded_pair_are_secrets() -> None:
    """An upstream decodes the pair, and may repeat the password. A plain user name is public."""
    assert grant_of("Aladdin", "open s\u00e9same").secrets == (
        b"open s\xc3\xa9same",
        b"QWxhZGRpbjpvcGVuIHPDqXNhbWU=",
    )


def test_colon_in_a_plain_user_name_is_a_config_error() -> None:
    with pytest.raises(ValidationError, match="must not contain a colon"):
        grant_of("tenant:svc", "hunter2")


def test_colon_in_a_user_name_from_a_variable_makes_it_unreadable() -> None:
    with pytest.raises(SecretUnreadable, match=r"auth\.username: must not contain a colon"):
        grant_of({"env": "USER"}, "hunter2")


def test_user_name_and_password_do_not_change_the_destination() -> None:
    assert harmless(BasicSettings) == {"provider"}
    assert destination(BASIC)["auth"] == {"type": "basic"}


def named(secret: str, **more: object) -> BasicSettings:
    """Build settings with a secret user name."""
    name = {"insecure_value": secret}
    return BasicSettings.model_validate({"type": "basic", "username": name, **more}, context=Context("file"))


def test_secret_user_name_needs_no_password() -> None:
    """APIs that accept their key as user name: the key and the encoded pair are secrets."""
    settings = named("sk_live")
    read, reasons = settings.read(lambda ref: ref.value, {})
    credential = settings.credential(read)
    assert reasons == ()
    assert isinstance(credential, FixedCredential)
    assert credential.grant.headers == (("Authorization", "Basic c2tfbGl2ZTo="),)
    assert credential.grant.secrets == (b"sk_live", b"c2tfbGl2ZTo=")


def test_secret_user_name_may_have_a_password() -> None:
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
def test_user_name_is_required_and_plain_one_needs_a_password(
    auth: dict[str, object], places: dict[tuple[str, ...], str]
) -> None:
    result: dict[tuple[int | str, ...], str] = {}
    try:
        BasicSettings.model_validate({"type": "basic", **auth}, context=Context("file"))
    except ValidationError as error:
        result = {item["loc"]: item["type"] for item in error.errors()}
    assert result == places
