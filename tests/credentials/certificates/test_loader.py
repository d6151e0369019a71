from collections.abc import Mapping
from dataclasses import replace

from sidekey.credentials.certificates.loader import CertificateRing, Reading
from sidekey.credentials.fields import Keys
from sidekey.credentials.identity import ClientIdentity

GOOD = ClientIdentity(b"chain", b"key", "1" * 64, 0.0, 100.0, "CN=client", "CN=ca")
PLACE = ("auth", "certificate")
FAULTY = Reading(None, ((PLACE, "this is empty"),), ((PLACE, "a remark"),))


class Shelf:
    """Where the ring's material stands."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.seen: list[tuple[Mapping[Keys, bytes], float]] = []

    def __call__(self, fetched: Mapping[Keys, bytes], now: float) -> Reading:
        self.seen.append((dict(fetched), now))
        return self.reading


def test_nothing_is_read_before_it_is_asked_for() -> None:
    """Making a ring does no I/O."""
    shelf = Shelf(Reading(GOOD))
    ring = CertificateRing(shelf)
    assert (ring.identity, ring.unreadable, shelf.seen) == (None, None, [])


def test_a_good_reading_is_kept() -> None:
    """With what there is to remark."""
    ring = CertificateRing(Shelf(Reading(GOOD, warnings=((PLACE, "a remark"),))))
    ring.refresh(1.0)
    assert (ring.identity, ring.unreadable, ring.warnings) == (GOOD, None, ((PLACE, "a remark"),))


def test_a_faulty_reading_at_first_gives_nothing() -> None:
    """The fault says why."""
    ring = CertificateRing(Shelf(FAULTY))
    ring.refresh(1.0)
    assert ring.identity is None
    assert str(ring.unreadable) == "auth.certificate: this is empty"
    assert ring.warnings == FAULTY.warnings


def test_faulty_material_never_takes_the_place_of_a_good_one() -> None:
    """A rotation that is half done does not stop the traffic."""
    shelf = Shelf(Reading(GOOD))
    ring = CertificateRing(shelf)
    ring.refresh(1.0)
    shelf.reading = FAULTY
    ring.refresh(99.0)
    assert ring.identity is GOOD
    assert ring.unreadable is not None
    shelf.reading = Reading(GOOD)
    ring.refresh(99.0)
    assert ring.unreadable is None


def test_an_expired_one_is_let_go() -> None:
    """It is of no use any more."""
    shelf = Shelf(Reading(GOOD))
    ring = CertificateRing(shelf)
    ring.refresh(1.0)
    shelf.reading = FAULTY
    ring.refresh(100.0)
    assert ring.identity is None


def test_an_unchanged_one_stays_the_same_object() -> None:
    """So that nothing is made anew that hangs on it."""
    shelf = Shelf(Reading(GOOD))
    ring = CertificateRing(shelf)
    ring.refresh(1.0)
    shelf.reading = Reading(replace(GOOD))
    ring.refresh(2.0)
    assert ring.identity is GOOD
    shelf.reading = Reading(replace(GOOD, fingerprint="2" * 64))
    ring.refresh(3.0)
    assert ring.identity is shelf.reading.identity


def test_what_was_fetched_is_handed_on() -> None:
    """And it is known whether something is still to be fetched."""
    shelf = Shelf(Reading(GOOD))
    ring = CertificateRing(shelf, urls=((PLACE, "https://vault.example/crt"),), refresh_every=60.0)
    assert ring.pending
    ring.fetched[PLACE] = b"pem"
    assert not ring.pending
    ring.refresh(5.0)
    assert shelf.seen == [({PLACE: b"pem"}, 5.0)]
