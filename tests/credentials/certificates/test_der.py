"""Subject and key of certificates, as cryptography reads them."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sidekey.credentials.certificates import der
from support.certificates import Key, issue
from support.keys import private_key

KEYS: dict[str, Key] = {
    "P-256": ec.generate_private_key(ec.SECP256R1()),
    "RSA": private_key("RS256"),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
}


@pytest.mark.parametrize("kind", KEYS)
def test_the_key_of_a_certificate_is_read(kind: str) -> None:
    """It is the same in every certificate of the key, and in no other."""
    key = KEYS[kind]
    whole = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    one, other = issue("one", key=key), issue("other", key=key, authority=True)
    found = der.public_key(one.der)
    assert whole.endswith(found)
    assert len(whole) - len(found) < 40
    assert der.public_key(other.der) == found
    assert len({der.public_key(issue(key=each).der) for each in KEYS.values()}) == len(KEYS)


def test_the_subject_is_read() -> None:
    """The content of the name, which begins with its first part."""
    certificate = issue("a subject").certificate
    assert der.subject(certificate.public_bytes(Encoding.DER)) == certificate.subject.public_bytes()[2:]


@pytest.mark.parametrize("text", [b"", b"\x30", b"\x30\x05\x01", b"\x30\x00", b"\x30\x02\x30\x00", b"\x30\x82"])
def test_what_is_no_certificate_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        der.public_key(text)
