"""Validation of an operator's CA: errors and warnings of the certificate, its chain and its key."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from sidekey.ca.certificates import LeafSigner, create_key
from sidekey.ca.operator_ca import OperatorCaCheck, check_operator_ca
from sidekey.ca.scope import Scope
from sidekey.network.tls_server import server_context
from support.certificates import NOW as MOMENT
from support.certificates import IssuedCertificate, Key, issue, name
from support.local_cas import DAY, authority_of, scope_of, verified

NOW = MOMENT.timestamp()
SCOPE = scope_of("https://api.example.com")
PRESENT = time.time()


def check(certificate: bytes, key: bytes, scope: Scope = SCOPE, now: float = NOW) -> OperatorCaCheck:
    return check_operator_ca(certificate.decode(), key.decode(), scope, now)


def root(**others: object) -> IssuedCertificate:
    return issue("Corporate root", authority=True, **others)  # type: ignore[arg-type]


def intermediate(
    issuer: IssuedCertificate,
    *permitted: str,
    excluded: tuple[str, ...] = (),
    key: Key | None = None,
    subject: str = "Sidekey at corporate",
) -> IssuedCertificate:
    """Issue an intermediate that strict verifiers accept, with name constraints if there are names."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    start = issuer.certificate.not_valid_before_utc
    builder = (
        x509.CertificateBuilder(issuer.certificate.subject, name(subject), key.public_key(), 7)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=300))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()),  # type: ignore[arg-type]
            critical=False,
        )
        .add_extension(issuer.certificate.extensions.get_extension_for_class(x509.KeyUsage).value, critical=True)
    )
    if permitted or excluded:
        names = x509.NameConstraints([*map(x509.DNSName, permitted)] or None, [*map(x509.DNSName, excluded)] or None)
        builder = builder.add_extension(names, critical=True)
    return IssuedCertificate(builder.sign(issuer.key, SHA256()), key)  # type: ignore[arg-type]


def test_root_is_trusted_and_not_served() -> None:
    issued = root()
    assert check(root().pem, issued.key_pem).authority is None
    result = check(issued.pem, issued.key_pem)
    assert result.errors == []
    assert result.authority is not None
    assert (result.authority.trusted, result.authority.served) == (issued.pem.decode(), "")
    assert result.authority.permits("anything.example")


def test_intermediate_is_served_and_its_root_is_trusted() -> None:
    """The certificates may have any order."""
    top = root()
    below = intermediate(top, "example.com")
    for pem in (below.pem + top.pem, top.pem + below.pem):
        result = check(pem, below.key_pem)
        assert result.errors == []
        authority = result.authority
        assert authority is not None
        assert (authority.trusted, authority.served) == (top.pem.decode(), below.pem.decode())
        assert authority.not_after == min(issued.certificate.not_valid_after_utc.timestamp() for issued in (top, below))


@pytest.mark.parametrize("kind", ["P-256", "P-384", "RSA"])
def test_python_strictly_verifies_a_leaf_of_an_intermediate(kind: str) -> None:
    key: Key = {
        "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "RSA": lambda: rsa.generate_private_key(65537, 2048),
    }[kind]()
    top = authority_root()
    below = intermediate(top, "example.com", key=key)
    authority = check(below.pem + top.pem, below.key_pem, now=PRESENT).authority
    assert authority is not None
    pem, _ = LeafSigner(authority, create_key()).issue("api.example.com", PRESENT)
    assert verified(server_context("api.example.com", pem.encode()), "api.example.com", authority.trusted) is None
    outside, _ = LeafSigner(authority, create_key()).issue("evil.test", PRESENT)
    reason = verified(server_context("evil.test", outside.encode()), "evil.test", authority.trusted)
    assert reason == "permitted subtree violation"


