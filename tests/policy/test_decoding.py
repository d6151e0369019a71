"""Single steps of decoding and folding."""

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
    """Byte for byte. Invalid escapes are kept."""
    assert decode(text) == unquote_to_bytes(text.encode("latin-1")).decode("latin-1")


@pytest.mark.parametrize("text", ["%", "a%4", "%zz", "%4g", "%%41"])
def test_strict_decoding_refuses_an_invalid_escape(text: str) -> None:
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
    """A surrogate pair becomes one character. An incomplete escape is kept."""
    assert decode_all(text) == decoded


def test_characters_are_folded_by_nfkc() -> None:
    """Except ligatures of whole words without ASCII, which would make the text longer."""
    for character in map(chr, [*range(0x80, 0xD800), *range(0xE000, 0x110000)]):
        folded = unicodedata.normalize("NFKC", character)
        is_word = len(folded) > 3 and not set(folded) & set(string.printable.strip())
        assert fold(character) == (character if is_word else folded)


@given(OCTETS)
def test_characters_convert_back_to_octets(octets: str) -> None:
    """They need not be UTF-8."""
    assert to_octets(to_characters(octets)) == octets


def test_invalid_utf_8_does_not_switch_folding_off() -> None:
    """Otherwise one byte could hide a dot."""
    assert fold(to_characters("\xe9\xef\xbc\x8e\xff")) == "\udce9.\udcff"


def test_folding_does_not_compose() -> None:
    """Composing sorts marks, in quadratic time before Python 3.13.1."""
    assert fold("\uff0e\u0323\u0301" * 100) == ".\u0323\u0301" * 100


@pytest.mark.parametrize("text", ["i", "I", "\u0130", "\u0131"])
def test_turkish_letters_i_are_folded_to_i(text: str) -> None:
    """The dotless one is an I in upper case, the dotted one an i in lower case."""
    assert fold_case(text) == "i"


@pytest.mark.parametrize("text", ["%0a\u0301", "name=\u0338", "%2e\u0301"])
def test_combining_character_hides_no_ascii(text: str) -> None:
    """NFKC would compose it with the last character of an escape, or with the end of a name."""
    assert fold(text) == text
    assert unicodedata.normalize("NFKC", text) != text
