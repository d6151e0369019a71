""""""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from sidekey.credentials.base import Grant, InjectionPoints
from sidekey.credentials.context import Context
from sidekey.credentials.fields import SecretUnreadable
from sidekey.credentials.injection import MAPS, AddedSettings
from support.stored import BASIC, destination, harmless

SECRET = {"secret": {"insecure_value": "hunter2"}}


def test_what_is_added_is_a_grant_of_its_own() -> None:
    """It is put before the grant of the kind, and signs nothing."""
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


def test_a_value_that_cannot_be_read_is_named_by_its_place_in_the_integration() -> None:
    """As `sidekey check` and the response of a request say it."""

    def read(_: object) -> str:
        raise ValueError("it is not set")

    settings = AddedSettings.model_validate(
        {"query": {"key": {"secret": {"env": "KEY"}}}, "body": {"n": 5}}, context=Context("file")
    )
    _, reasons = settings.read(read, {("query", "key", "prefix"): ""})
    assert reasons == ((("add", "query", "key", "secret"), "it is not set"),)


def test_all_that_is_added_moves_stored_secrets_but_the_secrets_themselves() -> None:
    """Whoever adds a secret value need not know the password; so its name counts."""
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
def test_a_value_is_public_or_a_secret_behind_a_prefix(value: object, sent: str) -> None:
    """Each way to write a value, in each place: a header has one character a byte of UTF-8, parameters characters."""
    assert grant_of(headers={"X-Key": value}).headers == (("X-Key", sent.encode().decode("latin-1")),)
    assert grant_of(query={"key": value}).query == (("key", sent),)
    assert grant_of(body={"key": value}).body == (("key", sent),)


@pytest.mark.parametrize("value", [True, False, 0, -5, 1.5])
def test_a_field_of_a_body_may_be_no_text(value: object) -> None:
    """JSON has numbers, true and false; a header or a query has text alone."""
    ((name, found),) = grant_of(body={"async": value}).body
    assert (name, found, type(found)) == ("async", value, type(value))
    for place in ("headers", "query"):
        with pytest.raises(ValidationError, match="must be a text"):
            settings_of(**{place: {"async": value}})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, [1], {"a": 1}])
def test_what_json_does_not_have_is_no_field(value: object) -> None:
    """Nor what is not one value."""
    with pytest.raises(ValidationError):
        settings_of(body={"a": value})


def test_values_keep_the_order_and_spelling_of_the_file() -> None:
    """Some servers count on both."""
    names = ["X-Tenant", "authorization", "a.b", "X_Region"]
    assert [name for name, _ in grant_of(headers=dict.fromkeys(names, "a")).headers] == names
    assert settings_of(headers={"X-A": "a"}, query={"b": "b"}, body={"C": "c"}).injection_points() == InjectionPoints(
        ("X-A",), ("b",), ("C",)
    )


def test_only_secrets_without_their_prefix_are_secrets() -> None:
    """As they are sent: in UTF-8. Of parameters those pairs are scrubbed that have one."""
    key, name = {"prefix": "Key ", "secret": {"env": "KEY"}}, {"secret": {"env": "NAME"}}
    grant = grant_of(
        headers={"X-Tenant": "acme", "X-A": name}, query={"v": "3", "key": key}, body={"on": True, "name": name}
    )
    assert grant.secrets == (b"M\xc3\xbcller", b"hunter2", b"M\xc3\xbcller")
    assert grant.secret_pairs() == (("key", "Key hunter2"), ("name", "M\u00fcller"))


@pytest.mark.parametrize("other", ["x-api-key", "X_Api_Key", "X-API_KEY"])
def test_one_header_is_given_once_whatever_its_spelling(other: str) -> None:
    """Case does not count, and an underscore counts as a hyphen."""
    with pytest.raises(ValidationError, match=f"X-Api-Key and {other} are the same header"):
        settings_of(headers={"X-Api-Key": "a", other: "b"})


@pytest.mark.parametrize("place", ["query", "body"])
@pytest.mark.parametrize("other", ["API_KEY", "api.key", "Api.Key"])
def test_one_parameter_is_given_once_whatever_its_spelling(place: str, other: str) -> None:
    """As the laxest of servers read them."""
    with pytest.raises(ValidationError, match=f"api_key and {other} are the same parameter"):
        settings_of(**{place: {"api_key": "a", "version": "2", other: "b"}})
    assert settings_of(**{place: {"api_key": "a", "apikey": "b", "api-key": "c"}})


def test_a_parameter_is_given_in_one_place() -> None:
    """Servers that read both would take either."""
    ((place, reason),) = AddedSettings.find_errors_in(
        {"query": {"api_key": "a", "\u00fc": "b"}, "body": {"API_KEY": "b"}}
    )
    assert place == ("add", "body", "API_KEY")
    assert reason.startswith("api_key of the query and API_KEY of the body are the same parameter")


@pytest.mark.parametrize("name", ["", "a b", "a[b]", "a&b", "a=b", "a\x00", "\u00fc", "+a"])
@pytest.mark.parametrize("place", ["query", "body"])
def test_a_parameter_has_a_name_that_is_known_again(place: str, name: str) -> None:
    """However a caller spells it."""
    with pytest.raises(ValidationError, match="the name of a parameter must consist of"):
        settings_of(**{place: {name: "a"}})


@pytest.mark.parametrize("place", MAPS)
def test_a_map_that_is_written_has_an_entry(place: str) -> None:
    """One that is empty says nothing."""
    with pytest.raises(ValidationError, match="at least 1 item"):
        settings_of(**{place: {}})
    assert list(AddedSettings.find_errors_in({place: {"a": "b"}})) == []


def test_one_place_at_least_is_written() -> None:
    """Else nothing is injected."""
    assert list(AddedSettings.find_errors_in({})) == [(("add",), "needs headers, query or body: names to values")]


def test_a_header_that_ends_in_a_space_is_unusable() -> None:
    """The recipient would drop the space, and the key would be wrong without anybody seeing why; not so a parameter."""
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
def test_a_secret_in_public_text_is_a_warning(written: Mapping[str, Any], warned: list[tuple[str, str]]) -> None:
    """By the names that carry secrets."""
    assert [place for place, _ in AddedSettings.find_public(written)] == [("add", *place) for place in warned]


def test_what_a_file_has_elsewhere_is_sealed_in_a_store() -> None:
    """A public text that is written stays public."""
    written = {"a": {"file": "a"}, "b": "b", "c": {"prefix": {"env": "P"}, "secret": {"file": "c"}}}
    for values in (settings_of(headers=written).headers, settings_of(query=written).query):
        text, prefix, secret = values["a"].text, values["c"].prefix, values["c"].secret
        assert text is not None
        assert secret is not None
        assert (text.form, prefix.form, secret.form) == ("secret", "text", "value")


def test_only_texts_of_the_document_may_be_shown() -> None:
    """Neither what is read elsewhere, nor what stands by the name of a secret, where one may be written by mistake."""
    written = {
        "X-Tenant": "acme",
        "X-Region": {"env": "REGION"},
        "X-Key": {"prefix": "Key ", "secret": {"env": "KEY"}},
        "Authorization": "Bearer hunter2",
        "x_api_key": "hunter2",
    }
    assert settings_of(headers=written).public_headers() == (("X-Tenant", "acme"),)
    assert settings_of(query={"region": "eu"}).public_headers() == ()
