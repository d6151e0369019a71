"""Header values: public texts, and secrets with a prefix."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from sidekey.credentials.context import Context
from sidekey.credentials.fields import Keys
from sidekey.credentials.header_values import (
    CallHeaders,
    WrittenHeader,
    build_headers,
    comparable_headers,
    deciding_headers,
    inputs_of,
)
from sidekey.credentials.oauth2.token_request import TokenRequestSettings
from support.stored import OAUTH2, copied, destination, harmless

SECRET = {"secret": {"insecure_value": "hunter2"}}
WRITTEN = {"X-Tenant": "acme", "api_key": {"prefix": "Key ", **SECRET}}


def headers_of(raw: object) -> dict[str, WrittenHeader]:
    headers: dict[str, WrittenHeader] = TypeAdapter(CallHeaders).validate_python(raw, context=Context("file"))
    return headers


def values_of(headers: dict[str, WrittenHeader], *place: str) -> dict[Keys, str]:
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
    compared = [comparable_headers(headers_of(each), values_of(headers_of(each))) for each in (WRITTEN, other)]
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
    assert deciding_headers(headers_of({"X_Rewrite_URL": "/a", **WRITTEN})) == {"x-rewrite-url": "/a"}
    assert deciding_headers(headers_of(WRITTEN)) is None


def test_every_header_of_a_call_is_part_of_the_destination() -> None:
    """Its name and public text, or the name and prefix of a secret."""
    document = copied(OAUTH2)

    def having(headers: dict[str, Any]) -> Any:
        changed = copied(document)
        changed["auth"]["token_request"]["headers"] = headers
        return changed

    one = having({"X-Tenant": "acme", "X-Key": {"prefix": "Key ", "secret": {"value": "a"}}})
    same = having({"x_tenant": "acme", "X-Key": {"prefix": "Key ", "secret": {"value": "b"}}})
    assert destination(one) == destination(same) != destination(document)
    for other in (
        {"X-Tenant": "other", "X-Key": {"prefix": "Key ", "secret": {"value": "a"}}},
        {"X-Tenant": "acme", "X-Key": {"prefix": "", "secret": {"value": "a"}}},
        {"X-Tenant": "acme"},
        {"X-Tenant": "acme", "X-Other": {"prefix": "Key ", "secret": {"value": "a"}}},
    ):
        assert destination(having(other)) != destination(one)
    assert "headers" not in harmless(TokenRequestSettings)
