"""Private keys: which algorithm accepts them, thumbprints, and redaction."""

from __future__ import annotations

import pickle
from base64 import urlsafe_b64decode

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from joserfc.jwk import ECKey, OKPKey, RSAKey

from sidekey.credentials.signatures.keys import load_key
from support.outgoing_requests import private_key

ALGORITHMS = ("ed25519", "ecdsa-p256-sha256", "rsa-pss-sha512")


def pem_of(key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def test_thumbprint_of_the_rfc() -> None:
    """RFC 8037 A.3."""
    seed = urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    pem = pem_of(ed25519.Ed25519PrivateKey.from_private_bytes(seed))
    assert load_key(pem, "ed25519")[1] == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


@pytest.mark.parametrize(
    ("algorithm", "library"), [("ed25519", OKPKey), ("ecdsa-p256-sha256", ECKey), ("rsa-pss-sha512", RSAKey)]
)
def test_thumbprint_equals_joserfc(algorithm: str, library: type[OKPKey | ECKey | RSAKey]) -> None:
    """RFC 7638."""
    pem, _ = private_key(algorithm)
    assert load_key(pem, algorithm)[1] == library.import_key(pem).thumbprint()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_key_of_another_algorithm_is_refused(algorithm: str) -> None:
    others = [private_key(other)[0] for other in ALGORITHMS if other != algorithm]
    for pem in (*others, pem_of(ec.generate_private_key(ec.SECP384R1()))):
        with pytest.raises(ValueError, match=r"^must be .* as algorithm says$") as caught:
            load_key(pem, algorithm)
        assert caught.value.__cause__ is None


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_invalid_private_key_is_refused(algorithm: str) -> None:
    """Without the library's message or the key."""
    pem, public = private_key(algorithm)
    for text in ("-----BEGIN PRIVATE KEY-----\naGk=\n-----END PRIVATE KEY-----\n", public.decode()):
        with pytest.raises(ValueError, match=r"^must be a private key in PEM$"):
            load_key(text, algorithm)
    key = ed25519.Ed25519PrivateKey.generate()
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")).decode()
    with pytest.raises(ValueError, match="must not be encrypted"):
        load_key(locked, algorithm)
    assert load_key(pem, algorithm)


def test_short_rsa_key_is_refused() -> None:
    with pytest.raises(ValueError, match="2048 to 4096 bits"):
        load_key(pem_of(rsa.generate_private_key(65537, 1024)), "rsa-pss-sha512")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_key_is_redacted_and_not_pickled(algorithm: str) -> None:
    key, _ = load_key(private_key(algorithm)[0], algorithm)
    assert repr(key) == str(key) == f"{type(key).__name__}(REDACTED)"
    assert key.asymmetric
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(key)
