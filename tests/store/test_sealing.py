"""Sealed values: their bytes, and all that keeps one from being opened."""

from __future__ import annotations

from base64 import urlsafe_b64decode
from dataclasses import replace
from string import ascii_letters, digits

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.store.canonical_json import Json
from sidekey.store.sealing import Binding, KeyRing, NotOpened, associated_data, key_id, open_sealed, seal

RING = KeyRing({"k1": bytes(range(32))})
TO = {"kind": "basic", "prefixes": ["https://secure.example.com/api/v1"], "ca": "mozilla"}
BINDING = Binding("0" * 32, "1" * 32, "crm", "s_1", TO, {"written": [["auth", "password"]]})
SEALED = "1:k1:AQEBAQEBAQEBAQEBAQEBAQICAgICAgICAgICAi8WRXx1d8WkcAzHl7rJi7eYqJbJasQZT0ns"
"""`hunter2 é`, sealed with a salt of 16 bytes 01 and a nonce of 12 bytes 02."""


def test_the_associated_data_are_pinned() -> None:
    """For good: with other bytes no store could be opened any more."""
    assert associated_data(BINDING, "k1") == (
        b'{"id":"crm","key":"k1","place":{"written":[["auth","password"]]},"row":"11111111111111111111111111111111",'
        b'"secret":"s_1","store":"00000000000000000000000000000000",'
        b'"to":{"ca":"mozilla","kind":"basic","prefixes":["https://secure.example.com/api/v1"]},"v":1}'
    )


def test_the_associated_data_are_utf_8() -> None:
    binding = Binding("s", "r", "i", "é", "https://bücher.example")
    assert associated_data(binding, "k").decode() == (
        '{"id":"i","key":"k","place":null,"row":"r","secret":"é","store":"s","to":"https://bücher.example","v":1}'
    )


def test_a_sealed_value_of_the_first_version_opens() -> None:
    """For good, as above."""
    assert open_sealed(RING, SEALED, BINDING) == "hunter2 é"


@given(st.text(st.characters(codec="utf-8")))
def test_what_is_sealed_opens(text: str) -> None:
    """With the same binding, each time sealed otherwise."""
    one, other = seal(RING, text, BINDING), seal(RING, text, BINDING)
    assert one != other
    assert open_sealed(RING, one, BINDING) == open_sealed(RING, other, BINDING) == text


def test_a_sealed_value_does_not_hold_the_text() -> None:
    sealed = seal(RING, "canary-5d1f" * 20, BINDING)
    assert "canary" not in sealed
    assert b"canary" not in urlsafe_b64decode(f"{sealed.rpartition(':')[2]}==")


@pytest.mark.parametrize(
    "change",
    [
        {"store": "2" * 32},
        {"row": "2" * 32},
        {"id": "crn"},
        {"secret": "s_2"},
        {"place": {"written": [["auth", "username"]]}},
        {"place": None},
        {"to": {**TO, "ca": "system"}},
        {"to": {**TO, "prefixes": ["https://secure.example.com/api"]}},
        {"to": {**TO, "more": None}},
        {"to": "https://secure.example.com/api/v1"},
    ],
    ids=str,
)
def test_nothing_of_the_binding_may_differ(change: dict[str, Json]) -> None:
    with pytest.raises(NotOpened, match="entered for another place or destination"):
        open_sealed(RING, SEALED, replace(BINDING, **change))


def test_the_order_of_a_destination_does_not_matter() -> None:
    assert open_sealed(RING, SEALED, replace(BINDING, to=dict(reversed(TO.items())))) == "hunter2 é"


def test_no_character_may_differ() -> None:
    """Not even one that would decode to the same bytes."""
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
def test_there_is_one_spelling_of_a_sealed_value(text: str) -> None:
    """Base64 has bits at its end that say nothing, and Python passes over what is none of its characters."""
    sealed = seal(RING, text, BINDING)
    others = {sealed[:-1] + character for character in ascii_letters + digits + "-_"} - {sealed}
    others |= {f"{sealed[:40]}{character}{sealed[40:]}" for character in " \n!="} | {f"{sealed}=", f"{sealed}\n"}
    for other in others:
        with pytest.raises(NotOpened):
            open_sealed(RING, other, BINDING)


def test_another_key_of_the_same_id_does_not_open() -> None:
    with pytest.raises(NotOpened):
        open_sealed(KeyRing({"k1": b"x" * 32}), SEALED, BINDING)


def test_a_key_that_is_missing_is_named() -> None:
    """So that an operator knows which one to add."""
    with pytest.raises(NotOpened, match=r"key k1 is missing in store\.keys") as caught:
        open_sealed(KeyRing({"k2": bytes(range(32))}), SEALED, BINDING)
    assert caught.value.missing == "k1"


def test_every_key_of_the_ring_opens_and_the_first_seals() -> None:
    ring = KeyRing({"k2": b"2" * 32, "k1": bytes(range(32))})
    assert open_sealed(ring, SEALED, BINDING) == "hunter2 é"
    assert key_id(seal(ring, "x", BINDING)) == "k2"
    assert key_id(SEALED) == "k1"


@pytest.mark.parametrize("text", ["", "hunter2", "2:k1:" + "A" * 80, "1:k1:AAAA", "1:k1:é", "1:k1"])
def test_what_is_no_sealed_value_is_not_opened(text: str) -> None:
    with pytest.raises(NotOpened, match="not a sealed value"):
        open_sealed(RING, text, BINDING)


def test_a_lone_surrogate_is_not_sealed() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        seal(RING, "\ud800", BINDING)
