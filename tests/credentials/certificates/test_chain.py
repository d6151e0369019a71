"""Certificate chains: order, errors, warnings, and trust in Mozilla's bundle."""

import subprocess
from datetime import timedelta
from itertools import count
from pathlib import Path

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from sidekey.credentials.certificates import chain
from sidekey.credentials.certificates.pem_der import parse_pem
from support import programs
from support.certificates import CLIENT_AUTH, NOW, SERVER_AUTH, IssuedCertificate, issue, private_chain, signed_with

CHAIN = private_chain(issuers_url="http://ca.bank.example/client.cer")
ROOT, INTERMEDIATE, LEAF = (certificate.certificate for certificate in (CHAIN.root, CHAIN.intermediate, CHAIN.leaf))
STRANGER = issue("stranger.example").certificate
PRESENT = NOW.timestamp()
PUBLIC = [chain.read_certificate(block.der) for block in parse_pem(certifi.contents().encode())]


@pytest.mark.parametrize("others", [[ROOT, INTERMEDIATE], [INTERMEDIATE, STRANGER, ROOT]], ids=count())
def test_chain_is_ordered(others: list[x509.Certificate]) -> None:
    """Leaf first, each certified by the next one (RFC 8446 4.4.2)."""
    assert chain.build_chain(LEAF, others) == [LEAF, INTERMEDIATE, ROOT]


def test_chain_ends_at_a_missing_issuer() -> None:
    assert chain.build_chain(LEAF, [ROOT]) == [LEAF]


def test_issuer_must_match_by_signature() -> None:
    impostor = issue("Bank Client CA", authority=True).certificate
    assert chain.build_chain(LEAF, [impostor, INTERMEDIATE]) == [LEAF, INTERMEDIATE]
    assert not chain.is_issued_by(LEAF, impostor)


def test_cross_certificates_end_the_chain() -> None:
    first = issue("one", issue("two", authority=True), authority=True)
    second = issue("two", first, authority=True)
    assert chain.build_chain(second.certificate, [first.certificate, second.certificate])[:2] == [
        second.certificate,
        first.certificate,
    ]


def test_likely_leaf_issued_no_other_certificate() -> None:
    """In any order."""
    assert chain.likely_leaf([ROOT, INTERMEDIATE, LEAF]) is LEAF
    assert chain.likely_leaf([STRANGER]) is STRANGER


def test_unrelated_certificate_causes_a_warning() -> None:
    """Sidekey does not send it."""
    assert list(chain.unrelated_certificates([LEAF], [LEAF, STRANGER])) == [
        "the certificate of CN=stranger.example is not part of the chain and is not sent"
    ]


@pytest.mark.parametrize(
    ("days", "result"),
    [
        (0, []),
        (89, ["this certificate expired on 2026-08-29 00:00 UTC"]),
        (-2, ["this certificate is valid only from 2026-05-31 00:00 UTC on"]),
    ],
)
def test_leaf_outside_its_validity_is_an_error(days: int, result: list[str]) -> None:
    """To the second; the message has the date."""
    assert list(chain.chain_errors([LEAF, INTERMEDIATE], PRESENT + days * 86400)) == result
    assert list(chain.chain_errors([LEAF, INTERMEDIATE], LEAF.not_valid_after_utc.timestamp() - 1)) == []


def test_weak_key_in_the_chain_is_an_error() -> None:
    """OpenSSL refuses to send such a chain."""
    weak = issue("Weak CA", authority=True, key=rsa.generate_private_key(65537, 1024))
    leaf = issue(issuer=weak, key=rsa.generate_private_key(65537, 1024))
    reason = "is too weak: its key is RSA with 1024 bits: at least 2048 are needed"
    assert list(chain.chain_errors([leaf.certificate, weak.certificate], PRESENT)) == [
        f"this certificate {reason}",
        f"the certificate of CN=Weak CA {reason}",
    ]


@pytest.mark.parametrize("digest", ["sha1", "md5"])
def test_weak_signature_is_an_error_except_of_a_root(digest: str, tmp_path: Path) -> None:
    """Nobody verifies the signature of a root."""
    (block,) = parse_pem(signed_with(digest, tmp_path)[0])
    weak = chain.read_certificate(block.der)
    now = weak.not_valid_before_utc.timestamp() + 1
    assert list(chain.chain_errors([weak], now)) == [
        f"this certificate is too weak: it is signed with {digest.upper()}"
    ]
    assert list(chain.chain_errors([LEAF, weak], PRESENT)) == []