def authority_root() -> IssuedCertificate:
    """Issue a currently valid root that strict verifiers accept."""
    key = ec.generate_private_key(ec.SECP256R1())
    start = datetime.fromtimestamp(int(PRESENT - DAY), UTC)
    usage = root().certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    builder = (
        x509.CertificateBuilder(
            name("Strict root"), name("Strict root"), key.public_key(), 5, start, start + timedelta(days=900)
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(usage, critical=True)
    )
    return IssuedCertificate(builder.sign(key, SHA256()), key)


def test_chain_without_root_is_served_completely_with_a_warning() -> None:
    """Callers may get the root from another source."""
    below = intermediate(root(), "example.com")
    result = check(below.pem, below.key_pem)
    assert result.authority is not None
    assert result.authority.served == result.authority.trusted == below.pem.decode()
    assert any("the chain does not end in a root: add it" in text for _, text in result.warnings)


def test_extra_roots_complete_the_chain() -> None:
    """cert-manager delivers the root separately. Sidekey does not serve other extra roots."""
    top, middle = root(), intermediate(other := root(), "example.com", subject="Between")
    below = intermediate(top, "example.com")
    extra = (issue("Another root", authority=True).pem + top.pem).decode()
    result = check_operator_ca(below.pem.decode(), below.key_pem.decode(), SCOPE, NOW, extra)
    assert result.errors == []
    assert result.authority is not None
    assert (result.authority.trusted, result.authority.served) == (top.pem.decode(), below.pem.decode())
    assert not [text for _, text in result.warnings if "root" in text]
    unrelated = (middle.pem + other.pem).decode()
    result = check_operator_ca(below.pem.decode(), below.key_pem.decode(), SCOPE, NOW, unrelated)
    assert any("the chain does not end in a root: add it" in text for _, text in result.warnings)


def test_ca_without_constraints_causes_a_warning() -> None:
    issued = root()
    warnings = check(issued.pem, issued.key_pem).warnings
    texts = [text for _, text in warnings]
    assert {key for key, _ in warnings} == {"certificate"}
    assert any("no name constraints" in text for text in texts)
    assert any("no subject key identifier" in text for text in texts)
    local = authority_of("https://api.example.com", now=NOW)
    assert check_operator_ca(local.certificate, local.key, SCOPE, NOW).warnings == []


_ROOT = root()
_LEAF = issue("a leaf", _ROOT)


@pytest.mark.parametrize(
    ("certificate", "key", "setting", "reason"),
    [
        (_LEAF.pem, _LEAF.key_pem, "certificate", "must be that of a CA"),
        (_ROOT.pem, _LEAF.key_pem, "private_key", "does not belong to the certificate of CN=Corporate root"),
        (_ROOT.pem + _ROOT.key_pem, _ROOT.key_pem, "certificate", "must not contain a private key"),
        (_ROOT.key_pem, _ROOT.key_pem, "certificate", "must not contain a private key"),
        (b"nonsense", _ROOT.key_pem, "certificate", "not PEM"),
        (_ROOT.pem, b"nonsense", "private_key", "not PEM"),
        (_ROOT.pem, _ROOT.pem, "private_key", "must contain one private key, not 0"),
        (_ROOT.pem, _ROOT.key_pem * 2, "private_key", "must contain one private key, not 2"),
        (_ROOT.pem, _ROOT.key_as(passphrase="x"), "private_key", "must not be encrypted: decrypt it"),
        (
            b"-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n",
            _ROOT.key_pem,
            "certificate",
            "a certificate request",
        ),
        (b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", _ROOT.key_pem, "certificate", "is damaged"),
        (
            _ROOT.pem,
            b"-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n",
            "private_key",
            "this private key is damaged",
        ),
    ],
)
def test_invalid_ca_or_key_is_reported(certificate: bytes, key: bytes, setting: str, reason: str) -> None:
    result = check(certificate, key)
    assert result.authority is None
    ((setting_with_error, text),) = result.errors
    assert setting_with_error == setting
    assert reason in text


def test_expired_ca_is_refused() -> None:
    result = check(_ROOT.pem, _ROOT.key_pem, now=NOW + 4000 * DAY)
    assert result.authority is None
    assert [setting for setting, _ in result.errors] == ["certificate"]
    assert "expired on" in result.errors[0][1]
    short = root(life=timedelta(days=10))
    below = intermediate(short, "example.com")
    late = check(below.pem + short.pem, below.key_pem, now=NOW + 20 * DAY)
    assert "which is in the chain, has expired" in late.errors[0][1]


def test_ca_beyond_the_path_length_of_its_issuer_is_refused() -> None:
    """Clients would refuse its leaves."""
    top = root()
    middle = intermediate(top)
    below = intermediate(middle, subject="below")
    result = check(below.pem + middle.pem + top.pem, below.key_pem)
    assert result.authority is None
    assert "the path length of CN=Sidekey at corporate must allow" in result.errors[0][1]


@pytest.mark.parametrize(
    ("permitted", "excluded", "hosts"),
    [
        (("example.org",), (), "api.example.com"),
        ((), ("api.example.com",), "api.example.com"),
        (("b.test", "c.test"), (), "a.test, api.example.com, d.test and 1 more"),
    ],
)
def test_host_outside_the_constraints_is_reported(
    permitted: tuple[str, ...], excluded: tuple[str, ...], hosts: str
) -> None:
    """The CA still signs for other hosts."""
    urls = [f"https://{host}" for host in ("api.example.com", "a.test", "d.test", "e.test")]
    scope = scope_of(*urls) if "more" in hosts else SCOPE
    top = root()
    below = intermediate(top, *permitted, excluded=excluded)
    result = check(below.pem + top.pem, below.key_pem, scope)
    assert result.authority is not None
    ((setting, text),) = result.errors
    assert setting == "certificate"
    assert f"must permit {hosts}: issue it for the hosts of the policies" in text
    assert not result.authority.permits("api.example.com")
