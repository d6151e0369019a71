"""The kind `jwt`: validation of its keys, and the tokens that it signs."""

from __future__ import annotations

import base64
import sys
from typing import Any

import jwt
import pytest
from pydantic import ValidationError

from sidekey.credentials import jose
from sidekey.credentials.base import Attempt, CallingCredential, Destinations, InjectionPoints, Issued, Lineage, Verdict
from sidekey.credentials.fields import SecretUnreadable
from sidekey.credentials.jwt import BACKDATING
from support.drive_kinds import NOW, credential_of, settings_of
from support.oauth import signer
from support.stored import CANARY, JWT, PREFIX, assessed, draft, open_secrets, previous_row, stored

SECRET = "0123456789abcdef" * 2
AUTH: dict[str, Any] = {"type": "jwt", "algorithm": "HS256", "secret": {"env": "KEY"}}
SIGNED: dict[str, Any] = {"type": "jwt", "algorithm": "RS256", "private_key": {"env": "KEY"}}


def credential_from(auth: dict[str, Any], key: str | None = None) -> CallingCredential:
    """Build the credential of an `auth` block."""
    pem = signer().private_pem.decode()
    return credential_of(auth, {"KEY": key or (SECRET if auth["algorithm"][:2] == "HS" else pem)})


def issue(credential: CallingCredential, now: float = NOW) -> Issued:
    """Return the issued grant; no call may be yielded."""
    with pytest.raises(StopIteration) as done:
        next(credential.obtain(Attempt(now)))
    result: Issued = done.value.value
    return result


def token_of(credential: CallingCredential, now: float = NOW) -> str:
    ((_, value),) = issue(credential, now).grant.headers
    return value.removeprefix("Bearer ")


def claims_of(credential: CallingCredential, key: str = SECRET) -> dict[str, Any]:
    """Return the claims, without checking their times."""
    algorithms = ["HS256", "HS384", "HS512"]
    options: Any = {"verify_exp": False, "verify_aud": False, "verify_iat": False}
    return jwt.decode(token_of(credential), key, algorithms=algorithms, options=options)


def errors(auth: dict[str, Any]) -> dict[tuple[int | str, ...], str]:
    with pytest.raises(ValidationError) as caught:
        settings_of(auth)
    return {error["loc"][1:]: error["msg"].removeprefix("Value error, ") for error in caught.value.errors()}


def test_token_is_backdated_by_half_a_minute() -> None:
    """A grant lives as long as its token. Sidekey renews it after half of that."""
    result = claims_of(credential_from({**AUTH, "lifetime": "20m"}))
    assert result == {"iat": int(NOW) - BACKDATING, "exp": int(NOW) - BACKDATING + 1200}
    grant = issue(credential_from({**AUTH, "lifetime": "20m"}), NOW + 0.75)
    assert grant.lifetime == pytest.approx(1200 - BACKDATING - 0.75)
    assert grant.renewed_after == grant.lifetime / 2
    assert grant.memory is None
    assert grant.grant.secrets == (token_of(credential_from({**AUTH, "lifetime": "20m"})).encode(),)


def test_claims_keep_their_types_and_order() -> None:
    """Secrets among them are read."""
    claims = {"iss": "me", "sub": "you", "aud": ["a", "b"], "list": [1, 1.5, True, {"deep": {"env": "KEY"}}]}
    result = claims_of(credential_from({**AUTH, "claims": claims, "jti": True}))
    assert result.pop("jti")
    assert [*result] == ["iss", "sub", "aud", "list", "iat", "exp"]
    assert result["list"] == [1, 1.5, True, {"deep": SECRET}]
    assert result["aud"] == ["a", "b"]


def test_secret_claim_is_a_secret_of_the_grant() -> None:
    """The upstream can read it in the token, and may repeat it without the token."""
    auth = {**AUTH, "claims": {"iss": "me", "list": [{"deep": {"env": "KEY"}}]}}
    token = token_of(credential_from(auth))
    assert issue(credential_from(auth)).grant.secrets == (token.encode(), SECRET.encode())
    assert issue(credential_from({**auth, "token_placement": "query"})).grant.secret_pairs() == (
        ("access_token", token),
    )


