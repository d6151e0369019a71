"""Certificates of CAs and leaves, as OpenSSL verifies them."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID

from sidekey.ca.authorities import MARK, LocalAuthority
from sidekey.ca.certificates import (
    BACKDATING,
    CA_LIFETIME,
    LEAF_LIFETIME,
    LeafSigner,
    build_name_constraints,
    create_authority,
    create_key,
    read_bounds,
)
from sidekey.ca.scope import Bounds
from support import programs
from support.local_cas import DAY, NOW, authority_of, scope_of

EVERYTHING = ("https://api.example.com", "https://*.wild.example.org", "https://10.0.0.1", "https://[fd00::1]")


def certificate_of(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificates(pem.encode())[0]


def openssl_verify(authority: LocalAuthority, host: str, folder: Path) -> str:
    """Return the output of `openssl verify -x509_strict` for a leaf of this host at its issue time."""
    pem, _ = LeafSigner(authority, create_key()).issue(host, NOW)
    (folder / "leaf.pem").write_text(pem)
    (folder / "ca.pem").write_text(authority.trusted)
    command = [programs.require("openssl"), "verify", "-x509_strict", "-purpose", "sslserver", "-attime", str(int(NOW))]
    command += ["-CAfile", str(folder / "ca.pem"), str(folder / "leaf.pem")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout + result.stderr


@pytest.mark.parametrize("host", ["api.example.com", "a.b.wild.example.org", "10.0.0.1", "fd00::1"])
def test_openssl_verifies_leaves_for_names_and_addresses(host: str, tmp_path: Path) -> None:
    assert openssl_verify(authority_of(*EVERYTHING), host, tmp_path).endswith("leaf.pem: OK\n")


@pytest.mark.parametrize(
    ("urls", "host", "reason"),
    [
        (EVERYTHING, "api.example.org", "permitted subtree violation"),
        (EVERYTHING, "10.0.0.2", "permitted subtree violation"),
        (EVERYTHING, "fd00::2", "permitted subtree violation"),
        (("https://api.example.com",), "10.0.0.1", "excluded subtree violation"),
        (("https://api.example.com",), "fd00::1", "excluded subtree violation"),
        (("https://10.0.0.1",), "api.example.com", "permitted subtree violation"),
        (("https://10.0.0.1",), "fd00::1", "permitted subtree violation"),
    ],
)
def test_openssl_refuses_leaves_outside_the_name_constraints(
    urls: tuple[str, ...], host: str, reason: str, tmp_path: Path
) -> None:
    """An attacker with the key can impersonate only the hosts of the policies."""
    assert reason in openssl_verify(authority_of(*urls), host, tmp_path)


def test_ca_has_constraints_path_length_and_server_usage() -> None:
    """The subject marks it as a CA of Sidekey."""
    first, other = (certificate_of(authority_of("https://a.test").certificate) for _ in range(2))
    extensions = {extension.oid: extension for extension in first.extensions}
    basic = extensions[x509.BasicConstraints.oid]
    assert (basic.critical, basic.value) == (True, x509.BasicConstraints(ca=True, path_length=0))
    assert extensions[x509.NameConstraints.oid].critical
    usage = extensions[x509.KeyUsage.oid]
    assert usage.critical
    assert usage.value.key_cert_sign
    assert not usage.value.digital_signature
    assert list(extensions[x509.ExtendedKeyUsage.oid].value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert MARK in first.subject.rfc4514_string()
    assert first.subject != other.subject
    assert first.not_valid_after_utc - first.not_valid_before_utc == BACKDATING + CA_LIFETIME
    assert first.not_valid_before_utc.timestamp() == NOW - DAY


def test_leaf_is_for_one_host_and_a_week() -> None:
    """The subject is empty, so the alternative name is critical (RFC 5280 4.2.1.6)."""
    authority = authority_of("https://a.test")
    pem, end = LeafSigner(authority, create_key()).issue("a.test", NOW)
    leaf = certificate_of(pem)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert (names.critical, list(names.value)) == (True, [x509.DNSName("a.test")])
    assert list(leaf.subject) == []
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == BACKDATING + LEAF_LIFETIME
    assert end == leaf.not_valid_after_utc.timestamp() == NOW + 7 * DAY
    issuer = certificate_of(authority.certificate)
    identifier = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert identifier == issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert pem.count("BEGIN CERTIFICATE") == 1


def test_leaf_is_valid_only_within_the_validity_of_its_ca() -> None:
    """Verifiers check the validity of each certificate separately."""
    authority = authority_of("https://a.test")
    late = authority.not_after - DAY
    pem, end = LeafSigner(authority, create_key()).issue("a.test", late)
    assert end == authority.not_after
    early, _ = LeafSigner(authority, create_key()).issue("a.test", NOW - DAY / 2)
    assert certificate_of(early).not_valid_before_utc == certificate_of(authority.certificate).not_valid_before_utc
    assert certificate_of(pem).not_valid_after_utc == certificate_of(authority.certificate).not_valid_after_utc


@pytest.mark.parametrize("urls", [EVERYTHING, ("https://a.test",), ("https://10.0.0.1",), ()])
def test_constraints_round_trip(urls: tuple[str, ...]) -> None:
    authority = authority_of(*urls)
    assert (read_bounds(certificate_of(authority.certificate)),) == authority.bounds


def test_ca_without_constraints_permits_every_host() -> None:
    """The CA of an operator may have no constraints."""
    key = create_key()
    name = x509.Name([])
    now = certificate_of(authority_of("https://a.test").certificate).not_valid_before_utc
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    assert read_bounds(builder.sign(key, SHA256())) == Bounds()


def test_empty_constraints_are_refused() -> None:
    """X.509 needs at least one subtree in a constraint."""
    leaf = build_name_constraints(Bounds.exactly(scope_of()))
    assert leaf.permitted_subtrees == [x509.DNSName("invalid")]
    assert len(leaf.excluded_subtrees or ()) == 2


def test_signer_is_redacted() -> None:
    signer = LeafSigner(authority_of("https://a.test"), create_key())
    assert "REDACTED" in repr(signer)
    assert "BEGIN" not in repr(signer)


def test_serial_numbers_are_unique() -> None:
    """RFC 5280 4.1.2.2."""
    signer = LeafSigner(create_authority(scope_of("https://a.test"), 1, NOW), create_key())
    numbers = {certificate_of(signer.issue("a.test", NOW)[0]).serial_number for _ in range(3)}
    assert len(numbers) == 3
