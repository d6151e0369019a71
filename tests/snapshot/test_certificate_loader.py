"""Loading client certificates: an invalid one never replaces a valid one."""

from collections.abc import Mapping
from dataclasses import replace

from sidekey.credentials.certificates.identity import ClientIdentity
from sidekey.credentials.fields import Keys
from sidekey.snapshot.certificate_loader import CertificateLoader, CertificateResult

GOOD = ClientIdentity(b"chain", b"key", "1" * 64, 0.0, 100.0, "CN=client", "CN=ca")
PLACE = ("auth", "certificate")
INVALID = CertificateResult(None, ((PLACE, "this is empty"),), ((PLACE, "a warning"),))


class Source:
    """A source of certificates that returns `result` and records its calls."""

    def __init__(self, result: CertificateResult) -> None:
        self.result = result
        self.calls: list[tuple[Mapping[Keys, bytes], float]] = []

    def __call__(self, fetched: Mapping[Keys, bytes], now: float) -> CertificateResult:
        self.calls.append((dict(fetched), now))
        return self.result


def test_new_loader_reads_nothing() -> None:
    source = Source(CertificateResult(GOOD))
    loader = CertificateLoader(source)
    assert (loader.identity, loader.unreadable, source.calls) == (None, None, [])


def test_expired_certificate_is_dropped_if_the_new_one_is_invalid() -> None:
    source = Source(CertificateResult(GOOD))
    loader = CertificateLoader(source)
    loader.load(1.0)
    source.result = INVALID
    loader.load(100.0)
    assert loader.identity is None


def test_unchanged_certificate_stays_the_same_object() -> None:
    """Objects that depend on it are then not built again."""
    source = Source(CertificateResult(GOOD))
    loader = CertificateLoader(source)
    loader.load(1.0)
    source.result = CertificateResult(replace(GOOD))
    loader.load(2.0)
    assert loader.identity is GOOD
    source.result = CertificateResult(replace(GOOD, fingerprint="2" * 64))
    loader.load(3.0)
    assert loader.identity is source.result.identity


def test_expiry_is_that_of_the_certificate_in_use_or_of_the_last_one_read() -> None:
    """An expired certificate has an end too."""
    source = Source(CertificateResult(GOOD, expires_at=100.0))
    loader = CertificateLoader(source)
    assert loader.expires_at is None
    loader.load(1.0)
    source.result = replace(INVALID, expires_at=50.0)
    loader.load(99.0)
    assert loader.expires_at == 100.0
    loader.load(100.0)
    assert (loader.identity, loader.expires_at) == (None, 50.0)
    source.result = INVALID
    loader.load(101.0)
    assert loader.expires_at is None
