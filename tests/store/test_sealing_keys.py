"""The ring of keys, and the keys that are derived from it."""

from __future__ import annotations

import pickle

import pytest

from sidekey.store.sealing import KeyMissing, KeyRing


@pytest.mark.parametrize(
    ("salt", "info", "derived"),
    [
        (bytes(range(13)), b"sidekey value v1", "907eb97d8981368b34a522c919683b93a2fcca9e72fa7f89fe3ed345cd384d61"),
        (b"", b"", "37ad29109f43265287804b674e2653d0a513718907f97fca97c95bded8104bbf"),
    ],
    ids=["with a salt", "without a salt"],
)
def test_derived_keys_never_change(salt: bytes, info: bytes, derived: str) -> None:
    """With other keys no existing store could be opened."""
    assert KeyRing({"k1": bytes(range(32))}).derive("k1", salt, info).hex() == derived


def test_the_first_key_seals_and_all_are_there() -> None:
    ring = KeyRing({"k2": b"2" * 32, "k1": b"1" * 32})
    assert (ring.first, ring.ids) == ("k2", ("k2", "k1"))
    assert "k1" in ring
    assert "k3" not in ring
    assert ring.derive("k1", b"", b"") != ring.derive("k2", b"", b"")


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
