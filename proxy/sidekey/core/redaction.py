"""Secrets that an upstream repeats: found in every spelling that is usual, and replaced by `[redacted]`.

A secret is searched as it was sent, percent-encoded (RFC 3986 2.1), escaped as in JSON (RFC 8259 7), and within base64
(RFC 4648 4 and 5) at each of the three alignments. All spellings are literal texts, made once for each grant, so that a
search is a few calls of `bytes.find`: its cost is linear, whatever an upstream sends; that of a pattern would not be.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from itertools import product
from typing import Final
from urllib.parse import quote

from sidekey.core.headers import HOLD_URLS, line_name
from sidekey.core.parameters import Scrubber

MARK: Final = b"[redacted]"

SHORTEST: Final = 8
"""Bytes of the shortest secret that is searched: a shorter one may be a word of any response."""

LONGEST: Final = 4096
"""Bytes of a secret that are searched as one text; a longer secret is searched in pieces no longer than that."""

_SAFE: Final[tuple[str, ...]] = ("", "/", "*", "!'()*", "!$&'()*+,;=:@", "!$&'()*+,;=:@/?", "!'()*#;,/?:@&=+$")
"""What encoders leave as it is, beside unreserved characters: those of forms, `encodeURIComponent`, paths, queries and
`encodeURI`."""

_HEX: Final = re.compile(r"%[0-9A-F]{2}")

_JSON_FURTHER: Final[tuple[str, ...]] = ("", "<>&", "<>&'", "<>&'=", "<>&'+`")
"""Characters that writers of JSON write as \\uXXXX although they need not: none, Go and Rails, Jinja, Gson, .NET."""

_INITIAL: Final = 6
"""Bytes of a spelling that are looked for where it may begin: a character that is escaped, at most."""

_AHEAD: Final = 64
"""Bytes that are compared before the rest is."""

_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
_BASE64_SKIPPED: Final[tuple[int, ...]] = (0, 2, 3)
"""Characters at the beginning that depend on what comes before the secret, for 0, 1 and 2 bytes of that."""


def searchable(secrets: Iterable[bytes]) -> list[bytes]:
    """Those that are long enough to be searched."""
    return [secret for secret in secrets if len(secret) >= SHORTEST]


def spellings(secret: bytes) -> set[bytes]:
    """Every literal text by which a secret is searched.

    What ends as `MARK` begins, or begins as it ends, is shortened by that: no mark that is written beside other text
    can complete it. What is part of `MARK` itself cannot be searched.
    """
    found = {secret, *_percent_encoded(secret), *_json_escaped(secret), *_in_base64(secret)}
    return {trimmed for text in found if (trimmed := _trimmed(text)) not in MARK}


def _trimmed(text: bytes) -> bytes:
    trimmed, before = text, b""
    while trimmed != before:
        before = trimmed
        for length in range(1, len(MARK)):
            trimmed = trimmed.removeprefix(MARK[-length:]).removesuffix(MARK[:length])
    # What is left of a text of nothing but such ends would be found everywhere.
    return trimmed if len(trimmed) >= SHORTEST - 2 else text


def _pieces(secret: bytes) -> Iterator[bytes]:
    """The secret, where it is long in pieces of about one length."""
    count = -(-len(secret) // LONGEST)
    for number in range(count):
        yield secret[number * len(secret) // count : (number + 1) * len(secret) // count]


def _percent_encoded(secret: bytes) -> Iterator[bytes]:
    """With the characters of `_SAFE` left alone, as a form has it, and with every byte encoded; both cases of hex."""
    texts = {quote(secret, safe=safe) for safe in _SAFE}
    texts |= {text.replace("~", "%7E") for text in texts}
    texts |= {text.replace("%20", "+") for text in texts}
    for text in texts:
        yield text.encode()
        yield _HEX.sub(lambda escape: escape[0].lower(), text).encode()
    every = f"%{secret.hex('%')}"
    yield every.encode()
    yield every.upper().encode()


def _json_escaped(secret: bytes) -> Iterator[bytes]:
    """In each way in which `"`, `/`, those of `_JSON_FURTHER` and other than ASCII are written, and with all escaped.

    Both cases of hex.
    """
    try:
        text = secret.decode()
    except UnicodeDecodeError:
        text = secret.decode("latin-1")
    characters = set(text)
    wide = "".join(char for char in characters if char > "\x7f")
    further = {"".join(char for char in chars if char in characters) for chars in _JSON_FURTHER}
    escapable = {chars + others for chars in further for others in ("", wide)}
    for digits in ("04x", "04X"):
        escaped = {ord(char): _json_unicode(char, digits) for char in {*characters, '"', "/"}}
        yield text.translate(escaped).encode()
        quotes = ('\\"', escaped[ord('"')]) if '"' in characters else ("",)
        slashes = ("/", "\\/", escaped[ord("/")]) if "/" in characters else ("",)
        for chars, quote_mark, slash in product(escapable, quotes, slashes):
            table = {ord(char): escaped[ord(char)] for char in chars}
            table |= {ord('"'): quote_mark, ord("/"): slash, ord("\\"): "\\\\"}
            yield text.translate(table).encode()


def _json_unicode(char: str, digits: str) -> str:
    units = char.encode("utf-16-be")
    return "".join(f"\\u{int.from_bytes(units[at : at + 2]):{digits}}" for at in range(0, len(units), 2))


def _in_base64(secret: bytes) -> Iterator[bytes]:
    """What base64 of any text with the secret in it has of that: no character that depends on the rest of the text."""
    for before, skipped in enumerate(_BASE64_SKIPPED):
        whole = (before + len(secret)) * 8 // 6
        text = b64encode(bytes(before) + secret)[skipped:whole]
        yield text
        yield text.translate(_URL_SAFE)


class Redactor:
    """Removes the secrets of one grant from the responses to its requests; made once for the grant.

    `pairs` are the parameters that the grant put into the query or the body: of fields that repeat URLs they are
    removed with their name, so that what is left may be followed (`parameters.Scrubber`).

    `_known` are lines of fields that were found clean: most come again with every response. They are bounded in bytes.
    `_before` are all lines of the last head whose longer lines were all among them: the next one mostly has the same.
    """

    KNOWN: Final = 32 << 10
    __slots__ = (
        "_before",
        "_beginnings",
        "_escaped",
        "_known",
        "_known_size",
        "_needles",
        "_percent",
        "_plain",
        "_scrubber",
        "_shortest",
        "longest",
    )

    def __init__(self, secrets: Iterable[bytes], pairs: tuple[tuple[str, str], ...] = ()) -> None:
        searched = {piece for secret in searchable(secrets) for piece in _pieces(secret)}
        found = {text for piece in searched for text in spellings(piece)}
        self._needles: Final = sorted(found, key=len, reverse=True)
        # One text takes far less memory than a set of these, and each grant has its own.
        self._beginnings: Final = b"".join({b"\0" + needle[: _INITIAL - 1] for needle in found})
        self._percent: Final = [needle for needle in self._needles if b"%" in needle]
        self._escaped: Final = [needle for needle in self._needles if b"%" not in needle and b"\\" in needle]
        self._plain: Final = [needle for needle in self._needles if b"%" not in needle and b"\\" not in needle]
        self._scrubber: Final = Scrubber(pairs) if pairs else None
        self._known: set[bytes] = set()
        self._known_size = 0
        self._before: list[bytes] = []
        self.longest: Final = max(map(len, found), default=0)
        # A short parameter is removed from URLs as well.
        self._shortest: Final = 0 if pairs else min(map(len, found), default=0)

    def __repr__(self) -> str:
        return "Redactor(REDACTED)"

    # Fields of a head.

    def clean(self, fields: list[bytes]) -> list[bytes]:
        """The lines of fields without the secrets; a field whose name has one is left out."""
        if fields == self._before:
            return fields
        known, shortest = self._known, self._shortest
        new = [line for line in fields if len(line) >= shortest and line not in known]
        if new:
            return self._search(fields, new)
        self._before = fields
        return fields

    def _search(self, fields: list[bytes], new: list[bytes]) -> list[bytes]:
        """`clean`, where the lines that may have a secret are `new`."""
        text = new[0] if len(new) == 1 else b"".join(new)
        if self._scrubber is None and not self._is_in(text):
            self._learn(new, len(text))
            return fields
        kept = []
        for line in fields:
            cleaned = self._field(line) if line in new else line
            if cleaned is not None:
                kept.append(cleaned)
        return kept

    def _field(self, line: bytes) -> bytes | None:
        """The line of one field; None where it is to be left out."""
        cleaned = line
        if self._scrubber is not None and line_name(line) in HOLD_URLS:
            scrubbed = self._scrubber(line)
            if scrubbed is None:
                return None
            cleaned = scrubbed
        cleaned, _ = self.split(cleaned, whole=True)
        if cleaned == line:
            self._learn([line], len(line))
        return cleaned if cleaned.startswith(line[: line.index(b":") + 1]) else None

    def _learn(self, lines: list[bytes], size: int) -> None:
        """Note lines, which have so many bytes, as clean."""
        if self._known_size + size > self.KNOWN:
            self._known.clear()
            self._known_size = 0
        if size <= self.KNOWN:
            self._known.update(lines)
            self._known_size += size

    # Any text.

    # `find` takes a third of the time of `in`, which asks whether it is given a number first.

    def _is_in(self, text: bytes) -> bool:
        """Whether any spelling is in a text."""
        for needle in self._plain:
            if text.find(needle) >= 0:
                return True
        return (text.find(b"%") >= 0 or text.find(b"\\") >= 0) and bool(self._found(text))

    def _found(self, text: bytes) -> list[bytes]:
        """The spellings that are in a text."""
        found = [needle for needle in self._plain if text.find(needle) >= 0]
        if text.find(b"%") >= 0:
            found += [needle for needle in self._percent if text.find(needle) >= 0]
        if text.find(b"\\") >= 0:
            found += [needle for needle in self._escaped if text.find(needle) >= 0]
        return found

    def split(self, text: bytes, *, whole: bool) -> tuple[bytes, bytes]:
        """The text without the secrets, and its end as far as that may begin one; nothing is left of a `whole` text.

        Of spellings that overlap, the one that begins first counts, and of those that begin together the longest.
        """
        ahead = {needle: text.find(needle) for needle in self._found(text)}
        hold = len(text) if whole else self._partial(text, 0)
        if not ahead:
            return (text, b"") if hold == len(text) else (text[:hold], text[hold:])
        pieces = []
        at = 0
        while ahead:
            start, _, needle = min((place, -len(needle), needle) for needle, place in ahead.items())
            if start >= hold:
                break
            pieces += [text[at:start], MARK]
            at = start + len(needle)
            if hold < at:
                hold = self._partial(text, at)
            for other, place in list(ahead.items()):
                if place < at:
                    following = text.find(other, at)
                    if following < 0:
                        del ahead[other]
                    else:
                        ahead[other] = following
        pieces.append(text[at:hold])
        return b"".join(pieces), text[hold:]

    def _partial(self, text: bytes, at: int) -> int:
        """Where the first end of the text begins, not before `at`, that is the beginning of a spelling, but not all."""
        first = end = len(text)
        for needle in self._needles:
            initial = needle[:_INITIAL]
            place = text.find(initial, max(at, end - len(needle) + 1), first + _INITIAL - 1)
            while place >= 0:
                # Not much of a text that repeats a beginning is copied and compared at each of its places.
                if needle.startswith(text[place : place + _AHEAD]) and needle.startswith(text[place:]):
                    first = place
                    break
                place = text.find(initial, place + 1, first + _INITIAL - 1)
        # Beginnings that are shorter than what was looked for. A NUL in the text may match too much, which keeps a few
        # bytes back until the next piece.
        for place in range(max(at, end - _INITIAL + 1), first):
            if b"\0" + text[place:] in self._beginnings:
                return place
        return first


class RedactedStream:
    """A text that comes in pieces: what is given out is the same however it is cut.

    Only an end of it that may begin a secret is kept back, shorter than the longest spelling.
    """

    __slots__ = ("_held", "_redactor")

    def __init__(self, redactor: Redactor) -> None:
        self._redactor: Final = redactor
        self._held = b""

    def feed(self, piece: bytes) -> bytes:
        """The next piece: what may be given out now."""
        out, self._held = self._redactor.split(self._held + piece, whole=False)
        return out

    def finish(self) -> bytes:
        """What was kept back, at the end of the text."""
        held, self._held = self._held, b""
        return self._redactor.split(held, whole=True)[0]
