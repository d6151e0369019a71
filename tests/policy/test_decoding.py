"""Decoding and folding, one step each."""

from __future__ import annotations

import string
import unicodedata
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.policy.decoding import decode, decode_all, decode_strictly, fold, fold_case, to_characters, to_octets

OCTETS = st.text(st.characters(max_codepoint=0xFF), max_size=30)
ESCAPED = st.lists(st.sampled_from(["%", "%4", "%41", "%e9", "%25", "\\", "\\x41", "a", "\xe9", "%zz", "%G1"])).map(
    "".join
)


@given(OCTETS | ESCAPED)
def test_decoding_equals_the_standard_library(text: str) -> None:
    """Byte for byte; an invalid escape stays as it is."""
    assert decode(text) == unquote_to_bytes(text.encode("latin-1")).decode("latin-1")


@pytest.mark.parametrize("text", ["%", "a%4", "%zz", "%4g", "%%41"])
def test_strict_decoding_refuses_an_invalid_escape(text: str) -> None:
    """And decodes a valid one."""
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
        ("%41%v0041", "A%v0041"),
        ("u0041", "u0041"),
    ],
)
def test_wide_escapes_are_decoded_to_utf_8(text: str, decoded: str) -> None:
    """A surrogate pair is one character; an incomplete escape stays."""
    assert decode_all(text) == decoded


def test_every_character_is_folded_as_nfkc_folds_it() -> None:
    """Except those that stand for whole words without ASCII, which would make a text longer."""
    for character in map(chr, [*range(0x80, 0xD800), *range(0xE000, 0x110000)]):
        folded = unicodedata.normalize("NFKC", character)
        is_word = len(folded) > 3 and not set(folded) & set(string.printable.strip())
        assert fold(character) == (character if is_word else folded)


@given(OCTETS)
def test_characters_are_octets_again(octets: str) -> None:
    """Also where they are not UTF-8."""
    assert to_octets(to_characters(octets)) == octets


def test_invalid_utf_8_does_not_switch_folding_off() -> None:
    """An attacker must not hide a dot behind one byte."""
    assert fold(to_characters("\xe9\xef\xbc\x8e\xff")) == "\udce9.\udcff"


def test_folding_does_not_compose() -> None:
    """So it needs no sorting, which takes the square of the number of marks in Pythons before 3.13.1."""
    assert fold("\uff0e\u0323\u0301" * 100) == ".\u0323\u0301" * 100


@pytest.mark.parametrize("text", ["i", "I", "\u0130", "\u0131"])
def test_letters_that_some_server_reads_as_an_i_are_an_i(text: str) -> None:
    """In upper case the dotless one is an I, in lower case the dotted one is an i."""
    assert fold_case(text) == "i"


@pytest.mark.parametrize("text", ["%0a\u0301", "name=\u0338", "%2e\u0301"])
def test_combining_character_hides_no_ascii(text: str) -> None:
    """NFKC would join it with the last character of an escape, or with what ends a name."""
    assert fold(text) == text
    assert unicodedata.normalize("NFKC", text) != text
