"""Validation of token_request, token_response and assertions."""

import sys
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from sidekey.credentials.context import Context
from sidekey.credentials.oauth2.client_authentication import (
    ClientSecretJwtSettings,
    HeaderSettings,
    PrivateKeyJwtSettings,
)
from sidekey.credentials.oauth2.grants import JwtBearerSettings, RefreshTokenSettings
from sidekey.credentials.oauth2.token_request import TokenRequestSettings
from sidekey.credentials.oauth2.token_response import TokenResponseSettings
from support.stored import harmless

KEY = {"type": "private_key_jwt", "private_key": {"env": "KEY"}}


def errors(model: type[BaseModel], raw: object) -> dict[tuple[Any, ...], str]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(raw, context=Context("file"))
    return {error["loc"]: str(error["msg"]) for error in caught.value.errors()}


def test_get_allows_neither_body_nor_format() -> None:
    """Each error has its key."""
    found = errors(TokenRequestSettings, {"method": "GET", "format": "json", "body": {"a": "b"}})
    assert set(found) == {("body",), ("format",)}
    assert (
        TokenRequestSettings.model_validate({"method": "GET", "query": {"a": "b"}}, context=Context("file")).method
        == "GET"
    )
    assert (
        TokenRequestSettings.model_validate({"method": "GET", "format": "form"}, context=Context("file")).format
        == "form"
    )


def test_reserved_parameter_is_an_error_at_its_key() -> None:
    """In the body and in the query."""
    found = errors(TokenRequestSettings, {"body": {"Client_ID": "x"}, "query": {"assertion": "x"}})
    assert set(found) == {("body", "Client_ID", "[key]"), ("query", "assertion", "[key]")}


def test_parameter_in_body_and_query_is_an_error() -> None:
    """In any spelling. The error is at the query's."""
    found = errors(TokenRequestSettings, {"body": {"scope": "x", "a": "b"}, "query": {"Scope": "x", "a": 1, "b": "c"}})
    assert found == dict.fromkeys(
        [("query", "Scope"), ("query", "a")], "Value error, this parameter is also in the body: remove one"
    )


@pytest.mark.parametrize("path", ["", ".", "a..b", "a.", ".a"])
def test_path_cannot_have_an_empty_name(path: str) -> None:
    assert set(errors(TokenResponseSettings, {"base_url": path})) == {("base_url",)}


@pytest.mark.parametrize("claim", ["iss", "sub", "aud", "exp", "iat", "nbf", "jti"])
def test_reserved_claim_is_an_error_at_its_key(claim: str) -> None:
    found = errors(PrivateKeyJwtSettings, {**KEY, "claims": {claim: "x", "scope": "x"}})
    assert set(found) == {("claims", claim, "[key]")}


def test_error_names_the_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "joserfc", None)
    (message,) = errors(PrivateKeyJwtSettings, KEY).values()
    assert message.endswith("signed assertions need joserfc: install from the checkout with the extra jwt")


@pytest.mark.parametrize("algorithm", ["none", "rs256", "Ed448", "HS1"])
def test_algorithm_none_is_an_error(algorithm: str) -> None:
    assert set(errors(PrivateKeyJwtSettings, {**KEY, "algorithm": algorithm})) == {("algorithm",)}


def test_only_key_id_certificate_and_lifetime_are_safe_to_change() -> None:
    """The certificate is tied to the key."""
    for model in (PrivateKeyJwtSettings, JwtBearerSettings):
        assert harmless(model) == {"key_id", "certificate"}
    assert harmless(ClientSecretJwtSettings) == {"key_id"}
    assert harmless(HeaderSettings) == {"form_encoded"}
    assert harmless(RefreshTokenSettings) == {"rotates"}
    assert harmless(TokenResponseSettings) == {"expires_in"}
    assert harmless(TokenRequestSettings) == set()
