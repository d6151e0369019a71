from collections.abc import Mapping
from dataclasses import replace

from sidekey.credentials.certificates.identity import ClientIdentity
from sidekey.credentials.fields import Keys
from sidekey.snapshot.certificate_loader import CertificateLoader, CertificateResult

GOOD = ClientIdentity(b"chain", b"key", "1" * 64, 0.0, 100.0, "CN=client", "CN=ca")
PLACE = ("auth", "certificate")
INVALID = CertificateResult(None, ((PLACE, "this is empty"),), ((PLACE, "a remark"),))


class Shelf:
    """Where the loader's material stands."""

    def __init__(self, reading: CertificateResult) -> None:
        self.reading = reading
        self.seen: list[tuple[Mapping[Keys, bytes], float]] = []

    def __call__(self, fetched: Mapping[Keys, bytes], now: float) -> CertificateResult:
        self.seen.append((dict(fetched), now))
        return self.reading


def test_nothing_is_read_before_it_is_asked_for() -> None:
    """Making a loader does no I/O."""
    shelf = Shelf(CertificateResult(GOOD))
    loader = CertificateLoader(shelf)
    assert (loader.identity, loader.unreadable, shelf.seen) == (None, None, [])


def test_a_good_reading_is_kept() -> None:
    """With what there is to remark."""
    loader = CertificateLoader(Shelf(CertificateResult(GOOD, warnings=((PLACE, "a remark"),))))
    loader.load(1.0)
    assert (loader.identity, loader.unreadable, loader.warnings) == (GOOD, None, ((PLACE, "a remark"),))


def test_an_invalid_reading_at_first_gives_nothing() -> None:
    """The error says why."""
    loader = CertificateLoader(Shelf(INVALID))
    loader.load(1.0)
    assert loader.identity is None
    assert str(loader.unreadable) == "auth.certificate: this is empty"
    assert loader.warnings == INVALID.warnings


def test_invalid_material_never_replaces_a_valid_one() -> None:
    """A rotation that is half done does not stop the traffic."""
    shelf = Shelf(CertificateResult(GOOD))
    loader = CertificateLoader(shelf)
    loader.load(1.0)
    shelf.reading = INVALID
    loader.load(99.0)
    assert loader.identity is GOOD
    assert loader.unreadable is not None
    shelf.reading = CertificateResult(GOOD)
    loader.load(99.0)
    assert loader.unreadable is None


def test_an_expired_one_is_let_go() -> None:
    """It is of no use any more."""
    shelf = Shelf(CertificateResult(GOOD))
    loader = CertificateLoader(shelf)
    loader.load(1.0)
    shelf.reading = INVALID
    loader.load(100.0)
    assert loader.identity is None


def test_an_unchanged_one_stays_the_same_object() -> None:
    """So that nothing that depends on it is made again."""
    shelf = Shelf(CertificateResult(GOOD))
    loader = CertificateLoader(shelf)
    loader.load(1.0)
    shelf.reading = CertificateResult(replace(GOOD))
    loader.load(2.0)
    assert loader.identity is GOOD
    shelf.reading = CertificateResult(replace(GOOD, fingerprint="2" * 64))
    loader.load(3.0)
    assert loader.identity is shelf.reading.identity


def test_what_was_fetched_is_handed_on() -> None:
    """And it is known whether something is still to be fetched."""
    shelf = Shelf(CertificateResult(GOOD))
    loader = CertificateLoader(shelf, urls=((PLACE, "https://vault.example/crt"),), refresh_every=60.0)
    assert loader.pending
    loader.receive({PLACE: b"pem"})
    assert not loader.pending
    loader.load(5.0)
    assert shelf.seen == [({PLACE: b"pem"}, 5.0)]


def test_the_end_is_that_of_the_one_in_use_else_of_the_one_that_was_read() -> None:
    """One that had ended when it was read is told with its end as well; before any reading there is none."""
    shelf = Shelf(CertificateResult(GOOD, expires_at=100.0))
    loader = CertificateLoader(shelf)
    assert loader.expires_at is None
    loader.load(1.0)
    shelf.reading = replace(INVALID, expires_at=50.0)
    loader.load(99.0)
    assert loader.expires_at == 100.0
    loader.load(100.0)
    assert (loader.identity, loader.expires_at) == (None, 50.0)
    shelf.reading = INVALID
    loader.load(101.0)
    assert loader.expires_at is None
