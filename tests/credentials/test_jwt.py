"""credentials/jwt.py: what a config may say, and what is signed of it."""

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
from support.stored import CANARY, JWT, PREFIX, draft, former, judged, opened, stored

SECRET = "0123456789abcdef" * 2
AUTH: dict[str, Any] = {"type": "jwt", "algorithm": "HS256", "secret": {"env": "KEY"}}
SIGNED: dict[str, Any] = {"type": "jwt", "algorithm": "RS256", "private_key": {"env": "KEY"}}


def made(auth: dict[str, Any], key: str | None = None) -> CallingCredential:
    """The credential of an `auth` block."""
    pem = signer().private_pem.decode()
    return credential_of(auth, {"KEY": key or (SECRET if auth["algorithm"][:2] == "HS" else pem)})


def issued(credential: CallingCredential, now: float = NOW) -> Issued:
    """What is issued; no call is yielded."""
    with pytest.raises(StopIteration) as done:
        next(credential.obtain(Attempt(now)))
    found: Issued = done.value.value
    return found


def token_of(credential: CallingCredential, now: float = NOW) -> str:
    ((_, value),) = issued(credential, now).grant.headers
    return value.removeprefix("Bearer ")


def claims_of(credential: CallingCredential, key: str = SECRET) -> dict[str, Any]:
    """The claims, at whatever time."""
    algorithms = ["HS256", "HS384", "HS512"]
    options: Any = {"verify_exp": False, "verify_aud": False, "verify_iat": False}
    return jwt.decode(token_of(credential), key, algorithms=algorithms, options=options)


def errors(auth: dict[str, Any]) -> dict[tuple[int | str, ...], str]:
    with pytest.raises(ValidationError) as caught:
        settings_of(auth)
    return {error["loc"][1:]: error["msg"].removeprefix("Value error, ") for error in caught.value.errors()}


def test_times_count_from_half_a_minute_ago() -> None:
    """And a grant lives as long as its token does, of which half is used before another is signed."""
    found = claims_of(made({**AUTH, "lifetime": "20m"}))
    assert found == {"iat": int(NOW) - BACKDATING, "exp": int(NOW) - BACKDATING + 1200}
    grant = issued(made({**AUTH, "lifetime": "20m"}), NOW + 0.75)
    assert grant.lifetime == pytest.approx(1200 - BACKDATING - 0.75)
    assert grant.renewed_after == grant.lifetime / 2
    assert grant.memory is None
    assert grant.grant.secrets == (token_of(made({**AUTH, "lifetime": "20m"})).encode(),)


def test_claims_arrive_as_they_are_written() -> None:
    """Lists, numbers and mappings, in their order; secrets among them are read."""
    claims = {"iss": "me", "sub": "you", "aud": ["a", "b"], "list": [1, 1.5, True, {"deep": {"env": "KEY"}}]}
    found = claims_of(made({**AUTH, "claims": claims, "jti": True}))
    assert found.pop("jti")
    assert [*found] == ["iss", "sub", "aud", "list", "iat", "exp"]
    assert found["list"] == [1, 1.5, True, {"deep": SECRET}]
    assert found["aud"] == ["a", "b"]


def test_a_secret_among_the_claims_is_one_of_the_grant() -> None:
    """Whoever has the token reads it there, and may repeat it without the token."""
    made_of = {**AUTH, "claims": {"iss": "me", "list": [{"deep": {"env": "KEY"}}]}}
    token = token_of(made(made_of))
    assert issued(made(made_of)).grant.secrets == (token.encode(), SECRET.encode())
    assert issued(made({**made_of, "token_placement": "query"})).grant.secret_pairs() == (("access_token", token),)


def test_each_token_has_an_id_of_its_own_where_it_has_one() -> None:
    """Without `jti` two of one second are the same."""
    assert token_of(made(AUTH)) == token_of(made(AUTH))
    assert len({claims_of(made({**AUTH, "jti": True}))["jti"] for _ in range(5)}) == 5


def test_the_fingerprint_stands_where_a_text_has_its_place() -> None:
    """In lists and mappings too; a secret that looks so stays what it is."""
    claims = {"iss": "A.SHA256:{public_key_sha256}", "deep": [{"a": "{public_key_sha256}{public_key_sha256}"}]}
    secret = {"env": "BRACES"}
    credential = credential_of(
        {**SIGNED, "claims": {**claims, "secret": secret}},
        {"KEY": signer().private_pem.decode(), "BRACES": "{public_key_sha256}"},
    )
    found = jwt.decode(token_of(credential), options={"verify_signature": False})
    fingerprint = jose.public_key_sha256(signer().private_pem.decode())
    assert len(base64.b64decode(fingerprint)) == 32
    assert found["iss"] == f"A.SHA256:{fingerprint}"
    assert found["deep"] == [{"a": fingerprint * 2}]
    assert found["secret"] == "{public_key_sha256}"


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
def test_an_error_is_at_its_key(changes: dict[str, Any], place: str, reason: str) -> None:
    """And says what must be true."""
    auth = {key: value for key, value in {**AUTH, **changes}.items() if value is not None}
    found = {".".join(map(str, key)): text for key, text in errors(auth).items()}
    assert reason in found[place]


