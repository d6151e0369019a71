"""DER and PEM: fields of certificates as cryptography reads them, blocks, and descriptions of other data."""

from __future__ import annotations

import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs7,
    pkcs12,
)
from hypothesis import given
from hypothesis import strategies as st

from sidekey.credentials.certificates import pem_der
from support.certificates import Key, issue, name
from support.keys import private_key

KEYS: dict[str, Key] = {
    "P-256": ec.generate_private_key(ec.SECP256R1()),
    "RSA": private_key("RS256"),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
}


@pytest.mark.parametrize("kind", KEYS)
def test_public_key_is_read_from_a_certificate(kind: str) -> None:
    """It is equal for all certificates of a key, and for no others."""
    key = KEYS[kind]
    whole = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    first, second = issue("one", key=key), issue("other", key=key, authority=True)
    result = pem_der.public_key(first.der)
    assert whole.endswith(result)
    assert len(whole) - len(result) < 40
    assert pem_der.public_key(second.der) == result
    assert len({pem_der.public_key(issue(key=key).der) for key in KEYS.values()}) == len(KEYS)


def test_subject_is_read_from_a_certificate() -> None:
    certificate = issue("a subject").certificate
    assert pem_der.subject(certificate.public_bytes(Encoding.DER)) == certificate.subject.public_bytes()[2:]


@pytest.mark.parametrize("text", [b"", b"\x30", b"\x30\x05\x01", b"\x30\x00", b"\x30\x02\x30\x00", b"\x30\x82"])
def test_data_without_a_certificate_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        pem_der.public_key(text)


ISSUED = issue()
PUBLIC = ISSUED.key.public_key()
REQUEST = x509.CertificateSigningRequestBuilder(name("a"), []).sign(ISSUED.key, SHA256())
PKCS12 = pkcs12.serialize_key_and_certificates(b"a", ISSUED.key, ISSUED.certificate, [], NoEncryption())
BAG = pkcs7.serialize_certificates([ISSUED.certificate], Encoding.DER)
OPENSSH = PrivateFormat.OpenSSH


def reason_for(data: bytes) -> str:
    """Return why the data has no block."""
    with pytest.raises(ValueError, match=r"^(?:this|in this) ") as caught:
        pem_der.parse_pem(data)
    return str(caught.value)


def test_blocks_are_parsed_in_order() -> None:
    """Without the text around them, as from openssl pkcs12."""
    data = b"Bag Attributes\n    localKeyID: 01\n" + ISSUED.pem + b"Key Attributes: <No Attributes>\n" + ISSUED.key_pem
    result = pem_der.parse_pem(data)
    assert [block.label for block in result] == ["CERTIFICATE", "PRIVATE KEY"]
    assert result[0].der == ISSUED.der


@pytest.mark.parametrize(("old", "new"), [(b"\n", b"\r\n"), (b"\n", b" "), (b"\n", b""), (b"\n", b"\n\n  ")])
def test_line_endings_do_not_matter(old: bytes, new: bytes) -> None:
    """Windows writes other ones, and environment variables often have spaces instead."""
    assert [block.der for block in pem_der.parse_pem(b"\xef\xbb\xbf" + ISSUED.pem.replace(old, new))] == [ISSUED.der]


def test_block_encrypted_by_headers_keeps_its_text() -> None:
    """RFC 1421."""
    data = ISSUED.key_as(PrivateFormat.TraditionalOpenSSL, "hunter2")
    (block,) = pem_der.parse_pem(b"words\n" + data)
    assert (block.label, block.der, block.encrypted) == ("EC PRIVATE KEY", b"", data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (ISSUED.pem[:-30], "this PEM is cut off: a block has no -----END line"),
        (ISSUED.pem[:100] + ISSUED.pem, "this PEM is cut off: a block has no -----END line"),
        (ISSUED.pem.replace(b"MII", b"M*I"), "this PEM is damaged: a block contains what is not base64"),
        (ISSUED.pem.replace(b"\n", b"\\n"), "this PEM has the two characters \\n where lines end: write line breaks"),
    ],
    ids=["cut off", "cut into", "damaged", "escaped"],
)
def test_damaged_pem_is_reported(data: bytes, reason: str) -> None:
    assert reason_for(data) == reason


