"""Tokens of files: the check of their form, and the expiry that is read without verification."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from contextlib import nullcontext, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.credentials.token_file import LEEWAY, FileToken, check_expiry, check_token
from support.drive_kinds import NOW

API_SERVER = "must not be a token for the Kubernetes API server"


def jws(claims: Any) -> str:
    """Build an unsigned JWS in compact form."""
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    return ".".join(
        urlsafe_b64encode(part).decode().rstrip("=") for part in (b'{"alg":"ES256"}', payload, b"signature")
    )


@pytest.mark.parametrize("text", ["", "a b", "a\u00e9", "a\tb", "a\u200bb"])
def test_invalid_token_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a token"):
        check_token(text)


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "https://kubernetes.default.svc"},
        {"aud": ["vault", "https://kubernetes.default.svc.cluster.local"]},
        {"iss": "https://container.example.com/c", "aud": ["https://container.example.com/c"], "kubernetes.io": {}},
        {"iss": "kubernetes/serviceaccount"},
    ],
)
def test_token_of_the_api_server_is_refused(claims: dict[str, Any]) -> None:
    """The default audience of a pod's token, whatever the cluster calls it, and the tokens in Secrets."""
    with pytest.raises(ValueError, match=API_SERVER):
        check_token(jws(claims))


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://oidc.example.com", "aud": ["api://AzureADTokenExchange"], "kubernetes.io": {}},
        {"iss": "https://as.example.com", "aud": "https://as.example.com"},
        {"aud": None},
        {},
    ],
)
def test_token_with_another_audience_is_accepted(claims: dict[str, Any]) -> None:
    check_token(jws(claims))


@pytest.mark.parametrize(
    ("expiry", "valid"),
    [
        (NOW + 1, True),
        (NOW - LEEWAY, True),
        (NOW - LEEWAY - 1, False),
        (0, False),
        (-1, True),
        ("1", True),
        (None, True),
        (10**400, True),
        ([[]], True),
    ],
)
def test_expired_token_is_not_sent(expiry: object, valid: bool) -> None:
    """Values that are no time are the server's affair."""
    with nullcontext() if valid else pytest.raises(ValueError, match="the token in token expired on "):
        check_expiry("token", jws({"exp": expiry}), NOW)


def test_time_of_the_expiry_is_named() -> None:
    with pytest.raises(ValueError, match="expired") as raised:
        check_expiry("/run/secrets/t", jws({"exp": 1_782_864_000}), NOW)
    assert str(raised.value) == (
        "the token in /run/secrets/t expired on 2026-07-01 00:00:00 UTC: is the file still refreshed?"
    )


@given(st.one_of(st.binary(), st.text().map(lambda text: json.dumps({"exp": text, "iss": text}).encode())))
def test_any_payload_is_read_without_a_defect(payload: bytes) -> None:
    for text in (jws(payload), jws(b'{"exp":' + payload + b"}"), "[" * 3 + ".", payload.decode("latin-1")):
        with suppress(ValueError):
            check_expiry("token", text, NOW)
        assert len(FileToken("token", text).identity) == 3


@pytest.mark.parametrize(
    "payload", [b"[" * 100_000, b'{"exp": 1e999}', b'{"exp": NaN}', b'{"iss": "\\ud800"}', b"1" * 5000]
)
def test_hostile_payload_is_opaque(payload: bytes) -> None:
    token = FileToken("token", jws(payload))
    check_token(token.text)
    check_expiry(token.path, token.text, NOW)
    "".join(token.identity).encode()


def test_rotation_keeps_the_identity_and_another_subject_does_not() -> None:
    first, rotated, other = (
        FileToken("token", jws({"iss": "c", "sub": sub, "exp": exp})).identity
        for sub, exp in (("a", 1), ("a", 2), ("b", 1))
    )
    assert first == rotated != other
    assert FileToken("token", "opaque").identity == FileToken("token", "renewed").identity
    assert FileToken("token", "opaque").identity != FileToken("other", "opaque").identity