def test_jti_makes_every_token_unique() -> None:
    """Without `jti`, two tokens of one second are equal."""
    assert token_of(credential_from(AUTH)) == token_of(credential_from(AUTH))
    assert len({claims_of(credential_from({**AUTH, "jti": True}))["jti"] for _ in range(5)}) == 5


def test_fingerprint_replaces_its_placeholder_in_texts() -> None:
    """In lists and mappings too, but not in a secret."""
    claims = {"iss": "A.SHA256:{public_key_sha256}", "deep": [{"a": "{public_key_sha256}{public_key_sha256}"}]}
    secret = {"env": "BRACES"}
    credential = credential_of(
        {**SIGNED, "claims": {**claims, "secret": secret}},
        {"KEY": signer().private_pem.decode(), "BRACES": "{public_key_sha256}"},
    )
    result = jwt.decode(token_of(credential), options={"verify_signature": False})
    fingerprint = jose.public_key_sha256(signer().private_pem.decode())
    assert len(base64.b64decode(fingerprint)) == 32
    assert result["iss"] == f"A.SHA256:{fingerprint}"
    assert result["deep"] == [{"a": fingerprint * 2}]
    assert result["secret"] == "{public_key_sha256}"


@pytest.mark.parametrize(
    ("changes", "place", "reason"),
    [
        ({"algorithm": "none"}, "algorithm", "Input should be"),
        ({"secret": None}, "secret", "Field required"),
        ({"private_key": {"env": "KEY"}}, "private_key", "HS256 signs by a secret"),
        ({"algorithm": "RS256", "private_key": {"env": "KEY"}}, "secret", "RS256 signs by a private_key"),
        ({"algorithm": "ES256", "secret": None}, "private_key", "Field required"),
        ({"secret_encoding": "base32"}, "secret_encoding", "Input should be"),
        ({"lifetime": "59s"}, "lifetime", "must be 1m to 24h"),
        ({"lifetime": "25h"}, "lifetime", "must be 1m to 24h"),
        ({"key_id": ""}, "key_id", "must not be empty"),
        ({"claims": {"exp": 5}}, "claims.exp", "lifetime decides them"),
        ({"claims": {"iat": 5}}, "claims.iat", "lifetime decides them"),
        ({"claims": {"nbf": 5}}, "claims.nbf", "lifetime decides them"),
        ({"claims": {"jti": "x"}}, "claims.jti", "write jti: true"),
        ({"claims": {"a": [1, {"b": "{x}"}]}}, "claims.a.1.b", "must not contain braces"),
        ({"claims": {"a": "}"}}, "claims.a", "must not contain braces"),
        ({"claims": {"a": "{public_key_sha256}"}}, "claims.a", "needs a private key: HS256 has a secret"),
        ({"claims": {"a": None}}, "claims.a", "must be a text, a number"),
        ({"token_placement": "cookie"}, "token_placement", "must be header, body, query"),
    ],
)
def test_error_has_its_key_and_the_rule(changes: dict[str, Any], place: str, reason: str) -> None:
    auth = {key: value for key, value in {**AUTH, **changes}.items() if value is not None}
    result = {".".join(map(str, key)): text for key, text in errors(auth).items()}
    assert reason in result[place]


def test_secret_encoding_needs_a_secret() -> None:
    assert errors({**SIGNED, "secret_encoding": "hex"}) == {("secret_encoding",): "may be used only with secret"}


def test_all_errors_of_claims_are_reported_at_once() -> None:
    result = errors({**AUTH, "claims": {"exp": 5, "jti": "x", "a": "{", "b": ["}"]}})
    assert set(result) == {("claims", "exp"), ("claims", "jti"), ("claims", "a"), ("claims", "b", 0)}


def test_keys_are_checked_when_they_are_read() -> None:
    """Each error has its location."""
    claims = {"a": [{"env": "ABSENT"}]}
    with pytest.raises(SecretUnreadable) as caught:
        credential_from({**SIGNED, "algorithm": "ES256", "claims": claims})
    assert dict(caught.value.reasons) == {
        ("auth", "private_key"): "must be a key on the curve secp256r1 for ES256",
        ("auth", "claims", "a", "0"): "environment variable ABSENT is not set",
    }
    with pytest.raises(SecretUnreadable) as caught:
        credential_from({**AUTH, "secret_encoding": "hex"}, "abcdef")
    ((place, reason),) = caught.value.reasons
    assert place == ("auth", "secret")
    assert reason.startswith("must have at least 32 bytes for HS256 (RFC 7518 3.2)")


