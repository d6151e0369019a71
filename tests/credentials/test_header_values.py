"""Header values and other values that are a public text or `{prefix, secret}`."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import BeforeValidator, TypeAdapter, ValidationError

from sidekey.credentials.context import Context
from sidekey.credentials.fields import Entered, Keys
from sidekey.credentials.header_values import (
    CallHeaders,
    ConfiguredHeader,
    ConfiguredValue,
    build_headers,
    canonicalize_headers,
    comparable_headers,
    inputs_of,
    normalize_value,
    value_schema,
)
from sidekey.credentials.oauth2.token_request import TokenRequestSettings
from support.stored import OAUTH2, copied, destination, harmless

SECRET = {"secret": {"insecure_value": "hunter2"}}
WRITTEN = {"X-Tenant": "acme", "api_key": {"prefix": "Key ", **SECRET}}


def headers_of(raw: object) -> dict[str, ConfiguredHeader]:
    headers: dict[str, ConfiguredHeader] = TypeAdapter(CallHeaders).validate_python(raw, context=Context("file"))
    return headers


def values_of(headers: dict[str, ConfiguredHeader], *place: str) -> dict[Keys, str]:
    return {key: reference.value for key, reference, _ in inputs_of(headers, *place)}


def test_headers_are_built_in_the_order_and_spelling_of_the_document() -> None:
    headers = headers_of(WRITTEN)
    values = values_of(headers, "login", "headers")
    assert list(values) == [
        ("login", "headers", "X-Tenant"),
        ("login", "headers", "api_key", "prefix"),
        ("login", "headers", "api_key", "secret"),
    ]
    joined = build_headers(headers, values, "login", "headers")
    assert joined == (("X-Tenant", "acme"), ("api_key", "Key hunter2"))
    assert "hunter2" not in repr(headers)


def test_comparable_headers_ignore_order_and_case() -> None:
    """RFC 9110 5.1, and CGI-like servers read _ as -."""
    other = {"API-Key": WRITTEN["api_key"], "x_tenant": "acme"}
    compared = [comparable_headers(headers_of(item), values_of(headers_of(item))) for item in (WRITTEN, other)]
    assert compared[0] == compared[1] == (("api-key", "Key hunter2"), ("x-tenant", "acme"))


@pytest.mark.parametrize(
    "name",
    [
        *("Host", "content-length", "Transfer_Encoding", "Connection", "Keep-Alive", "TE", "Upgrade", "Expect", "Via"),
        *("Content-Type", "content_type", "Content-Encoding", "Accept-Encoding"),
        *("X-Integration-Id", "Sidekey-A", "a b"),
    ],
)
def test_call_cannot_set_framing_or_body_headers(name: str) -> None:
    with pytest.raises(ValidationError):
        headers_of({name: "x"})


@pytest.mark.parametrize("name", ["Accept", "User-Agent", "Authorization", "X-HTTP-Method-Override", "Cookie"])
def test_call_may_set_any_other_header(name: str) -> None:
    assert list(headers_of({name: "x"})) == [name]


@pytest.mark.parametrize("value", ["a\r\nX: c", " a", {"prefix": " a", **SECRET}, {"secret": {"insecure_value": "a "}}])
def test_header_value_cannot_contain_controls_or_outer_spaces(value: object) -> None:
    with pytest.raises(ValidationError):
        headers_of({"X-A": value})


def test_only_public_headers_that_decide_count() -> None:
    """A caller could send any other one itself."""
    assert canonicalize_headers(headers_of({"X_Rewrite_URL": "/a", **WRITTEN})) == {"x-rewrite-url": "/a"}
    assert canonicalize_headers(headers_of(WRITTEN)) is None


def test_every_header_of_a_call_is_part_of_the_destination() -> None:
    """Its name and public text, or the name and prefix of a secret."""
    document = copied(OAUTH2)

    def with_headers(headers: dict[str, Any]) -> Any:
        changed = copied(document)
        changed["auth"]["token_request"]["headers"] = headers
        return changed

    first = with_headers({"X-Tenant": "acme", "X-Key": {"prefix": "Key ", "secret": {"value": "a"}}})
    same = with_headers({"x_tenant": "acme", "X-Key": {"prefix": "Key ", "secret": {"value": "b"}}})
    assert destination(first) == destination(same) != destination(document)
    for second in (
        {"X-Tenant": "other", "X-Key": {"prefix": "Key ", "secret": {"value": "a"}}},
        {"X-Tenant": "acme", "X-Key": {"prefix": "", "secret": {"value": "a"}}},
        {"X-Tenant": "acme"},
        {"X-Tenant": "acme", "X-Other": {"prefix": "Key ", "secret": {"value": "a"}}},
    ):
        assert destination(with_headers(second)) != destination(first)
    assert "headers" not in harmless(TokenRequestSettings)


INSECURE = {"insecure_value": "hunter2"}
ADAPTER: TypeAdapter[ConfiguredValue] = TypeAdapter(
    Annotated[ConfiguredValue, BeforeValidator(normalize_value), value_schema("Title", {"type": "number"})]
)


def value_of(raw: Any) -> ConfiguredValue:
    return ADAPTER.validate_python(raw, context=Context("file"))


@pytest.mark.parametrize(
    ("raw", "inputs", "joined"),
    [
        ("acme", ["place"], "acme"),
        ({"file": "a"}, ["place"], "a"),
        ({"secret": INSECURE}, ["place.prefix", "place.secret"], "hunter2"),
        ({"prefix": "Key ", "secret": INSECURE}, ["place.prefix", "place.secret"], "Key hunter2"),
    ],
)
def test_value_is_a_public_text_or_a_secret_with_a_prefix(raw: Any, inputs: list[str], joined: str) -> None:
    value = value_of(raw)
    values = {key: reference.value for key, reference in value.inputs("place")}
    assert [".".join(key) for key in values] == inputs
    assert value.join(values, "place") == joined


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (INSECURE, "must be a public text, or {prefix: TEXT, secret: {insecure_value: TEXT}}"),
        ({"prefix": "Bearer "}, "secret is missing: write {prefix: TEXT, secret: REFERENCE}"),
        (5, "must be a text"),
        ({"secret": INSECURE, "other": 1}, "unknown key; known: prefix, secret"),
        ({"secret": "hunter2"}, "a secret may not be written inline"),
    ],
)
def test_other_mapping_is_refused_with_the_remedy(raw: Any, reason: str) -> None:
    """Nothing of it is repeated."""
    with pytest.raises(ValidationError) as caught:
        value_of(raw)
    (error,) = caught.value.errors(include_input=False)
    assert reason in error["msg"]
    assert "hunter2" not in error["msg"]


@pytest.mark.parametrize("key", ["value", "set"])
def test_stored_secret_cannot_replace_a_public_text(key: str) -> None:
    with pytest.raises(ValidationError, match=r"secret: \{value: TEXT\}"):
        ADAPTER.validate_python(Entered({key: "hunter2"}), context=Context("body"))