def test_weak_signature_does_not_end_the_chain(tmp_path: Path) -> None:
    """It is the only error, without a missing issuer."""
    ca, leaf = tmp_path / "ca", tmp_path / "leaf"
    for name in (ca, leaf):
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key"]
        key += ["-subj", f"/CN={name.name}"]
        issuer = [] if name is ca else ["-CA", f"{ca}.crt", "-CAkey", f"{ca}.key"]
        command = [programs.require("openssl"), "req", "-x509", "-sha1", *key, *issuer, "-out", f"{name}.crt"]
        subprocess.run(command, check=True, capture_output=True)
    authority, weak = (
        chain.read_certificate(parse_pem(name.with_suffix(".crt").read_bytes())[0].der) for name in (ca, leaf)
    )
    assert chain.build_chain(weak, [authority]) == [weak, authority]
    now = weak.not_valid_before_utc.timestamp() + 1
    assert list(chain.chain_errors([weak, authority], now)) == ["this certificate is too weak: it is signed with SHA1"]


@pytest.mark.parametrize(
    ("issued", "result"),
    [
        (issue(), []),
        (issue(usages=None), []),
        (issue(usages=[SERVER_AUTH, CLIENT_AUTH]), []),
        (issue(usages=[x509.ObjectIdentifier("2.5.29.37.0")]), []),
        (issue("Sub CA", CHAIN.root, authority=True), ["this is the certificate of a CA, not of a client"]),
        (issue("Root", authority=True), []),
        (issue(usages=[SERVER_AUTH]), ["the extended key usage lacks clientAuth, so many servers refuse"]),
        (issue(signs=False), ["the key usage lacks digitalSignature, so servers refuse this certificate"]),
    ],
    ids=count(),
)
def test_properties_that_servers_refuse_cause_warnings(issued: IssuedCertificate, result: list[str]) -> None:
    remarks = list(chain.certificate_warnings([issued.certificate], PRESENT))
    assert len(remarks) == len(result)
    assert all(remark.startswith(certificate) for remark, certificate in zip(remarks, result, strict=True))


def test_expired_intermediate_causes_a_warning() -> None:
    """A server may have a newer one."""
    old = issue("Old CA", CHAIN.root, authority=True, life=timedelta(hours=1))
    leaf = issue(issuer=old)
    assert list(chain.certificate_warnings([leaf.certificate, old.certificate], PRESENT)) == [
        "the certificate of CN=Old CA, which is in the chain, expired on 2026-05-31 01:00 UTC"
    ]


def test_every_ca_of_mozillas_bundle_is_trusted() -> None:
    assert len(PUBLIC) > 100
    assert [root.subject for root in PUBLIC if chain.mozilla_trust_error([root]) is not None] == []


def test_self_signed_certificate_is_reported() -> None:
    """With its issuer and the line to write."""
    assert chain.mozilla_trust_error([STRANGER]) == (
        "this certificate is self-signed (its issuer is CN=stranger.example): if that is intended, "
        "write allow_private_ca: true"
    )


def test_private_ca_is_reported() -> None:
    assert chain.mozilla_trust_error([LEAF, INTERMEDIATE, ROOT]) == (
        "this certificate leads to CN=Bank Root CA, which is not a CA of Mozilla's bundle: "
        "if that CA is intended (banks have their own), write allow_private_ca: true"
    )


def test_missing_intermediate_is_reported_with_its_url() -> None:
    """The URL is in the certificate."""
    reason = chain.mozilla_trust_error([LEAF])
    assert reason is not None
    assert reason.startswith(
        "the issuer CN=Bank Client CA is neither in the chain nor a CA of Mozilla's bundle: add the"
    )
    assert "(it is at http://ca.bank.example/client.cer)" in reason
    assert reason.endswith("write allow_private_ca: true")
    assert "it is at" not in (chain.mozilla_trust_error([LEAF, INTERMEDIATE]) or "")


def test_issuer_with_the_name_of_a_public_ca_is_reported() -> None:
    key = rsa.generate_private_key(65537, 2048)
    public = next(certificate for certificate in PUBLIC if isinstance(certificate.public_key(), rsa.RSAPublicKey))
    impostor = IssuedCertificate(public, key)
    reason = chain.mozilla_trust_error([issue(issuer=impostor).certificate])
    assert reason is not None
    assert "has the name of a CA of Mozilla's bundle but another key" in reason


@pytest.mark.parametrize("url", ["ldap://ca/ cn", "http://ca.example/\x07", "http://ca.example/" + "a" * 200])
def test_unprintable_url_is_not_in_the_message(url: str) -> None:
    leaf = issue(issuer=CHAIN.intermediate, issuers_url=url).certificate
    assert "it is at" not in (chain.mozilla_trust_error([leaf]) or "")


def test_names_are_printable_and_shortened() -> None:
    """They come from a file and go into logs."""
    odd = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a\n\x1b[31m")])
    long = x509.Name([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "b" * 60)] * 3)
    assert chain.name_of(odd) == "CN=a??[31m"
    assert len(chain.name_of(long)) == 123
    assert chain.name_of(x509.Name([])) == "(no name)"


@pytest.mark.parametrize("der", [b"", b"hunter2", CHAIN.leaf.der[:-1], CHAIN.leaf.der + b"\0"], ids=count())
def test_damaged_certificate_is_reported(der: bytes) -> None:
    """Without the library's message."""
    with pytest.raises(ValueError, match=r"^is damaged$"):
        chain.read_certificate(der)
