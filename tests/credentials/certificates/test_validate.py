import hashlib
from base64 import b64encode
from dataclasses import replace
from datetime import timedelta
from itertools import count

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from sidekey.credentials.certificates import chain as chains
from sidekey.credentials.certificates.validate import CertificateCheck, CertificateInput, check_client_certificate
from support.certificates import NOW, SERVER_AUTH, issue, private_chain

CHAIN = private_chain()
LEAF, KEY = CHAIN.leaf, CHAIN.leaf.key_pem
OTHER = issue("other.example")
PRESENT = NOW.timestamp()


def judged(certificate: bytes | None, key: bytes | None, passphrase: str | None = None) -> CertificateCheck:
    return check_client_certificate(CertificateInput(certificate, key, passphrase), PRESENT, allow_private_ca=True)


def combined(pem: bytes, passphrase: str | None = None) -> CertificateCheck:
    return check_client_certificate(
        CertificateInput(pem, pem, passphrase, combined=True), PRESENT, allow_private_ca=True
    )


def test_valid_pair_becomes_an_identity() -> None:
    examined = judged(CHAIN.pem, KEY)
    identity = examined.identity
    assert identity is not None
    assert (examined.errors, examined.warnings) == ((), ())
    assert (identity.chain, identity.key) == (CHAIN.pem, KEY)
    assert identity.fingerprint == hashlib.sha256(CHAIN.pem + KEY).hexdigest()
    assert identity.not_before == (NOW - timedelta(days=1)).timestamp()
    assert identity.not_after == (NOW + timedelta(days=89)).timestamp()
    assert (identity.subject, identity.issuer) == ("CN=client.example", "CN=Bank Client CA")


@pytest.mark.parametrize(
    "pem",
    [
        KEY + CHAIN.pem,
        CHAIN.intermediate.pem + KEY + LEAF.pem,
        LEAF.pem + LEAF.pem + CHAIN.intermediate.pem + LEAF.key_as(PrivateFormat.TraditionalOpenSSL),
    ],
    ids=["key first", "intermediate first", "the leaf twice, another form"],
)
def test_equal_content_has_an_equal_fingerprint(pem: bytes) -> None:
    """In any order of the blocks: connection pools compare it."""
    assert combined(pem) == judged(CHAIN.pem, KEY)


def test_root_of_a_chain_stays_in_the_chain() -> None:
    identity = judged(CHAIN.root.pem + CHAIN.pem, KEY).identity
    assert identity is not None
    assert identity.chain == CHAIN.pem + CHAIN.root.pem


def test_certificate_of_the_key_is_the_leaf() -> None:
    """An unrelated certificate before it causes a warning, and is not sent."""
    examined = judged(OTHER.pem + CHAIN.pem, KEY)
    assert examined.identity == judged(CHAIN.pem, KEY).identity
    assert [place for place, _ in examined.warnings] == ["certificate"]


def test_newer_certificate_of_the_key_is_the_leaf() -> None:
    """The old one may have stayed in the file after a renewal."""
    renewed = issue(issuer=CHAIN.intermediate, key=LEAF.key, life=timedelta(days=365))
    identity = judged(CHAIN.pem + renewed.pem, KEY).identity
    assert identity is not None
    assert identity.not_after == (NOW + timedelta(days=364)).timestamp()


def test_encrypted_key_is_decrypted() -> None:
    """The identity has the key without a passphrase, and Sidekey writes it nowhere."""
    assert judged(CHAIN.pem, LEAF.key_as(passphrase="hunter2"), "hunter2") == judged(CHAIN.pem, KEY)


ASKS = "this private key is encrypted: write its passphrase as key_passphrase"
BOTH = "write pem, which takes both"
SWAPPED = "certificate and private_key are swapped"


@pytest.mark.parametrize(
    ("certificate", "key", "passphrase", "expected"),
    [
        (b"hunter2", b"hunter2", None, {"certificate": "is not PEM", "private_key": "is not PEM"}),
        (KEY, LEAF.pem, None, {"certificate": SWAPPED, "private_key": SWAPPED}),
        (KEY, KEY, None, {"certificate": "must be a certificate, but is a private key"}),
        (LEAF.pem, LEAF.pem, None, {"private_key": "must be a private key, but is a certificate"}),
        (LEAF.pem + KEY, LEAF.pem + KEY, None, {"certificate": BOTH, "private_key": BOTH}),
        (CHAIN.pem, OTHER.key_pem, None, {"private_key": "does not belong to the certificate of CN=client.example"}),
        (CHAIN.pem, KEY + OTHER.key_pem, None, {"private_key": "this PEM must contain only one private key"}),
        (CHAIN.pem, LEAF.key_as(passphrase="a"), None, {"private_key": ASKS}),
        (CHAIN.pem, LEAF.key_as(passphrase="a"), "b", {"key_passphrase": "does not decrypt the private key"}),
        (CHAIN.pem, KEY, "b", {"key_passphrase": "is not encrypted"}),
        (CHAIN.pem, LEAF.key_as(PrivateFormat.OpenSSH), None, {"private_key": "this is an SSH key"}),
        (LEAF.der, LEAF.key_as(encoding=Encoding.DER), None, {"certificate": "in DER", "private_key": "in DER"}),
        (LEAF.pem.replace(b"MII", b"MIA"), KEY, None, {"certificate": "this certificate is damaged"}),
        (LEAF.pem + LEAF.pem.replace(b"MII", b"MIA"), KEY, None, {"certificate": "certificate 2 of this PEM is dam"}),
        (LEAF.pem, KEY.replace(b"MIG", b"MIA"), None, {"private_key": "this private key is damaged"}),
        (
            b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n",
            b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n",
            None,
            {
                "certificate": "this PEM contains no certificate",
                "private_key": "this PEM contains no private key",
            },
        ),
    ],
)
def test_errors_have_a_location(
    certificate: bytes, key: bytes, passphrase: str | None, expected: dict[str, str]
) -> None:
    """All errors at once, and no identity."""
    examined = judged(certificate, key, passphrase)
    assert examined.identity is None
    errors = dict(examined.errors)
    assert errors.keys() == expected.keys()
    assert [place for place, reason in expected.items() if reason not in errors[place]] == []