NO_PEM = [
    (b"", "empty"),
    (b"\xef\xbb\xbf \r\n", "empty"),
    (ISSUED.der, "a certificate in DER, not PEM: convert it with openssl x509 -inform der"),
    (ISSUED.key_as(encoding=Encoding.DER), "a private key in DER"),
    (ISSUED.key_as(PrivateFormat.TraditionalOpenSSL, encoding=Encoding.DER), "a private key in DER"),
    (ISSUED.key_as(passphrase="hunter2", encoding=Encoding.DER), "a private key in DER"),
    (PUBLIC.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), "a public key in DER"),
    (REQUEST.public_bytes(Encoding.DER), "a certificate request in DER"),
    (PKCS12, "PKCS#12 (.p12, .pfx), not PEM: convert it with openssl pkcs12 -noenc"),
    (BAG, "PKCS#7, not PEM"),
    (b"\x30\x80\x02\x01\x03\x30\x80", "PKCS#12"),
    (b"\xfe\xed\xfe\xed\x00\x00\x00\x02", "a Java keystore"),
    (b"\xce\xce\xce\xce\x00\x00\x00\x02", "a Java keystore"),
    (b"PuTTY-User-Key-File-3: ssh-ed25519\r\n", "an SSH key (PuTTY)"),
    (b"ssh-ed25519 AAAAC3 me@host\n", "the public half of an SSH key"),
    (b"ecdsa-sha2-nistp256 AAAAE2 me@host\n", "the public half of an SSH key"),
    (b"---- BEGIN SSH2 PUBLIC KEY ----\n", "the public half of an SSH key"),
    (b"\n<!DOCTYPE html><title>Sign in</title>", "an HTML or XML page, not PEM: a download may have failed"),
    (b'{"errors": ["permission denied"]}', "JSON, not PEM"),
    (b'{"kty": "EC", "d": "hunter2"}', "a JSON Web Key, not PEM"),
    (b'{"errors": ', "not PEM: no line begins with -----BEGIN"),
    (ISSUED.pem.decode().encode("utf-16"), "UTF-16 text, not PEM: save it as plain text"),
    (base64.b64encode(ISSUED.pem), "PEM encoded in base64 again: decode it"),
    (base64.encodebytes(ISSUED.der), "base64 without the lines -----BEGIN and -----END around it"),
    (base64.b64encode(bytes(100)), "not PEM: no line begins with -----BEGIN"),
    (b"A" * 65, "not PEM: no line begins with -----BEGIN"),
    (b"hunter2", "not PEM: no line begins with -----BEGIN"),
    (b"\x30\x85\x01\x01\x01\x01\x01", "not PEM: no line begins with -----BEGIN"),
    (b"\x30\x03\x30\x01\x05", "not PEM: no line begins with -----BEGIN"),
    (b"\x30\x02\x05\x00", "not PEM: no line begins with -----BEGIN"),
]


@pytest.mark.parametrize(("data", "reason"), NO_PEM, ids=[reason for _, reason in NO_PEM])
def test_other_data_is_described(data: bytes, reason: str) -> None:
    """The message names the conversion, if there is one."""
    assert reason_for(data).startswith(f"this is {reason}")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (ISSUED.key_as(OPENSSH), "an SSH key (OpenSSH's own format), not a key for TLS"),
        (REQUEST.public_bytes(Encoding.PEM), "a certificate request, not the certificate that was issued for it"),
        (PUBLIC.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "a public key"),
        (pkcs7.serialize_certificates([ISSUED.certificate], Encoding.PEM), "PKCS#7"),
    ],
    ids=["OpenSSH", "a request", "a public key", "PKCS#7"],
)
def test_other_blocks_are_described(data: bytes, words: str) -> None:
    """The words follow "this is"."""
    (block,) = pem_der.parse_pem(data)
    assert (pem_der.describe_block(block.label) or "").startswith(words)


def test_block_with_parameters_has_no_description() -> None:
    """openssl ecparam -genkey writes them before the key."""
    assert pem_der.describe_block("EC PARAMETERS") is None


@given(st.binary(max_size=200) | st.text("-BEGIN CERT\n", max_size=80).map(str.encode))
def test_any_bytes_are_blocks_or_a_reason(data: bytes) -> None:
    """No other exception is raised."""
    try:
        assert pem_der.parse_pem(data)
    except ValueError as error:
        assert str(error).startswith(("this ", "in this "))


@given(st.binary(max_size=40).map(lambda tail: b"\x30\x82" + tail))
def test_any_der_has_a_description(data: bytes) -> None:
    assert pem_der.describe_data(data)


def test_deeply_nested_json_is_described() -> None:
    """Deeper than the parser goes."""
    assert pem_der.describe_data(b"[" * 100_000) == "not PEM: no line begins with -----BEGIN"


def test_encrypted_data_is_recognized_by_its_structure() -> None:
    """A passphrase-protected PKCS#12 begins like another."""
    locked = pkcs12.serialize_key_and_certificates(
        b"a",
        ISSUED.key,
        ISSUED.certificate,
        [],
        BestAvailableEncryption(b"hunter2"),
    )
    assert reason_for(locked).startswith("this is PKCS#12")


def test_a_pem_is_split_into_certificates_and_keys() -> None:
    """Each in their order, apart from all other text; a PEM that is cut off has neither."""
    certificate, key = ISSUED.pem.decode(), ISSUED.key_pem.decode()
    other = issue("other.example").pem.decode()
    encrypted = ISSUED.key_as(PrivateFormat.TraditionalOpenSSL, "hunter2").decode()
    parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    result = pem_der.split_pem(f"words\n{key}{other}{parameters}{certificate}")
    assert result == pem_der.PemParts(other + certificate, key, f"words\n\n\n{parameters}\n")
    assert pem_der.split_pem(encrypted + certificate) == pem_der.PemParts(certificate, encrypted, "\n\n")
    assert pem_der.split_pem(certificate) == pem_der.PemParts(certificate, "", "\n")
    for unreadable in ("hunter2", f"{certificate}{key[:-10]}"):
        assert pem_der.split_pem(unreadable) == pem_der.PemParts("", "", unreadable)