def test_error_names_the_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "joserfc", None)
    (message,) = errors(AUTH).values()
    assert message == "signed tokens need joserfc: install from the checkout with the extra jwt"


def test_only_a_401_rejects_the_token() -> None:
    result = {status: credential_from(AUTH).verdict(status, None) for status in (200, 401, 403, 500)}
    assert result == {200: Verdict.GOOD, 401: Verdict.REJECTED, 403: Verdict.GOOD, 500: Verdict.GOOD}


def test_traits_need_no_key() -> None:
    """It makes no call and adds no destination."""
    settings = settings_of({**AUTH, "renewal_interval": "5s", "token_placement": {"in": "header", "name": "X-T"}})
    traits = settings.traits()
    assert (traits.injection_points, traits.calls, traits.signs_tokens, traits.grants_expire) == (
        InjectionPoints(headers=("X-T",)),
        False,
        True,
        True,
    )
    assert (traits.watched, traits.renewal_interval) == (frozenset({401}), 5.0)
    assert not traits.needs_lease
    assert settings.destinations({}) == Destinations()
    assert settings.needs_prefix


def lineage(**changes: Any) -> Lineage:
    return credential_from({**AUTH, "claims": {"a": 1, "b": 2}, **changes}).lineage


def test_change_of_any_token_key_changes_the_lineage() -> None:
    """Other keys leave it unchanged."""
    same = ({"renewal_interval": "5s"}, {"claims": {"b": 2, "a": 1}}, {"secret": {"insecure_value": SECRET}})
    assert [lineage(**item) == lineage() for item in same] == [True] * len(same)
    other: tuple[dict[str, Any], ...] = (
        {"claims": {"a": True, "b": 2}},
        {"claims": {"a": 1.5, "b": 2}},
        {"lifetime": "1m"},
        {"jti": True},
        {"key_id": "k"},
        {"token_placement": "query"},
        {"secret": {"insecure_value": SECRET[::-1]}},
        {"secret": {"insecure_value": SECRET * 2}, "secret_encoding": "hex"},
    )
    assert [lineage(**item) != lineage() for item in other] == [True] * len(other)


@pytest.mark.parametrize("key", ["iss", "aud", "sub", "issuer", "audience", "subject", "scope"])
def test_claim_outside_of_claims_gets_a_hint(key: str) -> None:
    name = {"issuer": "iss", "audience": "aud", "subject": "sub"}.get(key, key)
    assert type(settings_of(AUTH)).hint(key) == f"this is a claim: write claims: {{{name}: ...}}"


def test_other_unknown_key_gets_no_hint() -> None:
    assert type(settings_of(AUTH)).hint("exp") == ""


def test_placement_with_disadvantages_is_a_warning() -> None:
    kind = type(settings_of(AUTH))
    (result,) = kind.find_warnings({"auth": {**AUTH, "token_placement": "query"}})
    assert result[0] == ("auth", "token_placement")
    assert [*kind.find_warnings({"auth": AUTH})] == []


def test_stored_claim_in_a_list_is_kept_at_any_position() -> None:
    """A public value next to it changes the destination."""
    document = {**PREFIX, "auth": {**JWT["auth"], "claims": {"keys": [{"value": f"{CANARY}-one"}]}}}
    row = stored(document)
    (kept,) = previous_row(row).saved.content["auth"]["claims"]["keys"]
    assert set(kept) == {"set", "id"}
    moved = {
        **PREFIX,
        "auth": {
            **JWT["auth"],
            "secret": previous_row(row).saved.content["auth"]["secret"],
            "claims": {"keys": [{"value": "new"}, kept]},
        },
    }
    result = draft(moved, previous_row(row))
    assert len(result.kept) == 2
    assert list(result.entered.values()) == ["new"]
    after = stored(moved, before=row)
    assert sorted(open_secrets(after).values.values()) == sorted(
        [JWT["auth"]["secret"]["value"], f"{CANARY}-one", "new"]
    )
    extended = {**moved, "auth": {**moved["auth"], "claims": {"keys": [kept, "public"]}}}
    assert assessed(extended, previous_row(row)).draft is None
