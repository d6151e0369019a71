import subprocess
from itertools import count
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sidekey.credentials.certificates import keys
from sidekey.credentials.certificates.pem_der import PemBlock, parse_pem
from support import programs
from support.certificates import issue
from support.keys import private_key

ISSUED = issue()
PKCS1 = issue(key=private_key("RS256"))
TRADITIONAL = PrivateFormat.TraditionalOpenSSL


def block(data: bytes) -> PemBlock:
    (result,) = parse_pem(data)
    return result


def integers(*values: int) -> bytes:
    """In DER."""
    return b"".join(
        bytes((2, length)) + value.to_bytes(length, "big")
        for value in values
        for length in [value.bit_length() // 8 + 1]
    )


@pytest.mark.parametrize(
    ("data", "passphrase"),
    [
        (ISSUED.key_pem, None),
        (ISSUED.key_as(TRADITIONAL), None),
        (ISSUED.key_as(passphrase="hunter2"), "hunter2"),
        (ISSUED.key_as(TRADITIONAL, "hunter2"), "hunter2"),
        (ISSUED.key_as(passphrase="schlüssel"), "schlüssel"),
        (PKCS1.key_as(TRADITIONAL), None),
        (PKCS1.key_as(TRADITIONAL, "hunter2"), "hunter2"),
    ],
    ids=["PKCS#8", "SEC 1", "encrypted PKCS#8", "encrypted SEC 1", "UTF-8", "PKCS#1", "encrypted PKCS#1"],
)
def test_every_form_of_a_key_is_opened(data: bytes, passphrase: str | None) -> None:
    """All are then the same key in PKCS#8 without a passphrase."""
    key = keys.open_key(block(data), passphrase)
    assert keys.to_pem(key) in (ISSUED.key_pem, PKCS1.key_pem)


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, TRADITIONAL])
def test_encrypted_key_requires_its_passphrase(form: PrivateFormat) -> None:
    """The error names the key of the config."""
    data = block(ISSUED.key_as(form, "hunter2"))
    with pytest.raises(ValueError, match=r"^this private key is encrypted: write its passphrase as key_passphrase$"):
        keys.open_key(data, None)
    with pytest.raises(keys.PassphraseError, match=r"^this passphrase does not decrypt the private key; "):
        keys.open_key(data, "hunter3")


@pytest.mark.parametrize(
    ("options", "more"),
    [
        (["-v2", "aes256"], None),
        (["-iter", "100000"], None),
        (["-iter", "40000"], (integers(40_000), integers(2_000_001))),
        (["-v1", "PBE-SHA1-3DES", "-iter", "40000"], (integers(40_000), integers(2_000_001))),
        (["-scrypt"], None),
        (["-scrypt"], (integers(8, 1), integers(8, 16))),
    ],
    ids=count(),
)
def test_rounds_of_an_encrypted_key_are_limited(
    tmp_path: Path, options: list[str], more: tuple[bytes, bytes] | None
) -> None:
    """What derives a key of a passphrase holds the interpreter: whoever sends one may stop all requests for hours.

    A key that asks for too many rounds is one of fewer that says more.
    """
    (tmp_path / "key").write_bytes(ISSUED.key_pem)
    command: list[str | Path] = [
        programs.require("openssl"),
        "pkcs8",
        "-topk8",
        "-in",
        tmp_path / "key",
        "-passout",
        "pass:hunter2",
        *options,
    ]
    data = block(subprocess.run(command, check=True, capture_output=True).stdout)
    if more is None:
        assert keys.to_pem(keys.open_key(data, "hunter2")) == ISSUED.key_pem
        return
    assert data.der.count(more[0]) == 1
    data = PemBlock(data.label, data.der.replace(*more))
    with pytest.raises(ValueError, match=r"^this private key must be encrypted with at most 2000000 rounds: "):
        keys.open_key(data, "hunter2")


@pytest.mark.parametrize(
    "der",
    [b"", b"hunter2", b"\x30\x00", b"\x30\x14" + b"\x30\x12" + bytes.fromhex("3010300e300c300a30083006300430023000")],
    ids=count(),
)
def test_damaged_encrypted_key_is_reported(der: bytes) -> None:
    """One of them is nested too deeply for the parser."""
    with pytest.raises(ValueError, match=r"^this private key is damaged$"):
        keys.open_key(PemBlock("ENCRYPTED PRIVATE KEY", der), "hunter2")


def test_unnecessary_passphrase_is_an_error() -> None:
    """It may be the wrong key."""
    with pytest.raises(keys.PassphraseError, match=r"^the private key is not encrypted: remove this key$"):
        keys.open_key(block(ISSUED.key_pem), "hunter2")


@pytest.mark.parametrize("der", [b"", b"hunter2", ISSUED.der, b"\x30\x03\x02\x01\x00"], ids=count())
def test_damaged_key_is_reported(der: bytes) -> None:
    """Without the library's message."""
    with pytest.raises(ValueError, match=r"^this private key is damaged$"):
        keys.open_key(PemBlock("PRIVATE KEY", der), None)


def test_key_agreement_key_is_refused() -> None:
    """TLS needs a signature."""
    data = x25519.X25519PrivateKey.generate().private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(ValueError, match=r"^this private key is of a type that TLS cannot use"):
        keys.open_key(PemBlock("PRIVATE KEY", data), None)


def test_unsupported_encryption_is_reported() -> None:
    """openssl can convert it."""
    command = [programs.require("openssl"), "pkcs8", "-topk8", "-v2", "aria-256-cbc", "-passout", "pass:a"]
    locked = subprocess.run(command, input=ISSUED.key_pem, capture_output=True, check=True).stdout
    with pytest.raises(ValueError, match=r"openssl pkcs8 -topk8"):
        keys.open_key(block(locked), "a")


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (rsa.generate_private_key(65537, 1024), "RSA with 1024 bits: at least 2048 are needed"),
        (ec.generate_private_key(ec.SECP192R1()), "on the curve secp192r1: at least P-256 is needed"),
        (ec.generate_private_key(ec.SECP224R1()), "on the curve secp224r1: at least P-256 is needed"),
        (x25519.X25519PrivateKey.generate(), "of a type that TLS cannot use"),
    ],
)
def test_weak_key_is_reported(key: rsa.RSAPrivateKey, reason: str) -> None:
    """With the required strength."""
    assert (keys.find_weakness(key.public_key()) or "").startswith(reason)


@pytest.mark.parametrize(
    "key",
    [
        PKCS1.key,
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP521R1()),
        ec.generate_private_key(ec.BrainpoolP256R1()),
        ed25519.Ed25519PrivateKey.generate(),
        ed448.Ed448PrivateKey.generate(),
    ],
)
def test_strong_key_is_accepted(key: rsa.RSAPrivateKey) -> None:
    """All types that sign in TLS 1.2 and 1.3."""
    assert keys.find_weakness(key.public_key()) is None
