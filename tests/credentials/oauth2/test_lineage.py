"""Lineage of OAuth 2.0 tokens: config changes that keep or replace a token."""

from __future__ import annotations

from typing import Any

import pytest

from sidekey.credentials.base import Lineage
from support.drive_kinds import credential_of
from support.oauth import signer

AUTH: dict[str, Any] = {
    "type": "oauth2",
    "token_endpoint": "https://auth.example.com/oauth2/token",
    "client_id": "client-1",
    "client_secret": {"insecure_value": "secret-1"},
    "token_request": {"body": {"scope": "orders", "number": 1}},
}
REFRESHING = {**AUTH, "grant": {"type": "refresh_token", "refresh_token": {"insecure_value": "refresh-1"}}}
KEY = {"type": "jwt_bearer", "private_key": {"env": "KEY"}, "subject": "ann", "claims": {"scope": "orders"}}
SIGNED = {**AUTH, "grant": KEY, "client_secret": None}
OWNER = {"type": "password", "username": "ann", "password": {"insecure_value": "secret-1"}}


def lineage(auth: dict[str, Any], **changes: Any) -> Lineage:
    """Return the lineage of an `auth` block. A key that is None is omitted."""
    written = {key: value for key, value in {**auth, **changes}.items() if value is not None}
    return credential_of(written, {"KEY": signer().private_pem.decode()}).lineage


def differing(auth: dict[str, Any], **changes: Any) -> set[str]:
    """Return the parts of the lineage that a change affects."""
    first, second = lineage(auth), lineage(auth, **changes)
    return {part for part in ("client", "token", "proof") if getattr(first, part) != getattr(second, part)}


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({}, set()),
        ({"renewal_interval": "5s", "single_live_token": True}, set()),
        ({"token_request": {"body": {"number": 1, "scope": "orders"}}}, set()),
        ({"token_response": {"expires_in": "data.life"}}, set()),
        ({"client_secret": {"insecure_value": "secret-2"}}, {"proof"}),
        ({"client_authentication": "body"}, {"proof"}),
        ({"client_authentication": {"type": "header", "form_encoded": False}}, {"proof"}),
        ({"client_authentication": "header"}, set()),
        ({"token_request": {**AUTH["token_request"], "format": "json"}}, {"proof"}),
        ({"token_request": {"body": {"scope": "orders", "number": True}}}, {"token"}),
        ({"token_request": {"body": {"scope": "all", "number": 1}}}, {"token"}),
        ({"token_request": {"body": {"number": 1}, "query": {"scope": "orders"}}}, {"token"}),
        ({"token_response": {"access_token": "id_token"}}, {"token"}),
        ({"token_response": {"base_url": "rest_instance_url"}}, {"token"}),
        ({"token_placement": "query"}, {"token"}),
        ({"token_request": {**AUTH["token_request"], "headers": {"X-A": "b"}}}, {"token"}),
        ({"grant": {"type": "custom", "grant_type": "account_credentials"}}, {"client"}),
        ({"client_id": "client-2"}, {"client"}),
        ({"token_endpoint": "https://auth.example.com/oauth2/v2/token"}, {"client"}),
    ],
)
def test_change_affects_its_part_of_the_lineage(changes: dict[str, Any], parts: set[str]) -> None:
    """Scope, audience and parameters belong to the token; the secret and the request's form do not."""
    assert differing(AUTH, **changes) == parts


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({}, set()),
        ({"grant": {**OWNER, "username": "ben"}}, {"client"}),
        ({"grant": {**OWNER, "password": {"insecure_value": "other"}}}, {"proof"}),
        ({"token_request": {"headers": {"x_key": {"secret": {"insecure_value": "k"}}, "X-A": "b"}}}, set()),
        ({"token_request": {"headers": {"X-A": "b", "X-Key": {"secret": {"insecure_value": "j"}}}}}, {"token"}),
    ],
)
def test_user_password_and_headers_affect_their_part_of_the_lineage(changes: dict[str, Any], parts: set[str]) -> None:
    headers = {"X-A": "b", "X-Key": {"secret": {"insecure_value": "k"}}}
    assert differing({**AUTH, "grant": OWNER, "token_request": {"headers": headers}}, **changes) == parts


def test_serialized_lineage_stays_the_same() -> None:
    """A store finds refresh tokens by it, across versions."""
    assert lineage(REFRESHING).client == (
        "oauth2",
        "refresh_token",
        "https://auth.example.com/oauth2/token",
        "client-1",
        "refresh-1",
        None,
        None,
        None,
    )


def test_new_refresh_token_in_the_config_changes_the_lineage() -> None:
    """It replaces the last one that the provider returned."""
    assert differing(REFRESHING) == set()
    assert differing(REFRESHING, grant={"type": "refresh_token", "refresh_token": {"insecure_value": "refresh-2"}}) == {
        "client"
    }
    assert lineage(AUTH).client != lineage(REFRESHING).client


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({}, set()),
        ({"key_id": "k2"}, {"proof"}),
        ({"algorithm": "PS256"}, {"proof"}),
        ({"claims": {"scope": "all"}}, {"token"}),
        ({"subject": "ben"}, {"client"}),
        ({"issuer": "other"}, {"client"}),
        ({"audience": "https://auth.example.com"}, {"client"}),
    ],
)
def test_assertion_claims_belong_to_the_client_and_its_key_does_not(changes: dict[str, Any], parts: set[str]) -> None:
    """A rotated key belongs to the same client."""
    assert differing(SIGNED, grant={**KEY, **changes}) == parts


def test_secret_parameter_affects_the_lineage() -> None:
    """It may name the client."""
    body = {"body": {"api_key": {"insecure_value": "hunter2"}}}
    assert lineage(AUTH, token_request=body).token != lineage(AUTH).token
    assert "hunter2" not in repr(lineage(AUTH, token_request=body))
