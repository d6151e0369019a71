"""Sealed values and the ring of keys: pinned formats, and everything that keeps a value from opening."""

from __future__ import annotations

import pickle
from base64 import urlsafe_b64decode
from dataclasses import replace
from string import ascii_letters, digits

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.store.canonical_json import Json
from sidekey.store.sealing import Binding, KeyMissing, KeyRing, NotOpened, associated_data, open_sealed, seal

RING = KeyRing({"k1": bytes(range(32))})
TO = {"kind": "basic", "prefixes": ["https://secure.example.com/api/v1"], "ca": "mozilla"}
BINDING = Binding("0" * 32, "1" * 32, "crm", "s_1", TO, {"written": [["auth", "password"]]})
SEALED = "1:k1:AQEBAQEBAQEBAQEBAQEBAQICAgICAgICAgICAi8WRXx1d8WkcAzHl7rJi7eYqJbJasQZT0ns"
"""`hunter2 é`, sealed with a salt of 16 bytes 01 and a nonce of 12 bytes 02."""


def test_associated_data_never_change() -> None:
    """With other bytes, no existing store would open."""
    assert associated_data(BINDING, "k1") == (
        b'{"id":"crm","key":"k1","place":{"written":[["auth","password"]]},"row":"11111111111111111111111111111111",'
        b'"secret":"s_1","store":"00000000000000000000000000000000",'
        b'"to":{"ca":"mozilla","kind":"basic","prefixes":["https://secure.example.com/api/v1"]},"v":1}'
    )


def test_associated_data_are_utf_8() -> None:
    binding = Binding("s", "r", "i", "é", "https://bücher.example")
    assert associated_data(binding, "k").decode() == (
        '{"id":"i","key":"k","place":null,"row":"r","secret":"é","store":"s","to":"https://bücher.example","v":1}'
    )


def test_sealed_value_of_version_1_opens() -> None:
    assert open_sealed(RING, SEALED, BINDING) == "hunter2 é"


@given(st.text(st.characters(codec="utf-8")))
def test_sealed_value_opens_with_its_binding(text: str) -> None:
    """Each sealing of a value gives another text."""
    first, second = seal(RING, text, BINDING), seal(RING, text, BINDING)
    assert first != second
    assert open_sealed(RING, first, BINDING) == open_sealed(RING, second, BINDING) == text


def test_sealed_value_does_not_contain_the_text() -> None:
    sealed = seal(RING, "canary-5d1f" * 20, BINDING)
    assert "canary" not in sealed
    assert b"canary" not in urlsafe_b64decode(f"{sealed.rpartition(':')[2]}==")


@pytest.mark.parametrize(
    "change",
    [
        {"store": "2" * 32},
        {"row_id": "2" * 32},
        {"id": "crn"},
        {"secret": "s_2"},
        {"location": {"written": [["auth", "username"]]}},
        {"location": None},
        {"destination": {**TO, "ca": "system"}},
        {"destination": {**TO, "prefixes": ["https://secure.example.com/api"]}},
        {"destination": {**TO, "more": None}},
        {"destination": "https://secure.example.com/api/v1"},
    ],
    ids=str,
)
def test_value_does_not_open_with_another_binding(change: dict[str, Json]) -> None:
    with pytest.raises(NotOpened, match="entered for another place or destination"):
        open_sealed(RING, SEALED, replace(BINDING, **change))


def test_order_of_keys_in_a_destination_does_not_matter() -> None:
    assert open_sealed(RING, SEALED, replace(BINDING, destination=dict(reversed(TO.items())))) == "hunter2 é"


def test_changed_value_does_not_open() -> None:
    """Not even if it decodes to the same bytes."""
    opened = []
    for place, character in enumerate(SEALED):
        for other in ("A", "g", "_", "=", " ", "\n", "", chr(ord(character) ^ 1)):
            changed = SEALED[:place] + other + SEALED[place + 1 :]
            try:
                opened.append((changed, open_sealed(RING, changed, BINDING)))
            except NotOpened:
                continue
    assert {changed for changed, _ in opened} == {SEALED}


@pytest.mark.parametrize("text", ["1", "12", "123"])
def test_only_the_canonical_encoding_opens(text: str) -> None:
    """Python ignores unused bits of base64, and characters outside its alphabet."""
    sealed = seal(RING, text, BINDING)
    others = {sealed[:-1] + character for character in ascii_letters + digits + "-_"} - {sealed}
    others |= {f"{sealed[:40]}{character}{sealed[40:]}" for character in " \n!="} | {f"{sealed}=", f"{sealed}\n"}
    for other in others:
        with pytest.raises(NotOpened):
            open_sealed(RING, other, BINDING)


def test_value_does_not_open_with_another_key_of_the_same_id() -> None:
    with pytest.raises(NotOpened):
        open_sealed(KeyRing({"k1": b"x" * 32}), SEALED, BINDING)


def test_missing_key_of_a_value_is_named() -> None:
    with pytest.raises(NotOpened, match=r"key k1 is missing in store\.keys"):
        open_sealed(KeyRing({"k2": bytes(range(32))}), SEALED, BINDING)


def test_every_key_opens_and_the_first_seals() -> None:
    ring = KeyRing({"k2": b"2" * 32, "k1": bytes(range(32))})
    assert open_sealed(ring, SEALED, BINDING) == "hunter2 é"
    assert seal(ring, "x", BINDING).startswith("1:k2:")


@pytest.mark.parametrize("text", ["", "hunter2", "2:k1:" + "A" * 80, "1:k1:AAAA", "1:k1:é", "1:k1"])
def test_malformed_value_does_not_open(text: str) -> None:
    with pytest.raises(NotOpened, match="not a sealed value"):
        open_sealed(RING, text, BINDING)


def test_lone_surrogate_cannot_be_sealed() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        seal(RING, "\ud800", BINDING)


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


def test_ring_has_all_keys_and_a_first_one() -> None:
    ring = KeyRing({"k2": b"2" * 32, "k1": b"1" * 32})
    assert (ring.first, ring.ids) == ("k2", ("k2", "k1"))
    assert "k1" in ring
    assert "k3" not in ring
    assert ring.derive("k1", b"", b"") != ring.derive("k2", b"", b"")


def test_missing_key_of_a_ring_is_named() -> None:
    with pytest.raises(KeyMissing, match=r"key k9 is missing in store\.keys"):
        KeyRing({"k1": b"1" * 32}).derive("k9", b"", b"")


@pytest.mark.parametrize("keys", [{}, {"k1": b"1" * 31}, {"k1": b"1" * 33}], ids=["none", "short", "long"])
def test_key_of_a_ring_must_have_32_bytes(keys: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match=r"must hold a key|key k1 must be 32 bytes"):
        KeyRing(keys)


def test_ring_is_not_shown_or_pickled() -> None:
    ring = KeyRing({"k1": b"canary" + b"1" * 26})
    assert repr(ring) == "KeyRing(k1)"
    with pytest.raises(TypeError):
        pickle.dumps(ring)
