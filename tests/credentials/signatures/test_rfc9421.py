"""HTTP Message Signatures: the vectors of the RFC, acceptance by a library of receivers, and errors."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import pytest
from http_message_signatures import (
    HTTPMessageVerifier,
    HTTPSignatureComponentResolver,
    HTTPSignatureKeyResolver,
    VerifyResult,
)
from http_message_signatures.algorithms import ECDSA_P256_SHA256, ED25519, HMAC_SHA256, RSA_PSS_SHA512
from hypothesis import given
from hypothesis import strategies as st

from sidekey.credentials.signatures.keys import Hmac, SigningKey, load_key
from sidekey.credentials.signatures.rfc9421 import (
    DEFAULT_COMPONENTS,
    MessageSigner,
    SignatureParameters,
    check_component,
    check_label,
    check_string,
)
from sidekey.credentials.signing import OutgoingRequest, Signer
from support.outgoing_requests import NONCE, NOW, UNIQUE, outgoing, pieces, private_key, written

SHARED = b64decode("uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==")
"""B.1.5."""

ED25519_PEM = """\
-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF
-----END PRIVATE KEY-----
"""
"""B.1.4."""

BODY = b'{"hello": "world"}'
DIGEST = f"sha-256=:{b64encode(sha256(BODY).digest()).decode()}:"
LIBRARY: dict[str, Any] = {
    "ed25519": ED25519,
    "ecdsa-p256-sha256": ECDSA_P256_SHA256,
    "rsa-pss-sha512": RSA_PSS_SHA512,
    "hmac-sha256": HMAC_SHA256,
}


def rfc_request() -> OutgoingRequest:
    """Build the request of B.2 with its signed fields."""
    lines = [
        b"\r\nHost: example.com",
        b"\r\nDate: Tue, 20 Apr 2021 02:07:55 GMT",
        b"\r\nContent-Type: application/json",
        b"\r\nContent-Length: 18",
    ]
    return OutgoingRequest(b"POST", b"https", b"example.com", b"/foo?param=Value&Pet=dog", lines)


@pytest.mark.parametrize(
    ("label", "key", "key_id", "components", "signature"),
    [
        (
            "sig-b25",
            Hmac(SHARED, "hmac-sha256"),
            "test-shared-secret",
            ("date", "@authority", "content-type"),
            "pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=",
        ),
        (
            "sig-b26",
            load_key(ED25519_PEM, "ed25519")[0],
            "test-key-ed25519",
            ("date", "@method", "@path", "@authority", "content-type", "content-length"),
            "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==",
        ),
    ],
)
def test_vectors_of_the_rfc(
    label: str, key: SigningKey, key_id: str, components: tuple[str, ...], signature: str
) -> None:
    """B.2.5 and B.2.6, the deterministic ones."""
    signer = MessageSigner(key, key_id, SignatureParameters(components, label))
    names = " ".join(f'"{name}"' for name in components)
    assert signer.check(rfc_request()) is None
    assert written(signer.sign(rfc_request(), (), 1618884473.9, UNIQUE)) == {
        "Signature-Input": f'{label}=({names});created=1618884473;keyid="{key_id}"',
        "Signature": f"{label}=:{signature}:",
    }


class Receiver(HTTPSignatureKeyResolver, HTTPSignatureComponentResolver):
    """Resolves keys and the components of a message for http-message-signatures."""

    def __init__(self, key: Any) -> None:
        self._key = key

    def resolve_public_key(self, key_id: str) -> Any:
        return self._key


class Lines:
    """Headers in the form that http-message-signatures requires, one line each."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = [line[2:].decode("latin-1").split(":", 1) for line in lines]

    def items(self) -> Iterator[tuple[str, str]]:
        return ((name, value.strip()) for name, value in self._lines)


def verified(
    request: OutgoingRequest, lines: Sequence[bytes], algorithm: str, key: Any, *, body: bytes | None = None
) -> VerifyResult:
    """Verify a signed request with the library."""
    url = f"{request.scheme.decode()}://{request.authority.decode()}{request.target.decode()}"
    message = SimpleNamespace(method=request.method.decode(), url=url, headers=Lines((*request.lines, *lines)))
    verifier = HTTPMessageVerifier(signature_algorithm=LIBRARY[algorithm], key_resolver=Receiver(key))
    (result,) = verifier.verify(message, max_age=timedelta(days=36500), body=body)
    return result


