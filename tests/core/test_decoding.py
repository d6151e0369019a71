"""Decodings and compatibility characters, and what each step is charged."""

from __future__ import annotations

import unicodedata
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.core.decoding import Bounded, decode, decode_strictly, decode_wide

OCTETS = st.text(st.characters(max_codepoint=0xFF), max_size=30)
ESCAPED = st.lists(st.sampled_from(["%", "%4", "%41", "%e9", "%25", "\\", "\\x41", "a", "\xe9", "%zz", "%G1"])).map(
    "".join
)


def work(most: int = 1 << 30) -> Bounded:
    """A reading that may do so much."""
    return Bounded(most, ValueError("too much"))


@given(OCTETS | ESCAPED)
def test_a_decoding_is_that_of_the_standard_library(text: str) -> None:
    """Byte for byte, and an invalid escape stays as it is."""
    expected = unquote_to_bytes(text.encode("latin-1")).decode("latin-1")
    assert decode(text) == expected
    assert work()._decoded(text) == expected


@pytest.mark.parametrize("text", ["%", "a%4", "%zz", "%4g", "%%41"])
def test_a_strict_decoding_refuses_an_invalid_escape(text: str) -> None:
    """And decodes what is valid."""
    with pytest.raises(UnicodeDecodeError):
        decode_strictly(text)
    assert decode_strictly("\\n%41\\x41%5C") == "\\nA\\x41\\"


@pytest.mark.parametrize(
    ("text", "decoded"),
    [
        ("%u0041", "A"),
        ("%U004a%u004A", "JJ"),
        ("%u00e9", "\xc3\xa9"),
        ("%uff0e", "\xef\xbc\x8e"),
        ("%ud83d%ude00", "\xf0\x9f\x98\x80"),
        ("%ud83dx%ude00", "\xed\xa0\xbdx\xed\xb8\x80"),
        ("%u004", "%u004"),
        ("%41%v0041", "%41%v0041"),
        ("u0041", "u0041"),
    ],
)
def test_wide_escapes_are_characters_in_utf_8(text: str, decoded: str) -> None:
    """Two that are a surrogate pair are one character; what is none of them stays."""
    assert decode_wide(text) == decoded
    assert work()._wide_decoded(text) == decoded


@given(st.text(max_size=40))
def test_compatibility_characters_are_what_they_stand_for(text: str) -> None:
    """NFKC, as long as no run of characters that are not ASCII is cut."""
    octets = text.encode("utf-8", "surrogatepass").decode("latin-1")
    found = work()._compatible(octets)
    if not any(0xD800 <= ord(character) < 0xE000 for character in text) and len(text) <= 8:
        assert found == unicodedata.normalize("NFKC", text)


def test_bytes_that_are_not_utf_8_stay_beside_those_that_are() -> None:
    """An attacker must not turn the folding off with one byte."""
    assert work()._compatible("\xe9\xef\xbc\x8e\xff") == "\udce9.\udcff"


def test_long_runs_are_folded_in_pieces() -> None:
    """So that sorting combining characters never takes the square of their number."""
    run = "\uff0e" * 100
    assert work()._compatible(run.encode().decode("latin-1")) == "." * 100
    marks = "a" + "\u0301\u0323" * 40
    folded = work()._compatible(marks.encode().decode("latin-1"))
    assert folded != unicodedata.normalize("NFKC", marks)
    assert unicodedata.normalize("NFKC", folded) == unicodedata.normalize("NFKC", marks)


@pytest.mark.parametrize(
    ("step", "text", "spent"),
    [
        ("_decoded", "", 0),
        ("_decoded", "abc", 15),
        ("_decoded", "a%41", 60),
        ("_decoded", "a%4", 255),
        ("_decoded", "%41%4", 505),
        ("_wide_decoded", "abc%41", 0),
        ("_wide_decoded", "%u0041", 2_060),
        ("_wide_decoded", "%U0041%25", 2_120),
        ("_wide_decoded", "%u0041%U0041", 4_120),
        ("_compatible", "", 4_000),
        ("_compatible", "\xc3\xa9", 4_016),
        ("_compatible", "\xe9", 4_068),
        ("_compatible", "\xef\xbc\x8e", 4_824),
        ("_compatible", "\xef\xbc\x8e \xef\xbc\x8e", 5_956),
        ("_compatible", "\xef\xbc\x8e/\xef\xbc\x8e/\xef\xbc\x8e", 6_488),
        ("_compatible", "\xc3\xa9\xef\xbc\x8e", 5_140),
        ("_compatible", "\xef\xbc\x8e \xc3\xa9", 5_448),
    ],
)
def test_each_step_has_its_price(step: str, text: str, spent: int) -> None:
    """And is refused where that is more than is left."""
    enough = work(spent)
    getattr(enough, step)(text)
    assert enough.spent == spent
    if spent:
        with pytest.raises(ValueError, match="too much"):
            getattr(work(spent - 1), step)(text)