def test_errors_of_certificate_and_key_are_reported_at_once() -> None:
    """An expired, weak, self-signed certificate of another key."""
    weak = issue(key=rsa.generate_private_key(65537, 1024), life=timedelta(hours=1), usages=[SERVER_AUTH])
    examined = check_client_certificate(CertificateInput(weak.pem, KEY), PRESENT)
    assert [place for place, _ in examined.errors] == ["private_key", "certificate", "certificate", "certificate"]
    text = "\n".join(reason for _, reason in examined.errors)
    assert all(word in text for word in ("does not belong to", "expired on", "RSA with 1024 bits", "self-signed"))
    assert len(examined.warnings) == 1


def test_errors_of_a_combined_pem_are_located_at_pem() -> None:
    assert [place for place, _ in combined(OTHER.pem + KEY).errors] == ["pem"]
    assert [place for place, _ in combined(b"hunter2").errors] == ["pem"]
    assert [place for place, _ in combined(CHAIN.pem).errors] == ["pem"]
    assert [place for place, _ in combined(KEY).errors] == ["pem"]


@pytest.mark.parametrize(("certificate", "key"), [(CHAIN.pem, None), (None, KEY), (None, None)], ids=count())
def test_missing_part_causes_no_error(certificate: bytes | None, key: bytes | None) -> None:
    """Its reader reports it, and the other part is checked."""
    result = judged(certificate, key)
    assert replace(result, not_after=None) == CertificateCheck()
    assert (result.not_after is None) is (certificate is None)
    assert judged(b"", None).errors == (("certificate", "this is empty"),)


def test_private_ca_requires_consent() -> None:
    """Consent skips no other check."""
    refused = check_client_certificate(CertificateInput(CHAIN.pem, KEY), PRESENT)
    assert refused.identity is None
    assert [reason.partition("write allow")[1] for _, reason in refused.errors] == ["write allow"]
    assert (
        check_client_certificate(CertificateInput(CHAIN.pem, KEY), PRESENT + 1e9, allow_private_ca=True).identity
        is None
    )


def test_public_ca_requires_no_consent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundle contains the test's CA here."""
    monkeypatch.setattr(certifi, "contents", CHAIN.root.pem.decode)
    chains.mozilla_roots.cache_clear()
    try:
        assert check_client_certificate(CertificateInput(CHAIN.pem, KEY), PRESENT).identity is not None
        assert check_client_certificate(CertificateInput(LEAF.pem, KEY), PRESENT).identity is None
    finally:
        monkeypatch.undo()
        chains.mozilla_roots.cache_clear()


PIECES = st.sampled_from([LEAF.pem, KEY, OTHER.pem, OTHER.key_pem, LEAF.key_as(PrivateFormat.TraditionalOpenSSL)])


@st.composite
def nearly(draw: st.DrawFn) -> bytes:
    """Generate valid pieces with some changed bytes."""
    data = bytearray(b"".join(draw(st.lists(PIECES, min_size=1, max_size=3))))
    for _ in range(draw(st.integers(0, 3))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.sampled_from(b"AQMg/+=- \nz9") | st.integers(0, 255))
    return bytes(data)


@pytest.mark.parametrize("tag", [0x03, 0xF8], ids=["bit string", "unknown type"])
def test_name_with_a_wrong_type_of_string_is_an_error(tag: int) -> None:
    common_name = b"\x06\x03\x55\x04\x03"
    der = x509.load_pem_x509_certificate(LEAF.pem).public_bytes(Encoding.DER)
    assert common_name + b"\x0c" in der
    changed = der.replace(common_name + b"\x0c", common_name + tag.to_bytes())
    pem = b"-----BEGIN CERTIFICATE-----\n" + b64encode(changed) + b"\n-----END CERTIFICATE-----\n"
    examined = check_client_certificate(CertificateInput(pem, KEY, combined=False), PRESENT, allow_private_ca=True)
    assert [text for _, text in examined.errors if "is damaged" in text]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@given(nearly() | st.binary(max_size=100), nearly() | st.binary(max_size=100), st.booleans(), st.booleans())
def test_any_bytes_result_in_errors_or_an_identity(
    certificate: bytes, key: bytes, combined: bool, consent: bool
) -> None:
    """No exception is raised, and no message repeats bytes of a key."""
    examined = check_client_certificate(
        CertificateInput(certificate, certificate if combined else key, combined=combined),
        PRESENT,
        allow_private_ca=consent,
    )
    assert (examined.identity is None) == bool(examined.errors)
    text = f"{examined!r}"
    assert not any(line in text for line in KEY.decode().splitlines()[1:-1])


def test_expiry_is_reported_despite_other_errors() -> None:
    end = LEAF.certificate.not_valid_after_utc.timestamp()
    for key, now in ((KEY, PRESENT), (OTHER.key_pem, PRESENT), (KEY, end + 1), (None, PRESENT)):
        assert check_client_certificate(CertificateInput(LEAF.pem, key), now).not_after == end
    assert judged(b"not PEM", KEY).not_after is None
