"""The ring of keys, and the derivation of RFC 5869."""

from __future__ import annotations

import pickle

import pytest

from sidekey.store.ring import KeyMissing, KeyRing, hkdf


def test_keys_are_derived_as_rfc_5869_says() -> None:
    """Its test case 1 (appendix A.1), of which the first block is what is used here."""
    derived = hkdf(b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA)))
    assert derived.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"


def test_the_first_key_seals_and_all_are_there() -> None:
    ring = KeyRing({"k2": b"2" * 32, "k1": b"1" * 32})
    assert (ring.first, ring.ids) == ("k2", ("k2", "k1"))
    assert "k1" in ring
    assert "k3" not in ring
    assert ring.derive("k1", b"salt", b"info") == hkdf(b"1" * 32, b"salt", b"info")


def test_a_key_that_is_missing_is_named() -> None:
    with pytest.raises(KeyMissing, match=r"key k9 is missing in store\.keys"):
        KeyRing({"k1": b"1" * 32}).derive("k9", b"", b"")


@pytest.mark.parametrize("keys", [{}, {"k1": b"1" * 31}, {"k1": b"1" * 33}], ids=["none", "short", "long"])
def test_a_ring_has_whole_keys(keys: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match=r"must hold a key|key k1 must be 32 bytes"):
        KeyRing(keys)


def test_a_ring_shows_no_key() -> None:
    """Neither as text nor as a pickle."""
    ring = KeyRing({"k1": b"canary" + b"1" * 26})
    assert repr(ring) == "KeyRing(k1)"
    with pytest.raises(TypeError):
        pickle.dumps(ring)
