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


def test_with_get_neither_a_body_nor_its_format_has_a_meaning() -> None:
    """Each is named at its key."""
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


def test_a_further_parameter_that_overrides_is_named_at_its_key() -> None:
    """In the body and in the query."""
    found = errors(TokenRequestSettings, {"body": {"Client_ID": "x"}, "query": {"assertion": "x"}})
    assert set(found) == {("body", "Client_ID", "[key]"), ("query", "assertion", "[key]")}


def test_a_parameter_stands_in_one_place() -> None:
    """However it is spelled; the error is at that of the query."""
    found = errors(TokenRequestSettings, {"body": {"scope": "x", "a": "b"}, "query": {"Scope": "x", "a": 1, "b": "c"}})
    assert found == dict.fromkeys(
        [("query", "Scope"), ("query", "a")], "Value error, this parameter is also in the body: remove one"
    )


@pytest.mark.parametrize("path", ["", ".", "a..b", "a.", ".a"])
def test_a_path_has_no_empty_names(path: str) -> None:
    """It would never be found."""
    assert set(errors(TokenResponseSettings, {"base_url": path})) == {("base_url",)}


@pytest.mark.parametrize("claim", ["iss", "sub", "aud", "exp", "iat", "nbf", "jti"])
def test_a_claim_that_sidekey_sets_is_named_at_its_key(claim: str) -> None:
    """Some of them have a key of their own."""
    found = errors(PrivateKeyJwtSettings, {**KEY, "claims": {claim: "x", "scope": "x"}})
    assert set(found) == {("claims", claim, "[key]")}


def test_without_joserfc_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra that only signed assertions need."""
    monkeypatch.setitem(sys.modules, "joserfc", None)
    (message,) = errors(PrivateKeyJwtSettings, KEY).values()
    assert message.endswith("signed assertions need joserfc: install from the checkout with the extra jwt")


@pytest.mark.parametrize("algorithm", ["none", "rs256", "Ed448", "HS1"])
def test_only_algorithms_that_prove_something_are_known(algorithm: str) -> None:
    """`none` proves nothing."""
    assert set(errors(PrivateKeyJwtSettings, {**KEY, "algorithm": algorithm})) == {("algorithm",)}


def test_of_an_assertion_and_a_response_little_may_change_without_the_stored_secrets() -> None:
    """Which key it is, and how long a token lives; the certificate goes with the key."""
    for model in (PrivateKeyJwtSettings, JwtBearerSettings):
        assert harmless(model) == {"key_id", "certificate"}
    assert harmless(ClientSecretJwtSettings) == {"key_id"}
    assert harmless(HeaderSettings) == {"form_encoded"}
    assert harmless(RefreshTokenSettings) == {"rotates"}
    assert harmless(TokenResponseSettings) == {"expires_in"}
    assert harmless(TokenRequestSettings) == set()
