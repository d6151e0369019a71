"""Fixed values in headers, query and body, and the supplement `add`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from sidekey.credentials.base import Grant, InjectionPoints
from sidekey.credentials.context import Context
from sidekey.credentials.fields import SecretUnreadable
from sidekey.credentials.injection import SECTIONS, AddedSettings
from support.stored import BASIC, destination, harmless

SECRET = {"secret": {"insecure_value": "hunter2"}}


def test_added_values_become_a_supplement_without_a_signer() -> None:
    settings = AddedSettings.model_validate(
        {"headers": {"X-Tenant": "acme"}, "query": {"key": SECRET}}, context=Context("file")
    )
    values, reasons = settings.read(lambda reference: reference.value, {})
    assert reasons == ()
    assert values == {
        ("headers", "X-Tenant"): "acme",
        ("query", "key", "prefix"): "",
        ("query", "key", "secret"): "hunter2",
    }
    assert settings.supplement(values) == Grant((("X-Tenant", "acme"),), (("key", "hunter2"),), secrets=(b"hunter2",))
    assert settings.injection_points() == InjectionPoints(("X-Tenant",), ("key",))
    assert settings.signing() is None


def test_unreadable_value_is_named_by_its_location_in_the_integration() -> None:
    def read(_: object) -> str:
        raise ValueError("it is not set")

    settings = AddedSettings.model_validate(
        {"query": {"key": {"secret": {"env": "KEY"}}}, "body": {"n": 5}}, context=Context("file")
    )
    _, reasons = settings.read(read, {("query", "key", "prefix"): ""})
    assert reasons == ((("add", "query", "key", "secret"), "it is not set"),)


def test_added_public_values_and_names_of_secrets_change_the_destination() -> None:
    """An editor who adds a secret need not know the password, so the name of the secret counts."""
    assert harmless(AddedSettings) == set()
    add: dict[str, Any] = {
        "headers": {"X-Tenant": "acme"},
        "query": {"key": {"secret": {"value": "x"}}},
        "body": {"n": 5},
    }
    assert destination({**BASIC, "add": add})["add"] == {
        "headers": {"X-Tenant": {"text": "acme"}},
        "query": {"key": {}},
        "body": {"n": {"scalar": 5}},
    }


VALUES = {"KEY": "hunter2", "SPACED": "hunter2 ", "REGION": "eu", "BEARER": "Bearer ", "NAME": "M\u00fcller"}


def settings_of(**written: object) -> AddedSettings:
    return AddedSettings.model_validate(written, context=Context("file"))


def grant_of(**written: object) -> Grant:
    settings = settings_of(**written)
    values, reasons = settings.read(
        lambda reference: VALUES[reference.value] if reference.source == "env" else reference.value, {}
    )
    if reasons:
        raise SecretUnreadable(reasons)
    return settings.grant(values)


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("acme", "acme"),
        ("", ""),
        ({"env": "REGION"}, "eu"),
        ({"secret": {"env": "KEY"}}, "hunter2"),
        ({"prefix": "Bearer ", "secret": {"env": "KEY"}}, "Bearer hunter2"),
        ({"prefix": {"env": "BEARER"}, "secret": {"insecure_value": "abc"}}, "Bearer abc"),
        ({"env": "NAME"}, "M\u00fcller"),
    ],
)
def test_value_is_public_or_a_secret_with_a_prefix(value: object, sent: str) -> None:
    """A header has one Latin-1 character a byte of UTF-8; a parameter has characters."""
    assert grant_of(headers={"X-Key": value}).headers == (("X-Key", sent.encode().decode("latin-1")),)
    assert grant_of(query={"key": value}).query == (("key", sent),)
    assert grant_of(body={"key": value}).body == (("key", sent),)


@pytest.mark.parametrize("value", [True, False, 0, -5, 1.5])
def test_only_a_body_field_may_be_a_number_or_boolean(value: object) -> None:
    ((name, result),) = grant_of(body={"async": value}).body
    assert (name, result, type(result)) == ("async", value, type(value))
    for place in ("headers", "query"):
        with pytest.raises(ValidationError, match="must be a text"):
            settings_of(**{place: {"async": value}})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, [1], {"a": 1}])
def test_body_field_must_be_a_json_scalar(value: object) -> None:
    with pytest.raises(ValidationError):
        settings_of(body={"a": value})


def test_values_keep_the_order_and_spelling_of_the_file() -> None:
    """Some servers depend on both."""
    names = ["X-Tenant", "authorization", "a.b", "X_Region"]
    assert [name for name, _ in grant_of(headers=dict.fromkeys(names, "a")).headers] == names
    assert settings_of(headers={"X-A": "a"}, query={"b": "b"}, body={"C": "c"}).injection_points() == InjectionPoints(
        ("X-A",), ("b",), ("C",)
    )


def test_secrets_of_a_grant_exclude_the_prefix() -> None:
    """They are UTF-8, as sent. `secret_pairs` has the parameters that contain one."""
    key, name = {"prefix": "Key ", "secret": {"env": "KEY"}}, {"secret": {"env": "NAME"}}
    grant = grant_of(
        headers={"X-Tenant": "acme", "X-A": name}, query={"v": "3", "key": key}, body={"on": True, "name": name}
    )
    assert grant.secrets == (b"M\xc3\xbcller", b"hunter2", b"M\xc3\xbcller")
    assert grant.secret_pairs() == (("key", "Key hunter2"), ("name", "M\u00fcller"))


@pytest.mark.parametrize("other", ["x-api-key", "X_Api_Key", "X-API_KEY"])
def test_header_in_two_spellings_is_an_error(other: str) -> None:
    """Case is ignored, and an underscore counts as a hyphen."""
    with pytest.raises(ValidationError, match=f"X-Api-Key and {other} are the same header"):
        settings_of(headers={"X-Api-Key": "a", other: "b"})


@pytest.mark.parametrize("place", ["query", "body"])
@pytest.mark.parametrize("other", ["API_KEY", "api.key", "Api.Key"])
def test_parameter_in_two_spellings_is_an_error(place: str, other: str) -> None:
    """Names are compared as the most lenient servers read them."""
    with pytest.raises(ValidationError, match=f"api_key and {other} are the same parameter"):
        settings_of(**{place: {"api_key": "a", "version": "2", other: "b"}})
    assert settings_of(**{place: {"api_key": "a", "apikey": "b", "api-key": "c"}})


def test_parameter_in_query_and_body_is_an_error() -> None:
    ((place, reason),) = AddedSettings.find_errors_in(
        {"query": {"api_key": "a", "\u00fc": "b"}, "body": {"API_KEY": "b"}}
    )
    assert place == ("add", "body", "API_KEY")
    assert reason.startswith("api_key of the query and API_KEY of the body are the same parameter")


@pytest.mark.parametrize("name", ["", "a b", "a[b]", "a&b", "a=b", "a\x00", "\u00fc", "+a"])
@pytest.mark.parametrize("place", ["query", "body"])
def test_parameter_name_that_callers_could_encode_differently_is_an_error(place: str, name: str) -> None:
    with pytest.raises(ValidationError, match="the name of a parameter must consist of"):
        settings_of(**{place: {name: "a"}})


@pytest.mark.parametrize("place", SECTIONS)
def test_empty_map_is_an_error(place: str) -> None:
    with pytest.raises(ValidationError, match="at least 1 item"):
        settings_of(**{place: {}})
    assert list(AddedSettings.find_errors_in({place: {"a": "b"}})) == []


def test_at_least_one_map_is_required() -> None:
    assert list(AddedSettings.find_errors_in({})) == [(("add",), "needs headers, query or body: names to values")]


def test_header_that_ends_in_a_space_is_unusable() -> None:
    """The recipient would drop the space, and the key would be wrong. A parameter keeps it."""
    with pytest.raises(SecretUnreadable) as caught:
        grant_of(headers={"X-Api-Key": {"secret": {"env": "SPACED"}}})
    ((place, reason),) = caught.value.reasons
    assert place == ("add", "headers", "X-Api-Key", "secret")
    assert reason == "must not begin or end with a space: HTTP drops it"
    assert grant_of(query={"key": {"secret": {"env": "SPACED"}}}).query == (("key", "hunter2 "),)


@pytest.mark.parametrize(
    ("written", "warned"),
    [
        ({"headers": {"Authorization": "Bearer hunter2", "X-Tenant": "acme"}}, [("headers", "Authorization")]),
        ({"headers": {"x_api_key": "hunter2"}}, [("headers", "x_api_key")]),
        ({"query": {"api_key": "hunter2", "version": "3"}}, [("query", "api_key")]),
        ({"body": {"access_token": "hunter2"}}, [("body", "access_token")]),
        ({"headers": {"Authorization": {"secret": {"env": "KEY"}}}, "query": ["api_key"]}, []),
    ],
)
def test_secret_in_public_text_is_a_warning(written: Mapping[str, Any], warned: list[tuple[str, str]]) -> None:
    assert [place for place, _ in AddedSettings.find_public_secrets(written)] == [("add", *place) for place in warned]


def test_text_from_a_file_or_variable_becomes_a_secret_in_the_store() -> None:
    """A literal public text stays public."""
    written = {"a": {"file": "a"}, "b": "b", "c": {"prefix": {"env": "P"}, "secret": {"file": "c"}}}
    for values in (settings_of(headers=written).headers, settings_of(query=written).query):
        text, prefix, secret = values["a"].text, values["c"].prefix, values["c"].secret
        assert text is not None
        assert secret is not None
        assert (text.form, prefix.form, secret.form) == ("secret", "text", "value")


def test_only_literal_public_texts_are_shown() -> None:
    """Not a value from a file or variable, and not one under a name that usually carries a secret."""
    written = {
        "X-Tenant": "acme",
        "X-Region": {"env": "REGION"},
        "X-Key": {"prefix": "Key ", "secret": {"env": "KEY"}},
        "Authorization": "Bearer hunter2",
        "x_api_key": "hunter2",
    }
    assert settings_of(headers=written).public_headers() == (("X-Tenant", "acme"),)
    assert settings_of(query={"region": "eu"}).public_headers() == ()
