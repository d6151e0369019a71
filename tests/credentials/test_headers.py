import pytest
from pydantic import ValidationError

from sidekey.credentials.base import FixedCredential, Grant, Places, Traits
from sidekey.credentials.fields import SecretUnreadable
from sidekey.credentials.headers import HeadersSettings
from support.stored import HEADERS, copied, destination, harmless

VALUES = {"KEY": "hunter2", "SPACED": "hunter2 ", "REGION": "eu", "BEARER": "Bearer ", "NAME": "Müller"}


def settings_of(headers: object) -> HeadersSettings:
    return HeadersSettings.model_validate({"type": "headers", "headers": headers})


def grant_of(headers: object) -> Grant:
    settings = settings_of(headers)
    values, reasons = settings.read(
        lambda reference: VALUES[reference.value] if reference.source == "env" else reference.value, {}
    )
    if reasons:
        raise SecretUnreadable(reasons)
    credential = settings.credential(values)
    assert isinstance(credential, FixedCredential)
    return credential.grant


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("acme", "acme"),
        ("", ""),
        ({"env": "REGION"}, "eu"),
        ({"secret": {"env": "KEY"}}, "hunter2"),
        ({"prefix": "Bearer ", "secret": {"env": "KEY"}}, "Bearer hunter2"),
        ({"prefix": {"env": "BEARER"}, "secret": {"insecure_value": "abc"}}, "Bearer abc"),
        ({"env": "NAME"}, "M\u00c3\u00bcller"),
    ],
)
def test_a_value_is_public_or_a_secret_behind_a_prefix(value: object, sent: str) -> None:
    """Each way to write a value gives the header as it is sent, one character a byte of UTF-8."""
    assert grant_of({"X-Key": value}).headers == (("X-Key", sent),)


def test_headers_keep_the_order_and_spelling_of_the_file() -> None:
    """Some servers count on both."""
    names = ["X-Tenant", "authorization", "a.b", "X_Region"]
    assert [name for name, _ in grant_of(dict.fromkeys(names, "a")).headers] == names


def test_only_secrets_without_their_prefix_are_secrets() -> None:
    """As they are sent: in UTF-8."""
    secret = {"insecure_value": "Müller"}
    headers = {"X-Tenant": "acme", "X-Region": {"env": "REGION"}, "X-A": {"secret": secret}}
    grant = grant_of({**headers, "Authorization": {"prefix": "Bearer ", "secret": {"env": "KEY"}}})
    assert grant.secrets == (b"M\xc3\xbcller", b"hunter2")
    assert grant_of({"X-Tenant": "acme"}).secrets == ()


def test_the_traits_name_every_header() -> None:
    """In the spelling of the file."""
    assert settings_of({"X-Tenant": "a", "x_key": "b"}).traits() == Traits(Places(headers=("X-Tenant", "x_key")))


@pytest.mark.parametrize("other", ["x-api-key", "X_Api_Key", "X-API_KEY"])
def test_one_header_is_given_once_whatever_its_spelling(other: str) -> None:
    """Case does not count, and an underscore counts as a hyphen."""
    with pytest.raises(ValidationError, match="are the same header"):
        settings_of({"X-Api-Key": "a", other: "b"})


def test_a_secret_that_ends_in_a_space_is_unusable() -> None:
    """The recipient would drop the space, and the key would be wrong without anybody seeing why."""
    with pytest.raises(SecretUnreadable) as caught:
        grant_of({"X-Api-Key": {"secret": {"env": "SPACED"}}})
    ((place, reason),) = caught.value.reasons
    assert place == ("auth", "headers", "X-Api-Key", "secret")
    assert reason == "must not begin or end with a space: HTTP drops it"


@pytest.mark.parametrize(
    "dump",
    [repr, str, lambda settings: settings.model_dump_json(), lambda settings: repr(settings.model_dump())],
    ids=["repr", "str", "json", "dump"],
)
def test_settings_show_no_secret(dump: type[str]) -> None:
    """A dump of the settings holds REDACTED where values stand."""
    shown = dump(settings_of({"X-Api-Key": {"prefix": "Key ", "secret": {"insecure_value": "hunter2"}}}))
    assert "hunter2" not in shown
    assert "REDACTED" in shown


@pytest.mark.parametrize(
    ("headers", "warned"),
    [
        ({"Authorization": "Bearer hunter2", "X-Tenant": "acme"}, ["Authorization"]),
        ({"x_api_key": "hunter2"}, ["x_api_key"]),
        ({"Authorization": {"secret": {"env": "KEY"}}}, []),
        (["Authorization"], []),
    ],
)
def test_a_secret_in_public_text_is_a_warning(headers: object, warned: list[str]) -> None:
    """By the names that carry secrets."""
    found = HeadersSettings.find_warnings({"auth": {"type": "headers", "headers": headers}})
    assert [place for place, _ in found] == [("auth", "headers", name) for name in warned]


def test_public_headers_move_no_stored_secret_unless_they_name_another_target() -> None:
    """Those that no caller may send count, since a server may go by them; the names of secrets are in their places."""
    assert harmless(HeadersSettings) == {"provider"}
    document = copied(HEADERS)
    headers = document["auth"]["headers"]
    headers |= {"X-Other": "public", "Authorization": {"prefix": "Token ", "secret": {"value": "x"}}}
    assert destination(document) == destination(HEADERS) == {**destination(HEADERS), "auth": {"type": "headers"}}
    headers |= {"x_original_url": "/a", "X-HTTP-Method-Override": "PUT", "Proxy-Authorization": "y"}
    assert destination(document)["auth"] == {
        "type": "headers",
        "headers": {"x-original-url": "/a", "x-http-method-override": "PUT", "proxy-authorization": "y"},
    }


def test_what_a_file_has_elsewhere_is_sealed_in_a_store() -> None:
    """A public text that is written stays public."""
    headers = settings_of({"X-A": {"file": "a"}, "X-B": "b", "X-C": {"prefix": {"env": "P"}, "secret": {"file": "c"}}})
    text, prefix, secret = headers.headers["X-A"].text, headers.headers["X-C"].prefix, headers.headers["X-C"].secret
    assert text is not None
    assert secret is not None
    assert (text.form, prefix.form, secret.form) == ("secret", "text", "value")