def signer_of(algorithm: str, **parameters: Any) -> tuple[Signer, Any]:
    """Return a signer, and the key that a receiver verifies with."""
    if algorithm == "hmac-sha256":
        return MessageSigner(Hmac(SHARED, algorithm), "shared", SignatureParameters(**parameters)), SHARED
    pem, public = private_key(algorithm)
    return MessageSigner(*load_key(pem, algorithm), SignatureParameters(**parameters)), public


WITH_BODY = (b"Content-Type: application/json", b"Content-Length: 18")


@pytest.mark.parametrize("algorithm", LIBRARY)
def test_library_accepts_every_algorithm(algorithm: str) -> None:
    """With all parameters and all components."""
    derived = ("@method", "@target-uri", "@authority", "@scheme", "@request-target", "@path", "@query")
    parameters = {"expires": 60, "nonce": True, "tag": 'a "tag" of \\ours', "label": "mine"}
    for components in (DEFAULT_COMPONENTS, (*derived, "x-tenant", "content-digest")):
        signer, public = signer_of(algorithm, components=components, **parameters)
        request = outgoing(*WITH_BODY, b"X-Tenant: one", b"X-Tenant:  two ")
        assert signer.check(request) is None
        now = datetime.now(UTC).timestamp()
        lines = signer.sign(request, pieces(BODY, size=5), now, UNIQUE)
        result = verified(request, lines, algorithm, public, body=BODY)
        assert result.parameters["created"] == int(now)
        assert result.parameters["expires"] == int(now) + 60
        assert result.parameters["nonce"] == NONCE.decode()
        assert result.parameters["tag"] == 'a "tag" of \\ours'
        assert written(lines)["Content-Digest"] == DIGEST
        assert signer.slow is (algorithm == "rsa-pss-sha512")


def test_signature_covers_the_base_of_the_rfc() -> None:
    """2.5, by hand. The values of a repeated field are joined."""
    components = (*DEFAULT_COMPONENTS, "x-tenant", "@query")
    signer, _ = signer_of("hmac-sha256", components=components)
    request = outgoing(*WITH_BODY, b"X-Tenant: one\t", b"x-tenant:two")
    base = (
        '"@method": POST\n'
        '"@target-uri": https://api.example.com/v1/mails?a=b\n'
        '"content-type": application/json\n'
        f'"content-digest": {DIGEST}\n'
        '"x-tenant": one, two\n'
        '"@query": ?a=b\n'
        '"@signature-params": ("@method" "@target-uri" "content-type" "content-digest" "x-tenant" "@query")'
        ';created=1614265330;keyid="shared"'
    )
    assert signer.explain(request, [BODY], NOW, UNIQUE) == [base.encode()]
    assert signer.explain(request, None, NOW, UNIQUE) == [base.replace(DIGEST, "[redacted]").encode()]


@pytest.mark.parametrize(
    ("scheme", "authority", "signed"),
    [
        (b"https", b"API.Example.com:443", b"api.example.com"),
        (b"https", b"api.example.com:80", b"api.example.com:80"),
        (b"http", b"api.example.com:80", b"api.example.com"),
        (b"http", b"[2001:DB8::1]:8080", b"[2001:db8::1]:8080"),
    ],
)
def test_authority_is_signed_in_normal_form(scheme: bytes, authority: bytes, signed: bytes) -> None:
    """2.2.3."""
    signer, _ = signer_of("hmac-sha256", components=("@authority", "@target-uri", "@query"))
    request = OutgoingRequest(b"GET", scheme, authority, b"/v1", [b"\r\nHost: " + authority])
    (text,) = signer.explain(request, (), NOW, UNIQUE)
    assert text.startswith(
        b'"@authority": %b\n"@target-uri": %b://%b/v1\n"@query": ?\n"@signature' % (signed, scheme, signed)
    )


@pytest.mark.parametrize("lines", [(), (b"Content-Length: 0",), (b"Content-Type: text/plain", b"Content-Length: 0")])
def test_request_without_a_body_omits_content_fields(lines: tuple[bytes, ...]) -> None:
    """There is no digest, either."""
    signer, public = signer_of("ed25519", components=(*DEFAULT_COMPONENTS, "content-language"))
    request = outgoing(*lines, method=b"GET")
    assert signer.check(request) is None
    result = signer.sign(request, (), NOW, UNIQUE)
    assert written(result).keys() == {"Signature-Input", "Signature"}
    covered = [*verified(request, result, "ed25519", public).covered_components]
    assert covered == ['"@method"', '"@target-uri"', '"@signature-params"']