def test_an_encoding_is_a_secrets() -> None:
    assert errors({**SIGNED, "secret_encoding": "hex"}) == {("secret_encoding",): "may be used only with secret"}


def test_all_errors_of_claims_come_at_once() -> None:
    """Those of the claims themselves."""
    found = errors({**AUTH, "claims": {"exp": 5, "jti": "x", "a": "{", "b": ["}"]}})
    assert set(found) == {("claims", "exp"), ("claims", "jti"), ("claims", "a"), ("claims", "b", 0)}


def test_keys_are_checked_when_they_are_read() -> None:
    """Each at its place, with those of claims."""
    claims = {"a": [{"env": "ABSENT"}]}
    with pytest.raises(SecretUnreadable) as caught:
        made({**SIGNED, "algorithm": "ES256", "claims": claims})
    assert dict(caught.value.reasons) == {
        ("auth", "private_key"): "must be a key on the curve secp256r1 for ES256",
        ("auth", "claims", "a", "0"): "environment variable ABSENT is not set",
    }
    with pytest.raises(SecretUnreadable) as caught:
        made({**AUTH, "secret_encoding": "hex"}, "abcdef")
    ((place, reason),) = caught.value.reasons
    assert place == ("auth", "secret")
    assert reason.startswith("must have at least 32 bytes for HS256 (RFC 7518 3.2)")


def test_without_the_extra_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "joserfc", None)
    (message,) = errors(AUTH).values()
    assert message == "signed tokens need joserfc: install from the checkout with the extra jwt"


def test_only_a_401_is_about_the_token() -> None:
    """Another one has other times, and another ID."""
    found = {status: made(AUTH).verdict(status, None) for status in (200, 401, 403, 500)}
    assert found == {200: Verdict.GOOD, 401: Verdict.REJECTED, 403: Verdict.GOOD, 500: Verdict.GOOD}


def test_what_is_known_before_a_key_is_read() -> None:
    """It calls nowhere, and goes nowhere by itself."""
    settings = settings_of({**AUTH, "renewal_interval": "5s", "token_placement": {"in": "header", "name": "X-T"}})
    traits = settings.traits()
    assert (traits.injection_points, traits.calls, traits.signs, traits.ends) == (
        InjectionPoints(headers=("X-T",)),
        False,
        True,
        True,
    )
    assert (traits.watched, traits.renewal_interval) == (frozenset({401}), 5.0)
    assert not traits.one_at_a_time
    assert settings.destinations({}) == Destinations()
    assert settings.needs_prefix


def lineage(**changes: Any) -> Lineage:
    return made({**AUTH, "claims": {"a": 1, "b": 2}, **changes}).lineage


def test_a_change_of_a_token_begins_another() -> None:
    """Whatever is no part of one leaves it what it is."""
    same = ({"renewal_interval": "5s"}, {"claims": {"b": 2, "a": 1}}, {"secret": {"insecure_value": SECRET}})
    assert [lineage(**each) == lineage() for each in same] == [True] * len(same)
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
    assert [lineage(**each) != lineage() for each in other] == [True] * len(other)


@pytest.mark.parametrize("key", ["iss", "aud", "sub", "issuer", "audience", "subject", "scope"])
def test_a_claim_beside_the_claims_is_told_where_it_belongs(key: str) -> None:
    """By the name that it has there."""
    name = {"issuer": "iss", "audience": "aud", "subject": "sub"}.get(key, key)
    assert type(settings_of(AUTH)).hint(key) == f"this is a claim: write claims: {{{name}: ...}}"


def test_another_key_is_no_claim() -> None:
    assert type(settings_of(AUTH)).hint("exp") == ""


def test_a_placement_with_disadvantages_is_told() -> None:
    """As of every token."""
    kind = type(settings_of(AUTH))
    (found,) = kind.find_warnings({"auth": {**AUTH, "token_placement": "query"}})
    assert found[0] == ("auth", "token_placement")
    assert [*kind.find_warnings({"auth": AUTH})] == []


def test_a_stored_claim_in_a_list_is_kept_wherever_it_stands() -> None:
    """Adding one before it re-enters none; a public one beside it is another destination."""
    document = {**PREFIX, "auth": {**JWT["auth"], "claims": {"keys": [{"value": f"{CANARY}-one"}]}}}
    row = stored(document)
    (kept,) = former(row).saved.content["auth"]["claims"]["keys"]
    assert set(kept) == {"set", "id"}
    moved = {
        **PREFIX,
        "auth": {
            **JWT["auth"],
            "secret": former(row).saved.content["auth"]["secret"],
            "claims": {"keys": [{"value": "new"}, kept]},
        },
    }
    found = draft(moved, former(row))
    assert len(found.kept) == 2
    assert list(found.entered.values()) == ["new"]
    after = stored(moved, before=row)
    assert sorted(opened(after).values.values()) == sorted([JWT["auth"]["secret"]["value"], f"{CANARY}-one", "new"])
    beside = {**moved, "auth": {**moved["auth"], "claims": {"keys": [kept, "public"]}}}
    assert judged(beside, former(row)).draft is None
