"""Decode and fold text as lenient servers do: escapes, `%uXXXX`, compatibility characters.

Text has one character per byte (Latin-1).
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

ROUNDS: Final = 8
"""Maximum rounds of decoding and folding. Text that still changes is refused: no server decodes that often."""

_ESCAPES: Final = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_WIDE_ESCAPES: Final = re.compile(r"(?:%[Uu][0-9A-Fa-f]{4})+")
_COMPATIBLE: Final = {
    character: folded
    for character in map(chr, range(0x80, 0x30000))
    if unicodedata.decomposition(character)
    and (folded := unicodedata.normalize("NFKC", character)) != character
    and (len(folded) <= 3 or "!" <= min(folded) <= "~")
}
"""NFKC form of each compatibility character (planes above 2 have none). Characters are folded one by one and never
composed: a combining character would join the `a` of `%0a`, or the `=` after a name, and hide it. Characters that stand
for a word or sentence without ASCII are not folded, because such text would grow up to sixfold."""

_FOLDABLE: Final = re.compile("[" + "".join(filter("\uffff".__ge__, _COMPATIBLE)) + "\U00010000-\U0010ffff]")
"""The characters of `_COMPATIBLE`, and the whole range beyond U+FFFF, where single characters would match slowly."""


def decode_strictly(text: str) -> str:
    """Percent-decode once. Raises UnicodeDecodeError for an invalid escape."""
    # CPython decodes its own escape `\xNN` in an eighth of the time of `unquote_to_bytes`.
    escaped = text.replace("\\", "\\\\").replace("%", "\\x")
    return escaped.encode("latin-1").decode("unicode_escape")


def decode(text: str) -> str:
    """Percent-decode once. Keep invalid escapes."""
    if "%" not in text:
        return text
    try:
        return decode_strictly(text)
    except UnicodeDecodeError:
        return _ESCAPES.sub(_decode_escapes, text)


def _decode_escapes(escapes: re.Match[str]) -> str:
    return bytes.fromhex(escapes[0].replace("%", "")).decode("latin-1")


def decode_all(text: str) -> str:
    """Decode every `%XX` and every `%uXXXX` once. The latter becomes UTF-8; two may form a surrogate pair."""
    if "%u" in text or "%U" in text:
        text = _WIDE_ESCAPES.sub(_decode_wide, text)
    return decode(text)


def to_characters(octets: str) -> str:
    """Decode UTF-8. Invalid bytes become lone surrogates (`surrogateescape`)."""
    return octets if octets.isascii() else octets.encode("latin-1").decode("utf-8", "surrogateescape")


def to_octets(characters: str) -> str:
    """Encode characters as UTF-8, one character per byte."""
    return characters if characters.isascii() else characters.encode("utf-8", "surrogateescape").decode("latin-1")


def fold(characters: str) -> str:
    """Replace each compatibility character by its NFKC form, without composing characters."""
    return characters if characters.isascii() else _FOLDABLE.sub(_fold_character, characters)


def _fold_character(character: re.Match[str]) -> str:
    return _COMPATIBLE.get(character[0], character[0])


def fold_case(characters: str) -> str:
    """Fold case so that two texts are equal if any server ignores the difference in their case.

    `\u0131` and `\u0130` become an i: the former is an I in upper case, the latter an i in lower case.
    """
    return characters.lower() if characters.isascii() else characters.upper().casefold().replace("i\u0307", "i")


def _decode_wide(escapes: re.Match[str]) -> str:
    units = bytes.fromhex(escapes[0].replace("%", "").replace("u", "").replace("U", ""))
    return units.decode("utf-16-be", "surrogatepass").encode("utf-8", "surrogatepass").decode("latin-1")