@pytest.mark.parametrize(
    ("components", "lines", "missing"),
    [
        (DEFAULT_COMPONENTS, (b"Content-Length: 18",), "content-type"),
        (DEFAULT_COMPONENTS, (b"Transfer-Encoding: chunked",), "content-type"),
        (("x-tenant",), (), "x-tenant"),
        (("date", "x-tenant"), (b"Date: now",), "x-tenant"),
    ],
)
def test_signed_field_is_required(components: tuple[str, ...], lines: tuple[bytes, ...], missing: str) -> None:
    signer, _ = signer_of("hmac-sha256", components=components)
    problem = signer.check(outgoing(*lines))
    assert problem is not None
    assert (problem.code, problem.status) == ("request_invalid", 400)
    assert problem.detail == f"the header {missing} must be sent: the signature covers it"


@pytest.mark.parametrize("lines", [(), (b"Content-Length: 18",)], ids=["without a body", "with one"])
@pytest.mark.parametrize("components", [DEFAULT_COMPONENTS, ("@method",)])
def test_names_equal_those_of_the_written_headers(components: tuple[str, ...], lines: tuple[bytes, ...]) -> None:
    """A second signer needs them."""
    signer, _ = signer_of("hmac-sha256", components=components)
    request = outgoing(*lines)
    result = written(signer.sign(request, [BODY] if lines else [], NOW, UNIQUE))
    assert [name.decode() for name in signer.names(request)] == [name.lower() for name in result]


def test_empty_field_is_signed() -> None:
    signer, _ = signer_of("hmac-sha256", components=("x-tenant",))
    assert signer.check(outgoing(b"X-Tenant:")) is None
    assert signer.explain(outgoing(b"X-Tenant: "), (), NOW, UNIQUE)[0].startswith(b'"x-tenant": \n')


def test_rules_follow_the_components() -> None:
    """A signed digest needs the body, and callers may not send one."""
    rules = SignatureParameters().rules()
    assert rules.names == {b"signature", b"signature-input", b"content-digest"}
    assert rules.signed == {b"content-type", b"content-digest"}
    assert rules.body
    streamed = SignatureParameters(("@method", "x-tenant")).rules()
    assert streamed.names == {b"signature", b"signature-input"}
    assert streamed.signed == {b"x-tenant"}
    assert not streamed.body
    assert rules.caller_fields == streamed.caller_fields == frozenset()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("@status", "must be the name of a header, or @method"),
        ("@query-param", "must be the name of a header, or @method"),
        ("@Method", "must be the name of a header, or @method"),
        ('@query-param;name="a"', "without parameters"),
        ("x-tenant;sf", "without parameters"),
        ("Content-Type", "lower case"),
        ("via", "cannot be signed"),
        ("connection", "cannot be signed"),
        ("transfer-encoding", "cannot be signed"),
        ("x tenant", "name of a header"),
        ("", "name of a header"),
        ("signature", "cover itself"),
        ("signature_input", "cover itself"),
    ],
)
def test_invalid_component_is_refused(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_component(name)


@pytest.mark.parametrize("label", ["", "A", "1a", "a b", "é", "-a", "a;b"])
def test_invalid_label_is_refused(label: str) -> None:
    with pytest.raises(ValueError, match="RFC 8941"):
        check_label(label)
    for good in ("a", "*a", "sig1", "a_-.*"):
        check_label(good)


@pytest.mark.parametrize("text", ["", "é", "a\nb", "\x7f"])
def test_string_must_be_ascii(text: str) -> None:
    with pytest.raises(ValueError, match="RFC 8941"):
        check_string(text)
    check_string('a "b" \\c')


NAMES = ("x-a", "x-b", "date", "content-type", "content-digest", "@method", "@path", "@query", "@target-uri")
VALUES = st.text("abc ,;=()\"\\'0?", max_size=8).map(str.strip)


@given(
    components=st.lists(st.sampled_from(NAMES), min_size=1, unique=True),
    fields=st.lists(st.tuples(st.sampled_from(["X-A", "X-B", "Date", "Content-Type"]), VALUES), max_size=6),
    target=st.from_regex(r"/([a-z./-]|%2f){0,8}(\?[a-z=&?/]{0,8})?", fullmatch=True),
    body=st.binary(max_size=20),
)
def test_library_accepts_every_signable_request(
    components: list[str], fields: list[tuple[str, str]], target: str, body: bytes
) -> None:
    lines = [f"{name}: {value}".encode() for name, value in fields]
    request = outgoing(*lines, b"Content-Length: %d" % len(body), target=target.encode())
    signer, public = signer_of("ed25519", components=tuple(components))
    if signer.check(request) is None:
        result = signer.sign(request, [body], NOW, UNIQUE)
        verified(request, result, "ed25519", public, body=body if "content-digest" in components else None)
