"""The config of signatures: the keys of each scheme, every error with its location, and the resulting signer."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from sidekey.credentials.base import FixedCredential, InjectionPoints
from sidekey.credentials.context import Context
from sidekey.credentials.fields import Keys, Reference
from sidekey.credentials.signature import SignatureSettings
from sidekey.credentials.signatures.schemes import SCHEMES
from sidekey.credentials.signatures.settings import MAX_SECRETS
from sidekey.credentials.signing import OutgoingRequest
from support.outgoing_requests import NOW, UNIQUE, outgoing, private_key, written

WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SECRET = {"insecure_value": "hunter2"}
TWO = [SECRET, SECRET]
PLAIN = {"insecure_value": "hunter!2"}
CUSTOM: dict[str, Any] = {
    "scheme": "custom",
    "secret": SECRET,
    "signed": "{timestamp}.{body}",
    "headers": {"X-Signature": "t={timestamp},{signature}"},
}
ED25519: dict[str, Any] = {
    "scheme": "rfc9421",
    "algorithm": "ed25519",
    "key": {"insecure_value": private_key("ed25519")[0]},
}
SHARED: dict[str, Any] = {"scheme": "rfc9421", "algorithm": "hmac-sha256", "key": SECRET, "key_id": "shared"}


def settings_of(block: Mapping[str, Any]) -> SignatureSettings:
    return SignatureSettings.model_validate({"type": "signature", **block}, context=Context("file"))


def read(reference: Reference) -> str:
    if reference.source == "env":
        raise ValueError(f"environment variable {reference.value} is not set")
    return reference.value


def signed(block: Mapping[str, Any], request: OutgoingRequest | None = None) -> dict[str, str]:
    """Sign with the signer of a config."""
    settings = settings_of(block)
    values, reasons = settings.read(read, {})
    assert reasons == ()
    credential = settings.credential(values)
    assert isinstance(credential, FixedCredential)
    signer = credential.grant.signer
    assert signer is not None
    return written(signer.sign(request or outgoing(b"Content-Length: 4"), [b"body"], NOW, UNIQUE))


def errors(block: Mapping[str, Any]) -> dict[tuple[Any, ...], str]:
    """Return every error of a section by its location."""
    auth = {"type": "signature", **block}
    result: dict[tuple[Any, ...], str] = {}
    try:
        SignatureSettings.model_validate(auth, context=Context("file"))
    except ValidationError as error:
        for item in error.errors(include_url=False, include_input=False):
            context = item.get("ctx", {})
            result[item["loc"]] = str(context.get("error", item["type"]))
    for place, text in SignatureSettings.find_errors({"auth": auth}):
        assert place[0] == "auth"
        assert place[1:] not in result
        result[place[1:]] = text
    return result


def warnings(block: Mapping[str, Any]) -> list[tuple[Keys, str]]:
    return [*SignatureSettings.find_warnings({"auth": {"type": "signature", **block}})]


def code(text: bytes, algorithm: str = "sha256", key: bytes = b"hunter2") -> str:
    return hmac.new(key, text, algorithm).hexdigest()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_scheme_of_a_platform_accepts_only_a_secret(scheme: str) -> None:
    secret = {"insecure_value": WHSEC} if SCHEMES[scheme].asymmetric else SECRET
    assert errors({"scheme": scheme, "secret": secret}) == {}
    assert warnings({"scheme": scheme, "secret": secret}) == []
    assert {*signed({"scheme": scheme, "secret": secret})} == {*SCHEMES[scheme].headers}
    others = {**CUSTOM, "scheme": scheme, "algorithm": "hmac-sha512", "encoding": "base64", "secret_encoding": "hex"}
    others |= {"each": "a{signature}", "join": ";", "key": ED25519["key"], "key_id": "a", "components": ["@method"]}
    others |= {"expires": "5s", "nonce": True, "tag": "a", "label": "a"}
    own = {"signed", "headers", "each", "join", "encoding"}
    assert errors(others) == {
        (key,): f"may be used only with scheme {'custom' if key in own else 'rfc9421'}"
        if key not in ("algorithm", "secret_encoding")
        else "may be used only with scheme custom or rfc9421"
        for key in others.keys() - {"scheme", "secret"}
    }


def test_custom_scheme_with_all_keys() -> None:
    block = {
        "scheme": "custom",
        "secret": [{"insecure_value": "68756e74657232"}, {"insecure_value": "00ff"}],
        "secret_encoding": "hex",
        "algorithm": "hmac-sha512",
        "signed": "{timestamp}\n{method}\n{target}\n{body}",
        "encoding": "hex",
        "each": "v1={signature}",
        "join": ",",
        "headers": {"X-Signature": "t={timestamp},{signatures}"},
    }
    assert errors(block) == {}
    text = b"1614265330\nPOST\n/v1/mails?a=b\nbody"
    first, second = (code(text, "sha512", key) for key in (b"hunter2", b"\x00\xff"))
    assert signed(block) == {"X-Signature": f"t=1614265330,v1={first},v1={second}"}


def test_custom_scheme_with_defaults() -> None:
    """Text, HMAC-SHA-256 in hexadecimal, commas as separator."""
    assert errors(CUSTOM) == {}
    assert signed(CUSTOM) == {"X-Signature": f"t=1614265330,{code(b'1614265330.body')}"}
    several = {**CUSTOM, "secret": [SECRET, {"insecure_value": "b"}], "headers": {"X": "{signatures}-{timestamp}"}}
    result = signed(several)["X"]
    assert result == f"{code(b'1614265330.body')},{code(b'1614265330.body', key=b'b')}-1614265330"


def test_secret_with_whsec_is_text_in_other_schemes() -> None:
    """The prefix is part of the key, as with Stripe."""
    block = {"scheme": "stripe", "secret": {"insecure_value": WHSEC}}
    assert signed(block)["Stripe-Signature"] == f"t=1614265330,v1={code(b'1614265330.body', key=WHSEC.encode())}"


@pytest.mark.parametrize(
    ("block", "place", "reason"),
    [
        ({"scheme": "svix", "secret": SECRET}, ("secret",), "must begin with whsec_"),
        ({"scheme": "svix", "secret": [{"insecure_value": WHSEC}, SECRET]}, ("secret", "1"), "must begin with whsec_"),
        ({"scheme": "github", "secret": {"env": "NO"}}, ("secret",), "environment variable NO is not set"),
        ({**CUSTOM, "secret_encoding": "hex"}, ("secret",), "must be hex"),
        ({**CUSTOM, "secret": PLAIN, "secret_encoding": "base64"}, ("secret",), "must be base64"),
        ({**SHARED, "secret_encoding": "hex"}, ("key",), "must be hex"),
        ({**ED25519, "algorithm": "rsa-pss-sha512"}, ("key",), "must be an RSA key, as algorithm says"),
        ({**SHARED, "key_id": {"env": "NO"}}, ("key_id",), "environment variable NO is not set"),
    ],
)
def test_keys_are_checked_when_they_are_read(block: dict[str, Any], place: Keys, reason: str) -> None:
    """Each error names its location, and repeats no key."""
    values, reasons = settings_of(block).read(read, {})
    ((result, text),) = reasons
    assert result == ("auth", *place)
    assert text.startswith(reason)
    assert place not in values


def test_rfc9421_uses_the_thumbprint_as_default_key_id() -> None:
    result = signed(ED25519, outgoing(b"Content-Type: a/b", b"Content-Length: 4"))
    assert result.keys() == {"Content-Digest", "Signature-Input", "Signature"}
    parameters = '=("@method" "@target-uri" "content-type" "content-digest");created=1614265330;keyid="'
    assert result["Signature-Input"].startswith(f"sig1{parameters}")
    named = {**ED25519, "key_id": "ours", "components": ["@path"], "expires": "5m", "tag": "app", "label": "a"}
    assert signed(named)["Signature-Input"] == (
        'a=("@path");created=1614265330;expires=1614265630;keyid="ours";tag="app"'
    )
    assert signed({**SHARED, "components": ["@path"], "nonce": True})["Signature-Input"] == (
        'sig1=("@path");created=1614265330;nonce="101112131415161718191a1b1c1d1e1f";keyid="shared"'
    )


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ({"scheme": "custom"}, {("secret",): "missing", ("signed",): "missing", ("headers",): "missing"}),
        ({"scheme": "github"}, {("secret",): "missing"}),
        ({"scheme": "rfc9421"}, {("key",): "missing", ("algorithm",): "missing"}),
        ({}, {("scheme",): "missing"}),
        (
            {**CUSTOM, "algorithm": "ed25519"},
            {("algorithm",): "must be hmac-sha1, hmac-sha256, hmac-sha384 or hmac-sha512 with scheme custom"},
        ),
        (
            {**ED25519, "algorithm": "hmac-sha1"},
            {
                ("algorithm",): "must be hmac-sha256, ed25519, ecdsa-p256-sha256 or rsa-pss-sha512 with scheme rfc9421",
            },
        ),
        ({**CUSTOM, "secret": []}, {("secret",): "too_short"}),
        (
            {"scheme": "stripe", "secret": [SECRET] * (MAX_SECRETS + 1)},
            {("secret",): "must have at most 8 entries: each signs"},
        ),
        (
            {"scheme": "stripe", "secret": "hunter2"},
            {("secret",): "a secret may not be written inline"},
        ),
        ({"scheme": "stripe", "secret": [SECRET, "a"]}, {("secret", 1): "a secret may not be written inline"}),
        (
            {"scheme": "github", "secret": TWO},
            {("secret",): "github carries one signature: give one secret"},
        ),
        (
            {"scheme": "slack", "secret": TWO},
            {("secret",): "slack carries one signature: give one secret"},
        ),
        ({**CUSTOM, "signed": "{foo}{body}"}, {("signed",): "{foo} is no value here: use {id}"}),
        ({**CUSTOM, "signed": "{header:Via}"}, {("signed",): "the header Via cannot be signed"}),
        (
            {**CUSTOM, "signed": "{header:x_signature}{body}"},
            {("signed",): "{header:x-signature} is a header that this signature writes"},
        ),
        ({**CUSTOM, "signed": "{id}"}, {("signed",): "{id} is signed but in no header"}),
        ({**CUSTOM, "signed": "{nonce}"}, {("signed",): "{nonce} is signed but in no header"}),
        ({**CUSTOM, "signed": "{timestamp_ms}"}, {("signed",): "{timestamp_ms} is signed but in no header"}),
        ({**CUSTOM, "headers": {"X": "{signature}"}}, {("signed",): "{timestamp} is signed but in no header"}),
        ({**CUSTOM, "headers": {}}, {("headers",): "too_short"}),
        ({**CUSTOM, "headers": {"X": "{timestamp}"}}, {("headers",): "one must contain {signature}, or {signatures}"}),
        ({**CUSTOM, "headers": {"X": "{body}{signature}"}}, {("headers", "X"): "{body} is no value here"}),
        (
            {**CUSTOM, "headers": {"X": "{timestamp}{signature} "}},
            {("headers", "X"): "must not begin or end with a space"},
        ),
        ({**CUSTOM, "headers": {"X": "{signature}\n"}}, {("headers", "X"): "must consist of printable ASCII"}),
        ({**CUSTOM, "headers": {"X": "{signature}é"}}, {("headers", "X"): "must consist of printable ASCII"}),
        (
            {**CUSTOM, "headers": {"Via": "{timestamp}{signature}"}},
            {("headers", "Via", "[key]"): "this header may not be injected"},
        ),
        (
            {**CUSTOM, "headers": {"X_Rewrite_URL": "{timestamp}{signature}"}},
            {("headers", "X_Rewrite_URL", "[key]"): "must not be a header by which a server may take the request"},
        ),
        (
            {**CUSTOM, "headers": {"X_A": "{timestamp}", "x-a": "{signature}"}},
            {("headers",): "X_A and x-a are the same header"},
        ),
        (
            {**CUSTOM, "headers": {"X": "{timestamp}{signature}", "A": "{id}", "B": "{id}"}},
            {("headers", "B"): "A is the header of the ID already: remove one"},
        ),
        (
            {**CUSTOM, "secret": TWO},
            {("secret",): "{signature} is one signature: give one secret, or write"},
        ),
        ({**CUSTOM, "each": "a{signature}"}, {("each",): "counts in {signatures} only"}),
        ({**CUSTOM, "join": ";"}, {("join",): "counts in {signatures} only"}),
        (
            {**CUSTOM, "each": "a", "headers": {"X": "{timestamp}{signatures}"}},
            {("each",): "must contain {signature}"},
        ),
        (
            {**CUSTOM, "join": "\n", "headers": {"X": "{timestamp}{signatures}"}},
            {("join",): "must consist of printable ASCII"},
        ),
        ({**SHARED, "key_id": None}, {("algorithm",): "needs key_id: a thumbprint"}),
        ({**ED25519, "secret_encoding": "hex"}, {("secret_encoding",): "may be used only with hmac-sha256"}),
        ({**ED25519, "key": SECRET}, {("key",): "the value must be PEM"}),
        ({**ED25519, "components": []}, {("components",): "too_short"}),
        ({**ED25519, "components": ["@path", "x", "@path"]}, {("components", 2): "is there already: remove one"}),
        (
            {**ED25519, "components": ["@status", "Via", "@path"]},
            {("components", 0): "must be the name of a header, or @method", ("components", 1): "the header Via cannot"},
        ),
        ({**ED25519, "expires": "1500ms"}, {("expires",): "must be a whole number of seconds, at least 1s"}),
        ({**ED25519, "expires": "0s"}, {("expires",): "must be a whole number of seconds, at least 1s"}),
        ({**ED25519, "label": "A"}, {("label",): "must be lower case letters"}),
        ({**ED25519, "tag": "é"}, {("tag",): "must consist of printable ASCII"}),
        ({**ED25519, "key_id": "é"}, {("key_id",): "must consist of printable ASCII"}),
    ],
)
def test_errors_have_a_location_and_a_remedy(block: dict[str, Any], expected: dict[tuple[Any, ...], str]) -> None:
    result = errors(block)
    assert result.keys() == expected.keys()
    for place, text in expected.items():
        assert result[place].startswith(text)


def test_all_errors_are_reported_at_once() -> None:
    block = {
        **CUSTOM,
        "secret": TWO,
        "signed": "{timestamp_ms}{nonce}",
        "join": ";",
        "headers": {"X": "{signature}", "A": "{id}", "B": "{id}"},
        "label": "a",
    }
    auth = {"type": "signature", **block}
    result = [place for place, _ in SignatureSettings.find_errors({"auth": auth})]
    assert (
        result == [("auth", key) for key in ("secret", "join")] + [("auth", "headers", "B")] + [("auth", "signed")] * 2
    )
    with pytest.raises(ValidationError, match="may be used only with scheme rfc9421"):
        settings_of(block)


@pytest.mark.parametrize(
    ("block", "place"),
    [
        ({**CUSTOM, "signed": "{timestamp}.{target}"}, "signed"),
        ({**ED25519, "components": ["@method", "@target-uri"]}, "components"),
    ],
)
def test_unsigned_body_causes_a_warning(block: dict[str, Any], place: str) -> None:
    assert errors(block) == {}
    ((result, text),) = warnings(block)
    assert result == ("auth", place)
    assert text.startswith("the body is not signed")
    for other in (CUSTOM, {**CUSTOM, "signed": "{timestamp}{body_sha256}"}, ED25519, SHARED):
        assert warnings(other) == []


@pytest.mark.parametrize("key", ["0123456789abcdef", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "a1" * 8, "1a" * 16])
@pytest.mark.parametrize("signed", ["KEY{timestamp}.{body}", "{timestamp}:KEY:{body}", "{timestamp}.{body}.KEY"])
def test_key_in_the_template_causes_a_warning(signed: str, key: str) -> None:
    """`sidekey explain` prints the template. The warning does not repeat the key."""
    ((place, text),) = warnings({**CUSTOM, "signed": signed.replace("KEY", key)})
    assert place == ("auth", "signed")
    assert text.startswith("has what looks like a key")
    assert key not in text


def test_long_template_is_scanned_in_linear_time() -> None:
    """Otherwise the search would hold the interpreter for a quarter of an hour."""
    assert warnings({**CUSTOM, "signed": "a" * 500_000 + "{timestamp}.{body}"}) == []


@pytest.mark.parametrize(
    "text",
    [
        "application/json;charset=utf-8",
        "/webhooks/v1/orders/created",
        "acme-webhook-signature-v1",
        "notificationservice",
        "20260131235959000000",
        "2026-01-31",
        "57246542-96fe-1a63-e053-0824d011072a",
    ],
)
def test_words_and_numbers_in_the_template_cause_no_warning(text: str) -> None:
    assert warnings({**CUSTOM, "signed": f"{{timestamp}}:{text}:{{body}}"}) == []


@pytest.mark.parametrize("raw", [None, [], "x", {"scheme": 1}, {"scheme": []}, {"scheme": "custom", "headers": []}])
def test_invalid_section_is_reported_by_the_model_only(raw: object) -> None:
    assert not list(SignatureSettings.find_errors({"auth": raw}))
    assert not list(SignatureSettings.find_warnings({"auth": raw}))


@pytest.mark.parametrize("block", [CUSTOM, ED25519, SHARED, {"scheme": "github", "secret": SECRET}])
def test_traits_have_a_signer_and_no_injection_points(block: dict[str, Any]) -> None:
    traits = settings_of(block).traits()
    assert traits.injection_points == InjectionPoints()
    assert not traits.calls
    assert traits.signing is not None
    lines = signed(block, outgoing(b"Content-Type: a/b", b"Content-Length: 4"))
    assert traits.signing.names == {name.lower().encode() for name in lines}
